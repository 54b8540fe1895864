"""Pairwise comparison: a judge's word on two arms' answers, and the win-rates that follow.

In: responses of two arms or more, and a judge. Out: :class:`PairwiseResult`, with win-rates raw and
with the length of the answers taken out. Called by the stage of evaluation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.judge import by_ragas
from workbench.console import track
from workbench.inference.endpoint import Endpoint
from workbench.inference.judge import JudgeAsk, JudgeVerdict, ask_all, comparison, verdict_of
from workbench.persona import Persona
from workbench.records import Response
from workbench.stats.bootstrap import TIE, percentile_interval
from workbench.stats.significance import share_interval
from workbench.values import Frozen

if TYPE_CHECKING:
    from workbench.stats.bootstrap import Array

RESAMPLES = 300
REFERENCES = ("base", "base+prompt")
"""Arms that every other arm is compared with, as far as they answered."""
_FIRST = {"first": 1.0, "second": 0.0, "tie": 0.5}
_SECOND = {"first": 0.0, "second": 1.0, "tie": 0.5}
_Ends = tuple[float, float] | tuple[None, None]
_NONE = (None, None)


class PairScore(Frozen):
    """Two arms' answers to one prompt, compared in both orders."""

    arm: str
    against: str
    prompt_id: str
    responses: tuple[str, str]
    """Ids of the arm's and the other's response."""
    value: float | None
    """1 where the arm's answer is better in both orders, 0 where the other's is."""
    unscored: str
    """Why there is no value."""
    consistent: bool | None
    """Whether the swapped order gave the same winner."""
    longer: int
    """Characters of the arm's answer less those of the other's."""


class WinRate(Frozen):
    """How often an arm's answer is preferred to another arm's."""

    arm: str
    against: str
    scored: int
    unscored: int
    reasons: dict[str, int]
    raw: float | None
    """Mean value of the scored pairs, a tie counted half."""
    low: float | None
    high: float | None
    """Percentile bootstrap interval of ``raw`` over prompts, Wilson's where every pair went the
    same way; None with fewer than two pairs, and where all are ties."""
    length_controlled: float | None
    """Win-rate that the fitted model gives two answers of the same length."""
    length_controlled_low: float | None
    length_controlled_high: float | None
    consistent: float | None
    """Share of the pairs in which the swapped order gave the same winner."""
    mean_longer: float | None
    """Characters by which the arm's answers are longer, on average."""


class PairwiseResult(Frozen):
    """Every comparison, and each arm's win-rate against each reference: ``pairs.json``."""

    rates: tuple[WinRate, ...]
    pairs: tuple[PairScore, ...]


def compare_pairs(
    persona: Persona,
    responses: Sequence[Response],
    judge: Endpoint,
    *,
    votes: int = 1,
    cache: Path | None = None,
    seed: int = 0,
) -> PairwiseResult:
    """Have a judge compare every arm's answers with those of :data:`REFERENCES`, in both orders.

    A pair counts only where both orders were judged: the mean of the two takes a liking for a place
    out, an unsteady judge makes it a draw. Probes are left out.

    Raises:
        UserError: The judge's endpoint is down or refuses us.
    """
    pairs = _pairs(responses)
    asks = [ask for pair in pairs for ask in _asks(persona, *pair)]
    with track("comparing in pairs", len(asks) * votes) as advance:
        votes_of = ask_all(judge, asks, advance, votes=votes, cache=cache, put=by_ragas)
    scores = [
        _pair_score(own, other, verdict_of(straight, _FIRST), verdict_of(swapped, _SECOND))
        for (own, other), straight, swapped in zip(
            pairs, votes_of[::2], votes_of[1::2], strict=True
        )
    ]
    by_arms: dict[tuple[str, str], list[PairScore]] = {}
    for score in scores:
        by_arms.setdefault((score.arm, score.against), []).append(score)
    rates = tuple(win_rate(group, seed=seed) for group in by_arms.values())
    return PairwiseResult(rates=rates, pairs=tuple(scores))


def _pairs(responses: Sequence[Response]) -> list[tuple[Response, Response]]:
    """Return each response with the reference's to the same prompt and seed."""
    there = {
        (r.arm, r.prompt_id, r.seed): r for r in responses if not r.probe and r.arm in REFERENCES
    }
    pairs = []
    for number, name in enumerate(REFERENCES):
        for own in responses:
            other = there.get((name, own.prompt_id, own.seed))
            # Of two references, the later one is held against the earlier.
            if other and not own.probe and own.arm not in REFERENCES[: number + 1]:
                pairs.append((own, other))
    return pairs


