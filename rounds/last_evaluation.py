"""What an evaluation takes from the last round's: its prompts, and its last adapter's record.

In: the last evaluated round before this one. Out: which prompts to ask, and the forgetting gate
with this round's last adapter held against that one's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from evaluation.gate import Earlier, GateReport, Why, check_rounds
from evaluation.general import texts_file
from rounds.comparison import DECODING, asked_text, columns_by_prompt, means_of
from rounds.context import RoundContext
from rounds.layout import COMPARISON, GENERAL, RESPONSES, SCORES, Manifest, RoundFolder
from workbench.config import METHODS
from workbench.persona import FIDELITY
from workbench.records import Example, Response, Score, take_spread
from workbench.store import file_hash, language_file
from workbench.values import dumped

STAGE = "evaluate"
READ = (COMPARISON, GENERAL, RESPONSES, SCORES)
"""What is read of the last round's evaluation."""


def last_evaluated(round_: RoundFolder) -> RoundFolder | None:
    """Return the last round before this one that was evaluated."""
    evaluated = [one for one in round_.earlier if one.done(STAGE)]
    return evaluated[-1] if evaluated else None


class LastEvaluation(NamedTuple):
    """What the last round's evaluation says."""

    round: str
    manifest: Manifest
    gate: GateReport
    traits: Sequence[str]
    """What its fidelity is made of."""
    responses: list[Response]
    scores: list[Score]

    @classmethod
    def read(cls, round_: RoundFolder) -> LastEvaluation:
        """Read it of an evaluated round."""
        manifest = round_.manifest(STAGE)
        assert manifest is not None, "it is evaluated"
        return cls(
            round_.name,
            manifest,
            round_.read(GENERAL),
            round_.read(COMPARISON).traits,
            round_.read(RESPONSES),
            round_.read(SCORES),
        )


def choose_prompts(
    test: Sequence[Example], asked: Iterable[Response], most: int | None
) -> list[Example]:
    """Return the held-out prompts to ask: those that the last round asked come first.

    Where only some of them are taken, it is on the same ones that two rounds can be compared. At
    most ``most``, all of them by default.
    """
    known = {asked_text(response) for response in asked if not response.probe}
    again = take_spread([row for row in test if asked_text(row) in known], most)
    others = [row for row in test if asked_text(row) not in known]
    rest = None if most is None else most - len(again)
    return again + (take_spread(others, rest) if rest is None or rest > 0 else [])


def across_rounds(
    last: LastEvaluation,
    gate: GateReport,
    responses: Sequence[Response],
    scores: Sequence[Score],
    traits: Sequence[str],
    different: Sequence[Why],
    seed: int,
) -> GateReport:
    """Return the gate's report with this round's last adapter held against the last round's.

    Fidelity is made of the traits that count in both rounds. ``different`` is what of the last
    evaluation was other than it is now.
    """
    # None stands for all traits, where the last round does not say which of them counted.
    both = [trait for trait in traits if trait in last.traits] if last.traits else None
    earlier, arm = _earlier(last, both, different), last_arm(gate.general)
    if earlier is None or arm is None:
        return gate
    across = check_rounds(
        arm,
        gate.general[arm],
        gate.instructions[arm],
        means_of(columns_by_prompt(responses, scores, both), arm, FIDELITY),
        earlier,
        gate.bounds,
        seed,
    )
    return gate.model_copy(update={"across": across})


def last_arm(arms: Iterable[str]) -> str | None:
    """Return the arm with the last trained adapter of a round's own; None where none is."""
    trained = [arm for arm in arms if set(arm.split("+")) <= set(METHODS)]
    return trained[-1] if trained else None


def _earlier(
    last: LastEvaluation, traits: Sequence[str] | None, different: Sequence[Why]
) -> Earlier | None:
    """Return the record of the last round, without what cannot be held against this one."""
    arm = last_arm(last.gate.general)
    if arm is None:
        return None
    columns = columns_by_prompt(last.responses, last.scores, traits)
    comparable = not [why for why in different if why != "general"]
    measured = not {"base", "general"} & {*different}
    return Earlier(
        round=last.round,
        arm=arm,
        general=last.gate.general[arm] if measured else None,
        instructions=last.gate.instructions[arm] if measured else {},
        fidelity=means_of(columns, arm, FIDELITY) if comparable else {},
        not_compared=tuple(different),
    )


def shared_files(context: RoundContext) -> dict[str, Path]:
    """Return the files from outside that two rounds have to share to be compared."""
    settings, language = context.config.evaluate, context.persona.language
    instructions = language_file(settings.instructions, language)
    return {
        **context.persona_files("persona.yaml"),
        "general/texts": texts_file(settings.general, language),
        **({"general/instructions": instructions} if instructions else {}),
    }


def differences(context: RoundContext, then: Manifest) -> list[Why]:
    """Return what of the last round's evaluation was other than it is now."""
    now = {
        "model": context.config.model,
        "judge": dumped(context.config.judge),
        **dumped(context.config.evaluate),
    }
    files = {label: file_hash(path) for label, path in shared_files(context).items()}
    base = context.base_key("evaluate")
    same: dict[Why, bool] = {
        "base": (now["model"], base)
        == (then.settings.get("model"), then.settings.get("base") or base),
        "general": all(
            then.inputs.get(label) == digest
            for label, digest in files.items()
            if label.startswith("general/")
        ),
        "persona": then.inputs.get("persona.yaml") == files["persona.yaml"],
        "decoding": all(now[name] == then.settings.get(name) for name in DECODING),
        "judge": now["judge"] == then.settings.get("judge"),
    }
    return [why for why, is_same in same.items() if not is_same]
