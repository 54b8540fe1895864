"""How far each reviewer's votes can be trusted: Dawid–Skene, and a gold set with known answers.

Votes come in from agreement and resolution. The gold rows of a persona's ``gold.jsonl`` are read
and strewn among the rows of a push here too; they are reviewed like others and never trained on.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from curation.review.attention import drawn, random_order
from curation.review.votes import KEEP, LOW_FIDELITY, ReviewVote
from workbench.config import Policy
from workbench.errors import UserError, UserErrors
from workbench.records import Example, user_prompt
from workbench.store import read_models
from workbench.values import Frozen

ITERATIONS = 100
"""Most steps of expectation and maximisation; it converges in far fewer."""
GOLD_FILE = "gold.jsonl"


@dataclass(frozen=True)
class Reliability:
    """What the votes say of records and of reviewers."""

    posteriors: dict[str, dict[str, float]] = field(default_factory=dict)
    """Record → outcome → probability; the probabilities of a record add up to 1."""
    reviewers: dict[str, float] = field(default_factory=dict)
    """Reviewer → probability, 0 to 1, that their vote is a record's true outcome."""


def dawid_skene(votes: Iterable[ReviewVote], policy: Policy) -> Reliability:
    """Estimate each record's true outcome and each reviewer's reliability together.

    The model is that of Dawid and Skene (1979), "Maximum Likelihood Estimation of Observer
    Error-Rates Using the EM Algorithm", as crowd-kit fits it. A reviewer's reliability is the share
    of right votes that the fitted error matrix and outcome frequencies imply.
    """
    rows = [(v.record, v.reviewer, v.outcome(policy)) for v in votes]
    outcomes = {vote for _, _, vote in rows}
    if len(outcomes) < 2:  # nobody ever voted otherwise: nothing to estimate
        return Reliability(
            {record: dict.fromkeys(outcomes, 1.0) for record, _, _ in rows},
            {reviewer: 1.0 for _, reviewer, _ in rows},
        )
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    data = pd.DataFrame(rows, columns=["task", "worker", "label"])
    with warnings.catch_warnings():
        # Under pandas 3, crowd-kit 1.4 warns of keywords that a later pandas takes away.
        warnings.simplefilter("ignore", DeprecationWarning)
        model = DawidSkene(n_iter=ITERATIONS).fit(data)
    assert model.probas_ is not None  # fit() sets it
    posteriors = {
        str(record): {str(label): float(value) for label, value in row.items()}
        for record, row in model.probas_.fillna(0.0).iterrows()
    }
    return Reliability(posteriors, _right_votes(model.errors_, model.priors_))


def _right_votes(errors: object, priors: object) -> dict[str, float]:
    """Return each reviewer's probability of voting for the true outcome."""
    frame = errors.fillna(0.0)  # type: ignore[attr-defined]
    share = {str(label): float(value) for label, value in priors.items()}  # type: ignore[attr-defined]
    right: dict[str, float] = {}
    for (reviewer, label), row in frame.iterrows():
        right[str(reviewer)] = right.get(str(reviewer), 0.0) + share[label] * float(row[label])
    return dict(sorted(right.items()))


@dataclass(frozen=True)
class GoldScore:
    """How one reviewer did on the records whose outcome is known."""

    reviewer: str
    right: int
    seen: int


def against_gold(
    votes: Iterable[ReviewVote], policy: Policy, gold: Mapping[str, str]
) -> list[GoldScore]:
    """Return each reviewer's votes on gold records against their known outcomes.

    Votes about records that are not in ``gold`` only name the reviewer.
    """
    counts: dict[str, list[int]] = {}
    for vote in votes:
        tally = counts.setdefault(vote.reviewer, [0, 0])
        if vote.record in gold:
            tally[0] += vote.outcome(policy) == gold[vote.record]
            tally[1] += 1
    return [GoldScore(name, right, seen) for name, (right, seen) in sorted(counts.items())]


class GoldLine(Frozen):
    """One line of a persona's ``gold.jsonl``: an Alpaca row and its known outcome."""

    instruction: str = Field(min_length=1)
    input: str = ""
    output: str = Field(min_length=1)
    topic: str = ""
    outcome: str
    """``keep``, ``low_fidelity`` or a blocking problem of the policy."""


@dataclass(frozen=True)
class Gold:
    """Rows whose outcome is known; they are reviewed like others and never trained on."""

    examples: tuple[Example, ...] = ()
    outcomes: dict[str, str] = field(default_factory=dict)
    """Example id → known outcome."""


def read_gold(folder: Path, policy: Policy) -> Gold:
    """Return the gold set of a persona's folder; an empty one where there is no ``gold.jsonl``.

    Raises:
        UserErrors: Every line that is no gold row.
    """
    path = folder / GOLD_FILE
    if not path.exists():
        return Gold()
    known = (KEEP, LOW_FIDELITY, *policy.blocking)
    examples: list[Example] = []
    outcomes: dict[str, str] = {}
    mistakes: list[UserError] = []
    for number, line in read_models(path, GoldLine, mistakes):
        if line.outcome not in known:
            mistakes.append(
                UserError(
                    f"outcome: unknown '{line.outcome}'",
                    where=f"{path}:{number}",
                    fix=f"one of {', '.join(known)}",
                )
            )
            continue
        example = Example(
            prompt=user_prompt(line.instruction, line.input),
            answer=line.output,
            topic=line.topic,
            source=f"{GOLD_FILE}:{number}",
        )
        examples.append(example)
        outcomes[example.id] = line.outcome
    if mistakes:
        raise UserErrors(mistakes)
    return Gold(tuple(examples), outcomes)


def with_gold_rows(
    examples: Sequence[Example], gold: Gold, round_name: str, *, in_order: bool = False
) -> list[Example]:
    """Return the rows of a push in an order drawn once for the round, gold rows among them.

    Where a record needs several reviews, all reviewers begin with the first rows of a push: drawn
    ones are of all topics, so that their agreement speaks for the round. With ``in_order`` the
    order of ``examples`` stays, and only the gold rows' places are drawn.
    """
    if not in_order:
        return random_order([*gold.examples, *examples], round_name)
    rows = list(examples)
    for row in random_order(gold.examples, round_name):
        place = int.from_bytes(drawn(round_name, row.id)[:8]) % (len(rows) + 1)
        rows.insert(place, row)
    return rows
