"""Two rounds side by side: their rows, their recipes, and each arm's scores, paired by prompt.

In: two rounds of one persona, or two arms of whichever trainings of it: another recipe, another
seed, without a group of rows. Out: a :class:`RoundComparison`, which ``persona compare`` prints.
Evaluations and the plan of the next round take the paired scores from here too.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rounds import layout
from rounds.layout import RoundFolder, recipe
from rounds.lineage.account import account
from workbench.config import METHODS, Method
from workbench.console import console
from workbench.errors import UserError
from workbench.records import Example, Response, Score, last_user_turn
from workbench.stats import Difference
from workbench.stats.comparison import differences_of
from workbench.stats.table import Column, tabulate
from workbench.stats.training_seeds import SeedsReport
from workbench.store import file_hash
from workbench.values import Frozen
from workbench.yamlfile import read_yaml

DECODING = ("max_new_tokens", "seeds", "temperature")
"""Settings of an evaluation that decide how arms answer."""
GONE = "not in the round"
"""Reason of a row that no stage dropped: the later round never had it."""
Arms = tuple[str, str]
"""An arm of the first round, and the one of the second that it is held against."""
Columns = dict[tuple[str, str], Column]
"""(arm, metric) → held-out prompt as text → what its value is the mean of."""


class RowEdit(NamedTuple):
    """A question whose answer differs."""

    question: str
    before: str
    """Id of the row with the old answer."""
    after: str


class RowChange(NamedTuple):
    """A row of both rounds of which something else differs."""

    id: str
    question: str
    before: str
    after: str


class ScoreDifference(Difference):
    """An arm's score in the second round minus that in the first, on the prompts of both."""

    arm: str
    """Of the second round; of the first one too, unless two arms are compared."""
    metric: str


class RoundComparison(Frozen):
    """Round B against round A; rows are the curated ones, which are in a split."""

    before: str
    after: str
    rows: tuple[int, int]
    added: dict[str, str]
    """Id → question of rows that only B has, and that are no edit of a row of A."""
    left_out: dict[str, str]
    """Id → reason of rows that came to B alone, and went into no split of it."""
    dropped: dict[str, str]
    """Id → reason in B; :data:`GONE` where B never had the row."""
    questions: dict[str, str]
    """Id → question of the dropped rows."""
    edited: tuple[RowEdit, ...]
    relabelled: tuple[RowChange, ...]
    """The decision about the same row differs, such as keep and queue."""
    moved: tuple[RowChange, ...]
    """The split of the same row differs: training for the one, test for the other."""
    recipes: dict[str, dict[str, tuple[Any, Any]]]
    """Method → dotted key → the two values, None where one has no such key; of two arms of unlike
    methods ``sft → dpo``."""
    scores: tuple[ScoreDifference, ...]
    """B minus A with a 95 % bootstrap interval; several seeds of a prompt are averaged."""
    evaluated_otherwise: tuple[str, ...]
    """What of the two evaluations differs beside the arms: a difference may come of it as well."""

    @property
    def has_two_causes(self) -> bool:
        """Whether rows and recipes both changed: a difference can't be put down to one."""
        return bool((self.added or self.dropped or self.edited) and self.recipes)


def compare_rounds(
    a: RoundFolder, b: RoundFolder, seed: int, arms: Arms | None = None
) -> RoundComparison:
    """Compare the rows, recipes and scores of round ``a`` with those of the later round ``b``.

    Args:
        a: A round, or the folder of a further training of one; see
            :func:`rounds.training_seeds.trainings`.
        b: The same one for two arms of it.
        seed: Of the bootstrap.
        arms: Two arms to hold against each other; each with itself by default.

    Raises:
        UserError: A round is not there, has no split yet, or lacks an arm that is named.
    """
    for one, arm in zip((a, b), arms or (), strict=False):
        _check_arm(one, arm)
    old, new = _curated(a), _curated(b)
    console.print(f"comparing {a.name} with {b.name}")
    gone = [row for row in old.values() if row.id not in new]
    edited, added = _edits(gone, [row for row in new.values() if row.id not in old])
    reasons = {
        drop.record: drop.reason
        for drops in layout.DROPS.values()
        for drop in b.read_if_there(drops)
    }
    both = [row for row in new.values() if row.id in old]
    return RoundComparison(
        before=a.name,
        after=b.name,
        rows=(len(old), len(new)),
        added={row.id: row.question for row in new.values() if row.id in added},
        left_out=_left_out(a, b),
        dropped={row.id: reasons.get(row.id, GONE) for row in gone if row.id not in edited},
        questions={row.id: row.question for row in gone if row.id not in edited},
        edited=tuple(edited.values()),
        relabelled=_changes(both, _decisions(a), _decisions(b)),
        moved=_changes(both, _splits(a), _splits(b)),
        recipes=_recipes(a, b, arms),
        scores=tuple(
            ScoreDifference(arm=arm, metric=metric, **difference.model_dump())
            for (arm, metric), difference in score_differences(a, b, seed, arms).items()
        ),
        evaluated_otherwise=tuple(evaluated_otherwise(a, b)),
    )


