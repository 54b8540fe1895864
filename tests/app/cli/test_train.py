"""`persona train`: a plan as JSON, and options that are for a plan alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.cli.main import main
from app.cli.models import parse_memory
from tests.commands import Commands
from tests.rounds.test_train import config  # noqa: F401 — a fixture
from workbench.errors import UserError


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
