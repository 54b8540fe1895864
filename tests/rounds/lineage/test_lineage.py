"""A small round by hand: one row that is trained on, one that is held out and answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rounds.lineage.forget import forget_lines
from rounds.lineage.graph import Lineage, read_lineage
from rounds.lineage.render import chain, chain_lines, draw_picture
from tests.commands import write_manifest
from workbench.errors import UserError
from workbench.records import Example, Record, Response, Review, Score, user_prompt
from workbench.store import read_records, write_records

PERSONA = "persona-0123456789abcdef"


def _row(question: str, line: int, *reviews: Review) -> Example:
    return Example(
        prompt=user_prompt(question),
        answer=f"Champ, {question}",
        source=f"seeds.jsonl:{line}",
        parents=(PERSONA, *(review.id for review in reviews)),
    )


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "round-001"
    rows = [_row("my knee hurts", 1), _row("I skip breakfast", 2)]
    reviews = [Review(reviewer="reviewer-1", record=row.id) for row in rows]
    kept = [_row("my knee hurts", 1, reviews[0]), _row("I skip breakfast", 2, reviews[1])]
    response = Response(
        arm="sft",
        prompt_id=kept[1].id,
        prompt=kept[1].prompt,
        text="Eat, champ.",
        parents=(kept[1].id,),
    )
    score = Score(
        arm="sft",
        prompt_id=kept[1].id,
        response=response.id,
        metric="address",
        value=1.0,
        parents=(response.id,),
    )
    files: dict[str, list[Record]] = {
        "import/examples.jsonl": [*rows],
        "review/reviews.jsonl": [*reviews],
        "split/train.jsonl": [kept[0]],
        "split/test.jsonl": [kept[1]],
        "evaluate/responses.jsonl": [response],
        "evaluate/scores.jsonl": [score],
    }
    for name, records in files.items():
        write_records(folder / name, records)
    (folder / "sft" / "adapter").mkdir(parents=True)
    (folder / "sft/adapter/adapter_model.safetensors").write_bytes(b"")
    manifest: dict[str, Any] = {
        "inputs": {"split/train.jsonl": "0", "recipe": "f00d"},
        "settings": {"model": "smollm2-135m"},
        "outputs": {"adapter/adapter_model.safetensors": {"sha256": "beef", "bytes": 0}},
        "counts": {"rows": 1},
    }
    write_manifest(folder, "sft", **manifest)
    return tmp_path


def _ids(lineage: Lineage, prefix: str) -> list[str]:
    return sorted(node for node in lineage.graph if node.startswith(prefix))


def test_a_score_is_walked_back_to_clicks_persona_and_adapter(runs: Path) -> None:
    lineage = read_lineage(runs)
    (score,) = _ids(lineage, "sc-")
    way = chain(lineage, score)
    assert [step.kind for step in way.before] == [
        "persona",
        "adapter",
        "review",
        "row",
        "answer",
    ]
    adapter = next(step for step in way.before if step.kind == "adapter")
    assert (adapter.facts["recipe"], adapter.facts["sha256"]) == ("f00d", "beef")
    assert way.trained_on == 1
    assert way.gaps == ()


def test_a_training_row_is_walked_on_to_the_adapter_and_its_answers(runs: Path) -> None:
    lineage = read_lineage(runs)
    (trained,) = [n for n in _ids(lineage, "ex-") if "round-001/sft" in lineage.after(n)]
    assert [node.split("-")[0] for node in lineage.after(trained)] == ["round", "rs", "sc"]
    assert chain_lines(chain(lineage, trained))[-1] == "the chain is complete"


def test_a_parent_that_stands_in_no_file_is_a_gap(runs: Path) -> None:
    review = runs / "round-001/review/reviews.jsonl"
    lost = json.loads(review.read_text(encoding="utf-8").splitlines()[1])["id"]
    review.write_text(review.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    lineage = read_lineage(runs)
    (score,) = _ids(lineage, "sc-")
    assert lineage.gaps(score) == [f"{lost} is named as a parent, but stands in no file"]


def test_a_row_without_any_origin_is_a_gap(runs: Path) -> None:
    orphan = Example(prompt=user_prompt("where am I from?"), answer="Nowhere.")
    write_records(runs / "round-001/generate/examples.jsonl", [orphan])
    lineage = read_lineage(runs)
    assert lineage.gaps(orphan.id) == [f"{orphan.id} names nothing that it was made from"]


def test_forgetting_a_training_row_names_its_adapter_and_a_held_out_one_names_none(
    runs: Path,
) -> None:
    lineage = read_lineage(runs)
    lines = forget_lines(lineage, ["seeds.jsonl:1"])
    assert "round-001/sft: its adapter was trained on them; train it again" in lines
    assert "round-001/split/train.jsonl: 1 record" in lines
    assert forget_lines(lineage, ["seeds.jsonl:2"])[-1] == "no adapter was trained on them"


def test_a_reviewer_can_be_forgotten_by_name(runs: Path) -> None:
    assert forget_lines(read_lineage(runs), ["reviewer-1"])[0].startswith("2 records meant")


def test_the_picture_shows_every_step_of_the_way_back(runs: Path) -> None:
    lineage = read_lineage(runs)
    (score,) = _ids(lineage, "sc-")
    picture = draw_picture(lineage, score)
    assert picture.count("<rect") == 6
    assert picture.count("<line") == 6
    assert score in picture


@pytest.mark.parametrize(("name", "said"), [("nothing", "no record"), ("ex-", "2 ids begin")])
def test_a_name_that_means_nothing_or_too_much_is_one_line(
    runs: Path, name: str, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        read_lineage(runs).named(name)


def test_forgetting_names_exports_and_adapters_that_were_trained_for_a_look(runs: Path) -> None:
    folder = runs / "round-001"
    (folder / "export/sft-gguf-q8_0").mkdir(parents=True)
    (folder / "export/dpo-vllm").mkdir()
    trained = read_records(folder / "split/train.jsonl", Example)
    write_records(folder / ".ablation/topic-food/round-001/split/train.jsonl", trained)
    write_records(folder / ".next.scratch/curve-00001/rows.jsonl", [_row("I skip breakfast", 2)])
    lines = forget_lines(read_lineage(runs), ["seeds.jsonl:1"])
    named = [line.split(": ")[0] for line in lines if line.endswith(("copies of it", "remove it"))]
    assert named == [
        "round-001/export/sft-gguf-q8_0",
        "round-001/.ablation/topic-food/round-001",
    ]
