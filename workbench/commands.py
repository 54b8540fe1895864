"""Commands as people paste them: the words of one, and the options that name its round.

In: a persona's folder, where rounds are kept, and a round's number. Out: a command that works in
the folder in which the round was made. Pages, reports, plans and messages get their commands here,
so that none sends anybody to another round. A round keeps its configuration: no ``--config`` is
needed for it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_COMMAND = re.compile("`persona ([^`]*)`")
RUNS = Path("runs")
"""Where rounds are kept unless it is said."""


@dataclass(frozen=True)
class RoundOptions:
    """What names a round on the command line."""

    persona: Path
    """Folder of the persona."""
    runs: Path = RUNS
    number: int = 1

    def __iter__(self) -> Iterator[str]:
        """Yield the options as arguments; those that are the default are left out."""
        yield from ("--persona", str(self.persona))
        if self.runs != RUNS:
            yield from ("--runs", str(self.runs))
        if self.number != 1:
            yield from ("--round", str(self.number))

    def command(self, words: str) -> str:
        """Return what follows ``persona``, such as ``next --curve``, as a whole line to paste."""
        return f"persona {words} {shlex.join(self)}"

    def filled(self, text: str, *, marks: str = "`") -> str:
        """Return a text whose commands, between backticks, name the round; ``marks`` go around."""
        put = self.command
        return _COMMAND.sub(lambda one: f"{marks}{put(one[1])}{marks}", text)


def changed_commands(text: str, change: Callable[[str], str]) -> str:
    """Return a text whose commands, between backticks, are changed by ``change``."""
    return _COMMAND.sub(lambda one: f"`{change(f'persona {one[1]}')}`", text)
