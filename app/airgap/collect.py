"""Collect a bundle: wheels, models, the project's source, how to install it, and the manifest.

In: :class:`~app.airgap.contents.Contents`. Out: a folder that a machine without a network is set up
from; :mod:`app.airgap.install` goes along as the script that does it. ``persona bundle`` calls it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from app.airgap import install, wheels
from app.airgap.contents import Contents, Package, packages_of
from workbench.errors import UserError
from workbench.store import cannot_write, check_space, file_hash, write_json

README = "README.md"
PROJECT = "persona-workbench"
"""Whose bundle it is, in the manifest."""


def collect(contents: Contents, folder: Path) -> install.BundleManifest:
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


def check_bundle(folder: Path) -> int:
    """Hold a bundle against its manifest, and return the number of its files.

    Raises:
        UserError: It is no whole bundle, or a file is not as it was.
    """
    try:
        manifest = install.read_manifest(folder)
        install.check_files(folder, manifest)
    except install.Refused as refused:
        raise UserError(str(refused)) from None
    return len(manifest["files"])


def _fill(contents: Contents, folder: Path) -> install.BundleManifest:
    _check_pins(contents.checkout)
    environments = [(one, packages_of(one)) for one in contents.environments]
    packages = {package for _, own in environments for package in own}
    shelf = folder / "wheels"
    missing = sum(package.size for package in wheels.missing(shelf, packages))
    _check_space(folder, missing, contents.models)
    (folder / install.MANIFEST).unlink(missing_ok=True)
    wheels.drop_others(shelf, packages)
    for environment, own in environments:  # apart: they hold two versions of some packages
        wheels.fetch(wheels.missing(shelf, own), shelf)
        wheels.try_without_index(shelf, environment)
    models = folder / "models"
    shutil.rmtree(models, ignore_errors=True)
    for name, source in contents.models.items():
        shutil.copytree(source, models / name)  # follows links, as a hub's cache is made of them
    commit = _archive(contents.checkout, folder / install.SOURCE)
    shutil.copyfile(install.__file__, folder / "install.py")
    size = sum(package.size for _, own in environments for package in own)
    manifest = _manifest(contents, packages, commit, wheels.oldest_glibc(shelf), size)
    (folder / README).write_text(_readme(manifest), encoding="utf-8")
    manifest["files"] = _files(folder)
    write_json(folder / install.MANIFEST, manifest)
    return manifest


def _manifest(
    contents: Contents, packages: set[Package], commit: str, glibc: str, size: int
) -> install.BundleManifest:
    """Return the manifest without the files."""
    return {
        "format": install.FORMAT,
        "project": PROJECT,
        "version": contents.version,
        "commit": commit,
        "python": install.python_version(),
        "platform": sysconfig.get_platform(),
        "glibc": glibc,
        "packages": sorted({one.pin for one in packages}),
        "models": sorted(contents.models),
        "installed_bytes": size,
        "files": {},
    }


def _files(folder: Path) -> dict[str, install.BundleFile]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_hash(path),
        }
        for path in paths
    }


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
        manifest = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        return ""
    return str(manifest.get("project", "")) if isinstance(manifest, dict) else ""


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
    check_space(folder, packages + extra, "the bundle")


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
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["git failed"]
        raise UserError(lines[-1], where=str(checkout), fix=fix)
    return done.stdout


def _readme(manifest: install.BundleManifest) -> str:
    from jinja2 import Environment as Templates
    from jinja2 import PackageLoader, StrictUndefined

    templates = Templates(loader=PackageLoader("app.airgap", "."), undefined=StrictUndefined)
    return templates.get_template("readme.md.j2").render(**manifest) + "\n"
