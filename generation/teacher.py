"""A teacher's rows: questions for every cell of the plan, answers in persona, pairs of answers.

In go a persona, its seeds and an endpoint, out comes :class:`Taught`, which accounts for every
planned row. The stage ``generate`` calls it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from generation.conversations import (
    LINES,
    Conversations,
    PlannedConversation,
    conversations_of,
    open_talks,
    plan_conversations,
)
from generation.distilabel.cluster import Cluster
from generation.live_rows import FILE as LIVE_ROWS
from generation.live_rows import LiveRows
from generation.pairs import CANDIDATES, Chosen, JudgeAccount, Pairs
from generation.questions import Pool, question_id
from generation.teacher_client import OWN_STEP, STAGE, TeacherClient, drop_of, shared_out
from generation.topic_plan import Coverage, topic_plan
from workbench.config import GenerateSettings
from workbench.console import console
from workbench.dialogue.players import STEP as USER_STEP
from workbench.dialogue.users import SimulatedUser
from workbench.errors import UserError
from workbench.inference.answer_cache import CACHE
from workbench.inference.completion import Completion, Usage, usage_of
from workbench.inference.endpoint import Endpoint, Paid, TeacherPart
from workbench.inference.judge import STEP as JUDGE_STEP
from workbench.inference.wire import check_reachable
from workbench.persona import Persona
from workbench.records import Drop, Example, Preference, Score, last_user_turn
from workbench.text import counted

Row = dict[str, Any]
"""One row of a pipeline."""


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
    costs: dict[str, float] = field(default_factory=dict)
    """Step → the money for that."""
    judged: int = 0
    """Traits of answers, hard negatives' too, that the judge scored."""
    unjudged: dict[str, int] = field(default_factory=dict)
    """Kind of failure → traits of answers that the judge was asked about and did not score."""
    spent: float = 0.0
    """Money for all of that, by the endpoints' prices."""
    talks: Conversations = field(default_factory=Conversations)
    """Conversations with simulated users, beside all that."""
    teachers: list[TeacherPart] = field(default_factory=list)
    """What each teacher gave, in the configuration's order."""

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
    teachers: Endpoint | Sequence[Endpoint],
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
        teachers: The teacher, or several, each with its share of the rows.
        settings: How many rows of which kinds, for how much money.
        workdir: Folder for the kept answers.
        judge: Answers the traits' questions that no rule can check.
        seed: Of the plan, of what is shown and, where the server heeds it, of sampling.
        earlier: Rows of earlier rounds; new questions differ from theirs, too.
        users: Simulated users, for conversations.
        user: Plays them; without one they say their own lines.

    Raises:
        UserError: An endpoint is down, refuses us or answered nothing; no row for the budget.
    """
    planned = plan_conversations(users, settings, seed)
    teachers = [teachers] if isinstance(teachers, Endpoint) else teachers
    _check_endpoints(teachers, (judge, user if planned else None), settings.budget)
    pool = Pool(persona, seeds, topic_plan(persona, settings, seed), seed, earlier)
    cache, cluster = (workdir / CACHE).resolve(), Cluster.of(settings)
    live = LiveRows(workdir / LIVE_ROWS)
    with TeacherClient(teachers, cache, seed, settings.budget, cluster, live) as client:
        # What an earlier run paid them counts before anybody asks them in this one.
        for step, other in ((JUDGE_STEP, judge), (USER_STEP, user)):
            if other is not None:
                client.prices[step, other.name] = other.rate
        account = JudgeAccount()
        rows = _rows(client, pool, settings, judge, account)
        talks = _talks(client, pool, planned, settings, (judge, user), account)
        taught = _taught(client, pool, settings, rows, account, talks)
        _tell_budget(client, len(taught.rows))
    return taught


def _rows(
    client: TeacherClient,
    pool: Pool,
    settings: GenerateSettings,
    judge: Endpoint | None,
    account: JudgeAccount,
) -> list[Row]:
    """Return one row of the pipeline for each planned question."""
    # Distilabel takes seconds to import.
    from generation.pipelines.rows import RowJob, rows_pipeline

    if not pool.cells:
        return []
    job = RowJob(client, pool, settings, judge, account)
    teachers = shared_out(client.teachers, len(pool.cells), pool.seed, "rows")
    return rows_pipeline(job, teachers).run()


def _talks(
    client: TeacherClient,
    pool: Pool,
    planned: Sequence[PlannedConversation],
    settings: GenerateSettings,
    others: tuple[Endpoint | None, Endpoint | None],
    account: JudgeAccount,
) -> Conversations:
    """Return what comes of the planned conversations; ``others`` are the judge and the users'."""
    from generation.pipelines.talks import TalkJob, talks_pipeline

    if not planned:
        return Conversations()
    judge, user = others
    teachers = shared_out(client.teachers, len(planned), pool.seed, "conversations")
    models = [client.teachers[place].model for place in teachers]
    talks = open_talks(pool.persona, pool.seeds, planned, models)
    job = TalkJob(client, pool.persona, settings.turn_fidelity, judge, user, account)
    talks_pipeline(job, talks, teachers).run()
    return conversations_of(talks, user.model if user else LINES, settings.margin)


def _check_endpoints(
    teachers: Sequence[Endpoint], others: Sequence[Endpoint | None], budget: float | None
) -> None:
    """Raise a UserError where one cannot be reached, or a budget has no price to go by."""
    for teacher in teachers:
        if budget is not None and teacher.rate is None:
            raise UserError("a budget needs a price", where=teacher.base_url, fix="set its 'price'")
    for asked in (*teachers, *others):
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


