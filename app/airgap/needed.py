"""What an environment is made of: the distributions that some requirements come to, as installed.

A bundle takes these and no newer ones: what was tested here is what runs there.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from workbench.errors import UserError


@dataclass(frozen=True)
class Environment:
    """One environment that is set up on the machine without a network.

    Attributes:
        requirements: What pip is asked for, as in a requirements file.
        constraints: The file of exact versions that pip is given with it.
        site: Folders where its packages are installed here.
        alone: Distributions that are installed without their dependencies.
    """

    requirements: tuple[str, ...]
    constraints: Path
    site: tuple[str, ...]
    alone: tuple[str, ...] = ()


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


def needed(environment: Environment) -> set[Package]:
    """Return the distributions of an environment, dependencies of dependencies included.

    Raises:
        UserError: One of them is not installed here.
    """
    there = {canonicalize_name(d.name): d for d in _installed(environment.site)}
    found: dict[str, metadata.Distribution] = {}
    waiting = [Requirement(text) for text in environment.requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if (name, extras := frozenset(wanted.extras)) in seen:
            continue
        seen.add((name, extras))
        found[name] = _one(there, name)
        waiting += _dependencies(found[name], extras)
    for name in map(canonicalize_name, environment.alone):
        found[name] = _one(there, name)
    return {Package(name, dist.version, _size(dist)) for name, dist in found.items()}


def _installed(site: Sequence[str]) -> Iterable[metadata.Distribution]:
    return metadata.distributions(path=list(site))


def _one(
    there: Mapping[NormalizedName, metadata.Distribution], name: NormalizedName
) -> metadata.Distribution:
    if name not in there:
        raise UserError(f"{name} is needed, but not installed here", fix="run `make setup` first")
    return there[name]


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
