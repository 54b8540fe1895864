"""`persona train`: a plan as JSON, and options that are for a plan alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from app.cli.main import main
from app.cli.models import parse_memory
from tests.commands import Commands
from tests.rounds.test_train import config  # noqa: F401 — a fixture
from tests.template_families import Families
from workbench.errors import UserError
from workbench.records import Example, user_prompt


@pytest.mark.slow
def test_a_plan_is_printed_as_json(
    config: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--config", str(config), "--runs", str(config.parent / "runs")]
    command = ["train", "sft", "--plan", "--json", "--device-memory", "16GiB"]
    assert main([*command, *options]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["rows"], plan["memory_mib"], plan["fits"]) == (8, 16384, True)


@pytest.mark.parametrize(
    "option", [["--recipe", "sft-dora"], ["--device-memory", "16GiB"], ["--json"]]
)
def test_an_option_of_the_plan_does_not_train_something_else(
    option: list[str], commands: Commands
) -> None:
    output = commands.on_round("train", "sft", *option)
    assert (output.code, output.err.count("\n")) == (2, 1)
    assert f"{option[0]}: is for --plan alone — add --plan" in output.err
    assert not commands.folder().exists()


@pytest.mark.parametrize(
    ("text", "size"), [("16GiB", 16 << 30), ("24g", 24 << 30), ("512 MiB", 512 << 20)]
)
def test_memory_has_a_unit(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    ("text", "problem"), [("16", "'16' is 16 bytes"), ("much", "'much' is no size")]
)
def test_memory_that_is_no_devices_is_a_mistake(text: str, problem: str) -> None:
    with pytest.raises(UserError, match=f"--device-memory: {problem} — such as 16GiB"):
        parse_memory(text)


def test_trained_tokens_are_shown_in_brackets_or_in_colour_and_nothing_is_trained(
    families: Families,
    commands: Commands,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [Example(prompt=user_prompt(f"why {n}"), answer=f"Up {n}, champ.") for n in range(3)]
    commands.put("split/train.jsonl", [*rows, Example(prompt=user_prompt("why"), answer=" ")])
    commands.put("split/validation.jsonl", rows[:1])
    base = str(families.tokenizer_folder("chatml"))
    output = commands.on_round("train", "sft", "--show-tokens", "2", "--model", base)
    assert output.code == 0, output.err
    assert output.out.startswith(
        f"{rows[0].id}\n<|im_start|>user\nwhy 0<|im_end|>\n<|im_start|>assistant\n"
        f"[Up 0, champ.<|im_end|>\n]\n{rows[1].id}\n"
    )
    assert rows[2].id not in output.out
    assert re.search(r"^trained: (\d+) of (\d+) tokens, \d+%$", output.out, re.MULTILINE)
    assert "1 of 4 rows left out, their answer is empty: ex-" in output.out
    assert not (commands.folder() / "sft").exists()

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = commands.on_round("train", "sft", "--show-tokens", "--model", base).out
    assert "\x1b[32mUp 0, champ." in coloured and "[Up 0" not in coloured.replace("\x1b[", "")

    output = commands.on_round("train", "grpo", "--show-tokens", "--model", base)
    assert output.code == 2 and "grpo learns from its own answers" in output.err
