"""What the next round asks for: rows shared out by how surely and how far the model falls short.

In: gaps of the tuned model and the topics of training. Out: so many rows of each topic, kind and
trait. :mod:`rounds.planning.proposal` calls it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from evaluation.weakness import Gap
from workbench.config import ORDINARY, Kind, RowRequest

FOCUS = 0.75
"""Share of the rows that goes to what is surely weak; the rest keeps every topic in training."""
KIND_OF: dict[str, Kind] = {
    "out_of_scope": "out_of_scope",
    "drop_the_act": "adversarial",
    "role_reversal": "adversarial",
    "format": "adversarial",
    "safety": "out_of_scope",
    "disclosure": "adversarial",
    "crisis": "out_of_scope",
}
"""Probe set → kind of generated question that exercises the same."""
FOLLOW_UP: Kind = "follow_up"


def share_out(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """Return whole numbers in proportion to weights, by largest remainders; their sum is ``total``.

    Hamilton's method; of equal remainders the first comes first. Nothing without a weight above 0.
    """
    whole = sum(weights.values())
    if whole <= 0:
        return {}
    exact = {name: total * weight / whole for name, weight in weights.items()}
    shares = {name: int(value) for name, value in exact.items()}
    rest = total - sum(shares.values())
    for name in sorted(exact, key=lambda n: shares[n] - exact[n])[:rest]:
        shares[name] += 1
    return shares


def plan_rows(gaps: Sequence[Gap], topics: Mapping[str, int], total: int) -> tuple[RowRequest, ...]:
    """Return the asks of the next round.

    Three quarters of the rows go to what is surely weak, each weakness in proportion to the part of
    its gap that the interval leaves no doubt about; without any, all rows are spread. Rows are
    asked only of topics of the training split: those of a held-out topic would be held out
    too, and teach nothing.

    ``gaps`` are of :func:`evaluation.weakness.find_gaps`, and of training topics by their loss;
    ``topics`` is topic of the training split → rows that it has there.
    """
    if not topics:
        return ()
    # Topics with the fewest rows come first, where there are fewer rows than topics.
    order = sorted(topics, key=lambda topic: topics[topic])
    weak = {f"{gap.family}:{gap.name}": gap for gap in gaps if gap.certain_gap > 0}
    focused = share_out(
        {key: weight_of(gap) for key, gap in weak.items()}, round(FOCUS * total) if weak else 0
    )
    asks: Counter[tuple[str, Kind | str, str]] = Counter()
    per_topic: Counter[str] = Counter()

    def ask(places: Sequence[str], kind: Kind | str, trait: str, count: int) -> None:
        """Ask each row of the topic that has fewest so far: few rows of many weaknesses spread."""
        for _ in range(count):
            topic = min(places, key=lambda place: per_topic[place])
            per_topic[topic] += 1
            asks[topic, kind, trait] += 1

    for key, count in focused.items():
        gap = weak[key]
        own = gap.name in topics and gap.family in ("topic", "learned")
        trait = gap.name if gap.family == "trait" else ""
        ask([gap.name] if own else order, _kind(gap), trait, count)
    ask(order, ORDINARY, "", total - sum(focused.values()))
    return tuple(
        RowRequest.model_validate({"topic": topic, "kind": kind, "trait": trait, "count": count})
        for (topic, kind, trait), count in sorted(
            asks.items(), key=lambda item: (order.index(item[0][0]), item[0][1:])
        )
    )


def weight_of(gap: Gap) -> float:
    """Return the sure part of a gap; of a loss, as a share of the loss that it is held against."""
    if gap.family == "learned" and gap.reference:
        return gap.certain_gap / abs(gap.reference)
    return gap.certain_gap


def _kind(gap: Gap) -> Kind | str:
    if gap.family == "turn":
        return FOLLOW_UP
    return KIND_OF.get(gap.name, ORDINARY) if gap.family == "probe" else ORDINARY
