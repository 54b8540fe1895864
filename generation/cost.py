"""What a teacher's job will ask and cost, before it starts; and what it took, against that plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

from generation.conversations import ANSWERS, CRITIQUES, REPAIRS, plan_conversations
from generation.prompts import FEW_SHOT, few_shot_pool
from generation.questions import ROUNDS, Pool, QuestionRequest
from generation.teacher import Taught
from generation.teacher_client import shares_of
from generation.topic_plan import FOLLOW_UP, PlannedQuestion, topic_plan
from workbench.config import ORDINARY, GenerateSettings
from workbench.dialogue.players import STEP as USER_STEP
from workbench.dialogue.users import SimulatedUser
from workbench.inference.endpoint import Endpoint, Paid, Price, TeacherPart
from workbench.inference.judge import STEP as JUDGE_STEP
from workbench.inference.judge import trait_questions
from workbench.language import load_pack
from workbench.persona import Persona
from workbench.prompts import system_prompt
from workbench.records import Example, TurnFate, user_prompt
from workbench.text import counted

_FRAME = 700
"""Characters of our own words in a prompt about an answer."""
_QUESTION_WORDS = (8, 45)
_SENTENCE_WORDS = (8, 25)
_VERDICT_WORDS = (6, 40)
"""Words of a judge's reply: a yes or no and its reason in one sentence."""


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
class StepEstimate:
    """One step's requests and tokens."""

    name: str
    requests: Range
    input_tokens: Range
    output_tokens: Range
    price: Price | None = None

    @classmethod
    def of(
        cls, name: str, count: Range, prompt: Range, reply: Range, price: Price | None
    ) -> StepEstimate:
        """Return a step of so many requests, from the tokens of one prompt and of its reply."""
        return cls(name, count, count.times(prompt), count.times(reply), price)

    @property
    def money(self) -> Range:
        """What the step costs; nothing where no price is known."""
        price = self.price or Price(input=0, output=0)
        return Range(
            price.of(self.input_tokens.low, self.output_tokens.low),
            price.of(self.input_tokens.high, self.output_tokens.high),
        )


@dataclass(frozen=True)
class TeacherPlan:
    """A job before it starts. Retries of failed requests are not foreseen."""

    rows: int
    topics: dict[str, int]
    """Topic → questions to be asked and answered."""
    steps: tuple[StepEstimate, ...]
    price: Price | None = None
    kinds: dict[str, int] = field(default_factory=dict)
    """Kind of question → how many, where there are others than ordinary ones."""
    conversations: int = 0
    turns: int = 0
    """Most answers of all conversations."""

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
        lines = [f"{counted(self.rows, 'row')} over {counted(len(self.topics), 'topic')}"]
        if self.kinds:
            lines.append(f"kinds: {_kinds(self.kinds)}")
        if self.conversations:
            talks, turns = counted(self.conversations, "conversation"), counted(self.turns, "turn")
            lines.append(f"{talks} with simulated users, {turns} at the most")
        for step in self.steps:
            lines.append(
                f"{step.name}: {_span(step.requests)} requests,"
                f" {_span(step.input_tokens)} tokens in, {_span(step.output_tokens)} out"
            )
        if self.price is None or self.money is None:
            return [*lines, "cost: unknown, the endpoint has no 'price'"]
        money, currency = self.money, self.price.currency
        return [*lines, f"cost: {money.low:.2f} to {money.high:.2f} {currency}, without retries"]


