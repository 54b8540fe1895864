"""A teacher's rows: questions for every cell of the plan, answers in persona, pairs of answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from generation.asker import Asker
from generation.cache import CACHE, Paid
from generation.cells import FOLLOW_UP, Coverage, plan_asks, plan_cells
from generation.conversations import Answered, answer, find_questions, follow_up
from generation.jobs import Cluster
from generation.outcome import Outcome, Usage, usage_of
from generation.pairs import Chosen, Pairs, make_pairs
from generation.questions import Pool, question_id
from generation.runner import Distilabel
from generation.verdicts import verdicts_of
from workbench.config import Ask
from workbench.console import console
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint, check_reachable
from workbench.persona import Persona
from workbench.records import Drop, Example, Preference, Score, last_user_turn, user_prompt


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
    """Reason → questions without an answer since their request failed."""
    filtered: dict[str, int] = field(default_factory=dict)
    """Reason → questions all of whose answers were filtered."""
    preferences: list[Preference] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    """Both fidelities of every pair."""
    steps: dict[str, Usage] = field(default_factory=dict)
    """The usage of each step in this run: questions, answers and, where asked for, more."""
    paid: dict[str, Paid] = field(default_factory=dict)
    """What each step took, earlier runs in the same folder included."""
    judged: int = 0
    """Answers, hard negatives too, that the judge gave a verdict on."""
    unjudged: dict[str, int] = field(default_factory=dict)
    """Reason → answers that the judge was asked about and gave no verdict on; rules score them."""
    spent: float = 0.0
    """Money for all of that, by the endpoints' prices."""

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
    mix: Mapping[str, float] | None = None,
    candidates: int = 1,
    hard_negatives: float = 0.0,
    margin: float = 0.2,
    judge: Endpoint | None = None,
    cluster: Cluster | None = None,
    earlier: Sequence[Example] = (),
    asks: Sequence[Ask] = (),
) -> Taught:
    """Return new rows of a teacher: ``per_topic`` questions a topic, answered in persona.

    Finished requests are kept in ``workdir``; the same call on the same folder asks only for the
    rest, whatever ended the call before.

    Args:
        persona: Gives audience, topics, language and the system prompt.
        seeds: Show what questions and answers are like; new questions differ from them and from
            each other.
        endpoint: The teacher.
        per_topic: New questions for each topic.
        seed: Of the plan, of what is shown and, where the server heeds it, of sampling.
        workdir: Folder for the kept answers, the log and what distilabel leaves.
        budget: Money that all calls on this folder together may spend, in the currency of the
            endpoint's price.
        mix: Kind of question → share of all; ordinary ones are the rest. See
            :mod:`generation.cells`.
        candidates: Answers to each question; the one that shows most traits becomes the row.
        hard_negatives: Share of the rows that get a hard negative, which makes a harder pair.
        margin: Least difference of the two fidelities of a pair.
        judge: Answers the traits' questions that no rule can check.
        cluster: Where the requests are made from; processes of this machine by default.
        earlier: Rows of earlier rounds; new questions differ from theirs, too.
        asks: Just these rows, in place of ``per_topic`` and ``mix``.

    Raises:
        UserError: An endpoint cannot be reached, refuses the key, went down on the way, or
            answered nothing at all, or the budget is used up; finished answers stay kept.
    """
    if budget is not None and endpoint.price is None:
        raise UserError("a budget needs a price", where=endpoint.base_url, fix="set its 'price'")
    for asked in (endpoint, judge):
        if asked is not None:
            check_reachable(asked)
    cells = plan_asks(persona, asks, seed) if asks else plan_cells(persona, per_topic, mix, seed)
    pool = Pool(persona, seeds, cells, seed, earlier)
    with Distilabel(workdir, cluster) as distilabel:
        asker = Asker(distilabel, endpoint, (workdir / CACHE).resolve(), seed, budget)
        asker.prices["judge"] = judge.price if judge else None
        find_questions(asker, pool)
        first = [(cell, user_prompt(question)) for cell, question in pool.questions]
        answered = answer(asker, persona, seeds, first, candidates=candidates)
        if any(cell.kind == FOLLOW_UP for cell in pool.cells):
            more = follow_up(asker, pool, answered)
            answered += answer(asker, persona, seeds, more, candidates=candidates, part=2)
        rows = _choose(asker, persona, answered, judge)
        pairs = make_pairs(
            asker,
            persona,
            [row for row in rows if row is not None],
            hard_negatives=hard_negatives,
            margin=margin,
            judge=judge,
            seed=seed,
        )
    return _taught(asker, pool, answered, rows, pairs)


def _choose(
    asker: Asker, persona: Persona, answered: Sequence[Answered], judge: Endpoint | None
) -> list[Chosen | None]:
    """Return the best candidate of each question, None where none came."""
    texts = [(row.prompt, text) for row in answered for text in row.texts]
    verdicts = iter(verdicts_of(asker, persona, texts, judge))
    chosen: list[Chosen | None] = []
    for row in answered:
        judged = [(text, next(verdicts)) for text in row.texts]
        if not judged:
            chosen.append(None)
            continue
        best = max(judged, key=lambda pair: pair[1].score)
        example = Example(
            prompt=row.prompt,
            answer=best[0],
            topic=row.cell.topic,
            kind=row.cell.kind,
            origin="teacher",
            source=asker.teacher.model,
            parents=row.parents,
        )
        others = tuple(pair for pair in judged if pair is not best)
        chosen.append(Chosen(example, best[1], others))
    return chosen


def _taught(
    asker: Asker,
    pool: Pool,
    answered: Sequence[Answered],
    rows: Sequence[Chosen | None],
    pairs: Pairs,
) -> Taught:
    """Return the result, every planned row accounted for."""
    dropped = list(pool.dropped)
    lost: list[Outcome] = []
    for row, chosen in zip(answered, rows, strict=True):
        if chosen is None:
            lost.append(row.outcomes[0])
            question = question_id(last_user_turn(row.prompt))
            model = asker.teacher.model
            dropped.append(row.outcomes[0].drop(question, source=model, parents=row.parents))
    absent = (cell for place, cell in enumerate(pool.cells) if place not in pool.found)
    missing = dict(Counter(cell.topic for cell in absent))
    if missing:
        lacking = ", ".join(f"{topic} {count}" for topic, count in missing.items())
        console.print(f"  the teacher came up with too few new questions; missing: {lacking}")
    usage, paid = usage_of(lost), asker.paid()
    return Taught(
        examples=[row.example for row in rows if row is not None],
        dropped=[*dropped, *pairs.dropped],
        usage=usage_of(outcome for step in asker.outcomes.values() for outcome in step),
        planned=len(pool.cells),
        coverage=Coverage.of(
            pool.cells,
            (row.cell for row in answered),
            (row.cell for row, chosen in zip(answered, rows, strict=True) if chosen),
        ),
        missing=missing,
        failed=usage["failed"],
        filtered=usage["filtered"],
        preferences=pairs.preferences,
        scores=pairs.scores,
        steps={step: usage_of(outcomes) for step, outcomes in asker.outcomes.items()},
        paid=paid,
        judged=asker.judged,
        unjudged=dict(asker.unjudged),
        spent=asker.spent(),
    )
