"""A teacher's rows: questions for every cell of the plan, answers in persona, pairs of answers.

In go a persona, its seeds and an endpoint, out comes :class:`Taught`, which accounts for every
planned row. The stage ``generate`` calls it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from generation.conversations import Conversations, hold_conversations, plan_conversations
from generation.distilabel.jobs import Cluster
from generation.distilabel.runner import Distilabel
from generation.pairs import Chosen, JudgeAccount, Pairs, make_pairs, trait_scores
from generation.prompts import nearest_examples
from generation.questions import Opening, Pool, find_questions, follow_up, question_id
from generation.teacher_client import TeacherClient, drop_of
from generation.topic_plan import FOLLOW_UP, PLAIN, Coverage, PlannedQuestion, topic_plan
from workbench.config import GenerateSettings
from workbench.console import console
from workbench.dialogue.users import SimulatedUser
from workbench.errors import UserError
from workbench.inference.answer_cache import CACHE
from workbench.inference.completion import Completion, Usage, usage_of
from workbench.inference.endpoint import Endpoint, Paid
from workbench.inference.judge import STEP as JUDGE_STEP
from workbench.inference.wire import check_reachable
from workbench.persona import Persona
from workbench.prompts import system_prompt, with_system
from workbench.records import (
    Drop,
    Example,
    Messages,
    Preference,
    Score,
    last_user_turn,
    user_prompt,
)
from workbench.text import counted

ANSWER_TEMPERATURE = 0.7


@dataclass(frozen=True)
class Taught:
    """A teacher's rows.

    ``planned`` is always the sum of the examples, ``failed``, ``filtered`` and ``missing``.
    """

    examples: list[Example]
    dropped: list[Drop]
    """Failed and filtered requests, questions that were not new, and pairs too close."""
    usage: Usage
    planned: int
    coverage: Coverage
    missing: dict[str, int] = field(default_factory=dict)
    """Topic → questions that the teacher did not come up with."""
    failed: dict[str, int] = field(default_factory=dict)
    """Reason → rows whose request, for the question or for its answer, failed."""
    filtered: dict[str, int] = field(default_factory=dict)
    """Reason → rows whose request, for the question or for all of its answers, was filtered."""
    preferences: list[Preference] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    """Both fidelities of every pair."""
    steps: dict[str, Usage] = field(default_factory=dict)
    """The usage of each step in this run: questions, answers and, where asked for, more."""
    paid: dict[str, Paid] = field(default_factory=dict)
    """What each step took, earlier runs in the same folder included."""
    judged: int = 0
    """Traits of answers, hard negatives' too, that the judge scored."""
    unjudged: dict[str, int] = field(default_factory=dict)
    """Kind of failure → traits of answers that the judge was asked about and did not score."""
    spent: float = 0.0
    """Money for all of that, by the endpoints' prices."""
    talks: Conversations = field(default_factory=Conversations)
    """Conversations with simulated users, beside all that."""

    @property
    def rows(self) -> list[Example]:
        """All rows: answers to questions, and conversations."""
        return [*self.examples, *(row.example for row in self.talks.rows)]

    @property
    def share(self) -> float:
        """Rows that came of those that were planned, conversations too, 0 to 1."""
        planned = self.planned + len(self.talks.conversations)
        return len(self.rows) / planned if planned else 1.0


