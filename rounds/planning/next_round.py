"""Opening the next round: its configuration, and the proposal as JSON and as a page.

In: an evaluated round, and what to plan for. Out: the new round's folder with ``config.yaml``,
``next.json`` and ``next.md``; ``persona run`` with its number then makes it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluation.learning_curve import LearningCurve
from rounds.context import RoundContext
from rounds.layout import COMPARISON, CONFIG, MANIFEST, RoundFolder
from rounds.notes import carry_notes
from rounds.planning.page import render_page
from rounds.planning.proposal import Proposal, propose
from workbench.console import console
from workbench.errors import UserError
from workbench.store import as_model, atomic_file, read_json, write_json
from workbench.text import counted

_CARRIED = {"mended": "mended answer", "contested": "contested row"}
BEFORE = "config.before.yaml"
"""The configuration of a round that was planned already, and is planned anew."""
PROPOSAL = "next.json"
PAGE = "next.md"


def last_evaluated(one: RoundFolder) -> RoundFolder:
    """Return the last evaluated round of a round's persona.

    Raises:
        UserError: There is none.
    """
    evaluated = [other for other in one.all_rounds if other.has(COMPARISON)]
    if not evaluated:
        raise UserError(
            "no round has been evaluated",
            where=str(one.folder.parent),
            fix="`persona run` makes the first one",
        )
    return evaluated[-1]


def plan_next_round(
    context: RoundContext,
    *,
    rows: int | None = None,
    budget: float | None = None,
    curve: bool = False,
    losses: bool = True,
) -> tuple[RoundFolder, Proposal]:
    """Open the round after an evaluated one.

    A configuration that was there is left beside the new one, since people may have changed it.

    Args:
        context: The evaluated round.
        rows: Rows to plan; ``per_topic`` for each topic of training by default.
        budget: Most that the plan may cost, in the currency of the teacher's price.
        curve: Train on parts of the rows to learn whether more of them help.
        losses: Look at the rows' losses, for which the model is loaded.

    Returns:
        The new round, and what it is opened with.

    Raises:
        UserError: That round has begun, its folder cannot be written, or what :func:`propose` says.
    """
    opened = context.round.next
    if any(opened.folder.glob(f"*/{MANIFEST}")):
        raise UserError(
            f"{opened.name} has begun already",
            where=str(opened.folder),
            fix="plan the one after it with --round, or remove its folder",
        )
    console.print(f"reading {context.round.name}")
    proposal = propose(context, rows=rows, budget=budget, curve=curve, losses=losses)
    write_json(opened.folder / PROPOSAL, proposal.model_dump(mode="json"))
    with atomic_file(opened.folder / PAGE) as file:
        file.write(render_page(context.persona, proposal))
    _write_config(context, opened, proposal, budget)
    carried = carry_notes([*context.round.earlier, context.round], opened)
    for what, count in carried.items():
        if count:
            console.print(
                f"  {counted(count, _CARRIED[what])} carried over: {opened.name} reviews them"
            )
    return opened, proposal


def planned_curve(one: RoundFolder) -> LearningCurve | None:
    """Return the learning curve of the plan that a round was opened with, where one was measured.

    Raises:
        UserError: The plan cannot be read.
    """
    file = one.folder / PROPOSAL
    curve = read_json(file).get("curve") if file.exists() else None
    return as_model(LearningCurve, curve, "learning curve", file) if curve else None


def _write_config(
    context: RoundContext, opened: RoundFolder, proposal: Proposal, budget: float | None
) -> None:
    generate: dict[str, Any] = {"plan": proposal.plan}
    if budget is not None:
        generate["budget"] = budget
    changes = {
        "sources": (Path(context.round.name),),
        "rows": None,
        "generate": context.config.generate.model_copy(update=generate),
    }
    file = opened.folder / CONFIG
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    replace(context, config=context.config.model_copy(update=changes), round=opened).remember()
    if before and before != file.read_text(encoding="utf-8"):
        with atomic_file(opened.folder / BEFORE) as copy:
            copy.write(before)
        console.print(f"  {CONFIG} is new; the one that was there is now {BEFORE}")
