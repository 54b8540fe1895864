"""What becomes of a persona over a conversation: fidelity by turn, the first break, who ended it.

In: the responses of all arms to conversations of several turns, and their scores. Out: a
:class:`ConversationMeasure` an arm. The report shows it; drift itself, the last turn against the
first, stands in the comparison beside the other differences.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from evaluation.outcome import MeanEstimate, estimated
from workbench.persona import FIDELITY
from workbench.records import Response, Score
from workbench.stats.comparison import DRIFT
from workbench.stats.significance import share_interval_of
from workbench.stats.table import Column, tabulate
from workbench.values import Frozen

BREAK_BELOW = 0.5
"""An answer in which less than this share of the traits shows is a break of the persona."""


class TurnFidelity(Frozen):
    """The answers of one turn, over the conversations that reached it."""

    turn: int
    conversations: int
    fidelity: MeanEstimate


class SurvivalPoint(Frozen):
    """The share of conversations without a break up to and with one turn."""

    turn: int
    at_risk: int
    """Conversations that reached the turn without a break."""
    breaks: int
    """Those of them that broke in it."""
    share: float
    low: float
    high: float


class ConversationMeasure(Frozen):
    """One arm in its conversations."""

    arm: str
    conversations: int
    turns: tuple[TurnFidelity, ...]
    survival: tuple[SurvivalPoint, ...]
    first_breaks: dict[int, int]
    """Turn → conversations whose first break it was."""
    ends: dict[str, int]
    """How simulated users ended their conversations → how many; others just stop."""

    @property
    def broken(self) -> int:
        """Conversations with a break."""
        return sum(self.first_breaks.values())

    @property
    def endings(self) -> dict[str, int]:
        """How all conversations ended → how many; ``fixed`` had their questions to the end."""
        fixed = self.conversations - sum(self.ends.values())
        return {**self.ends, **({"fixed": fixed} if fixed > 0 else {})}


class _Course(NamedTuple):
    """One conversation: the turns that were scored, and the first break among them."""

    turns: int
    first_break: int | None


def measure_conversations(
    responses: Sequence[Response],
    scores: Sequence[Score],
    traits: Collection[str] = (),
    seed: int = 0,
) -> list[ConversationMeasure]:
    """Return a measure for each arm that was in a conversation, in the order of first appearance.

    Answers that are of no conversation are passed over; without ``traits`` the scores say them.
    """
    talks = [one for one in responses if one.probe == DRIFT and one.turn]
    own = {one.id for one in talks}
    table = tabulate([s for s in scores if s.response in own], talks, traits or None)
    columns = {key: column for key, column in table.items() if key.metric == FIDELITY}
    by_arm: dict[str, dict[int, Column]] = defaultdict(dict)
    for key, column in columns.items():
        by_arm[key.arm][key.turn] = column
    ends: dict[str, Counter[str]] = defaultdict(Counter)
    for one in talks:
        ends[one.arm].update([one.ended] if one.ended else [])
    return [_measure(arm, turns, ends[arm], seed) for arm, turns in by_arm.items()]


def _measure(
    arm: str, columns: Mapping[int, Column], ends: Mapping[str, int], seed: int
) -> ConversationMeasure:
    courses = [
        _course(columns, prompt)
        for prompt in dict.fromkeys(
            prompt for column in columns.values() for prompt in column.units
        )
    ]
    first = Counter(one.first_break for one in courses if one.first_break)
    return ConversationMeasure(
        arm=arm,
        conversations=len(courses),
        turns=tuple(_fidelity(columns, seed)),
        survival=tuple(survival_curve(courses)),
        first_breaks=dict(sorted(first.items())),
        ends=dict(ends),
    )


def _fidelity(columns: Mapping[int, Column], seed: int) -> list[TurnFidelity]:
    there = {turn: own.values for turn, own in sorted(columns.items()) if own.units}
    return [
        TurnFidelity(turn=turn, conversations=len(values), fidelity=fidelity)
        for (turn, values), fidelity in zip(
            there.items(), estimated(there.values(), seed), strict=True
        )
    ]


def _course(columns: Mapping[int, Column], prompt: str) -> _Course:
    means = {turn: column.by_prompt for turn, column in sorted(columns.items())}
    values = {turn: own[prompt] for turn, own in means.items() if prompt in own}
    broken = [turn for turn, value in values.items() if value < BREAK_BELOW]
    return _Course(max(values), broken[0] if broken else None)


def survival_curve(courses: Sequence[tuple[int, int | None]]) -> list[SurvivalPoint]:
    """Return the share of conversations that hold up to each turn.

    Conversations that ended unbroken say nothing of later turns: the product-limit estimate (Kaplan
    and Meier 1958, "Nonparametric Estimation from Incomplete Observations", JASA 53). Its interval
    is Wilson's on as many conversations as give Greenwood's variance (Rothman 1978, "Estimation of
    confidence limits for the cumulative probability of survival in life table analysis", Journal of
    Chronic Diseases 31), which stays honest where none of a few broke. ``courses`` are each
    conversation's number of turns, and the turn of its first break.
    """
    points: list[SurvivalPoint] = []
    share, greenwood = 1.0, 0.0
    for turn in range(1, max((turns for turns, _ in courses), default=0) + 1):
        reached = [first for turns, first in courses if turns >= turn]
        risk = [first for first in reached if first is None or first >= turn]
        breaks = sum(first == turn for first in risk)
        if not risk:
            break
        share *= 1 - breaks / len(risk)
        if breaks < len(risk):
            greenwood += breaks / (len(risk) * (len(risk) - breaks))
        variance = share**2 * greenwood
        n = share * (1 - share) / variance if variance else float(len(risk))
        low, high = share_interval_of(share, n)
        point = SurvivalPoint(
            turn=turn, at_risk=len(risk), breaks=breaks, share=share, low=low, high=high
        )
        points.append(point)
    return points