def teacher_rows(
    persona: Persona,
    seeds: Sequence[Example],
    endpoint: Endpoint,
    settings: GenerateSettings,
    *,
    workdir: Path,
    judge: Endpoint | None = None,
    seed: int = 0,
    earlier: Sequence[Example] = (),
    users: Sequence[SimulatedUser] = (),
    user: Endpoint | None = None,
) -> Taught:
    """Return new rows of a teacher: questions of every topic, answered in persona; conversations.

    What finished is kept in ``workdir``; the same call there asks only for the rest.

    Args:
        persona: Gives audience, topics, language and the system prompt.
        seeds: Show what rows are like; new questions differ from them and from each other.
        endpoint: The teacher.
        settings: How many rows of which kinds, for how much money.
        workdir: Folder for the kept answers, the log and what distilabel leaves.
        judge: Answers the traits' questions that no rule can check.
        seed: Of the plan, of what is shown and, where the server heeds it, of sampling.
        earlier: Rows of earlier rounds; new questions differ from theirs, too.
        users: Simulated users, for conversations.
        user: Plays them; without one they say their own lines.

    Raises:
        UserError: An endpoint is down, refuses us or answered nothing; no row for the budget.
    """
    planned = plan_conversations(users, settings, seed)
    _check_endpoints(endpoint, (judge, user if planned else None), settings.budget)
    pool = Pool(persona, seeds, topic_plan(persona, settings, seed), seed, earlier)
    account, cache = JudgeAccount(), (workdir / CACHE).resolve()
    with Distilabel(workdir, Cluster.of(settings)) as distilabel:
        client = TeacherClient(distilabel, endpoint, cache, seed, settings.budget)
        client.prices[JUDGE_STEP] = judge.rate if judge else None
        answered = _answered(client, pool, settings.candidates)
        rows = _choose(client, persona, answered, judge, account)
        chosen = [row for row in rows if row is not None]
        pairs = make_pairs(
            client, persona, chosen, settings, judge=judge, account=account, seed=seed
        )
    talks = hold_conversations(
        client, persona, seeds, planned, settings, judge=judge, user=user, account=account
    )
    _tell_budget(client, len(chosen) + len(talks.rows))
    return _taught(client, pool, answered, rows, pairs, account, talks)


def _check_endpoints(
    teacher: Endpoint, others: Sequence[Endpoint | None], budget: float | None
) -> None:
    """Raise a UserError where one cannot be reached, or a budget has no price to go by."""
    if budget is not None and teacher.rate is None:
        raise UserError("a budget needs a price", where=teacher.base_url, fix="set its 'price'")
    for asked in (teacher, *others):
        if asked is not None:
            check_reachable(asked)


def _tell_budget(client: TeacherClient, rows: int) -> None:
    """Say what the budget did not pay for.

    Raises:
        UserError: It paid for no row.
    """
    if not client.unmade:
        return
    what = f"stopped at the budget, with {counted(client.unmade, 'request')} not made"
    if not rows:
        fix = "raise the budget; finished answers are kept"
        raise UserError(what, where=client.teacher.base_url, fix=fix)
    console.print(f"  {what}; more of it and --force go on from here")
    console.print("  (a request that got no reply counts at its most: nobody tells what it cost)")


@dataclass(frozen=True)
class Answered:
    """One question of the plan and all that was answered to it."""

    cell: PlannedQuestion
    prompt: Messages
    """The conversation, without a system message."""
    completions: tuple[Completion, ...]
    """One a candidate."""
    parents: tuple[str, ...]
    """Ids of the persona and of the examples that the teacher was shown."""

    @property
    def texts(self) -> list[str]:
        """The candidates that came, each text once, in their order."""
        return list(dict.fromkeys(one.text for one in self.completions if one.ok))


def _answered(client: TeacherClient, pool: Pool, candidates: int) -> list[Answered]:
    """Return every question that the teacher comes up with, follow-ups too, with its answers."""
    find_questions(client, pool)
    first = [(cell, user_prompt(question)) for cell, question in pool.questions]
    answered = answer(client, pool.persona, pool.seeds, first, candidates=candidates)
    if any(cell.kind == FOLLOW_UP for cell in pool.cells):
        openings = [
            Opening(row.cell.topic, row.prompt, row.texts[0])
            for row in answered
            if row.texts and row.cell.kind == PLAIN
        ]
        more = follow_up(client, pool, openings)
        answered += answer(client, pool.persona, pool.seeds, more, candidates=candidates, part=2)
    return answered


def answer(
    client: TeacherClient,
    persona: Persona,
    seeds: Sequence[Example],
    asked: Sequence[tuple[PlannedQuestion, Messages]],
    *,
    candidates: int,
    part: int = 1,
) -> list[Answered]:
    """Return the teacher's answers in persona, ``candidates`` to each conversation."""
    near = nearest_examples(
        persona, seeds, [(cell.topic, last_user_turn(prompt)) for cell, prompt in asked]
    )
    prompts = [
        with_system(_system(persona, shown, cell), prompt)
        for shown, (cell, prompt) in zip(near, asked, strict=True)
    ]
    drawn = []
    for number in range(candidates):
        which = f" (candidate {number + 1} of {candidates})" if candidates > 1 else ""
        drawn.append(
            client.ask(
                "answers",
                prompts,
                label=f"the teacher answers{which}",
                part=part,
                seed=client.seed + number,
                temperature=ANSWER_TEMPERATURE,
            )
        )
    rows = zip(asked, zip(*drawn, strict=True), near, strict=True)
    return [
        Answered(cell, prompt, completions, _parents(persona, seeds, prompt, shown))
        for (cell, prompt), completions, shown in rows
    ]


