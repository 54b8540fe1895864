"""Chains over all kinds of records drawn at random, and what is said of broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.probes import read_probes
from rounds.layout import GENERATE_DROPS, TRAIN
from rounds.lineage.audit import Audit, audit, draw
from rounds.lineage.graph import kind_of, read_lineage
from rounds.pipeline import run_stages
from tests.commands import Workspace
from tests.curation.review_team import seeds
from tests.scripted_server import Reply, Request, ScriptedServer, conforms, fails
from tests.small_round import SmallRound
from workbench.persona import load_persona
from workbench.records import Decision, Drop, Example, ProbePrompt, Response, Review, Score
from workbench.store import read_records

ARM = "sft"
PERSONA = "persona-0123456789abcdef"


def rows_of(persona: Path) -> list[Example]:
    return [row.evolve(parents=(PERSONA,)) for row in seeds(persona)]


def reviewed(row: Example) -> tuple[Example, Review, Decision]:
    """A row as people kept it, the click and the decision."""
    review = Review(reviewer="reviewer-1", record=row.id)
    kept = row.evolve(parents=(*row.parents, review.id))
    return kept, review, Decision(record=row.id, outcome="keep", parents=(row.id, review.id))


@pytest.fixture
def round_(workspace: Workspace) -> Path:
    """A round by hand, all the way from imported rows to scores of a trained arm."""
    persona = workspace.repo / "datasets" / "gym-trainer"
    rows = rows_of(persona)[:40]
    kept, reviews, decisions = zip(*map(reviewed, rows), strict=True)
    asked, trained = kept[:10], kept[10:]
    answers = [
        Response(arm=ARM, prompt_id=r.id, prompt=r.prompt, text="Eat, champ.", parents=(r.id,))
        for r in asked
    ]
    scores = [
        Score(arm=ARM, prompt_id=a.prompt_id, response=a.id, metric=m, value=1, parents=(a.id,))
        for a in answers
        for m in ("address", "length")
    ]
    workspace.put("import/examples.jsonl", rows)
    workspace.put("review/reviews.jsonl", reviews)
    workspace.put("resolve/decisions.jsonl", decisions)
    workspace.put("split/train.jsonl", trained)
    workspace.put("split/test.jsonl", asked)
    workspace.put("evaluate/responses.jsonl", answers)
    workspace.put("evaluate/scores.jsonl", scores)
    weights = workspace.folder() / ARM / "adapter" / "adapter_model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"")
    workspace.finished(ARM, inputs={"split/train.jsonl": "0"})
    return workspace.folder()


def _audited(persona_runs: Path, count: int = 1000) -> Audit:
    lineage = read_lineage(persona_runs)
    return audit(lineage, draw(lineage, count, seed=0))


def test_records_of_every_kind_are_drawn_and_their_chains_complete(round_: Path) -> None:
    result = _audited(round_.parent, 60)
    assert result.gaps == {}
    assert (result.there["adapter"], result.drawn["adapter"]) == (1, 1)
    assert result.complete("adapter") == 1
    assert set(result.drawn) == {"adapter", "answer", "decision", "review", "row", "score"}
    assert sum(result.drawn.values()) == 60
    # As evenly as there are records: ten answers are all that there are.
    assert result.drawn["answer"] == 10 and result.drawn["score"] in (12, 13)
    assert sum(_audited(round_.parent).drawn.values()) == 151


def test_the_seed_draws_the_ids(round_: Path) -> None:
    lineage = read_lineage(round_.parent)
    first, again, other = (draw(lineage, 30, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert len(set(first)) == 30 and {kind_of(node) for node in first} >= {"row", "score"}


@pytest.mark.parametrize(
    ("lost", "gap"),
    [
        ("review/reviews.jsonl", "is named as a parent, but stands in no file"),
        ("import/examples.jsonl", ""),
        ("evaluate/responses.jsonl", "is named as a parent, but stands in no file"),
    ],
)
def test_a_lost_file_breaks_the_chains_that_went_through_it(
    round_: Path, lost: str, gap: str
) -> None:
    (round_ / lost).unlink()
    gaps = [line for lines in _audited(round_.parent).gaps.values() for line in lines]
    # Rows stand in the split as well, so that nothing hangs on the imported file alone.
    assert bool(gaps) == bool(gap)
    assert not gap or any(gap in line for line in gaps)


def test_an_answer_without_its_adapters_rows_and_a_row_without_a_click_are_gaps(
    workspace: Workspace, round_: Path
) -> None:
    rows = workspace.round().read(TRAIN)
    workspace.put(TRAIN.path, [row.evolve(parents=row.parents[:1]) for row in rows])
    gaps = _audited(round_.parent).gaps
    assert f"{rows[0].id} leads back to no review" in gaps[rows[0].id]
    assert "round-001/sft leads back to no review" in gaps["round-001/sft"]


def test_a_probe_that_an_earlier_round_trained_on_is_dropped_with_its_whole_chain(
    workspace: Workspace,
) -> None:
    folder = workspace.repo / "datasets" / "gym-trainer"
    probes = read_probes(folder / "probes.jsonl", load_persona(folder))
    kept, reviews, _ = zip(*map(reviewed, rows_of(folder)), strict=True)
    trained = kept[0].evolve(prompt=probes[0].prompt)
    workspace.put("review/reviews.jsonl", reviews)
    workspace.curated([trained, *kept[1:]])
    workspace.put("split/train.jsonl", [trained])
    for name in ("validation", "test", "preferences-train", "preferences-validation"):
        workspace.put(f"split/{name}.jsonl", [])
    workspace.put("split/preferences-test.jsonl", [])
    workspace.finished("split")
    workspace.put("split/splits.jsonl", [])
    workspace.put("review/reviews.jsonl", reviews, number=2)
    workspace.curated(kept[1:], number=2)
    run_stages(workspace.context(2), ["split"])
    split = workspace.folder(2) / "split"
    gone = list(read_records(split / "dropped-probes.jsonl", ProbePrompt))
    drops = [d for d in read_records(split / "drops.jsonl", Drop) if d.record == probes[0].id]
    assert [drop.reason for drop in drops] == ["probe_in_training"]
    assert probes[0].id in {probe.id for probe in gone}
    lineage = read_lineage(workspace.folder().parent)
    assert {drop.id: lineage.gaps(drop.id) for drop in drops} == {drops[0].id: []}


def test_what_a_teacher_was_asked_and_did_not_answer_has_its_chain(small_round: SmallRound) -> None:
    refused: set[str] = set()

    def script(request: Request) -> Reply:
        if request.system and (len(refused) < 3 or request.prompt in refused):
            refused.add(request.prompt)
            return fails(500)
        return conforms(request)

    with ScriptedServer(script) as server:
        context = small_round.context(server.url)
        run_stages(context, ["import", "generate"])
    drops = context.round.read(GENERATE_DROPS)
    assert len(drops) >= 3
    result = _audited(small_round.folder.parent)
    assert result.gaps == {}
    assert result.drawn["drop"] == len(drops) == result.complete("drop")
    assert result.complete("row") == result.there["row"] >= 9
