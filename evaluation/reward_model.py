"""Train the reward model on a round's reviews, and say how far it can be trusted.

In: answers that reviewers labelled, each with its states (:func:`answer_states`), and which of them
may be trained on. Out: the heads, their word on every labelled answer by heads that never saw its
topic, and a learning curve. The stage of evaluation holds that word against the reviewers by the
judge's own gate (:mod:`evaluation.calibration`); what fails there counts nowhere.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evaluation.calibration import REVIEWED, Calibration, JudgeGate, fault_labels
from evaluation.learning_curve import LearningCurve, fit_curve
from workbench.inference.reward_model import RewardModel, TraitHead, chances_of
from workbench.records import Response, Review, Score
from workbench.stats.agreement import FEWEST_ROWS, gate_power
from workbench.values import Frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workbench.inference.reward_model import States

    Labels = NDArray[np.bool_]

FOLDS = 5
FEWEST = 4
"""Answers at fault, and answers that are not, below which no head is trained."""
SHARES = (0.25, 0.5, 1.0)
"""Of the answers that may be trained on, at which the learning curve is read. Through three sizes
it is fitted without a floor, so that what it foretells is the least that it can take."""
DRAWS = 3
"""Draws of each share; the curve is their mean."""
TOO_FEW_FAULTS = "too_few_faults"
"""Why a trait has no head: reviewers faulted, or passed, too few answers, or those of one topic."""
MOST_ROWS = 20_000
"""Answers above which no number is foretold."""
POWER = 0.8
"""Chance of passing the gate with the answers that it is said to take."""


class TraitCurve(Frozen):
    """How a trait's head does with more labelled answers."""

    rows: int
    """Labelled answers that may be trained on."""
    faults: int
    """Those that reviewers found without the trait."""
    reason: str = ""
    """Why there is no head; empty where there is one."""
    curve: LearningCurve | None = None
    """Its balanced error (half the share of good answers that it faults, and half that of bad ones
    that it passes; 0.5 is chance) by how many answers it was trained on."""
    needed: int | None = None
    """Labelled answers that it takes at the least, as the curve foretells, to pass the gate; None
    where it does not fall, or there is none."""


class RewardReport(Frozen):
    """What an evaluation leaves of its reward model: ``reward-model.json``."""

    model: RewardModel
    """Of the traits that passed the gate alone."""
    curves: dict[str, TraitCurve]
    """Of every trait that only a judge can check."""


@dataclass(frozen=True)
class LabelledAnswers:
    """Answers that reviewers labelled, in one order throughout."""

    responses: Sequence[Response]
    """As the calibration scores them."""
    states: States
    """(n, d)"""
    trainable: Sequence[bool]
    """Whether each may be trained on: none of the test split's topics and questions may."""

    @property
    def groups(self) -> list[str]:
        """The topic of each answer, or its question where it has none."""
        return [one.topic or one.prompt_id for one in self.responses]


@dataclass(frozen=True)
class ReviewHeads:
    """What came of training."""

    heads: Mapping[str, TraitHead]
    """Trait → its head, trained on every answer that may be trained on."""
    scores: Sequence[Score]
    """Its word on each labelled answer: of an answer that was trained on, by heads of other
    topics."""
    curves: Mapping[str, TraitCurve]


def train_heads(
    answers: LabelledAnswers, reviews: Sequence[Review], traits: Sequence[str], *, seed: int = 0
) -> ReviewHeads:
    """Train a head for each trait, cross-validated by topic.

    An answer counts as without the trait where half of its reviewers or more name it as a problem.
    Labels of answers that may not be trained on are read by nothing here.
    """
    import numpy as np

    labelled = fault_labels(reviews)
    at = np.flatnonzero(np.asarray(answers.trainable, dtype=bool))
    groups = np.array(answers.groups)[at]
    heads: dict[str, TraitHead] = {}
    scores: list[Score] = []
    curves: dict[str, TraitCurve] = {}
    for trait in traits:
        named = [labelled[answers.responses[int(n)].prompt_id].values() for n in at]
        shown = np.array([2 * sum(trait in one for one in own) < len(own) for own in named], bool)
        rows, faults = len(at), int((~shown).sum())
        if not _can_learn(shown, groups):
            curves[trait] = TraitCurve(rows=rows, faults=faults, reason=TOO_FEW_FAULTS)
            continue
        states = answers.states[at]
        heads[trait] = _fit(states, shown)
        chances = np.array(chances_of({trait: heads[trait]}, answers.states)[trait])
        chances[at] = _out_of_fold(states, shown, groups)
        scores += _scores(trait, answers.responses, chances >= 0.5)
        curve = _curve(states, shown, groups, seed)
        curves[trait] = TraitCurve(rows=rows, faults=faults, curve=curve)
    return ReviewHeads(heads, scores, curves)