def _system(persona: Persona, shown: Sequence[Example], cell: PlannedQuestion) -> str:
    return "\n".join(filter(None, (system_prompt(persona, shown), cell.emphasis(persona))))


def _parents(
    persona: Persona, seeds: Sequence[Example], prompt: Messages, shown: Sequence[Example]
) -> tuple[str, ...]:
    """Return what an answer came of: the persona, a seed that it goes on from, examples shown."""
    # A conversation that goes on from a seed holds that seed's answer.
    opened = {seed.prompt: seed.id for seed in seeds} if prompt[1:] else {}
    ids = (persona.record_id, opened.get(prompt[:1], ""), *(seed.id for seed in shown))
    return tuple(dict.fromkeys(filter(None, ids)))


def _choose(
    client: TeacherClient,
    persona: Persona,
    answered: Sequence[Answered],
    judge: Endpoint | None,
    account: JudgeAccount,
) -> list[Chosen | None]:
    """Return the best candidate of each question, None where none came."""
    texts = [(row.prompt, text) for row in answered for text in row.texts]
    scores = iter(trait_scores(client, persona, texts, judge, account))
    chosen: list[Chosen | None] = []
    for row in answered:
        candidates = [(text, next(scores)) for text in row.texts]
        if not candidates:
            chosen.append(None)
            continue
        best = max(candidates, key=lambda pair: pair[1].share)
        example = Example(
            prompt=row.prompt,
            answer=best[0],
            topic=row.cell.topic,
            kind=row.cell.kind,
            origin="teacher",
            source=client.teacher.model,
            parents=row.parents,
        )
        others = tuple(pair for pair in candidates if pair is not best)
        chosen.append(Chosen(example, best[1], others))
    return chosen


def _taught(
    client: TeacherClient,
    pool: Pool,
    answered: Sequence[Answered],
    rows: Sequence[Chosen | None],
    pairs: Pairs,
    account: JudgeAccount,
    talks: Conversations,
) -> Taught:
    """Return the result, every planned row accounted for."""
    dropped, model = list(pool.dropped), client.teacher.model
    lost: list[Completion] = []
    for row, chosen in zip(answered, rows, strict=True):
        if chosen is None:
            first = row.completions[0]
            lost.append(first)
            question = question_id(last_user_turn(row.prompt))
            dropped.append(drop_of(first, question, source=model, parents=row.parents))
    absent = [place for place in range(len(pool.cells)) if place not in pool.taken]
    lost += [pool.failures[place] for place in absent if place in pool.failures]
    unasked = (pool.cells[place].topic for place in absent if place not in pool.failures)
    missing = dict(Counter(unasked))
    if missing:
        lacking = ", ".join(f"{topic} {count}" for topic, count in missing.items())
        console.print(f"  the teacher came up with too few new questions; missing: {lacking}")
    usage = usage_of(lost)
    return Taught(
        examples=[row.example for row in rows if row is not None],
        dropped=[*dropped, *pairs.dropped, *talks.dropped, *talks.pairs.dropped],
        usage=usage_of(one for step in client.completions.values() for one in step),
        planned=len(pool.cells),
        coverage=Coverage.of(
            pool.cells,
            (row.cell for row in answered),
            (row.cell for row, chosen in zip(answered, rows, strict=True) if chosen),
        ),
        missing=missing,
        failed=usage["failed"],
        filtered=usage["filtered"],
        preferences=[*pairs.preferences, *talks.pairs.preferences],
        scores=[*pairs.scores, *talks.pairs.scores],
        steps={step: usage_of(completions) for step, completions in client.completions.items()},
        paid=client.paid(),
        judged=account.scored,
        unjudged=dict(account.unscored),
        spent=client.spent(),
        talks=talks,
    )
