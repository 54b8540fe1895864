"""Every arm against the base and against the base with a system prompt, all tests at once.

In: the scores of all arms. Out: a :class:`Comparison`, which ``comparison.json`` holds. Called by
the stage of evaluation, by what compares rounds and by what leaves a group of rows out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from pydantic import Field

from workbench.arm_names import PROMPT_ARMS, headline_arm
from workbench.errors import UserError
from workbench.persona import FIDELITY
from workbench.records import Response, Score
from workbench.stats.bootstrap import LEVEL, RESAMPLES, TIE, IntervalMethod, mean_intervals
from workbench.stats.significance import (
    detectable,
    holm_within,
    needed,
    sign_flip_test,
    yes_no_interval,
)
from workbench.stats.table import Column, Key, fidelity_parts, tabulate
from workbench.values import Frozen

if TYPE_CHECKING:
    from workbench.stats.bootstrap import Array, Interval

DRIFT = "drift"
"""Name of the probe set whose turns are reported one by one."""
_Test = tuple[Key, str]
"""A column, and the arm that it is compared with."""
ALPHA = 0.05
"""A corrected p below this is called a difference."""
FEWEST_PAIRS = 6
"""Pairs below which no difference is called one: five prompts all won have a p of 0.06."""


class Difference(Frozen):
    """An arm minus a reference on the prompts that both were scored on."""

    pairs: int
    """Prompts that both arms have a score for."""
    mean: float
    low: float | None
    """Lower end of the interval; None with fewer than two pairs."""
    high: float | None
    method: IntervalMethod
    sd: float | None = None
    """Standard deviation of the differences; None with fewer than two pairs."""
    wins: int = 0
    """Prompts on which the arm scored higher."""
    losses: int = 0
    p: float | None = None
    """Two-sided p of the sign-flip test of the mean; None where every prompt is a tie."""
    p_adjusted: float | None = None
    """The same after Holm's correction within its family of tests."""
    detectable: float | None = None
    """Least true difference that this many pairs find with 80 % power; primary measure only."""
    needed: int | None = None
    """Pairs that would find half of that difference with the same power."""

    @property
    def ties(self) -> int:
        """Prompts on which both scored alike."""
        return self.pairs - self.wins - self.losses

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly on one side of zero, with pairs enough to say so."""
        if self.low is None or self.high is None or self.pairs < FEWEST_PAIRS:
            return False
        return self.low > 0 or self.high < 0

    @property
    def is_sure(self) -> bool:
        """Whether the interval excludes zero and the corrected test agrees."""
        return self.excludes_zero and self.p_adjusted is not None and self.p_adjusted < ALPHA


class MetricCell(Frozen):
    """One arm on one metric."""

    arm: str
    metric: str
    scored: int
    unscored: int
    reasons: dict[str, int]
    """Why scores are missing → how many."""
    mean: float | None
    """Mean of the scored ones; None where there are none."""
    difference: Difference | None
    """To the base; None for the base itself, and where no prompt is scored in both."""
    against_prompt: Difference | None = None
    """To the base with the best prompt, where one answered."""
    probe: str = ""
    """The probe set that was asked; empty for the held-out questions."""
    turn: int = 0
    """The turn of a conversation, from 1; 0 where there is only one."""


class Spread(Frozen):
    """How far one arm's fidelity moves from seed to seed of sampled decoding."""

    arm: str
    means: dict[int, float]
    """Seed → mean fidelity over the held-out prompts."""
    sd: float | None
    """Standard deviation between the seeds; None with only one."""


