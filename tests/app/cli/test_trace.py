"""``persona trace --sample``: chains over all kinds of records, and what it says of broken ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.probes import read_probes
from rounds.lineage.audit import draw
from rounds.lineage.graph import kind_of, read_lineage
from tests.commands import Commands, Output
from tests.curation.review_team import seeds
from tests.scripted_server import Reply, Request, ScriptedServer, conforms, fails
from workbench.persona import load_persona
from workbench.records import Decision, Drop, Example, Response, Review, Score
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
def round_(commands: Commands) -> Path:
    """A round by hand, all the way from imported rows to scores of a trained arm."""
    persona = commands.repo / "datasets" / "gym-trainer"
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
    commands.put("import/examples.jsonl", rows)
    commands.put("review/reviews.jsonl", reviews)
    commands.put("resolve/decisions.jsonl", decisions)
    commands.put("split/train.jsonl", trained)
    commands.put("split/test.jsonl", asked)
    commands.put("evaluate/responses.jsonl", answers)
    commands.put("evaluate/scores.jsonl", scores)
    weights = commands.folder() / ARM / "adapter" / "adapter_model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"")
    commands.finished(ARM, inputs={"split/train.jsonl": "0"})
    return commands.folder()


def test_records_of_every_kind_are_drawn_and_their_chains_complete(
    commands: Commands, round_: Path
) -> None:
    said = commands.on_round("trace", "--sample", "60", "--json")
    kinds = json.loads(said.out)["kinds"]
    assert (said.code, json.loads(said.out)["gaps"]) == (0, {})
    assert kinds["adapter"] == {"there": 1, "drawn": 1, "complete": 1}
    assert set(kinds) == {"adapter", "answer", "decision", "review", "row", "score"}
    assert sum(kind["drawn"] for kind in kinds.values()) == 60
    # As evenly as there are records: ten answers are all that there are.
    assert kinds["answer"]["drawn"] == 10 and kinds["score"]["drawn"] in (12, 13)
    all_of_them = commands.on_round("trace", "--sample", "1000")
    assert all_of_them.out.splitlines()[-1] == "151 of 151 chains are complete"


def test_the_seed_draws_the_ids(round_: Path) -> None:
    lineage = read_lineage(round_.parent)
    first, again, other = (draw(lineage, 30, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert len(set(first)) == 30 and {kind_of(node) for node in first} >= {"row", "score"}


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ("review/reviews.jsonl", "is named as a parent, but stands in no file"),
        ("import/examples.jsonl", ""),
        ("evaluate/responses.jsonl", "is named as a parent, but stands in no file"),
    ],
)
def test_a_lost_file_breaks_the_chains_that_went_through_it(
    commands: Commands, round_: Path, lost: str, told: str
) -> None:
    (round_ / lost).unlink()
    said = commands.on_round("trace", "--sample", "1000")
    # Rows stand in the split as well, so that nothing hangs on the imported file alone.
    assert said.code == (1 if told else 0)
    assert told in said.out
    assert ("gap: " in said.out) == bool(told)


def test_an_answer_without_its_adapters_rows_and_a_row_without_a_click_are_gaps(
    commands: Commands, round_: Path
) -> None:
    rows = list(read_records(round_ / "split/train.jsonl", Example))
    unseen = [row.evolve(parents=row.parents[:1]) for row in rows]
    commands.put("split/train.jsonl", unseen)
    said = commands.on_round("trace", "--sample", "1000")
    assert said.code == 1
    assert f"{rows[0].id} leads back to no review" in said.out
    assert "round-001/sft leads back to no review" in said.out


def test_a_probe_that_an_earlier_round_trained_on_is_dropped_with_its_whole_chain(
    commands: Commands,
) -> None:
    folder = commands.repo / "datasets" / "gym-trainer"
    probes = read_probes(folder / "probes.jsonl", load_persona(folder))
    kept, reviews, _ = zip(*map(reviewed, rows_of(folder)), strict=True)
    trained = kept[0].evolve(prompt=probes[0].prompt)
    commands.put("review/reviews.jsonl", reviews)
    commands.curated([trained, *kept[1:]])
    commands.put("split/train.jsonl", [trained])
    for name in ("validation", "test", "preferences-train", "preferences-validation"):
        commands.put(f"split/{name}.jsonl", [])
    commands.put("split/preferences-test.jsonl", [])
    commands.finished("split")
    commands.put("split/splits.jsonl", [])
    commands.put("review/reviews.jsonl", reviews, number=2)
    commands.curated(kept[1:], number=2)
    assert commands.on_round("split", number=2).code == 0
    split = commands.folder(2) / "split"
    gone = list(read_records(split / "dropped-probes.jsonl", Example))
    drops = [d for d in read_records(split / "drops.jsonl", Drop) if d.record == probes[0].id]
    assert [drop.reason for drop in drops] == ["probe_in_training"]
    assert probes[0].id in {probe.id for probe in gone}
    lineage = read_lineage(commands.folder().parent)
    assert {drop.id: lineage.gaps(drop.id) for drop in drops} == {drops[0].id: []}


def _one_line(said: Output) -> str:
    assert said.code == 2 and len(said.err.splitlines()) == 1
    return said.err


def test_neither_an_id_nor_a_number_is_one_line(commands: Commands, round_: Path) -> None:
    assert "name an id, or how many to draw" in _one_line(commands.on_round("trace"))


@pytest.mark.slow
def test_what_a_teacher_was_asked_and_did_not_answer_has_its_chain(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused: set[str] = set()

    def script(request: Request) -> Reply:
        if request.system and (len(refused) < 3 or request.prompt in refused):
            refused.add(request.prompt)
            return fails(500)
        return conforms(request)

    with ScriptedServer(script) as server:
        assert run("import", url=server.url) == 0
        assert run("generate", "--min-share", "0.1", url=server.url) == 0
    generated = tmp_path / "runs" / "tester" / "round-001" / "generate"
    drops = list(read_records(generated / "drops.jsonl", Drop))
    assert len(drops) >= 3
    capsys.readouterr()
    assert run("trace", "--sample", "1000", "--json", url=server.url) == 0
    kinds = json.loads(capsys.readouterr().out)["kinds"]
    assert kinds["drop"]["drawn"] == len(drops) == kinds["drop"]["complete"]
    assert kinds["row"]["complete"] == kinds["row"]["there"] >= 9
