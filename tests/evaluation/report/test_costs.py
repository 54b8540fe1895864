"""What the report says a round took: here in time, at endpoints in tokens and money."""

import json
from pathlib import Path

import pytest

from evaluation.report import build_reports
from evaluation.report.costs import costs, money
from workbench.store import write_json

PAID = {"attempts": 12, "input_tokens": 3_400, "output_tokens": 56}


@pytest.fixture
def paying(round_folder: Path) -> Path:
    """The judge of the evaluation was paid, and a teacher before it."""
    for stage, counts in {
        "import": {"paid": {"answers": PAID, "judge": PAID}, "spent": 1.25, "currency": "USD"},
        "evaluate": {"tokens": 789, "paid": {"judge": PAID}, "spent": 0.000912, "currency": "USD"},
    }.items():
        file = round_folder / stage / "manifest.json"
        write_json(file, {**json.loads(file.read_text("utf-8")), "counts": counts})
    return round_folder


def test_tokens_and_money_of_endpoints_stand_beside_the_time(paying, persona, persona_folder):
    reports = build_reports(paying, persona, persona_folder)
    page = reports["report.html"]
    assert "3,400 / 56" in page and "6,800 / 112" in page
    # The sum of both stages, and the small one for itself.
    assert "10,200 / 168" in page
    assert "1.25 USD" in page and "0.000912 USD" in page
    stages = json.loads(reports["report.json"])["stages"]
    assert stages["evaluate"]["paid"] == PAID
    assert (stages["evaluate"]["spent"], stages["evaluate"]["tokens"]) == (0.000912, 789)
    assert (stages["sft"]["spent"], stages["sft"]["paid"]["attempts"]) == (None, 0)


def test_without_endpoints_there_is_no_word_of_money(round_folder, persona, persona_folder):
    page = build_reports(round_folder, persona, persona_folder)["report.html"]
    assert "Requests to endpoints" not in page


def test_currencies_are_never_added_up_and_no_price_is_no_zero():
    manifest = {"seconds": 1.0, "peak_mib": 1}
    took = costs(
        {
            name: {**manifest, "counts": {"paid": {"a": PAID}, **told}}
            for name, told in {
                "generate": {"spent": 2.0, "currency": "USD"},
                "evaluate": {"spent": 500.0, "currency": "KRW"},
                "other": {"spent": 0.0, "currency": None},
            }.items()
        }
    )
    assert money(took) == {"USD": 2.0, "KRW": 500.0}
    assert [one.spent for one in took] == [2.0, 500.0, None]
