"""``persona bundle``: everything for a machine without a network, in one folder."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench.errors import UserError

if TYPE_CHECKING:
    from app.airgap.collect import Contents
    from app.airgap.needed import Environment


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Only hold a bundle against its manifest.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="Also take this base model along (hub id or folder); may be given again.",
)
def bundle(folder: Path, check: bool, models: tuple[str, ...]) -> None:
    """Collect into FOLDER what a machine without a network needs to install and run all this.

    Stopped halfway, the same command goes on. The bundle is for machines with this Python version
    and platform; it says how to install it in its README.md.

    \b
    Examples:
      persona bundle persona-bundle
      persona bundle persona-bundle --model org/name
      persona bundle persona-bundle --check
    """
    if check:
        _check(folder)
        return
    from app.airgap.collect import collect

    began = time.monotonic()
    manifest = collect(_contents(models), folder)
    size = sum(file["bytes"] for file in manifest["files"].values())
    click.echo(
        f"{folder}: {size / 1e6:.0f} MB, {len(manifest['packages'])} packages, commit"
        f" {manifest['commit'][:12]}, for Python {manifest['python']} on {manifest['platform']};"
        f" {time.monotonic() - began:.0f} s"
    )


def _check(folder: Path) -> None:
    from app.airgap import install

    try:
        manifest = install.read_manifest(folder)
        install.check_files(folder, manifest)
    except install.Refused as refused:
        raise UserError(str(refused)) from None
    click.echo(f"{folder}: whole ({len(manifest['files'])} files)")


def _contents(models: tuple[str, ...]) -> Contents:
    """Return what this checkout is made of, its two environments included."""
    from importlib import metadata

    import workbench
    from app.airgap.collect import Contents
    from workbench.inference.base_models import resolve_model

    checkout = Path(workbench.__file__).resolve().parent.parent
    if not (checkout / "constraints.txt").exists():
        raise UserError(
            "the project is not installed from a checkout",
            where=str(checkout),
            fix="get its source, run `make setup` there, and `.venv/bin/persona bundle`",
        )
    folders: dict[str, Path] = {}
    for name in models:
        path = resolve_model(name)
        own = Path(name).expanduser()
        called = own.resolve().name if own.is_dir() else name.rsplit("/", 1)[-1]
        if called in folders:
            raise UserError(
                f"two models are called '{called}'", where="--model", fix="name one of them alone"
            )
        folders[called] = path
    return Contents(
        checkout=checkout,
        version=metadata.version("persona-workbench"),
        environments=(_workbench(checkout), _argilla(checkout)),
        models=folders,
    )


def _workbench(checkout: Path) -> Environment:
    """Return the project's own environment, as ``make setup`` makes it."""
    import sys
    import tomllib

    from app.airgap.needed import Environment
    from workbench.inference.embedded import DISTRIBUTION

    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    tools = ["pip", "wheel", *project["build-system"]["requires"]]
    own = project["project"]
    return Environment(
        requirements=(*tools, *own["dependencies"], *own["optional-dependencies"]["dev"]),
        constraints=checkout / "constraints.txt",
        site=tuple(sys.path),
        alone=(DISTRIBUTION,),
    )


def _argilla(checkout: Path) -> Environment:
    """Return the environment of the embedded Argilla server."""
    from app.airgap.needed import Environment
    from curation.argilla.server import server_python

    embedded = checkout / "curation" / "argilla" / "embedded"
    text = (embedded / "requirements.txt").read_text(encoding="utf-8")
    said = (line.split("#")[0].strip() for line in text.splitlines())
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    where = subprocess.run(
        [str(server_python()), "-c", ask], capture_output=True, text=True, check=True
    )
    return Environment(
        requirements=tuple(line for line in said if line),
        constraints=embedded / "constraints.txt",
        site=(where.stdout.strip(),),
    )