class Comparison(Frozen):
    """Every arm on every metric, each against the base and the base with a system prompt."""

    base: str
    seed: int
    level: float
    resamples: int
    prompts: int
    """Different held-out prompts that scores were asked for."""
    arms: tuple[str, ...]
    metrics: tuple[str, ...]
    cells: tuple[MetricCell, ...]
    """Held-out prompts only."""
    primary: str = FIDELITY
    """The measure on held-out prompts that was named before the run as what counts."""
    prompted: str = ""
    """The base with the best of the prompts that were tried; empty where none answered."""
    traits: tuple[str, ...] = ()
    """The traits that fidelity is made of; empty where the scores do not say."""
    left_out: dict[str, str] = Field(default_factory=dict)
    """Trait that carries no weight in fidelity → why."""
    probes: tuple[MetricCell, ...] = ()
    """One a probe set, arm and metric."""
    drift: tuple[MetricCell, ...] = ()
    """One a turn, arm and metric of the conversations of several turns."""
    drift_change: dict[str, Difference] = Field(default_factory=dict)
    """Arm → fidelity in the last turn minus that in the first, over conversations."""
    seeds: tuple[Spread, ...] = ()

    def cell(self, arm: str, metric: str) -> MetricCell:
        """Return the cell of an arm and a metric on the held-out prompts.

        Raises:
            KeyError: There is none.
        """
        return {(cell.arm, cell.metric): cell for cell in self.cells}[arm, metric]

    def change(self, arm: str, metric: str) -> Difference | None:
        """Return the difference to the base on held-out prompts; None where it was not measured."""
        there = any((cell.arm, cell.metric) == (arm, metric) for cell in self.cells)
        return self.cell(arm, metric).difference if there else None

    def primary_change(self, arm: str) -> Difference | None:
        """Return the primary measure's difference to the base; None where it was not measured."""
        return self.change(arm, self.primary)

    @property
    def headline(self) -> str | None:
        """The arm that the verdict is about; None where only the base answered."""
        return headline_arm(self.base, self.arms)

    @property
    def unscored_share(self) -> float:
        """Share of all scores that could not be given, those of probes and turns included."""
        every = (*self.cells, *self.probes, *self.drift)
        missing = sum(cell.unscored for cell in every)
        total = missing + sum(cell.scored for cell in every)
        return missing / total if total else 0.0


def differences_of(
    samples: Sequence[Array], seed: int = 0, *, resamples: int = RESAMPLES
) -> list[Difference | None]:
    """Return each sample of paired differences as a :class:`Difference`; None for an empty one.

    Intervals are those of :func:`workbench.stats.bootstrap.mean_intervals`; where all differences
    are -1, 0 or 1, as of yes/no scores, of :func:`workbench.stats.significance.yes_no_interval`.
    Differences that are all 0 count as such: a change too rare to be seen is none of size 0.
    """
    intervals = mean_intervals(samples, seed, resamples=resamples)
    p_values = sign_flip_test(samples, seed, resamples=resamples)
    return [
        _difference(sample, interval, p) if len(sample) else None
        for sample, interval, p in zip(samples, intervals, p_values, strict=True)
    ]


def _difference(sample: Array, interval: Interval, p: float | None) -> Difference:
    import numpy as np

    wins, losses = int((sample > TIE).sum()), int((sample < -TIE).sum())
    if len(sample) > 1 and np.isin(sample, (-1.0, 0.0, 1.0)).all():
        interval = yes_no_interval(wins, losses, len(sample))
    return Difference(
        pairs=len(sample),
        mean=float(sample.mean()),
        low=interval.low,
        high=interval.high,
        method=interval.method,
        sd=float(sample.std(ddof=1)) if len(sample) > 1 else None,
        wins=wins,
        losses=losses,
        p=p,
    )


def paired_difference(
    pairs: Sequence[tuple[float, float]], seed: int = 0, *, resamples: int = RESAMPLES
) -> Difference | None:
    """Return the mean of arm minus reference with its interval, or None without pairs.

    Prompts are resampled with both of their values kept together. ``pairs`` are (arm, reference)
    values, one pair a prompt.
    """
    import numpy as np

    sample = np.array([arm - reference for arm, reference in pairs], dtype=np.float64)
    return differences_of([sample], seed, resamples=resamples)[0]


