"""The report's pieces: wording, marks, the line of analysis, and figures."""

from __future__ import annotations

import re
from typing import Literal, get_args

import pytest

from evaluation.outcome import Outcome
from evaluation.report.answers import Change, analysis, change_of, marked
from evaluation.report.figures import Estimate, Line, curves, forest, nice_ticks
from evaluation.report.wording import Wording
from workbench.language import phrases
from workbench.persona import Persona
from workbench.stats import Difference


def difference(
    mean: float,
    low: float | None,
    high: float | None,
    method: Literal["bca", "percentile", "none"] = "bca",
) -> Difference:
    return Difference(pairs=9, mean=mean, low=low, high=high, method=method)


def test_numbers_have_their_sign_and_unit(persona: Persona) -> None:
    wording = Wording(persona)
    assert wording.percent(0.866) == "87%"
    assert wording.percent(None) == "–"
    assert wording.points(-0.1234) == "−12.3"
    assert wording.points(0.0001) == "0.0"
    assert wording.interval(difference(0.5, -0.25, 0.625)) == "−25.0 to +62.5"
    assert wording.interval(difference(1.0, 1.0, 1.0, "percentile")) == "same on all"
    assert wording.interval(difference(1.0, None, None, "none")) == "–"
    assert [wording.seconds(s) for s in (3.21, 61, 125)] == ["3.2 s", "61 s", "2 min 05 s"]
    assert [wording.mib(m) for m in (512, 2560)] == ["512 MiB", "2.5 GiB"]


def test_names_come_from_spec_and_phrases_else_stay_readable(persona: Persona) -> None:
    wording = Wording(persona)
    assert wording.metric("address") == "Form of address"
    assert wording.arm("sft+dpo") == "SFT + DPO"
    assert wording.arm("my arm") == "my arm"
    assert wording.reason("judge_http_503") == "the judge failed (HTTP 503)"
    assert wording.reason("near_duplicate") == "Near duplicate"
    assert wording.reason("some_new_reason") == "some new reason"
    assert wording.question("problem:address") == "Form of address"


@pytest.mark.parametrize(
    ("own", "base", "line"),
    [
        ({"address": 1.0, "lists": 1.0}, {}, "Shows all 2 traits."),
        ({"address": 0.0, "lists": 0.0}, {}, "Shows none of the 2 traits."),
        ({"address": 1.0, "lists": 0.0}, {}, "Shows 1 of 2 traits. Missing: No lists."),
        (
            {"address": 1.0, "lists": 0.0},
            {"address": 0.0, "lists": 1.0},
            "Shows 1 of 2 traits. Earned: Form of address. Lost: No lists.",
        ),
        (
            {"address": 1.0, "lists": 0.0},
            {"address": 1.0, "lists": 0.0},
            "Shows 1 of 2 traits. Still missing: No lists.",
        ),
        ({}, {}, "No trait could be scored."),
    ],
)
def test_the_line_of_analysis_follows_from_the_scores(
    persona: Persona, own: dict[str, float], base: dict[str, float], line: str
) -> None:
    assert analysis(own, base, Wording(persona)) == line


def test_marks_keep_the_text_and_name_the_trait(persona: Persona) -> None:
    text = "Champ, well.\n1. Rest\nThere are several more."
    pieces = marked(text, persona, {"address": 1.0, "lists": 0.0})
    assert "".join(piece.text for piece in pieces) == text
    assert [(p.text, p.trait, p.earned) for p in pieces if p.trait] == [
        ("Champ", "Form of address", True),
        ("There are several", "No lists", False),
    ]
    assert [p.trait for p in marked(text, persona, {})] == [""]
    assert marked("", persona, {"address": 0.0}) == []


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 30, [0, 10, 20, 30]),
        (-12, 61, [-20, 0, 20, 40, 60, 80]),
        (0.693, 0.693, [0.6, 0.8]),
        (0, 0, [0, 0.25]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(
    low: float, high: float, ticks: list[float]
) -> None:
    assert nice_ticks(low, high, 5) == ticks
    assert ticks[0] <= low and high <= ticks[-1]


def test_a_forest_plot_draws_interval_and_marker_to_one_scale(persona: Persona) -> None:
    row = Estimate("SFT", 1, difference(0.5, 0.25, 1.0), "+50.0")
    drawn = str(forest([("Fidelity", [row])], "Title & more", "points"))
    # 0 lies at 210 and +100 at 570, so a point is 3.6 units.
    assert 'class="whisker arm-1" x1="300" x2="570"' in drawn
    assert 'transform="translate(390 ' in drawn
    assert 'aria-label="Title &amp; more"' in drawn


def test_a_curve_of_one_point_is_drawn() -> None:
    drawn = str(curves([Line("training", "train", [(1, 0.5)])], "loss", "step"))
    assert drawn.count("<circle") == 1
    assert "nan" not in drawn


def test_a_curve_of_little_is_dashed_and_intervals_are_drawn_inside_the_figure() -> None:
    line = Line("sft", "arm-1", [(1, 60), (2, 50)], 1, [(1, 20, 90), (2, 10, 95)])
    drawn = str(curves([line, Line("base", "arm-0", [(1, 50)], 0, faint=True)], "voice", "turn"))
    assert drawn.count('class="curve interval arm-1"') == 2
    assert 'class="curve arm-0 faint"' in drawn and 'class="curve arm-1"' in drawn
    ends = [float(y) for y in re.findall(r'interval arm-1"[^>]*y[12]="([\d.]+)"', drawn)]
    assert all(0 <= y <= 240 for y in ends)


@pytest.mark.parametrize(
    ("after", "success", "change"),
    [
        ({"a": 1, "b": 1, "sense": 0.5}, True, "better"),
        ({"a": 1, "b": 1, "sense": 0.5}, False, "near"),  # of an arm that is no success
        ({"a": 1, "b": 1, "sense": 0.1}, True, "marks"),
        ({"a": 1, "b": 1}, False, "unread"),
        ({"a": 1, "b": 0, "sense": 0.5}, True, "mixed"),
        ({"a": 0, "b": 0, "sense": 0.9}, True, "worse"),
        ({"a": 0, "b": 1, "sense": 0.9}, True, "same"),
        ({"a": 1, "b": 1, "sense": 0.5, "safe": 0}, True, "worse"),
    ],
)
def test_an_answer_is_called_better_only_where_nothing_was_lost_and_its_arm_is_a_success(
    after: dict[str, float], success: bool, change: str
) -> None:
    before = {"a": 0.0, "b": 1.0, "sense": 0.05, "safe": 1.0}
    assert change_of(before, after, ["a", "b"], least=0.15, success=success) == change


def test_an_answer_that_stopped_being_about_its_question_lost_something() -> None:
    before, after = {"a": 0.0, "sense": 0.5}, {"a": 1.0, "sense": 0.0}
    assert change_of(before, after, ["a"], least=0.15, success=True) == "mixed"
    assert change_of(before, before | {"sense": 0.0}, ["a"], least=0.15, success=True) == "worse"


@pytest.mark.parametrize("language", ["en", "ko"])
def test_every_outcome_and_change_has_its_words(language: str) -> None:
    known = phrases(language)
    outcomes = (*get_args(Outcome), "lost")
    keys = [f"report.{part}.{one}" for part in ("means", "next") for one in outcomes]
    keys += [f"report.change.{one}" for one in get_args(Change)]
    assert [key for key in keys if key not in known] == []
    # Only one word praises, and only where everything holds.
    assert [key for key in keys if "✅" in known[key]] == ["report.change.better"]
