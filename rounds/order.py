"""What comes first: the command that makes what a stage misses.

In: a stage that is not done, or one that left no row. Out: the mistake in one line, with the
command to run. The layout, the runner and the pipeline tell it alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from workbench.config import METHODS
from workbench.errors import UserError
from workbench.records import Drop
from workbench.text import counted


def not_yet(what: str, stage: str, folder: Path, *, has_rows: bool = False) -> UserError:
    """Return that something needs a stage that is not done, and the command that makes it.

    ``has_rows`` means that rows to import are named already: no file has to be given.
    """
    named = {"import": "import" if has_rows else "import FILE", "review": "run --until review"}
    command = named.get(stage) or (f"train {stage}" if stage in METHODS else stage)
    return UserError(what, where=str(folder), fix=f"`persona {command}` comes first")


def no_round(folder: Path, others: Sequence[str]) -> UserError:
    """Return that a round was never begun, with the names of the persona's others."""
    fix = f"there: {', '.join(others)}" if others else "`persona run` makes it"
    return UserError("there is no such round", where=str(folder), fix=fix)


def nothing_left(drops: Sequence[Drop], file: Path) -> UserError:
    """Return that no row is left to review: how many were dropped before, by reason."""
    reasons = Counter(drop.reason for drop in drops).most_common()
    why = ", ".join(f"{reason} {count}" for reason, count in reasons) or "none came in"
    return UserError(
        f"no row is left to review: {counted(len(drops), 'row')} dropped ({why})",
        where=str(file),
        fix="mend in your file what the drops say, then `persona import FILE --replace`; or change"
        " filter in the configuration",
    )