def compare(
    scores: Sequence[Score],
    base: str = "base",
    seed: int = 0,
    *,
    responses: Sequence[Response] = (),
    traits: Collection[str] | None = None,
    left_out: Mapping[str, str] | None = None,
    primary: str = FIDELITY,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare every arm with ``base`` and the best of :data:`PROMPT_ARMS`, in their own order.

    Fidelity of a pair is that of the traits scored in both; Holm corrects within a family of tests.
    Responses tell several seeds of a prompt apart; traits are by default what the scores say;
    ``left_out`` is trait → why it carries no weight.

    Raises:
        UserError: No score of ``base``, or two of the same response and metric.
    """
    table = tabulate(scores, responses, traits)
    arms = _arms(scores, base)
    references = (base, _best_prompt(table, arms, base, primary))
    samples, changes = _samples(table, references), _changes(table)
    every = differences_of([*samples.values(), *changes.values()], seed, resamples=resamples)
    asked = _Asked(primary, headline_arm(base, arms), _traits_of(scores, traits, left_out))
    tests = _tested(dict(zip(samples, every, strict=False)), asked)
    return Comparison(
        base=base,
        seed=seed,
        level=LEVEL,
        resamples=resamples,
        prompts=len({score.prompt_id for score in scores if not score.probe}),
        arms=arms,
        primary=primary,
        prompted=references[1],
        traits=tuple(dict.fromkeys(traits or ())),
        left_out=dict(left_out or {}),
        drift_change={k: v for k, v in zip(changes, every[len(samples) :], strict=True) if v},
        seeds=_spreads(table),
        **_cells(scores, arms, table, tests, references),
    )


def _traits_of(
    scores: Sequence[Score], traits: Collection[str] | None, left_out: Mapping[str, str] | None
) -> frozenset[str]:
    return frozenset(chain(left_out or (), *fidelity_parts(scores, traits).values()))


def _arms(scores: Sequence[Score], base: str) -> tuple[str, ...]:
    arms = tuple(dict.fromkeys(score.arm for score in scores))
    if base not in arms:
        there = ", ".join(arms) or "none"
        what = f"no score of the arm '{base}' to compare with (there are: {there})"
        raise UserError(what, fix="answer with that arm too")
    return arms


def _best_prompt(table: Mapping[Key, Column], arms: Sequence[str], base: str, primary: str) -> str:
    """Return the prompt arm with the best mean of the primary measure; empty where none answered.

    It is chosen on the questions that it is then held to, which favours the prompt, not the tuning.
    """
    there = [arm for arm in PROMPT_ARMS if arm in arms and arm != base]

    def mean(arm: str) -> float:
        value = table.get(Key(arm, "", 0, primary), Column()).mean
        return -1.0 if value is None else value

    return max(there, key=mean, default="")


def _samples(table: Mapping[Key, Column], references: Iterable[str]) -> dict[_Test, Array]:
    """Return the paired differences of every column to its references."""
    return {
        (key, reference): column.minus(table[other])
        for reference in filter(None, references)
        for key, column in table.items()
        if key.arm != reference and (other := key._replace(arm=reference)) in table
    }


def _changes(table: Mapping[Key, Column]) -> dict[str, Array]:
    """Return arm → fidelity in the last turn minus that in the first, one value a conversation.

    Conversations end when they do: the last turn is each one's own.
    """
    import numpy as np

    turns: dict[str, dict[int, Column]] = defaultdict(dict)
    for key, column in table.items():
        if key.probe == DRIFT and key.metric == FIDELITY and key.turn:
            turns[key.arm][key.turn] = column
    changes: dict[str, Array] = {}
    for arm, columns in turns.items():
        first, *later = (columns[turn] for turn in sorted(columns))
        last = {prompt: change for one in later for prompt, change in one.changes(first).items()}
        if later:
            changes[arm] = np.array(list(last.values()), dtype=np.float64)
    return changes


class _Asked(NamedTuple):
    """What the round asks first."""

    primary: str
    headline: str | None
    traits: frozenset[str]
    """What fidelity is made of, and traits that carry no weight in it."""


def _tested(
    differences: Mapping[_Test, Difference | None], asked: _Asked
) -> dict[_Test, Difference]:
    """Return differences with their corrected p and what could have been detected."""
    there = {test: one for test, one in differences.items() if one is not None}
    adjusted = holm_within(
        {test: one.p for test, one in there.items()},
        lambda test: (*_family(test[0], asked), test[1]),
    )
    return {
        test: one.model_copy(
            update={"p_adjusted": adjusted.get(test), **_power(test[0], one, asked.primary)}
        )
        for test, one in there.items()
    }


def _family(key: Key, asked: _Asked) -> tuple[object, ...]:
    """Return the question that a test belongs to.

    The primary measure of the headline arm is the round's question and stands alone; that of the
    other arms is one family. An arm's traits are looked at apart from its other measures; so in
    each probe set, and of each measure in the turns of the conversations.
    """
    if key.probe == DRIFT:
        return (key.arm, DRIFT, key.metric)
    if not key.probe and key.metric == asked.primary:
        return ("primary", key.arm == asked.headline)
    kind = "traits" if key.metric in asked.traits else "measures"
    return (key.arm, key.probe, kind)


def _power(key: Key, difference: Difference, primary: str) -> dict[str, float | int]:
    """Return what could be detected, for the primary measure on held-out prompts."""
    if key.probe or key.metric != primary:
        return {}
    least = detectable(difference.sd, difference.pairs)
    if least is None or difference.sd is None:
        return {}
    return {"detectable": least, "needed": needed(least / 2, difference.sd)}


class _Cells(TypedDict):
    metrics: tuple[str, ...]
    cells: tuple[MetricCell, ...]
    probes: tuple[MetricCell, ...]
    drift: tuple[MetricCell, ...]


def _cells(
    scores: Sequence[Score],
    arms: Sequence[str],
    table: Mapping[Key, Column],
    tests: Mapping[_Test, Difference],
    references: tuple[str, str],
) -> _Cells:
    """Return the cells of the held-out prompts, of the probe sets, and of the turns."""

    def of(keys: Iterable[Key]) -> tuple[MetricCell, ...]:
        return tuple(_cell(key, table.get(key, Column()), tests, references) for key in keys)

    metrics = tuple(dict.fromkeys(score.metric for score in scores if not score.probe))
    return _Cells(
        metrics=metrics,
        cells=of(Key(arm, "", 0, metric) for arm in arms for metric in metrics),
        probes=of(key for key in table if key.probe and key.probe != DRIFT),
        drift=of(key for key in table if key.probe == DRIFT),
    )


def _cell(
    key: Key, column: Column, tests: Mapping[_Test, Difference], references: tuple[str, str]
) -> MetricCell:
    return MetricCell(
        arm=key.arm,
        metric=key.metric,
        scored=column.scored,
        unscored=column.reasons.total(),
        reasons=dict(column.reasons.most_common()),
        mean=column.mean,
        difference=tests.get((key, references[0])),
        against_prompt=tests.get((key, references[1])),
        probe=key.probe,
        turn=key.turn,
    )


def _spreads(table: Mapping[Key, Column]) -> tuple[Spread, ...]:
    """Return the spread of the arms that answered with more than one seed."""
    import numpy as np

    spreads = []
    for key, column in table.items():
        if key.probe or key.metric != FIDELITY or len(column.seeds) < 2:
            continue
        means = {seed: float(np.mean(values)) for seed, values in sorted(column.seeds.items())}
        sd = float(np.std(list(means.values()), ddof=1))
        spreads.append(Spread(arm=key.arm, means=means, sd=sd))
    return tuple(spreads)
