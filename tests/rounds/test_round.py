"""The public interface: a round from Python alone, without the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rounds import FILTERED, IMPORTED, PREFERENCES, RESOLVED, RESOLVED_PREFERENCES, TRAIN, Round
from tests.written_rounds import written_round
from workbench.errors import UserError
from workbench.records import Example, Preference
from workbench.store import write_json, write_records

SHORT = {
    "trainer.max_steps": 1,
    "trainer.save_steps": 1,
    "trainer.eval_strategy": "no",
    "trainer.per_device_train_batch_size": 4,
    "rehearsal.rows": 0,
}


@pytest.fixture
def gym(repo: Path) -> Path:
    return repo / "datasets" / "gym-trainer"


def _resolve(one: Round) -> None:
    """Import the seeds, and write what the stages after it leave for the split."""
    one.run("import")
    rows = one.read(IMPORTED)
    write_records(one.path(RESOLVED), rows)
    pairs = [
        Preference(
            prompt=row.prompt,
            chosen=row.answer,
            rejected="Walk.",
            topic=row.topic,
            parents=(row.id,),
        )
        for row in rows
    ]
    write_records(one.path(RESOLVED_PREFERENCES), pairs)


def test_importing_rounds_imports_no_heavy_library() -> None:
    code = (
        "import sys\nfrom rounds import TRAIN, Round\n"
        "print(sorted({'torch', 'pandas', 'datasets', 'numpy', 'distilabel'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_round_is_made_run_and_read_in_a_few_lines(gym: Path, tmp_path: Path) -> None:
    one = Round.create(gym, runs=tmp_path, seed=3, rows=40)
    (imported,) = one.run("import")
    assert (imported.stage, imported.ran) == ("import", True)
    rows = one.read(IMPORTED)
    assert imported.manifest.counts["kept"] == len(rows) == 40
    assert {row.origin for row in rows} == {"seed"}
    again = Round.open(tmp_path / "gym-trainer", 1)
    assert [outcome.ran for outcome in again.run("import", "filter")] == [False, True]
    assert again.manifest("filter").seed == 3  # type: ignore[union-attr]
    assert {row.id for row in again.read(FILTERED)} <= {row.id for row in rows}


def test_force_does_a_stage_again(gym: Path, tmp_path: Path) -> None:
    one = Round.create(gym, runs=tmp_path, rows=40)
    one.run("import", "filter")
    assert [outcome.ran for outcome in one.run("import", "filter", force=True)] == [True, True]
    assert [outcome.ran for outcome in one.run("import", "filter", force=["filter"])] == [
        False,
        True,
    ]


def test_records_come_as_a_dataset_and_as_a_table(gym: Path, tmp_path: Path) -> None:
    one = Round.create(gym, runs=tmp_path)
    _resolve(one)
    one.run("split")
    rows = one.read(TRAIN)
    dataset, table = one.dataset(TRAIN), one.table(TRAIN)
    assert dataset["id"] == [row.id for row in rows] == list(table["id"])
    assert dataset[0]["prompt"] == [{"role": "user", "content": rows[0].question}]
    assert set(table["topic"]) == {row.topic for row in rows}
    assert list(table.columns) == list(Example.model_fields)


def test_an_empty_artifact_has_its_columns_all_the_same(gym: Path, tmp_path: Path) -> None:
    one = Round.create(gym, runs=tmp_path)
    write_records(one.path(PREFERENCES["validation"]), [])
    assert one.dataset(PREFERENCES["validation"]).column_names == list(Preference.model_fields)
    assert one.table(PREFERENCES["validation"]).shape == (0, len(Preference.model_fields))


def test_of_a_section_only_what_is_named_changes(gym: Path, tmp_path: Path) -> None:
    one = Round.create(
        gym, runs=tmp_path, preset="smoke", generate={"batch_size": 4}, train={"methods": ["sft"]}
    )
    config = Round.open(tmp_path / "gym-trainer", 1).context.config
    assert (config.generate.max_new_tokens, config.generate.batch_size) == (24, 4)
    assert config.train.overrides["sft"] == {"trainer.max_steps": 6, "rehearsal.rows": 0}
    assert one.context.config == config


def test_two_rounds_are_compared(gym: Path, tmp_path: Path) -> None:
    first = Round.create(gym, runs=tmp_path)
    second = Round.create(gym, runs=tmp_path, number=2)
    written_round(first.folder, missed={"address": 8})
    written_round(second.folder)
    comparison = first.compare(second)
    (address,) = [one for one in comparison.scores if (one.arm, one.metric) == ("sft", "address")]
    assert address.mean == pytest.approx(8 / 20)


def test_a_round_that_was_not_made_says_how(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no such round — Round\.create"):
        Round.open(tmp_path / "gym-trainer", 7).run("import")


def test_every_mistake_is_raised_before_anything_runs(gym: Path, tmp_path: Path) -> None:
    one = Round.create(
        gym,
        runs=tmp_path,
        model=str(tmp_path / "no-model"),
        review={"policy": {"blocking": ["unsafe_advise"]}},
        evaluate={"arms": ["bass"]},
        train={"overrides": {"sft": {"trainer.max_step": 4}}},
    )
    with pytest.raises(UserError) as caught:
        one.run()
    file = one.folder / "config.yaml"
    lines = file.read_text(encoding="utf-8").splitlines()
    arms, max_step = (
        next(number for number, line in enumerate(lines, start=1) if key in line)
        for key in ("arms:", "max_step:")
    )
    found = caught.value.lines()
    assert len(found) == 4
    assert found[0].startswith("review.policy: blocking: unknown problem 'unsafe_advise'")
    assert found[1].startswith(
        f"{file}:{max_step}: train.overrides.sft.trainer.max_step: is no field of SFTConfig"
    )
    assert found[2].startswith(f"{file}:{arms}: evaluate.arms: there is no arm 'bass'")
    assert str(tmp_path / "no-model") in found[3]
    assert not one.done("import")


def test_a_round_of_an_older_format_is_one_line(gym: Path, tmp_path: Path) -> None:
    one = Round.create(gym, runs=tmp_path)
    write_json(one.stage("import") / "manifest.json", {"stage": "import", "inputs": {}})
    with pytest.raises(UserError, match="the round is of format 1, this version reads 2"):
        one.run("import")


def test_an_arm_that_was_not_trained_cannot_be_talked_to(gym: Path, tmp_path: Path) -> None:
    one = Round.create(gym, runs=tmp_path)
    with pytest.raises(UserError, match="the round has no adapter 'sft'"), one.chat("sft"):
        pass


@pytest.mark.slow
def test_a_trained_arm_answers_and_remembers(gym: Path, tmp_path: Path, tiny_model: Path) -> None:
    one = Round.create(
        gym, runs=tmp_path, model=str(tiny_model), train={"overrides": {"sft": SHORT}}
    )
    _resolve(one)
    one.run("split", "sft")
    with one.chat("sft", max_new_tokens=4) as chat:
        first = chat.ask("Champ?")
        chat.ask("And now?")
    messages = [(message.role, message.content) for message in chat.messages]
    assert messages[:3] == [("user", "Champ?"), ("assistant", first or "…"), ("user", "And now?")]
    with one.chat("base+prompt", max_new_tokens=4) as chat:
        assert chat.messages[0].role == "system"
