"""Who tells what rules cannot, a judge or the reviewers' reward model, and whether its word counts.

In: the reviews, the answers they are about, and the arms' answers. Out: the word on each arm's
answer, and the calibration that says where it counts in fidelity; both pass the same gate. The
stage of evaluation calls, and GRPO's stage for the reward model that was let through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from evaluation.calibration import Calibration, calibrate, judge_traits, reviewed_responses
from evaluation.reward_model import (
    LabelledAnswers,
    ReviewHeads,
    RewardReport,
    train_heads,
    trait_words,
    with_needed,
)
from evaluation.scorers import ScoringInput, score_responses
from rounds import layout
from rounds.context import RoundContext
from rounds.layout import RoundFolder
from workbench.errors import UserError
from workbench.inference.answer_cache import base_fingerprint
from workbench.inference.base_models import resolve_model
from workbench.inference.endpoint import Endpoint
from workbench.inference.reward_model import NAME, RewardModel
from workbench.records import Example, Response, Review, Score
from workbench.store import file_hash

if TYPE_CHECKING:
    from workbench.inference.reward_model import States

ReadStates = Callable[[Sequence[Response]], "States"]
"""Answers → what the base makes of each, (n, d)."""
_EVERY = 10**9


class ReviewedRows(NamedTuple):
    """What reviewers labelled, and what of it a reward model may be trained on."""

    filtered: Sequence[Example]
    """The candidates of this round."""
    blind: Sequence[Example]
    """Arms' answers that people labelled in a blind round."""
    reviews: Sequence[Review]
    """Of both."""
    learning: Sequence[Example]
    """Rows of the training and validation splits."""
    test: Sequence[Example]

    def responses(self, rows: int) -> list[Response]:
        """Return at most so many labelled answers, those of arms first."""
        blind = reviewed_responses(self.blind, self.reviews, rows=rows)
        return blind + reviewed_responses(self.filtered, self.reviews, rows=rows - len(blind))

    def trainable(self, responses: Sequence[Response]) -> list[bool]:
        """Return of each labelled answer whether it is neither to a test question nor a test topic.

        Where topics are spread over the splits, only what stands in the other two is trained on.
        """
        held_out = {row.prompt for row in self.test}
        topics = {row.topic for row in self.test}
        own = {row.prompt for row in self.learning}
        return [
            one.prompt not in held_out and (one.prompt in own or one.topic not in topics)
            for one in responses
        ]


class Judging(NamedTuple):
    """Who is asked what rules cannot tell, and how."""

    judge: Endpoint | None
    votes: int
    cache: Path
    heads: ReviewHeads | None = None
    """The reward model, in the place of a judge."""
    words: Mapping[str, Mapping[str, float]] = {}
    """Response → trait → its word."""

    @property
    def how(self) -> dict[str, Any]:
        """The arguments that every question to the judge shares."""
        return {"votes": self.votes, "cache": self.cache}

    def by_reviews(
        self,
        context: RoundContext,
        rows: ReviewedRows,
        responses: Sequence[Response],
        read: ReadStates,
    ) -> Judging:
        """Return the same with a reward model and its word on answers to held-out questions.

        Just the same where a judge is configured, or no reward model is asked for.
        """
        if self.judge is not None or not context.config.evaluate.reward_model:
            return self
        own = [one for one in responses if not (one.probe or one.unanswered)]
        # In an order that no label decides: sums are rounded by it.
        labelled = sorted(rows.responses(_EVERY), key=lambda one: one.prompt_id)
        # By themselves: beside arms' answers their last bits, and so the heads, would hang on an
        # adapter, and GRPO, which may be rewarded by the heads, on what it trained itself.
        heads = train_heads(
            LabelledAnswers(labelled, read(labelled), rows.trainable(labelled)),
            rows.reviews,
            judge_traits(context.persona),
            seed=context.config.seed,
        )
        return self._replace(heads=heads, words=trait_words(heads.heads, own, read(own)))

    def calibrate(
        self, context: RoundContext, rows: ReviewedRows, arms: Sequence[Score]
    ) -> Calibration:
        """Hold the word against the reviewers, on answers as they saw them: arms' own ones first.

        ``arms`` are all arms' scores, for the rules that name their meaning.
        """
        persona, settings = context.persona, context.config.evaluate
        if self.judge is None and self.heads is None:
            return calibrate(persona, [], [])
        if self.judge is not None:
            responses = rows.responses(settings.judge_rows)
            asked = ScoringInput(persona, responses, judge=self.judge, **self.how)
            scores: Sequence[Score] = score_responses(asked)
        else:
            scores = self.heads.scores if self.heads else ()
        result = calibrate(
            persona,
            scores,
            rows.reviews,
            judge=self.judge.model if self.judge else NAME,
            share=settings.judge_bar,
            of_arms={one.id for one in rows.blind},
            arms=arms,
            seed=context.config.seed,
        )
        if self.judge is not None:
            return result
        return self._of_traits(result)

    def _of_traits(self, result: Calibration) -> Calibration:
        """Return a reward model's calibration: it was asked of the judge's traits and no more."""
        curves = self.heads.curves if self.heads else {}
        traits = {
            name: gate.model_copy(update={"reason": curves[name].reason or gate.reason})
            for name, gate in result.traits.items()
            if name in curves
        }
        return result.model_copy(update={"content": None, "traits": traits})

    def reward_report(self, context: RoundContext, calibration: Calibration) -> RewardReport | None:
        """Return the reward model of the traits that passed the gate, with every trait's curve."""
        if self.heads is None:
            return None
        heads = {trait: self.heads.heads[trait] for trait in calibration.trusted}
        base = base_fingerprint(resolve_model(context.config.model))
        return RewardReport(
            model=RewardModel(base=base, heads=heads),
            curves=with_needed(self.heads.curves, calibration),
        )


def _reward_folder(context: RoundContext) -> RoundFolder | None:
    """Return this round where its evaluation has a reward model, else the last one that has."""
    rounds = [context.round, *reversed(context.round.earlier)]
    return next((one for one in rounds if one.has(layout.REWARD_MODEL)), None)


def reward_model_key(context: RoundContext) -> str:
    """Return a hash of the reward model that GRPO would be rewarded by; empty without one."""
    folder = _reward_folder(context)
    return file_hash(folder.path(layout.REWARD_MODEL)) if folder else ""


def trusted_reward_model(context: RoundContext, where: str) -> RewardModel:
    """Return the reward model of this round's evaluation, or of the last one that has one.

    Raises:
        UserError: None has one, no trait of it passed the gate, or it reads another base.
    """
    folder = _reward_folder(context)
    fix = "run `persona evaluate` with evaluate: {reward_model: true}, or leave the weight out"
    if folder is None:
        raise UserError("no evaluation has trained a reward model yet", where=where, fix=fix)
    report = folder.read(layout.REWARD_MODEL)
    if not report.model.heads:
        what = f"the reward model of {folder.name} passed the reviewers' gate on no trait"
        fix = "label more answers; the report says how many it takes"
        raise UserError(what, where=where, fix=fix)
    if report.model.base != base_fingerprint(resolve_model(context.config.model)):
        what = f"the reward model of {folder.name} reads another base than {context.config.model}"
        raise UserError(what, where=where, fix=fix)
    return report.model
