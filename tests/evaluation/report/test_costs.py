"""What the report says a round took: here in time, at endpoints in tokens and money."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from evaluation.report import ReportInput, build_reports
from evaluation.report.inputs import StageRun
from workbench.inference.endpoint import Paid, TeacherPart

PAID = Paid(attempts=12, input_tokens=3_400, output_tokens=56)


@pytest.fixture
def paying(report: ReportInput) -> ReportInput:
    """The judge of the evaluation was paid, and a teacher before it."""
    changes: dict[str, dict[str, Any]] = {
        "import": {"paid": Paid.total([PAID, PAID]), "spent": 1.25, "currency": "USD"},
        "evaluate": {"tokens": 789, "paid": PAID, "spent": 0.000912, "currency": "USD"},
    }
    return replace(
        report, stages=[replace(one, **changes.get(one.stage, {})) for one in report.stages]
    )


def test_tokens_and_money_of_endpoints_stand_beside_the_time(paying: ReportInput) -> None:
    reports = build_reports(paying)
    page = reports["report.html"]
    assert "3,400 / 56" in page and "6,800 / 112" in page
    # The sum of both stages, and the small one for itself.
    assert "10,200 / 168" in page
    assert "1.25 USD" in page and "0.000912 USD" in page
    stages = json.loads(reports["report.json"])["stages"]
    assert stages["evaluate"]["paid"] == PAID._asdict()
    assert (stages["evaluate"]["spent"], stages["evaluate"]["tokens"]) == (0.000912, 789)
    assert (stages["sft"]["spent"], stages["sft"]["paid"]["attempts"]) == (None, 0)


def test_without_endpoints_there_is_no_word_of_money(report: ReportInput) -> None:
    assert "Requests to endpoints" not in build_reports(report)["report.html"]


def test_currencies_are_never_added_up_and_no_price_is_no_zero(report: ReportInput) -> None:
    def stage(name: str, spent: float | None, currency: str) -> StageRun:
        return StageRun(name, "", 1.0, 1, seed=0, paid=PAID, spent=spent, currency=currency)

    stages = [
        stage("generate", 2.0, "USD"),
        stage("evaluate", 500.0, "KRW"),
        stage("other", None, ""),
    ]
    assert replace(report, stages=stages).spent == {"USD": 2.0, "KRW": 500.0}


def test_what_each_of_several_teachers_gave_is_told(report: ReportInput) -> None:
    parts = [TeacherPart("large", 30, 28, 12_000, 0.25), TeacherPart("small", 10, 9, 800, 0.01)]
    stage = StageRun("generate", "", 1.0, 1, seed=0, spent=0.26, currency="USD", teachers=parts)
    reports = build_reports(replace(report, stages=[stage]))
    page = " ".join(reports["report.html"].split())
    assert "Teacher large: 28 of its 30 rows came; tokens of all its requests: 12,000. 0.25" in page
    assert "Teacher small: 9 of its 10 rows came" in page
    assert json.loads(reports["report.json"])["stages"]["generate"]["teachers"][1]["rows"] == 9
    assert (
        "Teacher "
        not in build_reports(replace(report, stages=[replace(stage, teachers=())]))["report.html"]
    )
