"""Pairwise rounds: a judge says which of two arms' answers is better, each pair in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.judge import by_ragas
from evaluation.winrate import PairScore, WinRate, win_rate
from workbench.console import track
from workbench.inference.endpoint import Endpoint
from workbench.inference.judge import JudgeAsk, JudgeVerdict, ask_all, comparison, verdict_of
from workbench.persona import Persona
from workbench.records import Response

_FIRST = {"first": 1.0, "second": 0.0, "tie": 0.5}
_SECOND = {"first": 0.0, "second": 1.0, "tie": 0.5}


@dataclass(frozen=True)
class _Pair:
    arm: Response
    against: Response


def compare_pairs(
    persona: Persona,
    responses: Sequence[Response],
    judge: Endpoint,
    *,
    against: Sequence[str] = ("base", "base+prompt"),
    votes: int = 1,
    cache: Path | None = None,
    seed: int = 0,
) -> tuple[list[PairScore], list[WinRate]]:
    """Return every comparison, and each arm's win-rate against each arm of ``against``.

    A pair counts only where both orders were judged: the mean of the two takes a liking for a
    place out, an unsteady judge makes it a draw.

    Args:
        persona: The role that the answers are held to.
        responses: Of all arms; probes are left out.
        judge: The judge's endpoint.
        against: Arms that every other arm is compared with, as far as they answered.
        votes: How often each order is judged.
        cache: File of the judge's answers.
        seed: Of the intervals' resampling.

    Raises:
        UserError: The judge's endpoint is down or refuses us.
    """
    pairs = _pairs(responses, against)
    asks = [ask for pair in pairs for ask in _asks(persona, pair)]
    with track("comparing in pairs", len(asks) * votes) as advance:
        heard = ask_all(judge, asks, advance, votes=votes, cache=cache, put=by_ragas)
    duels = []
    for number, pair in enumerate(pairs):
        straight = verdict_of(heard[2 * number], _FIRST)
        swapped = verdict_of(heard[2 * number + 1], _SECOND)
        duels.append(_duel(pair, straight, swapped))
    sides = dict.fromkeys((duel.arm, duel.against) for duel in duels)
    rates = [
        win_rate([d for d in duels if (d.arm, d.against) == side], seed=seed) for side in sides
    ]
    return duels, rates


def _pairs(responses: Sequence[Response], against: Sequence[str]) -> list[_Pair]:
    there = {(r.arm, r.prompt_id, r.seed): r for r in responses if not r.probe and r.arm in against}
    found = []
    for name in against:
        for own in responses:
            other = there.get((name, own.prompt_id, own.seed))
            # Of two arms that are both compared with, the later one is held against the earlier.
            later = own.arm not in against or against.index(own.arm) > against.index(name)
            if other and later and not own.probe:
                found.append(_Pair(own, other))
    return found


def _asks(persona: Persona, pair: _Pair) -> tuple[JudgeAsk, JudgeAsk]:
    """Return the comparison in both orders, the arm's answer first and then second."""

    def ask(first: Response, second: Response) -> JudgeAsk:
        return comparison(persona, pair.arm.prompt, first.text, second.text)

    return ask(pair.arm, pair.against), ask(pair.against, pair.arm)


def _duel(pair: _Pair, straight: JudgeVerdict, swapped: JudgeVerdict) -> PairScore:
    value = None
    if straight.value is not None and swapped.value is not None:
        value = (straight.value + swapped.value) / 2
    return PairScore(
        arm=pair.arm.arm,
        against=pair.against.arm,
        prompt_id=pair.arm.prompt_id,
        responses=(pair.arm.id, pair.against.id),
        value=value,
        unscored="" if value is not None else straight.failure or swapped.failure,
        consistent=None if value is None else straight.value == swapped.value,
        longer=len(pair.arm.text) - len(pair.against.text),
    )
