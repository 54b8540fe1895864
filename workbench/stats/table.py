"""Scores laid out for comparing: by arm, probe, turn and metric, one value a prompt.

In: scores, and the responses that say which seed each is of. Out: columns that can be subtracted.
Called by the comparison of arms, of rounds, and by the search for weak places.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from workbench.errors import UserError
from workbench.persona import FIDELITY
from workbench.records import Response, Score

if TYPE_CHECKING:
    from workbench.stats.bootstrap import Array


class Key(NamedTuple):
    """What one column of values is of."""

    arm: str
    probe: str
    turn: int
    metric: str


Parts = dict[str, float]
"""What a prompt's value is the mean of: trait → value; the metric itself where it has no parts."""


@dataclass
class Column:
    """One arm's values on one metric of one probe set and turn."""

    units: dict[str, Parts] = field(default_factory=dict)
    """Prompt → its parts, mean over the seeds; prompts without a value are not in it."""
    scored: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    seeds: dict[int, list[float]] = field(default_factory=dict)

    @property
    def by_prompt(self) -> dict[str, float]:
        """Prompt → its value, its parts averaged."""
        return {prompt: sum(own.values()) / len(own) for prompt, own in self.units.items()}

    @property
    def values(self) -> list[float]:
        """One value a prompt."""
        return list(self.by_prompt.values())

    @property
    def mean(self) -> float | None:
        """Mean over the prompts; None without any."""
        import numpy as np

        return float(np.mean(self.values)) if self.units else None

    def minus(self, other: Column) -> Array:
        """Return the differences on the prompts of both; see :meth:`changes`."""
        import numpy as np

        return np.array(list(self.changes(other).values()), dtype=np.float64)

    def changes(self, other: Column) -> dict[str, float]:
        """Return prompt → difference on the prompts of both, each over the parts that both have.

        Where a judge failed on a trait of one arm, that trait says nothing about the pair: counted
        for one arm only, it would look like a difference.
        """
        differences = {}
        for prompt, own in self.units.items():
            others = other.units.get(prompt, {})
            both = own.keys() & others.keys()
            if both:
                # In one order, so that sums do not move by a rounding from run to run.
                change = sum(own[part] - others[part] for part in own if part in both)
                differences[prompt] = change / len(both)
        return differences


def tabulate(
    scores: Sequence[Score],
    responses: Sequence[Response] = (),
    traits: Collection[str] | None = None,
) -> dict[Key, Column]:
    """Return the columns of ``scores``, in the order of first appearance.

    Several seeds of a prompt, which responses tell, are averaged; fidelity is the mean of
    ``traits``, by default of what its scores were made from.

    Raises:
        UserError: A score is given twice.
    """
    seed_of = {response.id: response.seed for response in responses}
    parts_of = fidelity_parts(scores, traits)
    gathered: dict[Key, dict[str, dict[str, list[float]]]] = defaultdict(dict)
    columns: dict[Key, Column] = {}
    seen: set[tuple[Key, str, int]] = set()
    for score in scores:
        key = Key(score.arm, score.probe, score.turn, score.metric)
        seed = seed_of.get(score.response, 0)
        if (key, score.prompt_id, seed) in seen:
            raise UserError(
                f"'{score.metric}' of arm '{score.arm}' is given twice for {score.prompt_id}",
                fix="evaluate again",
            )
        seen.add((key, score.prompt_id, seed))
        column = columns.setdefault(key, Column())
        parts = _parts(score, parts_of)
        if not parts:
            column.reasons[score.unscored or "no_trait_scored"] += 1
            continue
        column.scored += 1
        column.seeds.setdefault(seed, []).append(sum(parts.values()) / len(parts))
        unit = gathered[key].setdefault(score.prompt_id, {})
        for name, value in parts.items():
            unit.setdefault(name, []).append(value)
    for key, units in gathered.items():
        columns[key].units = {
            prompt: {name: sum(values) / len(values) for name, values in unit.items()}
            for prompt, unit in units.items()
        }
    return columns


def fidelity_parts(
    scores: Sequence[Score], traits: Collection[str] | None = None
) -> Mapping[str, Parts]:
    """Return response → trait → value for all that fidelity is made of."""
    if traits is None:
        made_from = {
            parent for score in scores if score.metric == FIDELITY for parent in score.parents
        }
    parts: dict[str, Parts] = defaultdict(dict)
    for score in scores:
        counts = score.id in made_from if traits is None else score.metric in traits
        if counts and score.value is not None and score.metric != FIDELITY:
            parts[score.response][score.metric] = score.value
    return parts


def _parts(score: Score, parts_of: Mapping[str, Parts]) -> Parts:
    if score.metric == FIDELITY and parts_of:
        return dict(parts_of.get(score.response, {}))
    return {} if score.value is None else {score.metric: score.value}
