"""What goes into a bundle: the checkout, its environments as installed, and further models.

In: this checkout and the models asked for. Out: :class:`Contents`, and the distributions that an
environment's requirements come to. A bundle takes these and no newer ones: what was tested here is
what runs there. :mod:`app.airgap.collect` fills the bundle with them.
"""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from curation.argilla.server import server_python
from workbench.errors import UserError
from workbench.inference.base_models import resolve_model
from workbench.inference.embedded import DISTRIBUTION
from workbench.store import expanded


@dataclass(frozen=True)
class Environment:
    """One environment that is set up on the machine without a network."""

    requirements: tuple[str, ...]
    """What pip is asked for, as in a requirements file."""
    constraints: Path
    """The file of exact versions that pip is given with it."""
    site: tuple[str, ...]
    """Folders where its packages are installed here."""
    alone: tuple[str, ...] = ()
    """Distributions that are installed without their dependencies."""


@dataclass(frozen=True)
class Contents:
    """What goes into a bundle."""

    checkout: Path
    """The project's git checkout; what is committed there goes along."""
    version: str
    environments: tuple[Environment, ...]
    models: Mapping[str, Path] = field(default_factory=dict)
    """Folders of further models, by the name that each gets under ``models/``."""


@dataclass(frozen=True)
class Package:
    """One distribution, and the bytes that it takes once installed."""

    name: str
    version: str
    size: int

    @property
    def pin(self) -> str:
        """The requirement that only this version meets."""
        return f"{self.name}=={self.version}"


def contents_of_checkout(models: Sequence[str] = ()) -> Contents:
    """Return what this checkout is made of, its two environments included.

    ``models`` are base models to take along, as hub ids or folders.

    Raises:
        UserError: The project is not installed from a checkout, or two models have one name.
    """
    import workbench

    checkout = Path(workbench.__file__).resolve().parent.parent
    if not (checkout / "constraints.txt").exists():
        raise UserError(
            "the project is not installed from a checkout",
            where=str(checkout),
            fix="get its source, run `make setup` there, and `.venv/bin/persona bundle`",
        )
    return Contents(
        checkout=checkout,
        version=metadata.version("persona-workbench"),
        environments=(_workbench(checkout), _argilla(checkout)),
        models=_model_folders(models),
    )


def _model_folders(models: Sequence[str]) -> dict[str, Path]:
    """Return the folder of each model, by the name that it gets in the bundle."""
    folders: dict[str, Path] = {}
    for model in models:
        path = resolve_model(model)
        own = expanded(model)
        name = own.resolve().name if own.is_dir() else model.rsplit("/", 1)[-1]
        if name in folders:
            fix = "name one of them alone"
            raise UserError(f"two models are called '{name}'", where="--model", fix=fix)
        folders[name] = path
    return folders


def _workbench(checkout: Path) -> Environment:
    """Return the project's own environment, as ``make setup`` makes it."""
    import sys
    import tomllib

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
    embedded = checkout / "curation" / "argilla" / "embedded"
    text = (embedded / "requirements.txt").read_text(encoding="utf-8")
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    process = subprocess.run(
        [str(server_python()), "-c", script], capture_output=True, text=True, check=True
    )
    return Environment(
        requirements=tuple(line for line in lines if line),
        constraints=embedded / "constraints.txt",
        site=(process.stdout.strip(),),
    )


def packages_of(environment: Environment) -> set[Package]:
    """Return the distributions of an environment, dependencies of dependencies included.

    Raises:
        UserError: One of them is not installed here.
    """
    site = list(environment.site)
    installed = {canonicalize_name(d.name): d for d in metadata.distributions(path=site)}
    packages: dict[str, metadata.Distribution] = {}
    waiting = [Requirement(text) for text in environment.requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, extras := frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, extras))
        packages[name] = _installed(installed, name)
        waiting += _dependencies(packages[name], extras)
    for name in map(canonicalize_name, environment.alone):
        packages[name] = _installed(installed, name)
    return {Package(name, dist.version, _size(dist)) for name, dist in packages.items()}


def _installed(
    installed: Mapping[NormalizedName, metadata.Distribution], name: NormalizedName
) -> metadata.Distribution:
    if name not in installed:
        raise UserError(f"{name} is needed, but not installed here", fix="run `make setup` first")
    return installed[name]


def _dependencies(dist: metadata.Distribution, extras: frozenset[str]) -> list[Requirement]:
    every = [Requirement(text) for text in dist.requires or ()]
    return [
        one
        for one in every
        if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in ("", *extras))
    ]


def _size(dist: metadata.Distribution) -> int:
    """Return the bytes of a distribution; pip records none for the bytecode that it adds."""
    base, total = str(dist.locate_file("")), 0
    # Not by ``dist.files``, which takes seconds over all of an environment.
    for name, _, size in csv.reader((dist.read_text("RECORD") or "").splitlines()):
        if size:
            total += int(size)
        else:
            with suppress(FileNotFoundError):
                total += Path(base, name).stat().st_size
    return total
