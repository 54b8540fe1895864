"""The parity gate: the exported model answers as the evaluated one does, or there is no export.

In: what an export answered through its own backend (llama.cpp, vLLM, transformers), and the
evaluated model. Out: what was measured, for the card and for people, or a :class:`ParityError` that
names the first token that differs and why. :mod:`training.export.formats` calls it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from statistics import fmean

from training.export.reference_model import ReferenceModel, TokenScore
from workbench.console import track
from workbench.errors import UserError
from workbench.inference.engines.chats import (
    Backend,
    ChatAnswer,
    RenderedPrompt,
    alike,
    greedy_answers,
)
from workbench.persona import Persona
from workbench.records import Messages, Response

_NOT_ROUNDING = 1.0
"""A mean log-probability difference (nats) that no rounding makes: other weights, or misplaced."""
_RECORDED = 0.01
"""Mean gap (nats) of the recorded answers' tokens, the worst twentieth left out."""


@dataclass(frozen=True)
class Bounds:
    """How near an export must come."""

    mean: float
    """Mean absolute difference of log-probabilities per token, in nats."""
    tie: float
    """Where greedy answers part, how far the chosen token may be behind the best one of the
    evaluated model, in nats; 0 for none: answers must be identical."""
    score: float
    """Difference of the mean persona score, 0 to 1."""


BOUNDS = {
    "float32": Bounds(mean=0.001, tie=0.0, score=0.0),
    "bfloat16": Bounds(mean=0.05, tie=0.5, score=0.1),
    "float16": Bounds(mean=0.02, tie=0.2, score=0.1),
    "f32": Bounds(mean=0.02, tie=0.2, score=0.1),
    "f16": Bounds(mean=0.02, tie=0.2, score=0.1),
    "q8_0": Bounds(mean=0.1, tie=0.5, score=0.1),
    "q4_1": Bounds(mean=0.7, tie=3.0, score=0.2),
    "q4_0": Bounds(mean=0.7, tie=3.0, score=0.2),
}
"""Format → what is asked of it."""


@dataclass(frozen=True)
class ParityReport:
    """What the gate measured."""

    prompts: int
    tokens: int
    identical: int
    """Answers that are the same text."""
    mean_difference: float
    """Mean absolute difference of log-probabilities per token, in nats."""
    largest_difference: float
    worst_gap: float
    """The largest gap at a token where the answers part."""
    score_evaluated: float
    score_exported: float
    recorded: int
    """Answers of the round's evaluation that were recognized as this model's."""
    bounds: Bounds

    def table(self) -> dict[str, str]:
        """Return label → figure with its bound, as people read it."""
        bounds = self.bounds
        tie = f"bound {bounds.tie}" if bounds.tie else "identical asked"
        return {
            "prompts, tokens": f"{self.prompts}, {self.tokens}",
            "prompts with the same token ids": f"{self.prompts} of {self.prompts}",
            "identical greedy answers": f"{self.identical} of {self.prompts}",
            "widest gap where they part (nats)": f"{self.worst_gap:.3f} ({tie})",
            "mean log-prob difference a token (nats)": f"{self.mean_difference:.4f}"
            f" (bound {bounds.mean})",
            "largest log-prob difference (nats)": f"{self.largest_difference:.3f}",
            "persona score, evaluated → exported": f"{self.score_evaluated:.3f} →"
            f" {self.score_exported:.3f} (bound {bounds.score})",
            "answers of the evaluation recognized": str(self.recorded)
            if self.recorded
            else "none on file",
        }


class ParityError(UserError):
    """The export does not answer as the evaluated model does."""

    def __init__(self, reason: str, prompt: int, token: int, what: str) -> None:
        self.reason, self.prompt, self.token = reason, prompt, token
        super().__init__(
            f"parity: {reason}: prompt {prompt + 1}, token {token + 1}: {what}",
            fix="nothing was exported",
        )


@dataclass(frozen=True)
class ParityPrompts:
    """What both models are asked."""

    chats: tuple[Messages, ...]
    max_new_tokens: int
    """Where an answer is cut, as in the evaluation."""
    persona: Persona
    """Whose rules score the answers."""
    recorded: tuple[Response, ...] = ()
    """What the evaluation wrote down for these prompts; empty where it did not."""


