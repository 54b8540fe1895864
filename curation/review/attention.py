"""The queue of a review with a budget: first what a review would change, beside a random sample.

Candidates come in from the review stage, their order goes out to the push. What is known of a row
before anybody reviews it is all that an order can go by; ``benchmarks/bench_attention.py`` measures
what that is worth. So every second place of the queue is drawn at random: those rows stand for all,
and :mod:`curation.review.stopping` learns from them what the rows that nobody has seen would bring.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from workbench.persona import Persona
from workbench.records import Example

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CHUNK = 1000
"""Rows whose likeness to all others is looked at together: at 10 000 rows some 80 MB."""


def drawn(round_name: str, record: str) -> bytes:
    """Return by what rows are put into the random order of a round, the same in every run."""
    return hashlib.sha256(f"{round_name}\0{record}".encode()).digest()


def worths(
    persona: Persona, rows: Sequence[Example], shares: Mapping[str, float]
) -> dict[str, Floats]:
    """Return name → what each row is worth by one sign of a change; more is worth more.

    Args:
        persona: Its rules are looked at.
        rows: The candidates.
        shares: Row → share of the persona's traits that a judge finds shown; may be empty.
    """
    import numpy as np

    topics, kinds = Counter(row.topic for row in rows), Counter(row.kind for row in rows)
    rules = [_rule_share(persona, row) for row in rows]
    return {
        "traits_missed": np.array([len(persona.failed_traits(row.answer)) for row in rows], float),
        "judge_and_rules": np.array(
            [abs(shares.get(row.id, rule) - rule) for row, rule in zip(rows, rules, strict=True)]
        ),
        "novelty": _novelty([row.answer for row in rows]),
        "rarity": np.array([1 / topics[row.topic] + 1 / kinds[row.kind] for row in rows]),
    }


def _rule_share(persona: Persona, row: Example) -> float:
    rules = list(persona.rule_traits)
    return sum(bool(trait.passes(row.answer)) for trait in rules) / len(rules) if rules else 1.0


def _novelty(texts: Sequence[str]) -> Floats:
    """Return 1 less each text's likeness to the most alike of the others, by pieces of words.

    Hashed character n-grams, as in Argilla's "find similar": no model, any language.
    """
    import numpy as np
    from sklearn.feature_extraction.text import HashingVectorizer

    if len(texts) < 2:
        return np.ones(len(texts))
    table = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=2**14).transform(
        texts
    )
    nearest = np.empty(len(texts))
    for at in range(0, len(texts), CHUNK):
        alike = (table[at : at + CHUNK] @ table.T).toarray()
        alike[np.arange(len(alike)), at + np.arange(len(alike))] = -np.inf
        nearest[at : at + CHUNK] = alike.max(axis=1)
    return np.asarray(1 - nearest)


def mean_rank(worth: Mapping[str, Floats]) -> Floats:
    """Return the mean of the rows' ranks by each sign; ties share a rank."""
    import numpy as np
    from scipy.stats import rankdata

    return np.asarray(np.mean([rankdata(one) for one in worth.values()], axis=0))


def queue_order(
    persona: Persona,
    rows: Sequence[Example],
    round_name: str,
    shares: Mapping[str, float] | None = None,
) -> list[Example]:
    """Return all rows in the order in which they are reviewed.

    In turn the next row by mean rank of all signs of a change, and the next one of the random
    order; a row that both name stands where it is named first.
    """
    if not rows:
        return []
    rank = mean_rank(worths(persona, rows, shares or {}))
    by_worth = sorted(range(len(rows)), key=lambda at: (-rank[at], drawn(round_name, rows[at].id)))
    at_random = random_order(rows, round_name)
    both = zip((rows[at] for at in by_worth), at_random, strict=True)
    return list({row.id: row for row in chain.from_iterable(both)}.values())


def random_order(rows: Sequence[Example], round_name: str) -> list[Example]:
    """Return the rows in the order drawn for a round; its beginning is a sample of all of them."""
    return sorted(rows, key=lambda row: drawn(round_name, row.id))
