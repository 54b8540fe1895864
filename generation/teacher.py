"""A teacher's rows: new questions for each topic, then an answer in persona to each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from generation.cache import CACHE, AnswerCache, Paid
from generation.jobs import Served
from generation.outcome import Outcome, Usage, usage_of
from generation.questions import ROUNDS, Pool, question_id
from generation.runner import Distilabel
from generation.stops import stop_if_hopeless
from workbench.endpoint import Endpoint, check_reachable
from workbench.errors import UserError
from workbench.persona import Persona
from workbench.progress import console
from workbench.prompts import system_prompt, with_system
from workbench.records import Drop, Example, user_prompt

EXEMPLARS = 3
_QUESTION_TEMPERATURE = 1.0
_ANSWER_TEMPERATURE = 0.7


@dataclass(frozen=True)
class Taught:
    """A teacher's rows.

    ``planned`` is always the sum of the examples, the drops of unanswered questions and
    ``missing``.
    """

    examples: list[Example]
    dropped: list[Drop]
    """Failed and filtered requests, and questions that were not new."""
    usage: Usage
    planned: int
    missing: dict[str, int] = field(default_factory=dict)
    """Topic → questions that the teacher did not come up with."""
    steps: dict[str, Usage] = field(default_factory=dict)
    """The usage of each step: ``questions`` and ``answers``."""
    paid: dict[str, Paid] = field(default_factory=dict)
    """What each step took, earlier runs in the same folder included."""
    spent: float = 0.0
    """Money for all of that, by the endpoint's price."""

    @property
    def share(self) -> float:
        """Rows that came of those that were planned, 0 to 1."""
        return len(self.examples) / self.planned if self.planned else 1.0


def teacher_rows(
    persona: Persona,
    seeds: Sequence[Example],
    endpoint: Endpoint,
    *,
    per_topic: int,
    seed: int = 0,
    workdir: Path,
    budget: float | None = None,
) -> Taught:
    """Return new rows of a teacher: ``per_topic`` questions a topic, answered in persona.

    Finished requests are kept in ``workdir``; the same call on the same folder asks only for the
    rest, whatever ended the call before.

    Args:
        persona: Gives audience, topics, language and the system prompt.
        seeds: Show what questions are like; new questions differ from them and from each other.
        endpoint: The teacher.
        per_topic: New questions for each topic.
        seed: Of what is shown and, where the server heeds it, of sampling.
        workdir: Folder for the kept answers, the log and what distilabel leaves.
        budget: Money that all calls on this folder together may spend, in the currency of the
            endpoint's price.

    Raises:
        UserError: The teacher cannot be reached, refuses the key, went down on the way, or
            answered nothing at all, or the budget is used up; finished answers stay kept.
    """
    if budget is not None and endpoint.price is None:
        raise UserError("a budget needs a price", where=endpoint.base_url, fix="set its 'price'")
    check_reachable(endpoint)
    served = Served(endpoint=endpoint, cache=(workdir / CACHE).resolve(), seed=seed, budget=budget)
    pool = Pool(persona, seeds, per_topic, seed)
    with Distilabel(workdir) as distilabel:
        outcomes = _ask_questions(distilabel, pool, served)
        questions = [(topic, text) for topic, texts in pool.questions.items() for text in texts]
        shown = exemplars_of(persona, seeds)
        system = system_prompt(persona, shown)
        answers = distilabel.run(
            "teacher-answers",
            [with_system(system, user_prompt(question)) for _, question in questions],
            _next(served, "answers", temperature=_ANSWER_TEMPERATURE),
            label="the teacher answers",
        )
    stop_if_hopeless(endpoint, answers)
    parents = (persona.record_id, *(example.id for example in shown))
    examples, dropped = [], list(pool.dropped)
    for (topic, question), outcome in zip(questions, answers, strict=True):
        if outcome.status == "ok":
            examples.append(
                Example(
                    prompt=user_prompt(question),
                    answer=outcome.text,
                    topic=topic,
                    origin="teacher",
                    source=endpoint.model,
                    parents=parents,
                )
            )
        else:
            dropped.append(outcome.drop(question_id(question), source=endpoint.model))
    if missing := pool.missing():
        lacking = ", ".join(f"{topic} {count}" for topic, count in missing.items())
        console.print(f"  the teacher came up with too few new questions; missing: {lacking}")
    paid = paid_so_far(served.cache)
    return Taught(
        examples=examples,
        dropped=dropped,
        usage=usage_of([*outcomes, *answers]),
        planned=per_topic * len(persona.topics),
        missing=missing,
        steps={"questions": usage_of(outcomes), "answers": usage_of(answers)},
        paid=paid,
        spent=sum(step.cost(endpoint.price) for step in paid.values()),
    )


def _ask_questions(distilabel: Distilabel, pool: Pool, served: Served) -> list[Outcome]:
    """Fill the pool; ask again for what is missing, a few times."""
    outcomes: list[Outcome] = []
    for turn in range(1, ROUNDS + 1):
        requests = pool.requests(turn)
        if not requests:
            break
        found = distilabel.run(
            f"teacher-questions-{turn}",
            [request.prompt for request in requests],
            _next(served, "questions", shape="questions", temperature=_QUESTION_TEMPERATURE),
            label=f"the teacher writes questions (round {turn})",
        )
        stop_if_hopeless(served.endpoint, found)
        for request, outcome in zip(requests, found, strict=True):
            pool.take(request, outcome, served.endpoint.model)
        outcomes += found
    return outcomes


def _next(served: Served, step: str, **changes: object) -> Served:
    """Return the settings of the next step, with what is left of the budget."""
    spent = sum(paid.cost(served.endpoint.price) for paid in paid_so_far(served.cache).values())
    left = None if served.budget is None else max(0.0, served.budget - spent)
    return served.model_copy(update={"step": step, "spent": spent, "budget": left, **changes})


def paid_so_far(cache: Path) -> dict[str, Paid]:
    """Return what each step took over every run that used a file of answers."""
    answers = AnswerCache(cache)
    try:
        return answers.paid()
    finally:
        answers.close()


def exemplars_of(persona: Persona, seeds: Sequence[Example]) -> list[Example]:
    """Return the answers to show: those that the persona names, else the first sound ones."""
    named = {f"seeds.jsonl:{line}" for line in persona.exemplars}
    chosen = [seed for seed in seeds if seed.source in named]
    sound = (
        seed
        for seed in seeds
        if not persona.failed_traits(seed.answer) and not persona.safety.unsafe(seed.answer)
    )
    return (chosen or list(sound))[:EXEMPLARS]
