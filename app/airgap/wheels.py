"""A folder of wheels: fetched by pip in small portions, and tried without any index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename

from app.airgap.contents import Environment, Package
from workbench.console import track
from workbench.errors import UserError

PORTION = 16
"""Packages asked of pip at once: a bundle that was stopped has at most these to fetch again."""


def missing(wheels: Path, packages: Iterable[Package]) -> list[Package]:
    """Return the packages whose wheel is not in the folder, by name."""
    there = {_identity(path) for path in wheels.glob("*.whl")}
    return sorted((p for p in packages if (p.name, p.version) not in there), key=lambda p: p.pin)


def drop_others(wheels: Path, packages: Iterable[Package]) -> None:
    """Remove wheels of packages that are not wanted, such as those of an earlier version."""
    wanted = {(package.name, package.version) for package in packages}
    for path in wheels.glob("*.whl"):
        if _identity(path) not in wanted:
            path.unlink()


def fetch(packages: list[Package], wheels: Path) -> None:
    """Have pip fetch the wheels of one environment; sources are built into wheels.

    Where pip gets them from is its own affair: its settings are the user's.

    Raises:
        UserError: pip cannot get or build one of them.
    """
    wheels.mkdir(parents=True, exist_ok=True)
    arriving = wheels.with_name(".arriving")  # a wheel in the folder is a whole one
    with track("fetching packages", len(packages)) as advance:
        for begin in range(0, len(packages), PORTION):
            portion = packages[begin : begin + PORTION]
            shutil.rmtree(arriving, ignore_errors=True)
            pins = [package.pin for package in portion]
            _pip(["wheel", "--no-deps", "--wheel-dir", str(arriving), *pins], os.environ)
            for path in arriving.iterdir():
                os.replace(path, wheels / path.name)
            advance(len(portion))
    shutil.rmtree(arriving, ignore_errors=True)


def try_without_index(wheels: Path, environment: Environment) -> None:
    """Have pip resolve an environment from the folder alone; nothing is installed.

    Raises:
        UserError: Something is missing there, or two packages do not go together.
    """
    alone = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    asked = ["--constraint", str(environment.constraints), *environment.requirements]
    only = ["--no-index", "--find-links", str(wheels)]
    flags = ["--dry-run", "--ignore-installed", "--quiet"]
    _pip(["install", *flags, *only, *asked], {**alone, "PIP_CONFIG_FILE": os.devnull})


def oldest_glibc(wheels: Path) -> str:
    """Return the glibc version that all wheels run on, such as ``2.28``; empty if none asks.

    A wheel's tags name the versions that it runs on (PEP 600): the lowest is enough for it.
    """
    asked = [(0, 0)]
    for path in wheels.glob("*.whl"):
        parts = [tag.platform.split("_") for tag in parse_wheel_filename(path.name)[3]]
        versions = [(int(p[1]), int(p[2])) for p in parts if p[0] == "manylinux" and len(p) > 3]
        if versions:
            asked.append(min(versions))
    return ".".join(map(str, max(asked))) if max(asked) > (0, 0) else ""


def _identity(path: Path) -> tuple[str, str]:
    name, version, _, _ = parse_wheel_filename(path.name)
    return canonicalize_name(name), str(version)


def _pip(arguments: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        line = (errors or done.stderr.strip().splitlines() or ["it said nothing"])[0]
        raise UserError(
            f"pip {arguments[0]} failed: {line.removeprefix('ERROR: ')}",
            fix="see that pip reaches its index, then run the same command again: it goes on",
        )