def plan_teacher(
    persona: Persona,
    seeds: Sequence[Example],
    teachers: Endpoint | Sequence[Endpoint],
    settings: GenerateSettings,
    *,
    judge: Endpoint | None = None,
    seed: int = 0,
    users: Sequence[SimulatedUser] = (),
    user: Endpoint | None = None,
    own: Sequence[str] = (),
) -> TeacherPlan:
    """Return what :func:`generation.teacher.teacher_rows` will ask with the same arguments.

    The prompts are the real ones; lengths in tokens are rules of thumb for the persona's language,
    and of an answer the persona's own bounds of length. ``own`` are the user's steps that ask.
    """
    cells = topic_plan(persona, settings, seed)
    requests = Pool(persona, seeds, cells, seed).requests(1)
    tokens, price = _Tokens.of(persona), _price(teachers)
    rows, follow_ups = len(cells), sum(cell.kind == FOLLOW_UP for cell in cells)
    answers = _whole(rows * settings.candidates)
    # At worst a teacher repeats itself so much that every round asks for everything again.
    rounds = Range(1, ROUNDS)
    steps = [_questions(requests, _whole(rows - follow_ups), rounds, tokens, price)]
    negatives, about = _whole(round(settings.hard_negatives * rows)), tokens.about_answer
    if follow_ups:
        count = _whole(follow_ups).times(rounds)
        steps.append(StepEstimate.of("follow_ups", count, about, tokens.question, price))
    asked = tokens.question + _system(persona, seeds).times(tokens.per_character)
    step = StepEstimate.of("answers", answers, asked, tokens.answer, price)
    earlier = _whole(follow_ups * settings.candidates).times(tokens.before)
    steps.append(replace(step, input_tokens=step.input_tokens + earlier))
    more = [*((name, answers) for name in own), ("hard_negatives", negatives)]
    steps += [
        StepEstimate.of(name, count, about, tokens.answer, price)
        for name, count in more
        if count.high
    ]
    talks = plan_conversations(users, settings, seed)
    turns = Range(len(talks), sum(one.user.turns for one in talks))
    if talks:
        steps += _conversation_steps(persona, seeds, tokens, turns, price, user)
    if judge:
        seen = Range(rows, answers.high) + negatives + Range(turns.low, 2 * turns.high)
        steps += _judge_steps(persona, tokens, seen, judge.rate)
    topics = Counter(cell.topic for cell in cells)
    talked = (len(talks), round(turns.high))
    return TeacherPlan(rows, dict(topics), tuple(steps), price, _marked(cells), *talked)


def _marked(cells: Sequence[PlannedQuestion]) -> dict[str, int]:
    """Return kind → questions, where there are others than ordinary ones."""
    kinds: Counter[str] = Counter(cell.kind or ORDINARY for cell in cells)
    return dict(kinds) if kinds.keys() - {ORDINARY} else {}


def _price(teachers: Endpoint | Sequence[Endpoint]) -> Price | None:
    """Return the teacher's price; of several the mean by their shares, where all tell it."""
    if isinstance(teachers, Endpoint):
        return teachers.rate
    rates = [one.rate for one in teachers]
    known = [rate for rate in rates if rate is not None]
    if len(known) < len(rates) or len({rate.currency for rate in known}) > 1:
        return None
    parts = list(zip(shares_of(teachers), known, strict=True))
    mean = {
        "input": sum(share * rate.input for share, rate in parts),
        "output": sum(share * rate.output for share, rate in parts),
    }
    return known[0].model_copy(update=mean)


def _questions(
    requests: Sequence[QuestionRequest],
    count: Range,
    rounds: Range,
    tokens: _Tokens,
    price: Price | None,
) -> StepEstimate:
    prompts = _whole(sum(len(request.prompt[0].content) for request in requests))
    return StepEstimate(
        "questions",
        _whole(len(requests)).times(rounds),
        prompts.times(tokens.per_character).times(rounds),
        count.times(tokens.question).times(rounds),
        price,
    )


def _conversation_steps(
    persona: Persona,
    seeds: Sequence[Example],
    tokens: _Tokens,
    turns: Range,
    price: Price | None,
    user: Endpoint | None,
) -> list[StepEstimate]:
    """Return the steps of conversations: at best each ends at once, at worst all is repaired."""
    # On the average turn half of the conversation has been said.
    half = tokens.before.times(Range(0, turns.high / max(turns.low, 1) / 2))
    asked = tokens.question + half + _system(persona, seeds).times(tokens.per_character)
    mended, about = Range(0, turns.high), tokens.about_answer + half
    steps = [
        StepEstimate.of(ANSWERS, turns, asked, tokens.answer, price),
        StepEstimate.of(CRITIQUES, mended, about, tokens.question.times(Range(1, 4)), price),
        StepEstimate.of(REPAIRS, mended, about + asked, tokens.answer, price),
    ]
    if user:
        steps.append(StepEstimate.of(USER_STEP, turns, about, tokens.question, user.rate))
    return steps


@dataclass(frozen=True)
class _Tokens:
    """Rules of thumb for lengths in a persona's language, in tokens."""

    per_character: Range
    per_word: Range
    question: Range
    answer: Range

    @classmethod
    def of(cls, persona: Persona) -> _Tokens:
        per_character = Range(*load_pack(persona.language).tokens_a_character)
        per_word = Range(*load_pack(persona.language).tokens_a_word)
        question = per_word.times(Range(*_QUESTION_WORDS))
        return cls(per_character, per_word, question, _answer(persona, per_character, per_word))

    @property
    def before(self) -> Range:
        """The two turns that come along with a follow-up, and with the answer to it."""
        return self.question + self.answer

    @property
    def about_answer(self) -> Range:
        """A prompt about an answer."""
        return _whole(_FRAME).times(self.per_character) + self.before


