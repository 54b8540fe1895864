"""What an evaluation takes from the last round's: its prompts, and its last adapter's record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rounds.comparison import (
    DECODING,
    asked_text,
    columns_by_prompt,
    columns_of,
    counted_traits,
    means_of,
)
from rounds.context import RoundContext
from rounds.layout import GENERAL, RESPONSES, SCORES, Artifact, Manifest, RoundFolder
from workbench.config import METHODS, dumped
from workbench.persona import FIDELITY
from workbench.records import Example, Response, Score
from workbench.sampling import take_spread
from workbench.store import file_hash

if TYPE_CHECKING:
    from evaluation.gate import Earlier, GateReport, Why

STAGE = "evaluate"


def last_evaluated(context: RoundContext) -> RoundFolder | None:
    """Return the last round before this one that was evaluated."""
    evaluated = [one for one in context.round.earlier if one.done(STAGE)]
    return evaluated[-1] if evaluated else None


def record_files(context: RoundContext) -> tuple[tuple[RoundFolder, Artifact], ...]:
    """Return what is read of the last round's evaluation."""
    last = last_evaluated(context)
    return tuple((last, one) for one in (GENERAL, RESPONSES, SCORES)) if last else ()


def prompts_of(context: RoundContext, test: Sequence[Example]) -> list[Example]:
    """Return the held-out prompts to ask: those that the last round asked come first.

    Where ``evaluate.rows`` takes only some of them, it is on the same ones that two rounds can be
    compared.
    """
    last, most = last_evaluated(context), context.config.evaluate.rows
    known: set[str] = set()
    if last:
        asked = last.read(RESPONSES)
        known = {asked_text(response) for response in asked if not response.probe}
    again = take_spread([row for row in test if asked_text(row) in known], most)
    others = [row for row in test if asked_text(row) not in known]
    left = None if most is None else most - len(again)
    return again + (take_spread(others, left) if left is None or left > 0 else [])


def across_rounds(
    context: RoundContext,
    gate: GateReport,
    responses: Sequence[Response],
    scores: Sequence[Score],
    counted: Sequence[str],
) -> GateReport:
    """Return the gate's report with this round's last adapter held against the last round's.

    Fidelity is made of the traits that count in both rounds; ``counted`` are this one's.
    """
    from evaluation.gate import check_rounds

    last = last_evaluated(context)
    then = counted_traits([last]) if last else None
    traits = None if then is None else [trait for trait in counted if trait in then]
    earlier, arm = _earlier(context, traits), last_arm(gate.general)
    if earlier is None or arm is None:
        return gate
    across = check_rounds(
        arm,
        gate.general[arm],
        means_of(columns_by_prompt(responses, scores, traits), arm, FIDELITY),
        earlier,
        gate.bounds,
        context.config.seed,
    )
    return gate.model_copy(update={"across": across})


def last_arm(arms: Sequence[str] | dict[str, Any]) -> str | None:
    """Return the arm with the last trained adapter of a round's own; None where none is."""
    trained = [arm for arm in arms if set(arm.split("+")) <= set(METHODS)]
    return trained[-1] if trained else None


def _earlier(context: RoundContext, traits: Sequence[str] | None) -> Earlier | None:
    """Return the record of the last round, without what cannot be held against this one."""
    from evaluation.gate import Earlier
    from evaluation.general import General

    last = last_evaluated(context)
    manifest = last.manifest(STAGE) if last else None
    if last is None or manifest is None:
        return None
    data = json.loads((last.stage(STAGE) / "general.json").read_text(encoding="utf-8"))
    arm = last_arm(data["general"])
    if arm is None:
        return None
    other = _differences(context, manifest)
    general = None if {"base", "general"} & {*other} else data["general"][arm]
    comparable = not [why for why in other if why != "general"]
    return Earlier(
        round=last.name,
        arm=arm,
        general=General.model_validate(general) if general else None,
        fidelity=means_of(columns_of(last, traits), arm, FIDELITY) if comparable else {},
        not_compared=tuple(other),
    )


def _differences(context: RoundContext, manifest: Manifest) -> list[Why]:
    """Return what of the last round's evaluation was other than it is now."""
    from evaluation.general import QUESTIONS, TEXTS, general_folder

    then, read = manifest.settings, manifest.inputs
    now = context.config.evaluate.model_dump(mode="json")
    general = general_folder(context.config.evaluate.general)
    same: dict[Why, bool] = {
        "base": context.config.model == then.get("model"),
        "general": all(
            read.get(f"general/{name}") == file_hash(general / name) for name in (TEXTS, QUESTIONS)
        ),
        "persona": read.get("persona.yaml") == file_hash(context.persona_folder / "persona.yaml"),
        "decoding": all(now[name] == then.get(name) for name in DECODING),
        "judge": dumped(context.config.judge) == then.get("judge"),
    }
    return [why for why, is_same in same.items() if not is_same]
