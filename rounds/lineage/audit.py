"""Whether chains are complete: records drawn from every kind, each walked back to its start.

In: a lineage. Out: an :class:`Audit`. ``persona trace --sample`` prints it.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass

from rounds.layout import EXAMPLES, SCORES
from rounds.lineage.graph import Lineage, kind_of

_ROW = ("row", "pair")
NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "row": (("persona",),),
    "pair": (("persona",),),
    "decision": (_ROW, ("review",), ("persona",)),
    "split": (_ROW, ("persona",)),
    "drop": (("persona",),),
    "answer": (_ROW, ("persona",)),
    "score": (_ROW, ("persona",)),
    "adapter": (_ROW, ("review",), ("persona",)),
}
"""Kind of a record → what its way back has to reach, one of each."""
_CURATED = {rows.path for rows in EXAMPLES.values()}
"""Files of rows that people have seen."""
_FAULT = "fault"


@dataclass(frozen=True)
class Audit:
    """What became of the records that were drawn."""

    there: dict[str, int]
    """Kind → how many of it the rounds hold."""
    drawn: dict[str, int]
    """Kind → how many of it were drawn."""
    gaps: dict[str, list[str]]
    """Id of an incomplete chain → what is missing on it."""

    def complete(self, kind: str) -> int:
        """Return how many of a kind's drawn records have complete chains."""
        return self.drawn[kind] - sum(kind_of(node) == kind for node in self.gaps)


def draw(lineage: Lineage, count: int, seed: int) -> list[str]:
    """Return ``count`` ids at random, as evenly over the kinds as they have records; at most all.

    Only what stands in a file is drawn, and adapters: a persona's version is where chains end.
    """
    kinds: dict[str, list[str]] = defaultdict(list)
    for node in sorted(lineage.graph):
        kind = kind_of(node)
        if kind != "persona" and (kind == "adapter" or node in lineage.places):
            kinds[kind].append(node)
    source = random.Random(seed)
    for nodes in kinds.values():
        source.shuffle(nodes)
    sample: list[str] = []
    while len(sample) < count and any(kinds.values()):
        for kind in sorted(kinds):
            if kinds[kind] and len(sample) < count:
                sample.append(kinds[kind].pop())
    return sample


def audit(lineage: Lineage, nodes: list[str]) -> Audit:
    """Return whether the chains of ``nodes`` are complete.

    Beyond :meth:`Lineage.gaps`, the way back has to reach what :data:`NEEDS` says of its kind, a
    review for rows that were trained or tested on. A click is where chains begin; it has to be
    about a row that is there.
    Time grows with the number of records and links.
    """
    reached = _reached(lineage)
    gaps = {}
    for node in nodes:
        missing = [
            f"{node} leads back to no {' or '.join(wanted)}"
            for wanted in _wanted(lineage, node)
            if not reached[node].intersection(wanted)
        ]
        if kind_of(node) == "review" and not _is_about_something(lineage, node):
            missing.append(f"{node} is about no row and no pair")
        if missing or _FAULT in reached[node]:
            gaps[node] = [*missing, *lineage.gaps(node)]
    there = Counter(kind_of(node) for node in lineage.graph)
    return Audit(dict(there), dict(Counter(map(kind_of, nodes))), gaps)


def _wanted(lineage: Lineage, node: str) -> tuple[tuple[str, ...], ...]:
    kind = kind_of(node)
    wanted = NEEDS.get(kind, ())
    files = {place.file for place in lineage.places.get(node, ())}
    if kind == "row" and files & _CURATED:
        wanted += (("review",),)
    if kind == "score" and SCORES.path in files:
        wanted += (("answer",),)
    return wanted


def _is_about_something(lineage: Lineage, review: str) -> bool:
    """Return whether a click has its row: before it, or after it where the row was kept."""
    around = (*lineage.graph.predecessors(review), *lineage.graph.successors(review))
    return any(kind_of(node) in _ROW and node in lineage.places for node in around)


def _reached(lineage: Lineage) -> dict[str, frozenset[str]]:
    """Return of every node which kinds its way back reaches, itself among them, and faults."""
    import networkx as nx

    reached: dict[str, frozenset[str]] = {}
    same: dict[frozenset[str], frozenset[str]] = {}
    for node in nx.topological_sort(lineage.graph):
        own = {kind_of(node)} | ({_FAULT} if lineage.fault(node) else set())
        kinds = frozenset(own.union(*(reached[p] for p in lineage.graph.predecessors(node))))
        # Few different sets, many nodes: each set is kept once.
        reached[node] = same.setdefault(kinds, kinds)
    return reached