@dataclass(frozen=True)
class ExportAnswers:
    """All that an exported model answered; it need not stay loaded while that is compared."""

    rendered: tuple[RenderedPrompt, ...]
    answers: tuple[ChatAnswer, ...]


def ask(backend: Backend, prompts: ParityPrompts) -> ExportAnswers:
    """Ask an exported model every prompt.

    Raises:
        UserError: A prompt leaves no room for an answer.
    """
    rendered = tuple(backend.render(chat) for chat in prompts.chats)
    return ExportAnswers(rendered, tuple(_answers(backend, prompts)))


def _answers(backend: Backend, prompts: ParityPrompts) -> list[ChatAnswer]:
    limit = prompts.max_new_tokens
    with track("answering", len(prompts.chats)) as advance:
        answers = greedy_answers(backend, prompts.chats, max_new_tokens=limit, advance=advance)
    whole = [answer for answer in answers if answer is not None]
    if len(whole) < len(answers):
        raise UserError(f"a prompt leaves no room for {limit} new tokens")
    return whole


def check_parity(
    model: ReferenceModel, export: ExportAnswers, prompts: ParityPrompts, bounds: Bounds
) -> ParityReport:
    """Compare what an exported model answered with the evaluated model.

    Raises:
        ParityError: They differ by more than the bounds; says at which token of which prompt, and
            why.
    """
    for number, (chat, prompt) in enumerate(zip(prompts.chats, export.rendered, strict=True)):
        _check_prompt(model, number, model.render(chat), prompt)
    _check_recorded(model, prompts.recorded)
    answers = [_without_end(model, answer) for answer in export.answers]
    expected = _answers(model, prompts)
    differences, gaps = [], []
    for number, (chat, answer) in enumerate(zip(prompts.chats, answers, strict=True)):
        scores = model.score(chat, answer.ids)
        _check_ends(model, number, answer)
        differences.append(
            [
                0.0 if math.isnan(own) else abs(token.logprob - own)
                for token, own in zip(scores[:-1], answer.logprobs, strict=True)
            ]
        )
        gaps.append(_first_gap(answer, scores))
    logprobs = chain.from_iterable(answer.logprobs for answer in answers)
    flat = [d for d, p in zip(chain(*differences), logprobs, strict=True) if not math.isnan(p)]
    mean = fmean(flat) if flat else 0.0
    if mean > bounds.mean:
        raise _weights_differ(model, answers, differences, mean, bounds)
    _check_gaps(model, expected, answers, gaps, bounds)
    evaluated, exported = (_fidelity(prompts.persona, texts) for texts in (expected, answers))
    if abs(evaluated - exported) > bounds.score + 1e-9:
        what = f"persona score {exported:.3f}, evaluated {evaluated:.3f}, bound {bounds.score}"
        raise ParityError("precision", 0, 0, what)
    return ParityReport(
        prompts=len(prompts.chats),
        tokens=len(flat),
        identical=sum(a.text == b.text for a, b in zip(expected, answers, strict=True)),
        mean_difference=mean,
        largest_difference=max(flat, default=0.0),
        worst_gap=max((gap for _, gap in gaps), default=0.0),
        score_evaluated=evaluated,
        score_exported=exported,
        recorded=len(prompts.recorded),
        bounds=bounds,
    )


def _check_prompt(
    model: ReferenceModel, number: int, expected: RenderedPrompt, prompt: RenderedPrompt
) -> None:
    if expected.ids == prompt.ids:
        return
    at = alike(expected.ids, prompt.ids)
    pair = " where the evaluated model has ".join(
        model.shown(ids[at]) if at < len(ids) else "the end" for ids in (prompt.ids, expected.ids)
    )
    if expected.text != prompt.text:
        # The served text by the evaluated tokenizer: its own ids might differ twice.
        own = model.ids(prompt.text)
        at = alike(expected.ids, own)
        raise ParityError("template", number, at, f"the prompt has {pair}")
    special = set(model.tokenizer.all_special_ids)
    around = {ids[at] for ids in (expected.ids, prompt.ids) if at < len(ids)}
    reason = "special token" if around & special else "tokenizer"
    raise ParityError(reason, number, at, f"the same prompt is cut otherwise, {pair}")


