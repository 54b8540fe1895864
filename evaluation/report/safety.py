"""The safety case as a reader sees it: its sentence, its table, and the answers behind each line.

In: a report's safety case and the answers that it was made of. Out: worded rows, which the safety
page, the Markdown report and the model card show.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from evaluation.report.inputs import ReportInput
from evaluation.report.wording import Wording
from evaluation.safety_case import FEWEST, LineVerdict, SafetyCase, SafetyLine

SHOWN = 6
"""Wrong answers that are shown of a line."""


@dataclass(frozen=True)
class WrongAnswer:
    """An answer of the arm that is wrong, and what is wrong with it."""

    question: str
    text: str
    fault: str


@dataclass(frozen=True)
class SafetyRow:
    """One line of the case, worded."""

    name: str
    title: str
    about: str
    n: int
    measured: str
    """The share or change with its interval; a dash where it was not measured."""
    base: str
    change: str
    bound: str
    verdict: LineVerdict
    word: str
    """The verdict in a word or two."""
    wrong: tuple[WrongAnswer, ...]
    """The first of the arm's wrong answers."""
    more: int
    """Wrong answers that are not shown."""


def safety_sentences(case: SafetyCase, wording: Wording) -> list[str]:
    """Return what the case amounts to: how many lines hold, then what was lost or is open."""
    counts = Counter(line.verdict for line in case.lines)
    total = len(case.lines)
    kind = "whole" if case.holds else "open"
    sentences = [
        wording(
            f"safety.sentence.{kind}", arm=wording.arm(case.arm), held=counts["held"], total=total
        )
    ]
    for verdict in ("lost", "short", "unclear", "too_few", "not_measured"):
        names = [wording(f"safety.line.{one.name}") for one in case.lines if one.verdict == verdict]
        if names:
            sentences.append(
                wording(f"safety.sentence.{verdict}", names=", ".join(names), fewest=FEWEST)
            )
    return sentences


def safety_rows(report: ReportInput, wording: Wording) -> list[SafetyRow]:
    """Return the rows of the table, in the order of the case; none without a case."""
    if report.safety is None:
        return []
    case = report.safety
    texts = {one.prompt_id: one for one in reversed(report.safety_answers) if one.arm == case.arm}
    rows = []
    for line in case.lines:
        faults = [one for one in case.faults if one.line == line.name]
        wrong = [
            WrongAnswer(
                texts[one.prompt_id].prompt[-1].content,
                texts[one.prompt_id].text,
                wording(f"safety.fault.{one.fault}"),
            )
            for one in faults
            if one.prompt_id in texts
        ]
        rows.append(_row(line, wrong, wording))
    return rows


def _row(line: SafetyLine, wrong: list[WrongAnswer], wording: Wording) -> SafetyRow:
    about = wording(f"safety.about.{line.name}")
    return SafetyRow(
        name=line.name,
        title=wording(f"safety.line.{line.name}"),
        about=f"{about} {line.about}".strip(),
        n=line.n,
        measured=_measured(line, wording),
        base=_value(line, line.base, wording),
        change=_change(line, wording),
        bound=_bound(line, wording),
        verdict=line.verdict,
        word=wording(f"safety.verdict.{line.verdict}"),
        wrong=tuple(wrong[:SHOWN]),
        more=max(len(wrong) - SHOWN, 0),
    )


def _value(line: SafetyLine, value: float | None, wording: Wording) -> str:
    if value is None:
        return "–"
    if line.unit == "share":
        return wording.percent(value)
    return wording.points(value) if line.unit == "points" else wording.signed(value, 3)


def _measured(line: SafetyLine, wording: Wording) -> str:
    """Return the share or change with its interval, where it has one."""
    text = _value(line, line.rate, wording)
    if line.low is None or line.high is None:
        return text
    low, high = (_value(line, end, wording) for end in (line.low, line.high))
    return f"{text} ({wording('interval', low=low, high=high)})"


def _change(line: SafetyLine, wording: Wording) -> str:
    if line.change is None:
        return "–"
    ends = wording.point_range(line.change_low, line.change_high)
    return f"{wording.points(line.change)} ({ends})"


def _bound(line: SafetyLine, wording: Wording) -> str:
    """Return what was asked: the largest fall, and the share that has to be reached."""
    if line.verdict == "not_measured" or line.bound is None:
        return "–"
    if line.unit == "nats":
        return wording("safety.bound.nats", bound=f"{line.bound:g}")
    fall = f"{100 * line.bound:.0f}"
    if line.floor is None:
        return wording("safety.bound.fall", fall=fall)
    kind = "most" if line.name == "over_refusal" else "least"
    return wording(f"safety.bound.{kind}", fall=fall, floor=wording.percent(line.floor))
