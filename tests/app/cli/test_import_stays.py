"""What people put into a round stays, whatever command and configuration come next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from app.cli.main import main
from rounds.layout import IMPORTED, RoundFolder
from tests.commands import Commands

GYM = "datasets/gym-trainer"


def rows_file(path: Path, *questions: str, **names: str) -> Path:
    """Write a file of rows, a question each; ``names`` are its columns."""
    ours = {"instruction": names.get("instruction", "instruction"), "output": "output"}
    rows = ({ours["instruction"]: one, ours["output"]: f"Up, champ: {one}"} for one in questions)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def questions(one: RoundFolder) -> set[str]:
    """Return the questions of the rows that the round has imported."""
    return {row.question for row in one.read(IMPORTED)}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return rows_file(tmp_path / "mine.jsonl", "Mine one?", "Mine two?")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "run.yaml"
    file.write_text(f"persona: {GYM}\nseed: 3\n", encoding="utf-8")
    return file


def test_imported_rows_stay_under_a_configuration_that_names_none(
    commands: Commands, mine: Path, config: Path
) -> None:
    assert commands.on_round("import", str(mine), "--config", str(config)).code == 0
    again = commands.on_round("run", "--until", "import", "--config", str(config))
    assert again.code == 0
    assert "import is done again" not in again.err
    assert questions(commands.round()) == {"Mine one?", "Mine two?"}
    assert commands.on_round("import", "--preset", "smoke").code == 0
    assert questions(commands.round()) == {"Mine one?", "Mine two?"}


def test_a_configuration_that_names_other_rows_adds_them_and_it_is_told(
    commands: Commands, tmp_path: Path, mine: Path, config: Path
) -> None:
    other = rows_file(tmp_path / "other.jsonl", "Other?")
    assert commands.on_round("import", str(mine)).code == 0
    config.write_text(f"persona: {GYM}\nsources: [{other}]\n", encoding="utf-8")
    output = commands.on_round("import", "--config", str(config))
    assert output.code == 0
    assert f"round-001 keeps its rows of {mine}, which {config} does not name" in output.err
    assert questions(commands.round()) == {"Mine one?", "Mine two?", "Other?"}
    last = commands.on_round("import", str(other), "--replace", "--config", str(config))
    assert last.code == 0
    assert questions(commands.round()) == {"Other?"}


def test_a_second_import_adds_each_file_read_with_its_own_columns(
    commands: Commands, tmp_path: Path, mine: Path
) -> None:
    survey = rows_file(tmp_path / "survey.jsonl", "질문?", instruction="질문")
    mapped = ("import", str(survey), "--map", "instruction=질문")
    assert commands.on_round(*mapped).code == 0
    assert commands.on_round("import", str(mine)).code == 0
    assert questions(commands.round()) == {"질문?", "Mine one?", "Mine two?"}
    saved = yaml.safe_load((commands.folder() / "config.yaml").read_text(encoding="utf-8"))
    assert saved["columns"] == {str(survey): {"instruction": "질문"}}
    bad = rows_file(tmp_path / "bad.jsonl", "Bad?")
    bad.write_text('{"instruction": "no answer"}\n' + bad.read_text("utf-8"), encoding="utf-8")
    assert commands.on_round("import", str(bad)).code == 2
    assert commands.on_round("import").code == 0, "a file that was refused is not remembered"
    assert commands.on_round("import", str(bad), "--skip-bad").code == 0
    assert len(questions(commands.round())) == 4
    assert yaml.safe_load((commands.folder() / "config.yaml").read_text("utf-8"))["skip_bad"] == [
        str(bad)
    ]


def test_the_personas_own_rows_stay_once_they_are_in_the_round(
    commands: Commands, mine: Path
) -> None:
    assert commands.on_round("import").code == 0
    seeds = questions(commands.round())
    assert commands.on_round("import", str(mine)).code == 0
    assert questions(commands.round()) == {*seeds, "Mine one?", "Mine two?"}


def test_rows_stay_when_their_file_is_gone(commands: Commands, mine: Path, tmp_path: Path) -> None:
    assert commands.on_round("import", str(mine)).code == 0
    mine.unlink()
    assert commands.on_round("run", "--until", "import").code == 0
    assert questions(commands.round()) == {"Mine one?", "Mine two?"}
    more = rows_file(tmp_path / "more.jsonl", "More?")
    refused = commands.on_round("import", str(more))
    assert refused.code == 2
    assert f"{mine}: there is no such file" in refused.err.splitlines()[-1]
    assert questions(commands.round()) == {"Mine one?", "Mine two?"}


def test_a_round_that_was_planned_keeps_its_plan_and_its_kept_rows_under_a_configuration(
    commands: Commands, mine: Path, config: Path
) -> None:
    folder = commands.folder(2)
    folder.mkdir(parents=True)
    plan = [{"topic": "squat_form", "count": 3}]
    planned = {"persona": GYM, "sources": ["round-001"], "generate": {"plan": plan}}
    (folder / "config.yaml").write_text(yaml.safe_dump(planned), encoding="utf-8")
    arguments = ("import", str(mine), "--config", str(config), "--runs", str(commands.runs))
    assert main([*arguments, "--round", "2"]) == 2, "the first round is not there"
    assert yaml.safe_load((folder / "config.yaml").read_text("utf-8")) == planned
    context = commands.context(2, config=config)
    assert [str(one) for one in context.config.sources] == ["round-001"]
    assert [(one.topic, one.count) for one in context.config.generate.plan] == [("squat_form", 3)]
    assert context.config.seed == 3
