"""The parity gate: the exported model answers as the evaluated one does, or there is no export."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from statistics import fmean
from typing import Any

from training.export.heard import Heard, Rendered, Served
from training.export.loaded import Judged, Loaded
from workbench.errors import UserError
from workbench.persona import Persona
from workbench.records import Messages, Response

_NOT_ROUNDING = 1.0
"""A mean log-probability difference (nats) that no rounding makes: other weights, or misplaced."""


@dataclass(frozen=True)
class Bounds:
    """How near an export must come.

    Attributes:
        mean: Mean absolute difference of log-probabilities per token, in nats.
        tie: Where greedy answers part, how far the chosen token may be behind the best one of the
            evaluated model, in nats; 0 for none: answers must be identical.
        score: Difference of the mean persona score, 0 to 1.
    """

    mean: float
    tie: float
    score: float


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
class Verdict:
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
    """Answers of the round's evaluation that were found to be this model's."""
    bounds: Bounds

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

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


class Parted(UserError):
    """The export does not answer as the evaluated model does."""

    def __init__(self, reason: str, prompt: int, token: int, what: str) -> None:
        self.reason, self.prompt, self.token = reason, prompt, token
        super().__init__(
            f"parity: {reason}: prompt {prompt + 1}, token {token + 1}: {what}",
            fix="nothing was exported",
        )


@dataclass(frozen=True)
class Questions:
    """What is asked of both models.

    Attributes:
        chats: The evaluation's prompts.
        max_new_tokens: Where an answer is cut, as in the evaluation.
        persona: Whose rules score the answers.
        recorded: What the evaluation wrote down for these prompts; empty where it did not.
    """

    chats: tuple[Messages, ...]
    max_new_tokens: int
    persona: Persona
    recorded: tuple[Response, ...] = ()


@dataclass(frozen=True)
class Hearing:
    """Everything an exported model said; it need not stay loaded while it is compared."""

    rendered: tuple[Rendered, ...]
    answers: tuple[Heard, ...]


def hear(served: Served, asked: Questions) -> Hearing:
    """Ask an exported model everything."""
    rendered = tuple(served.render(chat) for chat in asked.chats)
    return Hearing(rendered, tuple(served.answer(asked.chats, asked.max_new_tokens)))


def check_parity(model: Loaded, hearing: Hearing, asked: Questions, bounds: Bounds) -> Verdict:
    """Compare what an exported model said with the evaluated model; return what was measured.

    Raises:
        Parted: They differ by more than the bounds; says at which token of which prompt, and why.
    """
    chats = asked.chats
    for number, (chat, got) in enumerate(zip(chats, hearing.rendered, strict=True)):
        _same_prompt(model, number, model.render(chat), got)
    _recorded_here(model, asked.recorded)
    heard = [_without_end(model, answer) for answer in hearing.answers]
    expected = model.answer(chats, asked.max_new_tokens)
    differences, gaps = [], []
    for number, (chat, answer) in enumerate(zip(chats, heard, strict=True)):
        judged = model.judge(chat, answer.ids)
        _ends_alike(model, number, answer)
        found = [
            0.0 if math.isnan(own) else abs(token.logprob - own)
            for token, own in zip(judged[:-1], answer.logprobs, strict=True)
        ]
        differences.append(found)
        gaps.append(_first_gap(answer, judged))
    told = [own for answer in heard for own in answer.logprobs]
    flat = [d for d, own in zip(chain(*differences), told, strict=True) if not math.isnan(own)]
    mean = fmean(flat) if flat else 0.0
    if mean > bounds.mean:
        _raise_mean(model, heard, differences, mean, bounds)
    _raise_gaps(model, expected, heard, gaps, bounds)
    scores = [_score(asked.persona, [one.text for one in answers]) for answers in (expected, heard)]
    if abs(scores[0] - scores[1]) > bounds.score + 1e-9:
        raise Parted(
            "precision",
            0,
            0,
            f"persona score {scores[1]:.3f}, evaluated {scores[0]:.3f}, bound {bounds.score}",
        )
    return Verdict(
        prompts=len(chats),
        tokens=len(flat),
        identical=sum(a.text == b.text for a, b in zip(expected, heard, strict=True)),
        mean_difference=mean,
        largest_difference=max(flat, default=0.0),
        worst_gap=max((gap for _, gap in gaps), default=0.0),
        score_evaluated=scores[0],
        score_exported=scores[1],
        recorded=len(asked.recorded),
        bounds=bounds,
    )


def _same_prompt(model: Loaded, number: int, expected: Rendered, got: Rendered) -> None:
    if expected.ids == got.ids:
        return
    at = _parting(expected.ids, got.ids)
    pair = " where the evaluated model has ".join(
        model.shown(ids[at]) if at < len(ids) else "the end" for ids in (got.ids, expected.ids)
    )
    if expected.text != got.text:
        # The served text by the evaluated tokenizer: its own ids might differ twice.
        own = model.ids(got.text)
        raise Parted("template", number, _parting(expected.ids, own), f"the prompt has {pair}")
    special = set(model.tokenizer.all_special_ids)
    around = {ids[at] for ids in (expected.ids, got.ids) if at < len(ids)}
    reason = "special token" if around & special else "tokenizer"
    raise Parted(reason, number, at, f"the same prompt is cut otherwise, {pair}")


def _recorded_here(model: Loaded, recorded: Sequence[Response]) -> None:
    """Check that the round's own evaluation was of this model, not of another base or adapter.

    A recorded answer was greedy then, perhaps in another precision, and is cut into tokens anew:
    its tokens are the likeliest here too but for near ties and a few at its edges, left out.
    """
    gaps = [
        (token.gap, number, at)
        for number, response in enumerate(recorded)
        for at, token in enumerate(model.judge(response.prompt, model.ids(response.text))[:-1])
    ]
    if not gaps:
        return
    left_out = max(len(recorded), len(gaps) // 20)
    kept = sorted(gaps)[: len(gaps) - left_out]
    mean = fmean(gap for gap, _, _ in kept) if kept else 0.0
    if mean > _RECORDED:
        _, number, at = next(one for one in gaps if one[0] > _RECORDED)
        raise Parted(
            "weights",
            number,
            at,
            "the evaluation's own answer is not one of this base and adapter (its tokens are"
            f" {mean:.2f} nats behind on average): another base, or trained again since",
        )


_RECORDED = 0.01
"""Mean gap (nats) of the recorded answers' tokens, the worst twentieth left out."""


