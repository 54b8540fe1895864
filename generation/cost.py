"""What a teacher's job will ask, and what that costs: before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from generation.questions import ROUNDS, Pool
from generation.teacher import exemplars_of
from workbench.endpoint import Endpoint, Price
from workbench.persona import Persona
from workbench.prompts import system_prompt
from workbench.records import Example

PER_CHARACTER = {"en": (0.2, 0.3), "ko": (0.4, 1.1)}
"""Tokens a character, lowest and highest, over the tokenizers of today's large models."""
PER_WORD = {"en": (1.2, 1.6), "ko": (1.8, 4.5)}
"""Tokens a word."""
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

    def money(self, price: Price) -> Range:
        """Return what the step costs."""
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
        low_high = [step.money(self.price) for step in self.steps]
        return sum(low_high, Range(0, 0))

    def summary(self) -> dict[str, dict[str, list[float]]]:
        """Return each step's lowest and highest numbers, as a manifest keeps them."""
        return {
            step.name: {
                name: [round(span.low, 4), round(span.high, 4)]
                for name, span in (
                    ("requests", step.requests),
                    ("input_tokens", step.input_tokens),
                    ("output_tokens", step.output_tokens),
                    *((("money", step.money(self.price)),) if self.price else ()),
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
    persona: Persona, seeds: Sequence[Example], endpoint: Endpoint, *, per_topic: int, seed: int = 0
) -> Plan:
    """Return what :func:`generation.teacher.teacher_rows` will ask with the same arguments.

    The prompts are the real ones; lengths in tokens are rules of thumb for the persona's language,
    and of an answer the persona's own bounds of length.
    """
    requests = Pool(persona, seeds, per_topic, seed).requests(1)
    rows = per_topic * len(persona.topics)
    per_character = Range(*PER_CHARACTER[persona.language])
    per_word = Range(*PER_WORD[persona.language])
    question = per_word.times(Range(*_QUESTION_WORDS))
    prompts = sum(len(request.prompt[0].content) for request in requests)
    system = len(system_prompt(persona, exemplars_of(persona, seeds)))
    # At worst a teacher repeats itself so much that every round asks for everything again.
    rounds = Range(1, ROUNDS)
    questions = Step(
        "questions",
        requests=_whole(len(requests)).times(rounds),
        input_tokens=_whole(prompts).times(per_character).times(rounds),
        output_tokens=_whole(rows).times(question).times(rounds),
    )
    one_prompt = _whole(system).times(per_character) + question
    answers = Step(
        "answers",
        requests=_whole(rows),
        input_tokens=_whole(rows).times(one_prompt),
        output_tokens=_whole(rows).times(_answer(persona, per_character, per_word)),
    )
    topics = dict.fromkeys(persona.topics, per_topic)
    return Plan(rows, topics, (questions, answers), endpoint.price)


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
