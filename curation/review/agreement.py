"""How far the reviewers of a round agree: per question, topic, pair and reviewer."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from statistics import median_low

from pydantic import BaseModel, ConfigDict, Field

from curation.review.reliability import against_gold, dawid_skene
from curation.review.votes import Ballot, ballots, by_record, only_of
from workbench.config import Policy
from workbench.records import Example, Review
from workbench.stats.agreement import (
    ALPHA_RESAMPLES,
    RATINGS,
    Judgement,
    RaterAgreement,
    alpha,
)
from workbench.stats.bootstrap import LEVEL


class Reviewer(BaseModel):
    """How one reviewer stands to the others and to known answers."""

    model_config = ConfigDict(frozen=True)

    reviews: int
    consensus: RaterAgreement
    """Fidelity against the median of the other reviewers' ratings."""
    reliability: float | None = None
    """Dawid–Skene: probability that a vote is the record's true outcome."""
    gold: RaterAgreement
    """Outcomes voted for against the known ones of the gold rows."""
    gold_right: int = 0
    gold_seen: int = 0


class Agreement(BaseModel):
    """The agreement of a round, ready for JSON."""

    model_config = ConfigDict(frozen=True)

    records: int
    """Records with at least one submitted review."""
    overlapping: int
    """Records with at least two."""
    confidence: float = LEVEL
    resamples: int = ALPHA_RESAMPLES
    seed: int = 0
    questions: dict[str, RaterAgreement] = Field(default_factory=dict)
    """``fidelity`` (ordinal), ``decision``, ``better`` and each ``problem:<id>`` (nominal)."""
    topics: dict[str, dict[str, RaterAgreement]] = Field(default_factory=dict)
    pairs: dict[str, dict[str, RaterAgreement]] = Field(default_factory=dict)
    reviewers: dict[str, Reviewer] = Field(default_factory=dict)


def agreement(
    examples: Sequence[Example],
    reviews: Iterable[Review],
    policy: Policy,
    *,
    problems: Iterable[str] = (),
    gold: Mapping[str, str] | None = None,
    seed: int = 0,
    resamples: int = ALPHA_RESAMPLES,
) -> Agreement:
    """Measure agreement per question, topic, pair of reviewers, and of each with the others.

    Args:
        examples: The reviewed candidates; their topics group the records.
        reviews: All reviews of the round, in any order.
        policy: Says what outcome each ballot votes for.
        problems: Problem ids that reviewers could name; those that nobody named are unscored.
        gold: Record → known outcome, for records mixed in to test the reviewers.
        seed: Seed of the bootstrap.
        resamples: Bootstrap samples of each interval.
    """
    every = ballots(reviews)
    found = only_of(every, examples)
    grouped = by_record(found)

    def measure(some: list[Ballot], names: Iterable[str] = ()) -> dict[str, RaterAgreement]:
        return _questions(some, policy, names, seed=seed, resamples=resamples)

    topic_of = {example.id: example.topic for example in examples}
    topics = sorted({topic_of[record] for record in grouped if topic_of[record]})
    names = sorted({ballot.reviewer for ballot in found})
    return Agreement(
        records=len(grouped),
        overlapping=sum(len(group) > 1 for group in grouped.values()),
        resamples=resamples,
        seed=seed,
        questions=measure(found, problems),
        topics={t: measure([b for b in found if topic_of[b.record] == t]) for t in topics},
        pairs={
            f"{one} / {two}": measure([b for b in found if b.reviewer in (one, two)])
            for one, two in combinations(names, 2)
        },
        reviewers=_reviewers(found, every, policy, gold or {}, seed, resamples),
    )


def _questions(
    found: list[Ballot], policy: Policy, problems: Iterable[str], *, seed: int, resamples: int
) -> dict[str, RaterAgreement]:
    def cells(value: Callable[[Ballot], Hashable]) -> list[Judgement]:
        return [(ballot.record, ballot.reviewer, value(ballot)) for ballot in found]

    def nominal(data: list[Judgement]) -> RaterAgreement:
        return alpha(data, "nominal", seed=seed, resamples=resamples)

    asked = {
        "fidelity": alpha(
            cells(lambda b: b.fidelity), "ordinal", RATINGS, seed=seed, resamples=resamples
        ),
        "decision": nominal(cells(lambda b: b.vote(policy.blocking, policy.keep_fidelity))),
    }
    compared = [cell for cell in cells(lambda b: b.better) if cell[2]]
    if compared:
        asked["better"] = nominal(compared)
    for problem in problems:
        asked[f"problem:{problem}"] = nominal(cells(lambda b, p=problem: p in b.problems))  # type: ignore[misc]
    return asked


def _reviewers(
    found: list[Ballot],
    every: list[Ballot],
    policy: Policy,
    gold: Mapping[str, str],
    seed: int,
    resamples: int,
) -> dict[str, Reviewer]:
    grouped = by_record(found)
    trust = dawid_skene(found, policy).reviewers if len(grouped) > 1 else {}
    known = {score.reviewer: score for score in against_gold(every, policy, gold)}
    reviewers = {}
    for name in sorted({ballot.reviewer for ballot in every}):
        cells: list[Judgement] = []
        for record, group in grouped.items():
            mine = [ballot.fidelity for ballot in group if ballot.reviewer == name]
            others = [ballot.fidelity for ballot in group if ballot.reviewer != name]
            if mine and others:
                cells += [(record, name, mine[0]), (record, "others", median_low(others))]
        answers: list[Judgement] = []
        for ballot in every:
            if ballot.reviewer == name and ballot.record in gold:
                vote = ballot.vote(policy.blocking, policy.keep_fidelity)
                answers += [
                    (ballot.record, name, vote),
                    (ballot.record, "gold", gold[ballot.record]),
                ]
        reviewers[name] = Reviewer(
            reviews=sum(ballot.reviewer == name for ballot in found),
            consensus=alpha(cells, "ordinal", RATINGS, seed=seed, resamples=resamples),
            reliability=trust.get(name),
            gold=alpha(answers, "nominal", seed=seed, resamples=resamples),
            gold_right=known[name].right,
            gold_seen=known[name].seen,
        )
    return reviewers