def _without_end(model: Loaded, answer: Heard) -> Heard:
    """Return an answer without the token that ended it, which some servers send along."""
    if not (answer.ended and answer.ids and answer.ids[-1] in model.ends):
        return answer
    return replace(answer, ids=answer.ids[:-1], logprobs=answer.logprobs[:-1])


def _ends_alike(model: Loaded, number: int, answer: Heard) -> None:
    for at, token in enumerate(answer.ids):
        if token in model.ends:
            raise Parted(
                "special token", number, at, f"{model.shown(token)} does not end the answer"
            )


def _first_gap(answer: Heard, judged: Sequence[Judged]) -> tuple[int, float]:
    """Return the first token at which the evaluated model goes another way, and how far it is."""
    considered = judged if answer.ended else judged[:-1]
    return next(
        ((at, token.gap) for at, token in enumerate(considered) if token.gap > 0), (-1, 0.0)
    )


def _raise_mean(
    model: Loaded,
    heard: Sequence[Heard],
    differences: Sequence[Sequence[float]],
    mean: float,
    bounds: Bounds,
) -> None:
    reason = "weights" if mean > _NOT_ROUNDING else "precision"
    limit = bounds.mean * 4
    number, at = next(
        (
            (number, at)
            for number, found in enumerate(differences)
            for at, value in enumerate(found)
            if value > limit
        ),
        (0, 0),
    )
    token = heard[number].ids[at] if heard[number].ids else model.ends[0]
    raise Parted(
        reason,
        number,
        at,
        f"log-probabilities differ by {mean:.3f} nats a token on average, bound {bounds.mean};"
        f" first at {model.shown(token)} by {differences[number][at]:.2f}"
        + (" (no rounding does that: a tensor's layout, or another base)" * (reason == "weights")),
    )


def _raise_gaps(
    model: Loaded,
    expected: Sequence[Heard],
    heard: Sequence[Heard],
    gaps: Sequence[tuple[int, float]],
    bounds: Bounds,
) -> None:
    for number, (at, gap) in enumerate(gaps):
        wrong = gap > bounds.tie if bounds.tie else heard[number].text != expected[number].text
        if wrong:
            at = at if bounds.tie else _parting(expected[number].ids, heard[number].ids)
            ids = heard[number].ids
            token = model.shown(ids[at]) if at < len(ids) else "the end"
            asked = f"at most {bounds.tie}" if bounds.tie else "identical answers"
            raise Parted(
                "precision",
                number,
                at,
                f"{token} is {gap:.2f} nats behind the evaluated model's choice, asked {asked}",
            )


def _parting(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _score(persona: Persona, texts: Sequence[str]) -> float:
    """Return the mean share of the persona's rule traits that each text shows."""
    rules = len(persona.rule_traits)
    return fmean(1 - len(persona.failed_traits(text)) / rules for text in texts)