def _edits(gone: Iterable[Example], come: Iterable[Example]) -> tuple[dict[str, RowEdit], set[str]]:
    """Return which gone rows another answer to their question stands for, and what is added.

    Each new row is the edit of one gone row at the most, so that none is lost or counted twice.
    """
    unmatched: dict[str, list[str]] = defaultdict(list)
    for row in come:
        unmatched[row.question].append(row.id)
    edited = {
        row.id: RowEdit(row.question, row.id, unmatched[row.question].pop(0))
        for row in gone
        if unmatched[row.question]
    }
    return edited, {one for ids in unmatched.values() for one in ids}


def _check_arm(one: RoundFolder, arm: str) -> None:
    known = evaluated_arms(one)
    if arm not in known:
        fix = f"it has {', '.join(known)}" if known else "evaluate it first"
        raise UserError(f"there is no arm '{arm}'", where=str(one.folder), fix=fix)


def evaluated_arms(one: RoundFolder) -> list[str]:
    """Return the arms that a round's evaluation asked, in its order."""
    return list(dict.fromkeys(own.arm for own in one.read_if_there(layout.RESPONSES)))


def _left_out(a: RoundFolder, b: RoundFolder) -> dict[str, str]:
    """Return id → reason of the rows that only ``b`` was given and that are in no split of it."""
    known = {fate.record for fate in account(a).fates}
    out = (fate for fate in account(b).fates if fate.state not in ("kept", "held_out"))
    return {one.record: one.why for one in out if one.record not in known}


def _curated(one: RoundFolder) -> dict[str, Example]:
    if not one.folder.is_dir():
        names = ", ".join(other.name for other in one.all_rounds)
        fix = f"there are {names}" if names else "`persona run` makes the first"
        raise UserError(f"there is no round {one.number}", where=str(one.folder), fix=fix)
    if not one.has(layout.TRAIN):
        fix = f"`persona run --until split --round {one.number}` comes first"
        raise UserError("has no split yet", where=str(one.folder), fix=fix)
    return {row.id: row for split in layout.EXAMPLES.values() for row in one.read(split)}


def _decisions(one: RoundFolder) -> dict[str, str]:
    return {decision.record: decision.outcome for decision in one.read_if_there(layout.DECISIONS)}


def _splits(one: RoundFolder) -> dict[str, str]:
    return {own.record: own.split for own in one.read_if_there(layout.ASSIGNMENTS)}


def _changes(
    rows: Sequence[Example], before: Mapping[str, str], after: Mapping[str, str]
) -> tuple[RowChange, ...]:
    return tuple(
        RowChange(row.id, row.question, before[row.id], after[row.id])
        for row in rows
        if row.id in before and row.id in after and before[row.id] != after[row.id]
    )


def _recipes(
    a: RoundFolder, b: RoundFolder, arms: Arms | None
) -> dict[str, dict[str, tuple[Any, Any]]]:
    """Return what differs in the recipes, by method; of two arms in those of their last stage."""
    pairs = [(method, method) for method in METHODS]
    if arms:
        stages = [[part for part in METHODS if part in arm.split("+")] for arm in arms]
        last = [own[-1] for own in stages if own]
        pairs = [(last[0], last[1])] if len(last) == len(arms) else []
    diffs = {
        old if old == new else f"{old} → {new}": _recipe_diff(_recipe(a, old), _recipe(b, new))
        for old, new in pairs
    }
    return {name: diff for name, diff in diffs.items() if diff}


def _recipe_diff(
    old: dict[str, object] | None, new: dict[str, object] | None
) -> dict[str, tuple[Any, Any]]:
    if old is None or new is None:
        return {} if old is new else {"trained": (old is not None, new is not None)}
    keys = sorted({*old, *new})
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def _recipe(one: RoundFolder, method: Method) -> dict[str, Any] | None:
    """Return dotted key → value of the recipe that a round trained with, its base included."""
    if not one.has(recipe(method)):
        return None
    manifest = one.manifest(method)
    keys, _ = read_yaml(one.path(recipe(method)))
    return {"model": manifest.settings.get("model") if manifest else None} | _dotted(keys)


def _dotted(values: Mapping[str, object], prefix: str = "") -> dict[str, Any]:
    dotted: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            dotted |= _dotted(value, f"{prefix}{key}.")
        else:
            dotted[f"{prefix}{key}"] = json.loads(json.dumps(value, default=str))
    return dotted


