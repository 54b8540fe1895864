"""Is the judge any good: its yes and no beside reviewers' on the same answers, and what follows.

In: answers that reviewers labelled, trait by trait, and the judge's word on them. Out: a
:class:`Calibration`, which says what fidelity is made of. Called by the stage of evaluation.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import partial
from hashlib import sha256
from itertools import combinations

from pydantic import Field

from evaluation.judge import CONTENT
from workbench.checks import Judge
from workbench.inference.judge import meaning_of
from workbench.persona import Persona
from workbench.records import Example, Response, Review, Score
from workbench.stats.agreement import (
    FEWEST_ROWS,
    Pairs,
    RaterAgreement,
    gate_power,
    rows_for_gate,
    two_raters,
    weighted_kappa,
)
from workbench.stats.bootstrap import RESAMPLES
from workbench.values import Frozen

REVIEWED = "reviewed"
"""Name of the arm whose answers are the labelled ones."""
BAR = 0.5
"""Default of what the lower end of the judge's kappa has to reach, as a share of the reviewers'."""
CEILING = 0.8
"""What reviewers are taken to reach where no row has two of them."""
ROWS = 150
_YES_NO = (0.0, 1.0)
CONTENT_FAULTS = frozenset({"unsafe_advice", "wrong_fact", "refusal", "off_topic"})
"""General problems that are of the advice and not of the voice."""


class JudgeGate(Frozen):
    """Whether the judge's word on one measure counts, and how far these rows can tell."""

    kappa: RaterAgreement
    """Cohen's kappa of the judge with a reviewer; a row's reviewers share its weight."""
    ceiling: RaterAgreement
    """The same of two reviewers: what people reach."""
    bar: float
    """What the lower end of the judge's kappa has to reach."""
    reason: str = ""
    """Why its word does not count: too_few_rows, same_value, too_few_differing, low_ceiling or
    below_bar; empty where it does."""
    power: float | None = None
    """Chance that a judge who agrees with reviewers as they do among themselves passes on so many
    rows."""
    rows_needed: int | None = None
    """Rows on which such a judge passes four times in five; None where none would be enough."""

    @property
    def trusted(self) -> bool:
        """Whether the judge's word counts."""
        return not self.reason

    @property
    def missing(self) -> int | None:
        """Rows still to be labelled by reviewers."""
        return None if self.rows_needed is None else max(0, self.rows_needed - self.kappa.rows)


class Calibration(Frozen):
    """How the judge stands to the reviewers: ``calibration.json``."""

    judge: str = ""
    """Model of the judge; empty where there is none."""
    share: float = BAR
    """What the judge has to reach of the reviewers' own agreement."""
    rows: int = 0
    """Labelled answers that the judge scored."""
    arm_rows: int = 0
    """Those among them that arms gave; the others are rows of the data."""
    reviewers: int = 0
    traits: dict[str, JudgeGate] = Field(default_factory=dict)
    """Trait that a judge checks, or the meaning of a rule's → its gate."""
    content: JudgeGate | None = None
    """Of the judge's word on the advice: whether reviewers named no fault in it."""
    meanings: dict[str, RaterAgreement] = Field(default_factory=dict)
    """Rule trait that names its meaning → kappa of rule and judge on the arms' own answers."""
    unscored: dict[str, int] = Field(default_factory=dict)
    """Why the judge gave no score → how many."""
    reason: str = ""
    """Why nothing was compared: no_judge or no_reviews."""

    @property
    def gates(self) -> dict[str, JudgeGate]:
        """Every gate by its measure."""
        return {**self.traits, **({CONTENT: self.content} if self.content else {})}

    @property
    def trusted(self) -> tuple[str, ...]:
        """The traits on which the judge's word counts."""
        return tuple(name for name, gate in self.traits.items() if gate.trusted)

    def weights(self, persona: Persona) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return the traits that fidelity is made of, and trait → why it is left out.

        ``compare`` takes them as ``traits`` and ``left_out``.
        """
        left_out = {
            name: self.reason or self.traits[name].reason
            for name in judge_traits(persona)
            if name not in self.trusted
        }
        return tuple(t.id for t in persona.traits if t.id not in left_out), left_out


def judge_traits(persona: Persona) -> list[str]:
    """Return the ids of the traits that only a judge can check."""
    return [trait.id for trait in persona.traits if isinstance(trait.check, Judge)]


def reviewed_responses(
    examples: Iterable[Example], reviews: Iterable[Review], *, rows: int = ROWS
) -> list[Response]:
    """Return labelled answers as responses of the arm :data:`REVIEWED`, for the judge to score.

    Answers are taken in turn from those with and without a problem, so that bad ones are among them
    where there are any; which ones depends on their ids alone, never on a judge. Those that no
    reviewer labelled are passed over. The judge must not have been shown one as an example.
    """
    labelled = fault_labels(reviews)
    groups: dict[bool, list[Example]] = defaultdict(list)
    for example in sorted(examples, key=lambda one: sha256(one.id.encode()).hexdigest()):
        if own := labelled.get(example.id):
            groups[any(own.values())].append(example)
    turns = [(turn, one) for group in groups.values() for turn, one in enumerate(group)]
    chosen = [one for _, one in sorted(turns, key=lambda pair: pair[0])][:rows]
    return [
        Response(
            arm=REVIEWED,
            prompt_id=one.id,
            prompt=one.prompt,
            text=one.answer,
            topic=one.topic,
            parents=(one.id,),
        )
        for one in chosen
    ]


def calibrate(
    persona: Persona,
    scores: Sequence[Score],
    reviews: Sequence[Review],
    *,
    judge: str = "",
    share: float = BAR,
    of_arms: Set[str] = frozenset(),
    arms: Sequence[Score] = (),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Calibration:
    """Compare the judge with the reviewers trait by trait, and decide where its word counts.

    A reviewer who did not name a trait among an answer's problems found it shown. The ceiling is
    how far reviewers agree; where no row has two of them, :data:`CEILING` stands for it. ``scores``
    are of what :func:`reviewed_responses` returned, ``share`` is what the lower end of the judge's
    kappa has to reach of the ceiling, ``of_arms`` are the ids of the answers that arms gave, and
    ``arms`` all arms' scores, for the rules that name their meaning. No ``judge``, no calibration.
    """
    labelled = fault_labels(reviews)
    reason = "" if judge and labelled else "no_reviews" if judge else "no_judge"
    if reason:
        return Calibration(judge=judge, share=share, reason=reason)
    gate = partial(_gate, share=share, seed=seed, resamples=resamples)
    faults = {
        **{name: {name} for name in judge_traits(persona)},
        **{meaning_of(trait.id): {trait.id} for trait in persona.traits if trait.meaning},
        CONTENT: CONTENT_FAULTS,
    }
    own = [s for s in scores if s.arm == REVIEWED and s.metric in faults]
    words = _words([score for score in own if score.prompt_id in labelled])
    gates = {name: gate(words[name], labelled, faults[name]) for name in faults}
    rows = {row for by_row in words.values() for row in by_row}
    return Calibration(
        judge=judge,
        share=share,
        rows=len(rows),
        arm_rows=len(rows & of_arms),
        reviewers=len({name for row in rows for name in labelled[row]}),
        content=gates.pop(CONTENT),
        traits=gates,
        meanings=_meanings(persona, arms, seed, resamples),
        unscored=dict(Counter(s.unscored for s in own if s.value is None).most_common()),
    )


def _words(scores: Iterable[Score]) -> dict[str, dict[str, float]]:
    """Return metric → answer → the judge's yes or no."""
    words: dict[str, dict[str, float]] = defaultdict(dict)
    for score in scores:
        if score.value is not None:
            words[score.metric][score.prompt_id] = float(score.value >= 0.5)
    return words