def _examples(client: TeacherClient, rows: Sequence[Row]) -> list[Chosen | None]:
    """Return the record of each row's answer; None where none came."""
    chosen: list[Chosen | None] = []
    for row in rows:
        if row["answer"] is None:
            chosen.append(None)
            continue
        example = Example(
            prompt=row["prompt"],
            answer=row["answer"],
            topic=row["cell"].topic,
            kind=row["cell"].kind,
            origin="teacher",
            source=client.teachers[row["teacher"]].model,
            parents=row["parents"],
        )
        chosen.append(Chosen(example, row["scores"], row["others"]))
    return chosen


def _pairs(rows: Sequence[Row], examples: Sequence[Chosen | None], margin: float) -> Pairs:
    """Return pairs of the rows' candidates, and of their hard negatives in the drawn order."""
    pairs = Pairs()
    for one in examples:
        if one and one.others:
            text, scores = min(one.others, key=lambda other: other[1].share)
            pairs.add(one, text, scores, CANDIDATES, margin)
    planned = [pair for pair in zip(rows, examples, strict=True) if pair[0]["negative"]]
    for row, one in sorted(planned, key=lambda pair: pair[0]["negative"][0]):
        assert one is not None, "hard negatives are drawn among rows that have an answer"
        if row["negatives"]:
            (text,), (scores,) = row["negatives"], row["negatives_scores"]
            pairs.add(one, text, scores, row["negative"][1].kind, margin)
            continue
        example = one.example
        drop = drop_of(row["lost"], example.id, source=example.source, parents=(example.id,))
        pairs.dropped.append(drop.evolve(detail=f"hard negative: {drop.detail}"))
    return pairs


def _taught(
    client: TeacherClient,
    pool: Pool,
    settings: GenerateSettings,
    rows: Sequence[Row],
    account: JudgeAccount,
    talks: Conversations,
) -> Taught:
    """Return the result, every planned row accounted for."""
    examples = _examples(client, rows)
    pairs = _pairs(rows, examples, settings.margin)
    dropped, lost, own = list(pool.dropped), list[Completion](), Counter[str]()
    for row, chosen in zip(rows, examples, strict=True):
        if chosen is None and row["prompt"]:
            drop = _drop(row, client.teachers[row["teacher"]].model)
            dropped.append(drop)
            if drop.reason == OWN_STEP:
                own[OWN_STEP] += 1
            else:
                lost.append(row["completions"][0])
    missing = _missing(pool, lost)
    usage = usage_of(lost)
    return Taught(
        examples=[one.example for one in examples if one is not None],
        dropped=[*dropped, *pairs.dropped, *talks.dropped, *talks.pairs.dropped],
        usage=usage_of(one for step in client.completions.values() for one in step),
        planned=len(pool.cells),
        coverage=Coverage.of(
            pool.cells,
            (row["cell"] for row in rows if row["prompt"]),
            (row["cell"] for row in rows if row["answer"] is not None),
        ),
        missing=missing,
        failed=usage["failed"],
        filtered={**usage["filtered"], **own},
        preferences=[*pairs.preferences, *talks.pairs.preferences],
        scores=[*pairs.scores, *talks.pairs.scores],
        steps={step: usage_of(completions) for step, completions in client.completions.items()},
        paid=client.paid(),
        costs=_by_step(client),
        judged=account.scored,
        unjudged=dict(account.unscored),
        spent=client.spent(),
        talks=talks,
        teachers=_parts(client, rows, talks),
    )


def _missing(pool: Pool, lost: list[Completion]) -> dict[str, int]:
    """Return topic → questions that nobody came up with; failed requests join the ``lost``."""
    absent = [place for place in range(len(pool.cells)) if place not in pool.taken]
    lost += [pool.failures[place] for place in absent if place in pool.failures]
    unasked = (pool.cells[place].topic for place in absent if place not in pool.failures)
    missing = dict(Counter(unasked))
    if missing:
        lacking = ", ".join(f"{topic} {count}" for topic, count in missing.items())
        console.print(f"  the teacher came up with too few new questions; missing: {lacking}")
    return missing


def _by_step(client: TeacherClient) -> dict[str, float]:
    costs: dict[str, float] = {}
    for (step, _), money in client.costs().items():
        costs[step] = costs.get(step, 0.0) + money
    return costs


def _parts(client: TeacherClient, rows: Sequence[Row], talks: Conversations) -> list[TeacherPart]:
    """Return what each teacher gave."""
    costs, parts = client.costs(), []
    # By place: two servers may have one model.
    places = shared_out(client.teachers, len(talks.conversations), client.seed, "conversations")
    whose = dict(zip((talk.id for talk in talks.conversations), places, strict=True))
    for place, one in enumerate(client.teachers):
        own = [row for row in rows if row["teacher"] == place]
        answered = sum(row["answer"] is not None for row in own)
        answered += sum(whose[row.example.parents[0]] == place for row in talks.rows)
        paid = client.paid_to(one)
        spent = sum(money for (_, name), money in costs.items() if name == one.name)
        tokens = paid.input_tokens + paid.output_tokens
        parts.append(
            TeacherPart(one.model, len(own) + places.count(place), answered, tokens, spent)
        )
    return parts


def _drop(row: Row, model: str) -> Drop:
    """Return the drop of a question that has no answer."""
    question = question_id(last_user_turn(row["prompt"]))
    if step := row.get("dropped_by"):
        return Drop(
            record=question,
            stage=STAGE,
            reason=OWN_STEP,
            detail=step,
            source=model,
            parents=row["parents"],
        )
    return drop_of(row["completions"][0], question, source=model, parents=row["parents"])
