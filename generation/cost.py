"""What a teacher's job will ask, and what that costs: before it starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from generation.cells import FOLLOW_UP, plan_asks, plan_cells
from generation.exemplars import EXEMPLARS, shelf_of
from generation.questions import ROUNDS, Pool
from workbench.checks import Judge
from workbench.config import Ask
from workbench.inference.endpoint import Endpoint, Price
from workbench.persona import Persona
from workbench.prompts import system_prompt
from workbench.records import Example

PER_CHARACTER = {"en": (0.2, 0.3), "ko": (0.4, 1.1)}
"""Tokens a character, lowest and highest, over the tokenizers of today's large models."""
PER_WORD = {"en": (1.2, 1.6), "ko": (1.8, 4.5)}
"""Tokens a word."""
_FRAME = 700
"""Characters of our own words in a prompt about an answer."""
_QUESTION_WORDS = (8, 45)
_SENTENCE_WORDS = (8, 25)


@dataclass(frozen=True)
class Range:
    """A lowest and a highest number."""

    low: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def times(self, other: Range) -> Range:
        """Return lowest times lowest, and highest times highest."""
        return Range(self.low * other.low, self.high * other.high)


@dataclass(frozen=True)
class Step:
    """One step's requests and tokens."""

    name: str
    requests: Range
    input_tokens: Range
    output_tokens: Range
    price: Price | None = None

    @property
    def money(self) -> Range:
        """What the step costs; nothing where no price is known."""
        price = self.price or Price(input=0, output=0)
        return Range(
            price.of(self.input_tokens.low, self.output_tokens.low),
            price.of(self.input_tokens.high, self.output_tokens.high),
        )


@dataclass(frozen=True)
class Plan:
    """A job before it starts. Retries of failed requests are not foreseen."""

    rows: int
    topics: dict[str, int]
    """Topic → questions to be asked and answered."""
    steps: tuple[Step, ...]
    price: Price | None = None

    @property
    def money(self) -> Range | None:
        """What all steps cost, or None where no price is configured."""
        if self.price is None:
            return None
        return sum((step.money for step in self.steps), Range(0, 0))

    def summary(self) -> dict[str, dict[str, list[float]]]:
        """Return each step's lowest and highest numbers, as a manifest keeps them."""
        return {
            step.name: {
                name: [round(span.low, 4), round(span.high, 4)]
                for name, span in (
                    ("requests", step.requests),
                    ("input_tokens", step.input_tokens),
                    ("output_tokens", step.output_tokens),
                    *((("money", step.money),) if step.price else ()),
                )
            }
            for step in self.steps
        }

    def lines(self) -> list[str]:
        """Return the plan for people to read: one line a step, and the sum."""
        lines = [f"{self.rows} rows over {len(self.topics)} topics"]
        for step in self.steps:
            lines.append(
                f"{step.name}: {told(step.requests)} requests,"
                f" {told(step.input_tokens)} tokens in, {told(step.output_tokens)} out"
            )
        if self.price is None or self.money is None:
            return [*lines, "cost: unknown, the endpoint has no 'price'"]
        money, currency = self.money, self.price.currency
        return [*lines, f"cost: {money.low:.2f} to {money.high:.2f} {currency}, without retries"]


def plan_teacher(
    persona: Persona,
    seeds: Sequence[Example],
    endpoint: Endpoint,
    *,
    per_topic: int,
    seed: int = 0,
    mix: Mapping[str, float] | None = None,
    candidates: int = 1,
    hard_negatives: float = 0.0,
    judge: Endpoint | None = None,
    asks: Sequence[Ask] = (),
) -> Plan:
    """Return what :func:`generation.teacher.teacher_rows` will ask with the same arguments.

    The prompts are the real ones; lengths in tokens are rules of thumb for the persona's language,
    and of an answer the persona's own bounds of length.
    """
    cells = plan_asks(persona, asks, seed) if asks else plan_cells(persona, per_topic, mix, seed)
    requests = Pool(persona, seeds, cells, seed).requests(1)
    rows = len(cells)
    follow_ups = sum(cell.kind == FOLLOW_UP for cell in cells)
    per_character = Range(*PER_CHARACTER[persona.language])
    per_word = Range(*PER_WORD[persona.language])
    question = per_word.times(Range(*_QUESTION_WORDS))
    answer = _answer(persona, per_character, per_word)
    # At worst a teacher repeats itself so much that every round asks for everything again.
    rounds = Range(1, ROUNDS)

    def step(name: str, count: Range, asked: Range, told: Range, by: Endpoint = endpoint) -> Step:
        return Step(name, count, count.times(asked), count.times(told), by.price)

    prompts = sum(len(request.prompt[0].content) for request in requests)
    steps = [
        Step(
            "questions",
            _whole(len(requests)).times(rounds),
            _whole(prompts).times(per_character).times(rounds),
            _whole(rows - follow_ups).times(question).times(rounds),
            endpoint.price,
        )
    ]
    # The two turns before it come along with a follow-up, and with the answer to it.
    before = question + answer
    if follow_ups:
        frame = _whole(_FRAME).times(per_character)
        steps.append(step("follow_ups", _whole(follow_ups).times(rounds), frame + before, question))
    asked = question + _system(persona, seeds).times(per_character)
    answers = step("answers", _whole(rows * candidates), asked, answer)
    earlier = _whole(follow_ups * candidates).times(before)
    steps.append(replace(answers, input_tokens=answers.input_tokens + earlier))
    missed = _whole(round(hard_negatives * rows))
    if missed.high:
        frame = _whole(_FRAME).times(per_character)
        steps.append(step("hard_negatives", missed, frame + before, answer))
    judged = [t.check.judge for t in persona.traits if isinstance(t.check, Judge)]
    if judge and judged:
        frame = _whole(_FRAME + sum(map(len, judged))).times(per_character)
        seen = Range(rows, rows * candidates) + missed
        verdicts = _whole(len(judged)).times(Range(2, 6))
        steps.append(step("judge", seen, frame + before, verdicts, judge))
    return Plan(rows, dict(Counter(cell.topic for cell in cells)), tuple(steps), endpoint.price)


def _system(persona: Persona, seeds: Sequence[Example]) -> Range:
    """Return the characters of the system prompt with the shortest and with the longest seeds."""
    shelf = sorted(shelf_of(persona, seeds), key=lambda seed: len(seed.question + seed.answer))
    ends = (shelf[:EXEMPLARS], shelf[-EXEMPLARS:])
    low, high = (len(system_prompt(persona, shown)) for shown in ends)
    return Range(low, high)


def _answer(persona: Persona, per_character: Range, per_word: Range) -> Range:
    """Return the tokens of an answer that keeps to the persona's length."""
    length = persona.voice.length
    bounds = Range(length.min, length.max)
    if length.unit == "characters":
        return bounds.times(per_character)
    words = bounds if length.unit == "words" else bounds.times(Range(*_SENTENCE_WORDS))
    return words.times(per_word)


def _whole(number: int) -> Range:
    return Range(number, number)


def told(span: Range) -> str:
    """Return a range of whole numbers for people, one number where both ends are the same."""
    low, high = round(span.low), round(span.high)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
