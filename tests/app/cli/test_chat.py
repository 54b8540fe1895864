"""``persona chat``: what it answers, and to whom."""

from __future__ import annotations

import io

import pytest

from app.cli.main import main
from tests.app.cli.test_export import options, trained  # noqa: F401 — fixtures
from workbench.errors import EXIT_USER_ERROR


def test_two_arms_answer_each_line(
    options: list[str],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("the chair?\nand today?\n/quit\nnever read\n"))
    assert main(["chat", "--vs", "base", "--max-new-tokens", "6", *options]) == 0
    out = capsys.readouterr().out
    assert out.count("[sft] ") == out.count("[base] ") == 2


def test_arms_that_are_not_there_are_one_line(
    options: list[str],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments, told in (
        (["--arm", "stf"], "there is no arm 'stf' — did you mean 'sft'?"),
        (["--arm", "dpo"], "run `persona train dpo --"),
        (["--vs", "sft"], "both arms are 'sft'"),
    ):
        assert main(["chat", *arguments, *options]) == EXIT_USER_ERROR
        assert told in capsys.readouterr().err
