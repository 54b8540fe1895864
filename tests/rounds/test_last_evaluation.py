"""What an evaluation takes from the last round's: the prompts to ask, and what could be lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.gate import check_forgetting
from rounds.context import open_context
from rounds.last_evaluation import (
    LastEvaluation,
    across_rounds,
    choose_prompts,
    differences,
    last_evaluated,
    shared_files,
)
from rounds.layout import COMPARISON, GENERAL, RESPONSES, SCORES, RoundFolder
from tests.commands import write_manifest
from tests.evaluation.test_gate import followed, general
from tests.written_rounds import scored
from workbench.config import GateBounds
from workbench.records import Example, Response, Score, user_prompt
from workbench.stats import compare
from workbench.store import file_hash, write_json, write_records
from workbench.values import dumped

BOUNDS = GateBounds(cross_entropy=0.3, instructions=0.2, fidelity=0.1)


def answered(warmth: float) -> tuple[list[Response], list[Score]]:
    """Return ten answers that all give a reason, and what a judge says of their warmth."""
    responses = [
        Response(arm="sft", prompt_id=f"ex-{n}", prompt=user_prompt(f"Why {n}?"), text=f"{warmth}")
        for n in range(10)
    ]
    return responses, [s for r in responses for s in scored(r, {"why": 1.0, "warmth": warmth})]


@pytest.mark.parametrize(("then", "lost"), [(("why",), ()), (("why", "warmth"), ("fidelity",))])
def test_only_traits_that_count_in_both_rounds_can_be_lost(
    then: tuple[str, ...], lost: tuple[str, ...], repo: Path, tmp_path: Path
) -> None:
    """A judge who saw warmth sees none any more: a loss only where both rounds trusted it."""
    persona = repo / "datasets" / "gym-trainer"
    context = open_context(persona=persona, runs=tmp_path, round_number=2)
    first = RoundFolder.open(tmp_path / "gym-trainer", 1)
    settings = {"model": context.config.model, "judge": None, **dumped(context.config.evaluate)}
    inputs = {name: file_hash(file) for name, file in shared_files(context).items()}
    write_manifest(first.folder, "evaluate", settings=settings, inputs=inputs)
    arms = ("base", "sft")
    gate = check_forgetting(
        dict.fromkeys(arms, general(3.0)), dict.fromkeys(arms, followed(8, 10)), BOUNDS
    )
    write_json(first.path(GENERAL), dumped(gate))
    responses, scores = answered(warmth=1.0)
    comparison = compare(scores, base="sft", traits=then, resamples=10)
    write_json(first.path(COMPARISON), dumped(comparison))
    write_records(first.path(RESPONSES), responses)
    write_records(first.path(SCORES), scores)

    assert last_evaluated(context.round) == first
    last = LastEvaluation.read(first)
    different = differences(context, last.manifest)
    now = answered(warmth=0.0)
    across = across_rounds(last, gate, *now, ["why", "warmth"], different, seed=0).across

    assert across is not None and across.fidelity is not None
    assert (across.not_compared, across.fidelity.pairs, across.lost) == ((), 10, lost)


def test_prompts_of_the_last_round_are_asked_first_and_the_others_fill_up() -> None:
    rows = [
        Example(prompt=user_prompt(f"Question {n}?"), answer="Champ.", topic="eating")
        for n in range(6)
    ]
    asked = [Response(arm="base", prompt_id=r.id, prompt=r.prompt, text="") for r in rows[4:]]
    chosen = choose_prompts(rows, asked, most=3)
    assert chosen[:2] == rows[4:]
    assert len(chosen) == 3 and chosen[2] in rows[:4]
    assert choose_prompts(rows, asked, most=None) == [*rows[4:], *rows[:4]]


def test_another_base_and_other_decoding_are_named(repo: Path, tmp_path: Path) -> None:
    context = open_context(persona=repo / "datasets" / "gym-trainer", runs=tmp_path, round_number=2)
    first = RoundFolder.open(tmp_path / "gym-trainer", 1)
    settings = {"model": "other", "judge": None, **dumped(context.config.evaluate), "seeds": [1]}
    inputs = {name: file_hash(file) for name, file in shared_files(context).items()}
    write_manifest(first.folder, "evaluate", settings=settings, inputs=inputs)
    manifest = first.manifest("evaluate")
    assert manifest is not None
    assert differences(context, manifest) == ["base", "decoding"]
