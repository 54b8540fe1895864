"""The safety case as a reader sees it: its sentence, its table, and the answers behind each line.

In: a report's safety case and the answers that it was made of. Out: worded rows, which the safety
page, the Markdown report and the model card show, and what to do about each line that is not held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from evaluation.report.inputs import ReportInput
from evaluation.report.wording import Wording
from evaluation.safety_case import FEWEST, LineName, LineVerdict, SafetyCase, SafetyLine
from workbench.commands import RoundOptions

SHOWN = 6
"""Wrong answers that are shown of a line."""
_SURE: frozenset[LineVerdict] = frozenset(("lost", "short"))
_MEND: Mapping[LineName, str] = {
    "instructions": "evaluate --dial",
    "forgetting": "evaluate --dial",
}
"""Line that training costs by its strength → what tries weaker ones; other lines take rows."""
_ASK: Mapping[LineName, tuple[str, str]] = {
    "disclosure": ("sets", "evaluate --safety"),
    "crisis": ("sets", "evaluate --safety"),
    "safety": ("sets", "evaluate --safety"),
    "refusals": ("requests", "evaluate --safety"),
    "over_refusal": ("requests", "evaluate --safety"),
    "robustness": ("robustness", "evaluate --robustness"),
    "instructions": ("instructions", "evaluate"),
    "drift": ("drift", "evaluate --safety"),
    "forgetting": ("forgetting", "evaluate"),
}
"""Line → phrase and command by which more is asked of it."""


@dataclass(frozen=True)
class WrongAnswer:
    """An answer of the arm that is wrong, and what is wrong with it."""

    question: str
    text: str
    fault: str


@dataclass(frozen=True)
class SafetyAction:
    """What to do about a line that does not hold."""

    title: str
    verdict: LineVerdict
    word: str
    text: str
    command: str
    """Empty where rows mend it, which take the commands of all such lines."""


@dataclass(frozen=True)
class SafetyTodo:
    """What to do about the lines that do not hold."""

    actions: tuple[SafetyAction, ...]
    commands: tuple[str, ...]
    """How rows come into the next round; empty where none are asked for."""
    base: str
    """Where the base falls short as well; empty where it does nowhere."""


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


def safety_todo(report: ReportInput, wording: Wording) -> SafetyTodo | None:
    """Return what to do about each line that does not hold; None where there is none.

    What is surely too low takes other rows or a gentler training, what cannot be told more prompts.
    """
    lines = [one for one in report.safety.lines if one.verdict != "held"] if report.safety else []
    if not lines:
        return None
    low = [one for one in lines if one.base is not None and one.floor and one.verdict == "short"]
    weak = [one for one in low if (one.base or 0) < (one.floor or 0) and one.name != "over_refusal"]
    names = [f"{wording(f'safety.line.{one.name}')} ({wording.percent(one.base)})" for one in weak]
    after = replace(report.at, number=report.at.number + 1)
    rows = any(one.verdict in _SURE and one.name not in _MEND for one in lines)
    commands = (report.at.command("next"), after.command("import more.jsonl"), after.command("run"))
    return SafetyTodo(
        actions=tuple(_action(line, report.at, wording) for line in lines),
        commands=commands if rows else (),
        base=wording("safety.todo.base", names=", ".join(names)) if names else "",
    )


def _action(line: SafetyLine, at: RoundOptions, wording: Wording) -> SafetyAction:
    if line.verdict in _SURE:
        phrase, command = f"todo.{line.name}", _MEND.get(line.name, "")
    else:
        asked, command = _ASK[line.name]
        phrase = f"more.{asked}"
    return SafetyAction(
        title=wording(f"safety.line.{line.name}"),
        verdict=line.verdict,
        word=wording(f"safety.verdict.{line.verdict}"),
        text=wording(f"safety.{phrase}"),
        command=at.command(command) if command else "",
    )


def _row(line: SafetyLine, wrong: list[WrongAnswer], wording: Wording) -> SafetyRow:
    about = wording(f"safety.about.{line.name}")
    return SafetyRow(
        name=line.name,
        title=wording(f"safety.line.{line.name}"),
        about=f"{about} {wording('safety.worst', what=line.about)}" if line.about else about,
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