def _asks(persona: Persona, own: Response, other: Response) -> tuple[JudgeAsk, JudgeAsk]:
    """Return the comparison in both orders, the arm's answer first and then second."""
    prompt = own.prompt
    return (
        comparison(persona, prompt, own.text, other.text),
        comparison(persona, prompt, other.text, own.text),
    )


def _pair_score(
    own: Response, other: Response, straight: JudgeVerdict, swapped: JudgeVerdict
) -> PairScore:
    value = None
    if straight.value is not None and swapped.value is not None:
        value = (straight.value + swapped.value) / 2
    return PairScore(
        arm=own.arm,
        against=other.arm,
        prompt_id=own.prompt_id,
        responses=(own.id, other.id),
        value=value,
        unscored="" if value is not None else straight.failure or swapped.failure,
        consistent=None if value is None else straight.value == swapped.value,
        longer=len(own.text) - len(other.text),
    )


def win_rate(pairs: Sequence[PairScore], *, seed: int = 0, resamples: int = RESAMPLES) -> WinRate:
    """Return the win-rate over the pairs of one arm and one other.

    There is one pair a prompt, all of the same two arms, and at least one.
    """
    import numpy as np

    scored = [(pair, pair.value) for pair in pairs if pair.value is not None]
    reasons = Counter(pair.unscored for pair in pairs if pair.value is None)
    values = np.array([value for _, value in scored])
    longer = np.array([float(pair.longer) for pair, _ in scored])
    (low, high), (lc_low, lc_high) = _intervals(values, longer, seed, resamples)
    return WinRate(
        arm=pairs[0].arm,
        against=pairs[0].against,
        scored=len(scored),
        unscored=reasons.total(),
        reasons=dict(reasons.most_common()),
        raw=float(values.mean()) if scored else None,
        low=low,
        high=high,
        length_controlled=length_controlled(values, longer) if scored else None,
        length_controlled_low=lc_low,
        length_controlled_high=lc_high,
        consistent=sum(bool(pair.consistent) for pair, _ in scored) / len(scored)
        if scored
        else None,
        mean_longer=float(longer.mean()) if scored else None,
    )


def _intervals(values: Array, longer: Array, seed: int, resamples: int) -> tuple[_Ends, _Ends]:
    """Return the intervals of the raw and of the length-controlled rate."""
    import numpy as np

    n = len(values)
    if n < 2:
        return _NONE, _NONE
    if values.min() == values.max():
        # Resampling values that are all alike says nothing of what else could have come.
        alike = share_interval(int(values[0]) * n, n) if values[0] in (0.0, 1.0) else _NONE
        return alike, alike

    def controlled(counts: Array) -> Array:
        return np.array([length_controlled(values, longer, times) for times in counts])

    raw = percentile_interval(n, lambda c: c @ values / n, seed=seed, resamples=resamples)
    return raw or _NONE, percentile_interval(n, controlled, seed=seed, resamples=resamples) or _NONE


def length_controlled(values: Array, longer: Array, counts: Array | None = None) -> float:
    """Return the win-rate at equal length, in the manner of AlpacaEval 2.

    Fitted is ``P(arm preferred) = sigmoid(a + b · tanh(longer / sd(longer)))`` with a small ridge
    on ``b``; at equal length the second term is zero and ``sigmoid(a)`` is returned (Dubois et al.
    2024, "Length-Controlled AlpacaEval", arXiv:2404.04475). Their third term, the difficulty of a
    prompt, is fitted over many models and left out here. Where every pair went the same way there
    is nothing to fit, and that way is returned. All are of shape (pairs,): preferences from 0 to 1,
    the characters by which the arm's answer is longer, and how often each pair counts, once by
    default.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    counts = np.ones(len(values)) if counts is None else counts
    mean = float(np.average(values, weights=counts))
    variance = np.average((longer - np.average(longer, weights=counts)) ** 2, weights=counts)
    if min(mean, 1 - mean) < TIE or variance < TIE:
        return mean
    term = np.tanh(longer / variance**0.5)[:, None]
    # A preference of p is p of a win and 1 - p of a loss; the intercept bears no penalty.
    model = LogisticRegression(C=10.0).fit(
        np.vstack([term, term]),
        np.repeat([1, 0], len(values)),
        sample_weight=np.concatenate([values * counts, (1 - values) * counts]),
    )
    return float(1 / (1 + np.exp(-model.intercept_[0])))
