"""`persona model`, and the check of a base before anything is spent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Commands
from tests.template_families import Families
from workbench.records import Example, user_prompt

CASES = Path(__file__).resolve().parents[2] / "cases"
Changed = Callable[..., str]


@pytest.fixture
def changed(families: Families, tmp_path: Path) -> Changed:
    """Return a function: a copy of the ChatML base with another template, or other fields."""

    def change(template: Path | None = None, **config: object) -> str:
        folder = tmp_path / "base"
        shutil.copytree(families.tokenizer_folder("chatml"), folder)
        if template:
            shutil.copyfile(template, folder / "chat_template.jinja")
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | config), encoding="utf-8")
        return str(folder)

    return change


def told(text: str) -> dict[str, str]:
    """Label → what `persona model` says."""
    pairs = (line.partition(": ") for line in text.splitlines())
    return {label: value for label, separator, value in pairs if separator}


def test_a_base_is_told_with_its_folder_last(commands: Commands, families: Families) -> None:
    folder = families.tokenizer_folder("qwen-3")
    output = commands.run("model", str(folder))
    assert output.code == 0 and output.out.splitlines()[-1] == str(folder)
    lines = told(output.out)
    assert list(lines) == [
        *("system role", "system text of its own", "end of an answer", "turns", "begin of text"),
        *("dates", "thinking", "learnt opens as asked", "answers marked", "tied embeddings"),
    ]
    assert lines["end of an answer"] == "'<|im_end|>' (10): generation stops there"
    assert lines["tied embeddings"] == "no"


def test_a_template_without_a_system_role_is_bridged(commands: Commands, changed: Changed) -> None:
    output = commands.run("model", changed(CASES / "22-no-system.jinja"))
    role = told(output.out)["system role"]
    assert output.code == 0
    assert role == "refused by the template; bridged: the text goes before the first question"


def test_an_end_that_the_files_do_not_stop_at_joins(commands: Commands, changed: Changed) -> None:
    # Its tokenizer, its configuration and its generation end at <|endoftext|> alone.
    end = told(commands.run("model", changed()).out)["end of an answer"]
    assert end == "'<|im_end|>' (10): the base's files do not; joined here"


def test_a_learnt_answer_that_opens_otherwise_is_told_with_both(
    commands: Commands, changed: Changed
) -> None:
    output = commands.run("model", changed(CASES / "24-think-block.jinja"))
    assert told(output.out)["learnt opens as asked"] == (
        r"asked '<|im_start|>assistant\n<think>\n', learnt"
        r" '<|im_start|>assistant\n<think>\n\n</think>\n\n'; bridged: both as learnt"
    )


@pytest.mark.parametrize("command", ["model", "run", "train", "doctor"])
def test_a_template_without_an_end_is_refused_before_anything_runs(
    command: str, commands: Commands, changed: Changed
) -> None:
    base = changed(CASES / "23-no-end.jinja")
    rows = [Example(prompt=user_prompt("why"), answer="Up, champ.")]
    for split in ("train", "validation"):
        commands.put(f"split/{split}.jsonl", rows)
    if command == "model":
        output = commands.run("model", base)
    else:
        arguments = ("train", "sft") if command == "train" else (command,)
        output = commands.on_round(*arguments, "--model", base)
    assert output.code == 2
    (line,) = output.err.strip().splitlines()
    assert "the chat template writes no end after an answer" in line
    assert {path.name for path in commands.folder().iterdir()} <= {"split", ".lock"}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('{"eos', "generation_config.json: broken JSON: "),
        ('{"eos_token_id": "x"}', "generation_config.json: 'eos_token_id' is 'x' — give the num"),
        ("[]", "generation_config.json: is not a JSON object"),
    ],
)
def test_a_broken_file_of_a_base_is_told(
    content: str, what: str, commands: Commands, changed: Changed
) -> None:
    base = changed()
    (Path(base) / "generation_config.json").write_text(content, encoding="utf-8")
    output = commands.run("model", base)
    assert output.code == 2
    assert what in output.err


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ messages[0].content }", "unexpected '}'"),
        ("{{ now().year }}", "'now' is undefined"),
        ("{{ tools | length }}", "has no len()"),
        ("{% include 'x' %}", "no loader"),
    ],
)
def test_what_a_template_stumbles_over_is_told(
    template: str, why: str, commands: Commands, changed: Changed, tmp_path: Path
) -> None:
    file = tmp_path / "broken.jinja"
    file.write_text(template, encoding="utf-8")
    output = commands.run("model", changed(file))
    assert output.code == 2
    assert "the chat template cannot render a question (" in output.err
    assert why in output.err


def test_doctor_tells_what_is_bridged(commands: Commands, changed: Changed) -> None:
    base = changed(CASES / "22-no-system.jinja")
    output = commands.on_round("doctor", "--model", base)
    assert output.code == 0
    line = f"base {base}: system role refused: its text goes before the first question"
    assert line in output.out.splitlines()


@pytest.mark.parametrize(
    "targets", [["q_proj", "embed_tokens"], ".*(q_proj|embed_tokens)", ["model.embed_tokens"]]
)
def test_lora_on_tied_embeddings_is_refused_before_training(
    targets: object, commands: Commands, changed: Changed, tmp_path: Path
) -> None:
    config = tmp_path / "tied.yaml"
    overrides = {"sft": {"lora.target_modules": targets}}
    about = {"model": changed(tie_word_embeddings=True), "train": {"overrides": overrides}}
    config.write_text(json.dumps(about), encoding="utf-8")
    for split in ("train", "validation"):
        commands.put(f"split/{split}.jsonl", [Example(prompt=user_prompt("why"), answer="Up.")])
    output = commands.on_round("train", "sft", "--config", str(config))
    bridged, line = output.err.splitlines()
    assert output.code == 2 and bridged.endswith("it joins")
    assert "and this base's embeddings are its output layer, too (tied)" in line
    assert "embed_tokens out, or take a base whose embeddings are not tied" in line
