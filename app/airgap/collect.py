"""Collect a bundle: wheels, models, the project's source, how to install it, and the manifest."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.airgap import install, wheels
from app.airgap.needed import Environment, needed
from workbench.errors import UserError
from workbench.store import cannot_write, file_hash, write_json

README = "README.md"
PROJECT = "persona-workbench"
"""Whose bundle it is, in the manifest."""


@dataclass(frozen=True)
class Contents:
    """What goes into a bundle.

    Attributes:
        checkout: The project's git checkout; what is committed there goes along.
        version: The project's version.
        environments: The environments to be set up.
        models: Folders of further models, by the name that each gets under ``models/``.
    """

    checkout: Path
    version: str
    environments: tuple[Environment, ...]
    models: Mapping[str, Path] = field(default_factory=dict)


def collect(contents: Contents, folder: Path) -> dict[str, Any]:
    """Fill ``folder``, or go on where an earlier call stopped, and return the manifest.

    The manifest is written last: a folder that has one is a whole bundle.

    Raises:
        UserError: Something cannot be had, no space, or the folder holds other things.
    """
    from filelock import FileLock, Timeout

    _check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            manifest = _fill(contents, folder)
        (folder / ".lock").unlink(missing_ok=True)
    except Timeout:
        raise UserError(
            "another command is at work on this bundle", where=str(folder), fix="wait for it"
        ) from None
    except OSError as error:
        raise cannot_write(folder, error) from None
    return manifest


def _fill(contents: Contents, folder: Path) -> dict[str, Any]:
    there = folder / "wheels"
    _check_pins(contents.checkout)
    needs = [(environment, needed(environment)) for environment in contents.environments]
    packages = {one for _, found in needs for one in found}
    absent = sum(one.size for one in wheels.missing(there, packages))
    _check_space(folder, absent, contents.models)
    (folder / install.MANIFEST).unlink(missing_ok=True)
    wheels.drop_others(there, packages)
    for environment, found in needs:  # apart: they hold two versions of some packages
        wheels.fetch(wheels.missing(there, found), there)
        wheels.try_without_index(there, environment)
    models = folder / "models"
    shutil.rmtree(models, ignore_errors=True)
    for name, source in contents.models.items():
        shutil.copytree(source, models / name)  # follows links, as a hub's cache is made of them
    commit = _archive(contents.checkout, folder / install.SOURCE)
    shutil.copyfile(install.__file__, folder / "install.py")
    manifest = {
        "format": install.FORMAT,
        "project": PROJECT,
        "version": contents.version,
        "commit": commit,
        "python": install.python_version(),
        "platform": sysconfig.get_platform(),
        "glibc": wheels.oldest_glibc(there),
        "packages": sorted({one.pin for one in packages}),
        "models": sorted(contents.models),
        "installed_bytes": sum(one.size for _, found in needs for one in found),
    }
    (folder / README).write_text(_readme(manifest), encoding="utf-8")
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    manifest["files"] = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_hash(path),
        }
        for path in files
    }
    write_json(folder / install.MANIFEST, manifest)
    return manifest


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but a bundle: what is no part of one is removed."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    begun = ".lock" in names or _project(folder) == PROJECT
    if (names and not begun) or folder.is_file():
        raise UserError("holds other things", where=str(folder), fix="name a new folder")


def _project(folder: Path) -> str:
    """Return whose manifest lies in the folder; empty for none."""
    path = folder / install.MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        return ""
    return str(found.get("project", "")) if isinstance(found, dict) else ""


def _check_pins(checkout: Path) -> None:
    """Refuse pins that are not committed: the wheels would be others than the source asks for."""
    files = ("pyproject.toml", "*constraints.txt", "*requirements.txt")
    changed = _git(checkout, "status", "--porcelain", "--untracked-files=no", "--", *files)
    if changed:
        name = changed.decode(errors="replace").splitlines()[0][3:]
        fix = "commit it: the bundle holds what is committed"
        raise UserError("is changed and not committed", where=str(checkout / name), fix=fix)


def _check_space(folder: Path, packages: int, models: Mapping[str, Path]) -> None:
    """Refuse to begin without space; a wheel is smaller than what it unpacks to."""
    extra = sum(p.stat().st_size for m in models.values() for p in m.rglob("*") if p.is_file())
    free, most = shutil.disk_usage(folder).free, packages + extra
    if free < most:
        raise UserError(
            f"{free >> 20} MiB are free, the bundle may need {most >> 20} MiB",
            where=str(folder),
            fix="free some space, or choose another folder",
        )


def _archive(checkout: Path, target: Path) -> str:
    """Write what is committed as a tar file; the same commit gives the same bytes."""
    commit = _git(checkout, "rev-parse", "HEAD").decode().strip()
    temporary = target.with_name(f".{target.name}")
    temporary.write_bytes(_git(checkout, "archive", "--format=tar.gz", "HEAD"))
    temporary.replace(target)
    return commit


def _git(checkout: Path, *arguments: str) -> bytes:
    fix = "run it in a git checkout of the project: what is committed there goes into the bundle"
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), *arguments], capture_output=True, check=False
        )
    except FileNotFoundError:
        raise UserError("git is not installed", fix=fix) from None
    if done.returncode:
        said = (done.stderr.decode(errors="replace").strip().splitlines() or ["git failed"])[-1]
        raise UserError(said, where=str(checkout), fix=fix)
    return done.stdout


def _readme(manifest: dict[str, Any]) -> str:
    from jinja2 import Environment as Templates
    from jinja2 import PackageLoader, StrictUndefined

    templates = Templates(loader=PackageLoader("app.airgap", "."), undefined=StrictUndefined)
    return templates.get_template("readme.md.j2").render(manifest) + "\n"
