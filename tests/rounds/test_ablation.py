"""A round trained again without a group: really trained, on a tiny model, beside the round."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rounds.ablation import ablate, parse_group
from rounds.comparison import seeds_of
from rounds.context import RoundContext, open_context
from rounds.layout import SCORES, SEEDS, RoundFolder
from rounds.layout import TRAIN as TRAIN_ROWS
from rounds.pipeline import run_spec
from rounds.planning.learning_curve import SHARES, measure_curve
from rounds.training_seeds import seeds_stage
from tests.written_rounds import TRAIN, written_round
from workbench.records import Example, Preference, Response
from workbench.store import read_records, write_records

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two written rounds of a tiny model, and the configuration that they are made with."""
    home = tmp_path_factory.mktemp("without")
    sft = {
        "trainer.max_steps": 2,
        "trainer.save_steps": 2,
        "trainer.eval_strategy": "no",
        "rehearsal.rows": 0,
    }
    settings = {
        "persona": str(Path("datasets/gym-trainer").resolve()),
        "model": str(tiny_model),
        "train": {"methods": ["sft"], "overrides": {"sft": sft}},
        "evaluate": {
            **{"max_new_tokens": 8, "probes": 0, "conversations": 0, "drift": 0},
            **{"safety": 0, "requests": 0, "instructed": 2, "robustness": "off"},
        },
    }
    (home / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    for number in (1, 2):
        folder = written_round(home / f"runs/gym-trainer/round-{number:03d}", per_topic=4)
        (folder / "evaluate/manifest.json").unlink()  # so that no gate looks for what is not there
        rows = list(read_records(folder / "split/train.jsonl", Example))
        write_records(folder / "split/validation.jsonl", rows[:6])
        write_records(folder / "split/probes.jsonl", [])
        pairs = [
            Preference(prompt=row.prompt, chosen=row.answer, rejected="No.", topic=row.topic)
            for row in rows
        ]
        write_records(folder / "split/preferences-train.jsonl", pairs)
        bare = [
            Response(
                arm="baseline", prompt_id=row.id, prompt=row.prompt, text=f"It depends on {n}."
            )
            for n, row in enumerate(rows)
        ]
        write_records(folder / "generate/baseline.jsonl", bare)
    return home / "config.yaml"


def _context(config: Path) -> RoundContext:
    return open_context(config=config, runs=config.parent / "runs", round_number=2)


def test_a_group_is_left_out_trained_without_and_compared_on_the_same_prompts(
    config: Path,
) -> None:
    context, group = _context(config), parse_group(f"topic={TRAIN[0]}")
    ablation = ablate(context, group)
    assert (ablation.arm, ablation.rows_out, ablation.rows_left) == ("sft", 4, 8)
    assert ablation.pairs_out == 4
    fidelity = ablation.differences["fidelity"]
    # The written round shows every trait; an untrained tiny model hardly any of them.
    assert fidelity.pairs == 8
    assert fidelity.mean > 0.3
    assert fidelity.low is not None and fidelity.low > 0
    again = RoundFolder(context.round.folder / ".ablation/topic-soreness/round-002")
    manifest = again.manifest("sft")
    assert manifest is not None and manifest.counts["rows"] == 8
    assert {row.topic for row in again.read(TRAIN_ROWS)} == set(TRAIN[1:])
    # The round itself is as it was, and what is done is not done again.
    assert not context.round.done("sft")
    assert ablate(context, group) == ablation
    assert again.manifest("sft") == manifest


def test_further_seeds_are_trained_beside_the_round_and_taken_together(config: Path) -> None:
    context = _context(config).with_settings("train", seeds=2)
    run_spec(context, seeds_stage(context))

    report = context.round.read(SEEDS)
    fidelity = report.measures["fidelity"]
    assert (report.arm, report.seeds, fidelity.prompts) == ("sft", (0, 1), 8)
    # Seed 0 is the written round, which shows every trait; seed 1 an untrained tiny model.
    assert fidelity.seeds[0] > fidelity.seeds[1] + 0.3
    assert fidelity.low is not None and fidelity.low < fidelity.seeds[1]
    again = RoundFolder(context.round.folder / ".seeds/seed-1/round-002")
    manifest = again.manifest("sft")
    assert manifest is not None and manifest.seed == 1
    assert again.read(TRAIN_ROWS) == context.round.read(TRAIN_ROWS)
    assert seeds_of(context.round) == report
    rows = context.round.read(SCORES)
    write_records(context.round.path(SCORES), rows[:-1])
    assert seeds_of(context.round) is None, "they stand beside other scores now"
    write_records(context.round.path(SCORES), rows)


def test_a_learning_curve_trains_on_growing_parts_and_is_kept(config: Path) -> None:
    context = _context(config)
    curve = measure_curve(context)
    assert curve is not None
    assert curve.measure == "validation_loss"
    assert curve.sizes == tuple(max(1, round(share * 12)) for share in SHARES)
    assert curve.scored == 6
    assert all(mean > 1 for mean in curve.means)
    manifests = sorted(context.round.scratch("next").glob("curve-*/manifest.json"))
    assert len(manifests) == len(curve.sizes)
    before = [path.stat().st_mtime_ns for path in manifests]
    assert measure_curve(context) == curve
    assert [path.stat().st_mtime_ns for path in manifests] == before
