"""Check a bundle, and install it where there is no network; it lies in every bundle as a script.

It needs Python and make and nothing else, so it imports the standard library alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import Literal, TypedDict, cast

MANIFEST = "manifest.json"
SOURCE = "source.tar.gz"
SETTINGS = "bundle.mk"
"""What the Makefile includes in a checkout that came out of a bundle."""
_COMMIT = "# Source: commit "
FORMAT = 1


class BundleFile(TypedDict):
    """A file as it was when the bundle was made."""

    bytes: int
    sha256: str


class BundleManifest(TypedDict):
    """What a bundle holds, and where it can be installed; its existence means "whole"."""

    format: int
    project: str
    version: str
    commit: str
    python: str
    """Such as ``3.11``."""
    platform: str
    glibc: str
    """Oldest version that all wheels run on; empty for any."""
    packages: list[str]
    models: list[str]
    installed_bytes: int
    """Of all environments, once installed."""
    files: dict[str, BundleFile]


class Refused(Exception):
    """Why a bundle cannot be used: what, and what to do about it, in one line."""


def read_manifest(bundle: Path) -> BundleManifest:
    """Return a bundle's manifest.

    Raises:
        Refused: The folder is no whole bundle, or one of another format.
    """
    try:
        manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refused(
            f"{bundle}: no bundle, or not a whole one ({MANIFEST} is missing) — run the command"
            " that makes it again, it goes on where it stopped"
        ) from None
    except (OSError, ValueError):
        manifest = {}
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise Refused(f"{bundle / MANIFEST}: is damaged, or of another version — copy it again")
    return cast("BundleManifest", manifest)


def check_files(bundle: Path, manifest: BundleManifest) -> None:
    """Hold every file against the manifest: SHA-256, nothing missing, nothing beside them.

    Raises:
        Refused: With the first file that is not as it was, and how many there are.
    """
    files = manifest["files"]
    faults = []
    for name, file in files.items():
        path = bundle / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif path.stat().st_size != file["bytes"] or _sha256(path) != file["sha256"]:
            faults.append(f"{name} is damaged")
    there = (p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if not p.is_dir())
    faults += [f"{n} is not of the bundle" for n in sorted(there) if n not in {MANIFEST, *files}]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise Refused(f"{bundle}: {faults[0]}{more} — copy the bundle again")


def check_machine(manifest: BundleManifest) -> None:
    """Hold this machine and its Python against those that the wheels are for.

    Raises:
        Refused: Another system, processor or Python, an older C library, or no make or venv.
    """
    wanted = f"Python {manifest['python']} on {manifest['platform']}"
    here = f"Python {python_version()} on {sysconfig.get_platform()}"
    if here != wanted:
        raise Refused(f"the bundle is for {wanted}, this is {here} — run it with another Python")
    library, version = platform.libc_ver()
    if manifest["glibc"] and (
        library != "glibc" or _numbers(version) < _numbers(manifest["glibc"])
    ):
        own = f"{library} {version}".strip() or "another C library"
        raise Refused(f"the bundle needs glibc {manifest['glibc']} or newer, here is {own}")
    if not shutil.which("make"):
        raise Refused("make is not installed — install it from the system's own packages")
    if not importlib.util.find_spec("ensurepip"):
        raise Refused("this Python makes no environments — install its venv package (ensurepip)")


def python_version() -> str:
    """Return the running Python's version as far as wheels are for one, such as ``3.11``."""
    return ".".join(map(str, sys.version_info[:2]))


def unpack(bundle: Path, manifest: BundleManifest, target: Path) -> None:
    """Lay the project's source at ``target``, with settings that take every package from here.

    Where this bundle's source lies already, only the settings are written: the bundle may have been
    moved.

    Raises:
        Refused: Something else or another bundle's source lies there, or there is no space.
    """
    settings = _settings(bundle, manifest["commit"])
    if (target / SETTINGS).is_file():
        if not (target / SETTINGS).read_text(encoding="utf-8").startswith(settings.splitlines()[0]):
            raise Refused(f"{target}: came out of another bundle — name a new folder")
        _write(target / SETTINGS, settings)
        return
    if target.exists() and any(target.iterdir()):
        raise Refused(f"{target}: is not empty — name a new folder")
    parent = target.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(parent).free, manifest["installed_bytes"]
    if free < needed:
        raise Refused(f"{parent}: {free >> 20} MiB are free, {needed >> 20} MiB are needed")
    partial = parent / f".{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    # The safe filter came with 3.11.4; the archive was checked by its hash before.
    safe: Literal["data"] | None = "data" if hasattr(tarfile, "data_filter") else None
    with tarfile.open(bundle / SOURCE) as archive:
        archive.extractall(partial, filter=safe) if safe else archive.extractall(partial)
    _write(partial / SETTINGS, settings)
    if target.exists():
        target.rmdir()
    os.replace(partial, target)


def _write(path: Path, text: str) -> None:
    """Write a file whole: under another name first."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _settings(bundle: Path, commit: str) -> str:
    wheels = (bundle.resolve() / "wheels").as_uri()  # a URL, since pip splits this at blanks
    return (
        f"{_COMMIT}{commit}\n"
        "# Every package comes out of the bundle, whatever pip is set to on this machine.\n"
        f"PYTHON := {sys.executable}\n"
        f"export PIP_CONFIG_FILE := {os.devnull}\n"
        "export PIP_NO_INDEX := 1\n"
        f"export PIP_FIND_LINKS := {wheels}\n"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def main(arguments: list[str]) -> int:
    """Install the bundle that this file lies in; 2 where it cannot be, with one line why."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python3 install.py FOLDER  (a new folder for the project)\n")
        return 2
    bundle, target = Path(__file__).resolve().parent, Path(arguments[0])
    try:
        manifest = read_manifest(bundle)
        check_machine(manifest)
        check_files(bundle, manifest)
        unpack(bundle, manifest, target)
    except (Refused, OSError) as error:
        sys.stderr.write(f"install: {error}\n")
        return 2
    done = subprocess.run(["make", "-C", str(target), "setup"], check=False)
    if done.returncode == 0:
        sys.stdout.write(f"Installed. Now: cd {target} && make run\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