def score_differences(
    a: RoundFolder, b: RoundFolder, seed: int, arms: Arms | None = None
) -> dict[tuple[str, str], Difference]:
    """Return (arm, metric) → difference on the prompts that both rounds asked of that arm.

    Fidelity is made of the traits that count in both. ``arms`` holds two against each other, under
    the second one's name.
    """
    traits = counted_traits((a, b))
    old, new = columns_of(a, traits), columns_of(b, traits)
    if arms:
        old = {(arms[1], metric): own for (arm, metric), own in old.items() if arm == arms[0]}
    both = [key for key in new if key in old]
    differences = differences_of([new[key].minus(old[key]) for key in both], seed)
    return {key: one for key, one in zip(both, differences, strict=True) if one}


def counted_traits(rounds: Iterable[RoundFolder]) -> list[str] | None:
    """Return the traits that fidelity is made of in every one of the rounds.

    An untrusted judge's are not among them. None where a round does not say.
    """
    counted: list[str] | None = None
    for one in rounds:
        own = one.read(layout.COMPARISON).traits if one.has(layout.COMPARISON) else ()
        if not own:
            return None
        counted = [trait for trait in own if counted is None or trait in counted]
    return counted


def evaluated_otherwise(a: RoundFolder, b: RoundFolder) -> list[str]:
    """Return in words what of two evaluations differs beside the arms themselves."""
    old, new = a.manifest("evaluate"), b.manifest("evaluate")
    then, now = old.settings if old else {}, new.settings if new else {}
    persona = "persona.yaml"
    same = {
        "base model": all(then.get(name) == now.get(name) for name in ("model", "base")),
        "persona": (old and old.inputs.get(persona)) == (new and new.inputs.get(persona)),
        "decoding": all(then.get(name) == now.get(name) for name in DECODING),
        "judge": then.get("judge") == now.get("judge"),
        "traits that count": counted_traits([a]) == counted_traits([b]),
    }
    return [what for what, is_same in same.items() if not is_same]


def seeds_of(one: RoundFolder) -> SeedsReport | None:
    """Return what further trainings of a round came to; None where they are of other scores."""
    manifest = one.manifest(layout.SEEDS.stage)
    if manifest is None or manifest.inputs.get(layout.SCORES.path) != file_hash(
        one.path(layout.SCORES)
    ):
        return None
    return one.read(layout.SEEDS)


def columns_of(one: RoundFolder, traits: Sequence[str] | None) -> Columns:
    """Return the scores of a round's held-out prompts; none where it is not evaluated.

    ``traits`` are what fidelity is made of; see :func:`counted_traits`.
    """
    if not one.has(layout.SCORES):
        return {}
    return columns_by_prompt(one.read(layout.RESPONSES), one.read(layout.SCORES), traits)


def columns_by_prompt(
    responses: Sequence[Response], scores: Sequence[Score], traits: Sequence[str] | None
) -> Columns:
    """Return scores of held-out prompts by what was asked: an edited row keeps its prompt."""
    asked = {one.prompt_id: asked_text(one) for one in responses if not one.probe}
    return {
        (key.arm, key.metric): Column(
            {asked[prompt]: parts for prompt, parts in column.units.items() if prompt in asked}
        )
        for key, column in tabulate(scores, responses, traits).items()
        if not key.probe and column.units
    }


def means_of(columns: Mapping[tuple[str, str], Column], arm: str, metric: str) -> dict[str, float]:
    """Return prompt as text → an arm's value of a metric; empty where it has none."""
    column = columns.get((arm, metric))
    return dict(zip(column.units, column.values, strict=True)) if column else {}


class AnswerPair(NamedTuple):
    """The answers of two arms, or of one arm in two rounds, to one question."""

    question: str
    before: Response
    after: Response
    change: float
    """0 for the same text, 1 for nothing in common; by the characters that stay."""


def answers_beside(a: RoundFolder, b: RoundFolder, arms: Arms | None = None) -> list[AnswerPair]:
    """Return the answers to what both rounds asked, the most changed first.

    ``arms`` are as in :func:`compare_rounds`. Of several seeds the first counts.
    """
    from rapidfuzz.distance import Indel

    old, new = _held_out(a), _held_out(b)
    if arms:
        old = {(arms[1], text): own for (arm, text), own in old.items() if arm == arms[0]}
    pairs = [
        AnswerPair(
            last_user_turn(new[key].prompt),
            old[key],
            new[key],
            Indel.normalized_distance(old[key].text, new[key].text),
        )
        for key in new
        if key in old
    ]
    return sorted(pairs, key=lambda pair: -pair.change)


def _held_out(one: RoundFolder) -> dict[tuple[str, str], Response]:
    responses: dict[tuple[str, str], Response] = {}
    for own in one.read_if_there(layout.RESPONSES):
        if not own.probe and not own.unanswered:
            responses.setdefault((own.arm, asked_text(own)), own)
    return responses


def asked_text(row: Response | Example) -> str:
    """Return a prompt as text."""
    return "\n".join(message.content for message in row.prompt)
