"""How far the reviewers of a round agree: per question, topic, pair and reviewer.

Reviews and the gold rows' known outcomes come in; the resolve stage writes what comes out as
``agreement.json``, and ``persona review agreement`` prints it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from statistics import median_low

from pydantic import Field

from curation.review.reliability import against_gold, dawid_skene
from curation.review.votes import ReviewVote, about, by_record, votes_of
from workbench.config import Policy
from workbench.persona import Trait
from workbench.records import Example, Review
from workbench.stats.agreement import (
    ALPHA_RESAMPLES,
    RATINGS,
    Judgement,
    Level,
    RaterAgreement,
    RuleAgreement,
    alpha,
    rule_agreement,
)
from workbench.stats.bootstrap import LEVEL
from workbench.values import Frozen


class ReviewerAgreement(Frozen):
    """How one reviewer stands to the others and to known answers."""

    reviews: int
    consensus: RaterAgreement
    """Fidelity against the median of the other reviewers' ratings."""
    reliability: float | None = None
    """Dawid–Skene: probability that a vote is the record's true outcome."""
    gold: RaterAgreement
    """Outcomes voted for against the known ones of the gold rows."""
    gold_right: int = 0
    gold_seen: int = 0


class Agreement(Frozen):
    """The agreement of a round, ready for JSON."""

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
    reviewers: dict[str, ReviewerAgreement] = Field(default_factory=dict)
    rules: dict[str, RuleAgreement] = Field(default_factory=dict)
    """Trait that a rule checks → the rule beside what reviewers themselves said of the trait."""


Measure = Callable[[Iterable[Judgement], Level], RaterAgreement]


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

    ``gold`` is the known outcome of records mixed in to test the reviewers. Of ``problems``, those
    that nobody named are unscored.
    """
    every = votes_of(reviews)
    votes = about(every, examples)
    grouped = by_record(votes)

    def measure(judgements: Iterable[Judgement], level: Level) -> RaterAgreement:
        domain = RATINGS if level == "ordinal" else None
        return alpha(list(judgements), level, domain, seed=seed, resamples=resamples)

    def questions(
        some: Sequence[ReviewVote], named: Iterable[str] = ()
    ) -> dict[str, RaterAgreement]:
        return _by_question(some, policy, named, measure)

    topic_of = {example.id: example.topic for example in examples}
    topics = sorted({topic_of[record] for record in grouped if topic_of[record]})
    names = sorted({vote.reviewer for vote in votes})
    return Agreement(
        records=len(grouped),
        overlapping=sum(len(group) > 1 for group in grouped.values()),
        resamples=resamples,
        seed=seed,
        questions=questions(votes, problems),
        topics={t: questions([v for v in votes if topic_of[v.record] == t]) for t in topics},
        pairs={
            f"{one} / {two}": questions([v for v in votes if v.reviewer in (one, two)])
            for one, two in combinations(names, 2)
        },
        reviewers=_by_reviewer(votes, every, policy, gold or {}, measure),
    )


def rules_beside_reviewers(
    traits: Iterable[Trait],
    examples: Sequence[Example],
    reviews: Iterable[Review],
    *,
    seed: int = 0,
) -> dict[str, RuleAgreement]:
    """Return how each rule stands to the reviewers of the same answers; half of them are enough.

    What a rule finds is marked for reviewers beforehand, so they may agree with it more than they
    would unasked: a rule that disagrees all the same is worth a look.
    """
    labels: dict[str, list[frozenset[str]]] = defaultdict(list)
    for review in reviews:
        if (problems := review.problems) is not None:
            labels[review.record].append(problems)
    rows = [(example, labels[example.id]) for example in examples if example.id in labels]
    return {
        trait.id: rule_agreement(
            [
                (
                    not trait.passes(row.answer),
                    2 * sum(trait.id in problems for problems in own) >= len(own),
                )
                for row, own in rows
            ],
            seed=seed,
        )
        for trait in traits
    }


def _by_question(
    votes: Sequence[ReviewVote], policy: Policy, problems: Iterable[str], measure: Measure
) -> dict[str, RaterAgreement]:
    def judgements(value: Callable[[ReviewVote], Hashable]) -> list[Judgement]:
        return [(vote.record, vote.reviewer, value(vote)) for vote in votes]

    measures = {
        "fidelity": measure(judgements(lambda vote: vote.fidelity), "ordinal"),
        "decision": measure(judgements(lambda vote: vote.outcome(policy)), "nominal"),
    }
    if compared := [one for one in judgements(lambda vote: vote.better) if one[2]]:
        measures["better"] = measure(compared, "nominal")
    for problem in problems:
        naming = ((vote.record, vote.reviewer, problem in vote.problems) for vote in votes)
        measures[f"problem:{problem}"] = measure(naming, "nominal")
    return measures


def _by_reviewer(
    votes: Sequence[ReviewVote],
    every: Sequence[ReviewVote],
    policy: Policy,
    gold: Mapping[str, str],
    measure: Measure,
) -> dict[str, ReviewerAgreement]:
    """Return how each reviewer stands to the others, and to the gold rows among ``every`` vote."""
    grouped = by_record(votes)
    trust = dawid_skene(votes, policy).reviewers if len(grouped) > 1 else {}
    return {
        score.reviewer: ReviewerAgreement(
            reviews=sum(vote.reviewer == score.reviewer for vote in votes),
            consensus=measure(_beside_others(score.reviewer, grouped), "ordinal"),
            reliability=trust.get(score.reviewer),
            gold=measure(_beside_gold(score.reviewer, every, policy, gold), "nominal"),
            gold_right=score.right,
            gold_seen=score.seen,
        )
        for score in against_gold(every, policy, gold)
    }


def _beside_others(name: str, grouped: Mapping[str, Sequence[ReviewVote]]) -> Iterator[Judgement]:
    """Yield a reviewer's fidelity of each record, and the median of the others'."""
    for record, votes in grouped.items():
        own = [vote.fidelity for vote in votes if vote.reviewer == name]
        others = [vote.fidelity for vote in votes if vote.reviewer != name]
        if own and others:
            yield record, name, own[0]
            yield record, "others", median_low(others)


def _beside_gold(
    name: str, votes: Sequence[ReviewVote], policy: Policy, gold: Mapping[str, str]
) -> Iterator[Judgement]:
    """Yield a reviewer's outcome of each gold row, and the known one."""
    for vote in votes:
        if vote.reviewer == name and vote.record in gold:
            yield vote.record, name, vote.outcome(policy)
            yield vote.record, "gold", gold[vote.record]
