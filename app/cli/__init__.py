"""The command line: one file a group of commands, and how a group lists its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click


class ListedGroup(click.Group):
    """A group whose help has a whole line for each command, in the order in which they are used."""

    def __init__(self, *args: Any, lines: Mapping[str, str], **kwargs: Any) -> None:
        """``lines`` is command → its line, in that order."""
        super().__init__(*args, **kwargs)
        self.lines = lines

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which the commands are used."""
        return list(self.lines)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands; none is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.lines.items()))