def _gate(
    words: Mapping[str, float],
    labelled: Mapping[str, Mapping[str, Set[str]]],
    faults: Set[str],
    *,
    share: float,
    seed: int,
    resamples: int,
) -> JudgeGate:
    """Return the gate of one measure: the judge's words by row beside every reviewer's."""
    labels = {
        row: [float(not faults & problems) for problems in labelled[row].values()] for row in words
    }
    agreement = partial(
        two_raters, statistic=weighted_kappa, levels=_YES_NO, seed=seed, resamples=resamples
    )
    judged: list[Pairs] = [[(words[row], one) for one in own] for row, own in labels.items()]
    # A pair of reviewers has no order: each is taken as the first one once.
    people: list[Pairs] = [
        [pair for a, b in combinations(own, 2) for pair in ((a, b), (b, a))]
        for own in labels.values()
        if len(own) > 1
    ]
    kappa, ceiling = agreement(judged), agreement(people)
    reached = ceiling.value if ceiling.value is not None else CEILING
    bar = share * max(reached, 0.0)
    every = [one for own in labels.values() for one in own]
    shown = sum(every) / len(every) if every else 1.0
    enough = kappa.rows >= FEWEST_ROWS and 0 < shown < 1 and reached > bar
    return JudgeGate(
        kappa=kappa,
        ceiling=ceiling,
        bar=bar,
        reason=_reason(kappa, ceiling, bar),
        power=gate_power(reached, bar, kappa.rows, shown, seed=seed) if enough else None,
        rows_needed=rows_for_gate(reached, bar, shown, seed=seed) if enough else None,
    )


def _reason(kappa: RaterAgreement, ceiling: RaterAgreement, bar: float) -> str:
    if ceiling.low is not None and ceiling.low <= 0:
        return "low_ceiling"  # people themselves can't be told from chance
    if kappa.low is None:
        return kappa.unscored
    return "" if kappa.low >= bar else "below_bar"


def fault_labels(reviews: Iterable[Review]) -> dict[str, dict[str, Set[str]]]:
    """Return record → reviewer → problems that they named; of the better answer of a pair alone."""
    labelled: dict[str, dict[str, Set[str]]] = defaultdict(dict)
    for review in reviews:
        if (problems := review.problems) is not None:
            labelled[review.record][review.reviewer] = problems
    return labelled


def _meanings(
    persona: Persona, scores: Sequence[Score], seed: int, resamples: int
) -> dict[str, RaterAgreement]:
    """Return how far rule and judge agree on held-out answers; a question's answers go together."""
    values: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for score in scores:
        if score.value is not None and not score.probe:
            values[score.metric][score.prompt_id, score.response] = float(score.value >= 0.5)
    agreements = {}
    for trait in persona.traits:
        rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
        meant = values[meaning_of(trait.id)] if trait.meaning else {}
        for (prompt, response), word in meant.items():
            if (prompt, response) in values[trait.id]:
                rows[prompt].append((values[trait.id][prompt, response], word))
        if rows:
            agreements[trait.id] = two_raters(
                list(rows.values()), weighted_kappa, _YES_NO, seed=seed, resamples=resamples
            )
    return agreements