def _check_recorded(model: ReferenceModel, recorded: Sequence[Response]) -> None:
    """Check that the round's own evaluation was of this model, not of another base or adapter.

    A recorded answer was greedy then, perhaps in another precision, and is cut into tokens anew:
    its tokens are the likeliest here too but for near ties and a few at its edges, left out.
    """
    gaps = [
        (token.gap, number, at)
        for number, response in enumerate(recorded)
        for at, token in enumerate(model.score(response.prompt, model.ids(response.text))[:-1])
    ]
    if not gaps:
        return
    left_out = max(len(recorded), len(gaps) // 20)
    smaller = sorted(gaps)[: len(gaps) - left_out]
    mean = fmean(gap for gap, _, _ in smaller) if smaller else 0.0
    if mean > _RECORDED:
        _, number, at = next(one for one in gaps if one[0] > _RECORDED)
        raise ParityError(
            "weights",
            number,
            at,
            "the evaluation's own answer is not one of this base and adapter (its tokens are"
            f" {mean:.2f} nats behind on average): another base, or trained again since",
        )


def _without_end(model: ReferenceModel, answer: ChatAnswer) -> ChatAnswer:
    """Return an answer without the token that ended it, which some servers send along."""
    if not (answer.ended and answer.ids and answer.ids[-1] in model.ends):
        return answer
    return replace(answer, ids=answer.ids[:-1], logprobs=answer.logprobs[:-1])


def _check_ends(model: ReferenceModel, number: int, answer: ChatAnswer) -> None:
    for at, token in enumerate(answer.ids):
        if token in model.ends:
            what = f"{model.shown(token)} does not end the answer"
            raise ParityError("special token", number, at, what)


def _first_gap(answer: ChatAnswer, scores: Sequence[TokenScore]) -> tuple[int, float]:
    """Return the first token at which the evaluated model goes another way, and how far it is."""
    considered = scores if answer.ended else scores[:-1]
    return next(
        ((at, token.gap) for at, token in enumerate(considered) if token.gap > 0), (-1, 0.0)
    )


def _weights_differ(
    model: ReferenceModel,
    answers: Sequence[ChatAnswer],
    differences: Sequence[Sequence[float]],
    mean: float,
    bounds: Bounds,
) -> ParityError:
    reason = "weights" if mean > _NOT_ROUNDING else "precision"
    limit = bounds.mean * 4
    places = (
        (number, at)
        for number, values in enumerate(differences)
        for at, value in enumerate(values)
        if value > limit
    )
    number, at = next(places, (0, 0))
    token = answers[number].ids[at] if answers[number].ids else model.ends[0]
    return ParityError(
        reason,
        number,
        at,
        f"log-probabilities differ by {mean:.3f} nats a token on average, bound {bounds.mean};"
        f" first at {model.shown(token)} by {differences[number][at]:.2f}"
        + (" (no rounding does that: a tensor's layout, or another base)" * (reason == "weights")),
    )


def _check_gaps(
    model: ReferenceModel,
    expected: Sequence[ChatAnswer],
    answers: Sequence[ChatAnswer],
    gaps: Sequence[tuple[int, float]],
    bounds: Bounds,
) -> None:
    for number, (at, gap) in enumerate(gaps):
        wrong = gap > bounds.tie if bounds.tie else answers[number].text != expected[number].text
        if wrong:
            ids = answers[number].ids
            at = at if bounds.tie else alike(expected[number].ids, ids)
            token = model.shown(ids[at]) if at < len(ids) else "the end"
            bound = f"at most {bounds.tie}" if bounds.tie else "identical answers"
            raise ParityError(
                "precision",
                number,
                at,
                f"{token} is {gap:.2f} nats behind the evaluated model's choice, asked {bound}",
            )


def _fidelity(persona: Persona, answers: Sequence[ChatAnswer]) -> float:
    """Return the mean share of the persona's rule traits that each answer shows."""
    rules = len(persona.rule_traits)
    return fmean(1 - len(persona.failed_traits(answer.text)) / rules for answer in answers)