def _judge_steps(
    persona: Persona, tokens: _Tokens, answers: Range, price: Price | None
) -> list[StepEstimate]:
    """Return the step of the judge: a request for each answer and trait; none without a trait."""
    prompts = [len(one.ask.prompt) for one in trait_questions(persona, user_prompt("?"), "?")]
    if not prompts:
        return []
    each = _whole(sum(prompts) // len(prompts)).times(tokens.per_character) + tokens.before
    verdict = tokens.per_word.times(Range(*_VERDICT_WORDS))
    return [StepEstimate.of(JUDGE_STEP, answers.times(_whole(len(prompts))), each, verdict, price)]


def _system(persona: Persona, seeds: Sequence[Example]) -> Range:
    """Return the characters of the system prompt with no seed and with the longest ones."""
    pool = sorted(few_shot_pool(persona, seeds), key=lambda seed: len(seed.question + seed.answer))
    low, high = (len(system_prompt(persona, shown)) for shown in ([], pool[-FEW_SHOT:]))
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


def _span(span: Range) -> str:
    """Return a range of whole numbers for people, one number where both ends are the same."""
    low, high = round(span.low), round(span.high)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def account_lines(plan: TeacherPlan, taught: Taught) -> list[str]:
    """Return lines for people: the planned rows by what became of them, then each step's cost.

    What a step took includes earlier runs that were stopped or killed; the plan knows no retries.
    """
    currency = plan.price.currency if plan.price else ""
    lines = [_rows(taught), *_talks(taught), *teacher_lines(taught.teachers, currency)]
    for step in plan.steps:
        took = taught.paid.get(step.name, Paid())
        lines.append(
            f"{step.name}: {counted(took.attempts, 'request')} ({_span(step.requests)} planned),"
            f" {took.input_tokens:,} tokens in ({_span(step.input_tokens)}),"
            f" {took.output_tokens:,} out ({_span(step.output_tokens)})"
        )
        if step.price is not None:
            lines[-1] += (
                f", {taught.costs.get(step.name, 0.0):.4f} {step.price.currency}"
                f" ({step.money.low:.4f} to {step.money.high:.4f})"
            )
    lines += [f"answered of {line}" for line in taught.coverage.lines()]
    if taught.judged or taught.unjudged:
        lost = sum(taught.unjudged.values())
        why = f" ({_kinds(taught.unjudged)}), left to rules alone" if lost else ""
        lines.append(f"the judge: {taught.judged} traits of answers scored, {lost} not{why}")
    if reasoned := taught.usage["reasoned"]:
        asked = taught.usage["requests"]
        lines.append(f"reasoning taken off {reasoned:,} of {asked:,} replies")
    if uncounted := taught.usage["uncounted"]:
        lines.append(f"{uncounted:,} replies without a count of tokens: theirs are estimated")
    if taught.preferences:
        kinds = Counter(pair.kind for pair in taught.preferences)
        close = sum(drop.reason == "pair_too_close" for drop in taught.dropped)
        lines.append(f"pairs: {_kinds(kinds)}; {close} too close")
    return lines


def teacher_lines(parts: Sequence[TeacherPart], currency: str) -> list[str]:
    """Return what each of several teachers gave; nothing of one alone."""
    return [
        f"{one.model}: {one.rows} of {counted(one.planned, 'row')}, {one.tokens:,} tokens"
        + (f", {one.spent:.4f} {currency}" if currency else "")
        for one in (parts if parts[1:] else ())
    ]


def _rows(taught: Taught) -> str:
    """Return where the planned rows are; the parts add up."""
    parts = [f"{len(taught.examples)} answered"]
    parts += [
        f"{sum(kinds.values())} {name} ({_kinds(kinds)})"
        for name, kinds in (("failed", taught.failed), ("filtered", taught.filtered))
        if kinds
    ]
    if taught.missing:
        parts.append(f"{sum(taught.missing.values())} without a question")
    return f"{counted(taught.planned, 'row')} planned = {' + '.join(parts)}"


def _talks(taught: Taught) -> list[str]:
    """Return where the planned turns of conversations are, and how these ended."""
    talks = taught.talks
    if not talks.conversations:
        return []
    fates = " + ".join(f"{talks.fates[f]} {f}" for f in get_args(TurnFate) if f in talks.fates)
    behaviours: Counter[str] = Counter(one.behaviour for one in talks.conversations)
    ends: Counter[str] = Counter(one.end for one in talks.conversations)
    return [
        f"{counted(talks.planned, 'turn')} planned = {fates.replace('_', ' ')}",
        f"conversations ended: {_kinds(ends)}; users: {_kinds(behaviours)}",
    ]


def _kinds(kinds: Mapping[str, int]) -> str:
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{kind} {count}" for kind, count in ordered)
