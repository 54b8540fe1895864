"""What the pages look at: personas, their rounds and tables, each read again only when it changed.

In: the folders of personas and of runs. Out: values of :mod:`rounds`, and the commands that the
buttons of a page stand for. Every page gets the one :class:`Library` of its server.
"""

from __future__ import annotations

import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import NamedTuple, TypeVar

from rounds import layout, processes
from rounds.context import RoundContext, open_context
from rounds.layout import RoundFolder, round_number
from rounds.lineage.history import RecordFiles
from rounds.overview import RoundOverview
from rounds.processes import RoundProcess
from rounds.rows import RowTable, table_files
from workbench.errors import UserError
from workbench.persona import Persona, load_persona, persona_file

V = TypeVar("V")
_LOOK_SECONDS = 3.0
"""Between two looks at what has changed; each is some twenty files' times a persona."""
_MOST = 1024
"""Values that are kept; what was not asked for longest goes first."""
_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9_-]*")


class PersonaFolder(NamedTuple):
    """A persona, or why its specification cannot be read."""

    id: str
    folder: Path
    persona: Persona | None
    error: UserError | None
    rounds: list[RoundFolder]


@dataclass
class FileCache:
    """Values that were made of files, as long as these stay as they are."""

    _values: OrderedDict[object, tuple[object, object]] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    def get(self, name: object, paths: Iterable[Path], make: Callable[[], V]) -> V:
        """Return the value of a name, made anew where one of the files changed."""
        stamps = tuple(_stamp(path) for path in paths)
        with self._lock:
            old = self._values.get(name)
            if old and old[0] == stamps:
                self._values.move_to_end(name)
                return old[1]  # type: ignore[return-value]  # made by the same name's function
        value = make()
        with self._lock:
            self._values[name] = stamps, value
            while len(self._values) > _MOST:
                self._values.popitem(last=False)
        return value


def _stamp(path: Path) -> tuple[str, int, int]:
    # With its path: a copied round has the times and sizes of the other one.
    try:
        own = path.stat()
    except OSError:
        return str(path), 0, -1
    return str(path), own.st_mtime_ns, own.st_size


@dataclass
class Library:
    """Personas under ``datasets``, and their rounds under ``runs``."""

    runs: Path
    datasets: Path
    cache: FileCache = field(default_factory=FileCache)

    def personas(self) -> list[PersonaFolder]:
        """Return every persona that has a specification or a round, by name."""
        folders = {path.parent for path in self.datasets.glob("*/persona.yaml")}
        ids = {path.name for path in self.runs.glob("*") if _has_rounds(path)}
        every = {own.id: own for own in map(self._persona, sorted(folders))}
        for name in sorted(ids - every.keys()):
            if folder := self._folder_of(name):
                every[name] = self._persona(folder)
        return [every[name] for name in sorted(every)]

    def persona(self, name: str) -> PersonaFolder:
        """Return a persona by its id.

        Raises:
            UserError: There is none.
        """
        folder = self.datasets / name
        if _IDENTIFIER.fullmatch(name) and (folder / "persona.yaml").exists():
            return self._persona(folder)
        for own in self.personas():
            if own.id == name:
                return own
        raise UserError(f"there is no persona '{name}'", where=str(self.datasets))

    def _persona(self, folder: Path) -> PersonaFolder:
        path = persona_file(folder)

        def load() -> Persona | UserError:
            try:
                return load_persona(folder)
            except UserError as error:
                return error

        own = self.cache.get(("persona", str(folder)), [path], load)
        name = own.id if isinstance(own, Persona) else folder.name
        rounds = RoundFolder.open(self.runs / name, 1).all_rounds
        if isinstance(own, UserError):
            return PersonaFolder(name, folder, None, own, rounds)
        return PersonaFolder(name, folder, own, None, rounds)

    def _folder_of(self, name: str) -> Path | None:
        """Return the folder of a persona that only its rounds name."""
        for one in reversed(RoundFolder.open(self.runs / name, 1).all_rounds):
            try:
                return self._opened(one, None).persona_folder
            except UserError:
                continue
        return None

    def context(self, name: str, number: int) -> RoundContext:
        """Return a round with its configuration, made or not.

        Raises:
            UserError: There is no such persona, or its specification or configuration is broken.
        """
        if not _IDENTIFIER.fullmatch(name):
            raise UserError(f"there is no persona '{name}'", where=str(self.datasets))
        one = RoundFolder.open(self.runs / name, number)
        config = one.folder / layout.CONFIG
        folder = None if config.exists() else self.persona(name).folder
        context = self.cache.get(
            ("context", str(one.folder)),
            [config, *([persona_file(folder)] if folder else [])],
            lambda: self._opened(one, folder),
        )
        own = self._persona(context.persona_folder)
        if own.error:
            raise own.error
        if own.persona != context.persona:
            context = self._opened(one, folder)
        return context

    def _opened(self, one: RoundFolder, folder: Path | None) -> RoundContext:
        config = one.folder / layout.CONFIG
        if config.exists():
            return open_context(config=config, runs=self.runs, round_number=one.number)
        return open_context(persona=folder, runs=self.runs, round_number=one.number)

    def overview(self, one: RoundFolder) -> RoundOverview:
        """Return a round at one look."""
        files = [one.stage(stage) / layout.MANIFEST for stage in layout.STAGES]
        files += [one.path(layout.SENSE), one.path(layout.RESOLVED)]
        name = ("overview", str(one.folder))
        return self.cache.get(name, files, lambda: RoundOverview.read(one))

    def record_files(self, one: RoundFolder) -> RecordFiles:
        """Return the files of records of a round; of the last one that was asked for alone."""
        files = [one.path(artifact) for own in layout.RECORDS.values() for artifact in own]
        return self.cache.get(
            "records", [one.folder / layout.CONFIG, *files], lambda: RecordFiles(one)
        )

    def warm(self) -> None:
        """Read ahead what pages show first: every round at a look, the rows of each last one."""
        for own in self.personas():
            for one in own.rounds:
                self.overview(one)
        self.warm_rows()

    def warm_rows(self) -> None:
        """Read the rows of each last round; where nothing changed, only the files' times."""
        for own in self.personas():
            for one in own.rounds[-1:]:
                with suppress(UserError):  # the page of these rows says it
                    self.table(one)

    def keep_warm(self) -> None:
        """Read ahead what stages and people change, as long as the server runs: a thread."""
        while True:
            time.sleep(_LOOK_SECONDS)
            with suppress(OSError, UserError):  # a stage that ends takes its files away
                self.warm_rows()

    def table(self, one: RoundFolder) -> RowTable:
        """Return all rows of a round."""
        files = [one.path(artifact) for artifact in table_files(one)]
        return self.cache.get(("table", str(one.folder)), files, lambda: RowTable.read(one))


def _has_rounds(folder: Path) -> bool:
    return folder.is_dir() and any(round_number(path.name) for path in folder.glob("round-*"))


class Command(NamedTuple):
    """A command of a round, as its button stands for it."""

    context: RoundContext
    words: tuple[str, ...]
    """What follows ``persona``, without the options that name the round."""

    @property
    def typed(self) -> tuple[str, ...]:
        """Return the command as a person would type it."""
        return ("persona", *self.words, *self.context.options)

    def start(self) -> RoundProcess:
        """Run it as a process of its own.

        Raises:
            UserError: Another command is at work on the round.
        """
        argv = (sys.executable, "-m", "app.cli.main", *self.typed[1:])
        return processes.start(self.context.round, argv, self.typed)