def trait_words(
    heads: Mapping[str, TraitHead], responses: Sequence[Response], states: States
) -> dict[str, dict[str, float]]:
    """Return response id → trait → 1.0 where its head finds the trait shown, else 0.0.

    What counts is what the gate was asked about, so it is yes or no.
    """
    chances = chances_of(heads, states)
    return {
        response.id: {trait: float(own[at] >= 0.5) for trait, own in chances.items()}
        for at, response in enumerate(responses)
    }


def with_needed(
    curves: Mapping[str, TraitCurve], calibration: Calibration
) -> dict[str, TraitCurve]:
    """Return the curves with the answers that it takes to pass each trait's gate.

    They are those at which a head of the foretold balanced error passes four times in five.
    """
    return {
        trait: one.model_copy(update={"needed": _needed(one, calibration.traits.get(trait))})
        for trait, one in curves.items()
    }


def _needed(one: TraitCurve, gate: JudgeGate | None) -> int | None:
    curve, shown = one.curve, 1 - one.faults / max(one.rows, 1)
    if curve is None or gate is None:
        return None

    def passes(rows: int) -> bool:
        return gate_power(_kappa_of(curve.at(rows), shown), gate.bar, rows, shown) >= POWER

    if not passes(MOST_ROWS):
        return None
    return FEWEST_ROWS + bisect_left(range(FEWEST_ROWS, MOST_ROWS), True, key=passes)


def _kappa_of(error: float, shown: float) -> float:
    """Return Cohen's kappa where ``error`` of the good and of the bad answers are told wrongly.

    ``shown`` is the share of good ones; 0 where the error is chance's or worse.
    """
    yes = shown * (1 - error) + (1 - shown) * error
    chance = shown * yes + (1 - shown) * (1 - yes)
    return max((1 - error - chance) / (1 - chance), 0.0)


def _can_learn(shown: Labels, groups: NDArray[np.str_]) -> bool:
    """Return whether both kinds are there in numbers, and in two topics at least."""
    kinds = (shown, ~shown)
    return all(kind.sum() >= FEWEST and len(set(groups[kind])) > 1 for kind in kinds)


def _fit(states: States, shown: Labels) -> TraitHead:
    """Return a logistic regression (scikit-learn) on scaled states, both kinds weighing the same.

    The more dimensions, the more it is held back: with C = 1/√d of some hundred answers no fold was
    learnt by heart.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    mean, scale = states.mean(0, dtype=np.float64), states.std(0, dtype=np.float64)
    scale[scale == 0] = 1.0
    strength = states.shape[1] ** -0.5
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=500)
    model.fit((states - mean) / scale, shown)
    weights = model.coef_[0] / scale
    return TraitHead(
        weights=tuple(float(one) for one in weights),
        bias=float(model.intercept_[0] - weights @ mean),
    )


def _out_of_fold(
    states: States, shown: Labels, groups: NDArray[np.str_], keep: Any = None
) -> NDArray[np.float64]:
    """Return each answer's chance by a head that saw no answer of its topic.

    Of the others the head is trained on those that ``keep`` marks, all by default; where they are
    of one kind, that kind is all it knows.
    """
    import numpy as np
    from sklearn.model_selection import GroupKFold

    chances = np.zeros(len(shown))
    for train, held_out in GroupKFold(min(FOLDS, len(set(groups)))).split(states, shown, groups):
        own = train if keep is None else train[keep[train]]
        kinds = set(shown[own])
        if len(kinds) < 2:
            chances[held_out] = float(True in kinds)
        else:
            chances[held_out] = _fit(states[own], shown[own]).chances(states[held_out])
    return chances


def _curve(
    states: States, shown: Labels, groups: NDArray[np.str_], seed: int
) -> LearningCurve | None:
    """Return the balanced error by the answers trained on; each share is drawn several times."""
    import numpy as np

    # A row's loss, so that their mean is the balanced error.
    share = np.where(shown, shown.mean(), 1 - shown.mean())
    sizes, losses = [], []
    for part in SHARES:
        wrong = np.zeros(len(shown))
        draws = DRAWS if part < 1 else 1
        for draw in range(draws):
            order = np.random.default_rng([seed, draw]).permutation(len(shown))
            keep = np.zeros(len(shown), bool)
            keep[order[: round(part * len(shown))]] = True
            wrong += ((_out_of_fold(states, shown, groups, keep) >= 0.5) != shown) / draws
        sizes.append(round(part * len(shown)))
        losses.append((wrong / (2 * share)).tolist())
    return fit_curve(sizes, losses, "balanced_error", resamples=0)


def _scores(trait: str, responses: Sequence[Response], shown: Labels) -> list[Score]:
    return [
        Score(
            arm=REVIEWED,
            prompt_id=one.prompt_id,
            response=one.id,
            metric=trait,
            value=float(word),
            parents=(one.id,),
        )
        for one, word in zip(responses, shown, strict=True)
    ]
