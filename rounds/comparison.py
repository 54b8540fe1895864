"""Two rounds side by side: each arm's scores on the prompts that both asked, paired by prompt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rounds.layout import RoundFolder
from workbench.records import Example, Response, Score
from workbench.store import read_records

if TYPE_CHECKING:
    from workbench.stats import Difference
    from workbench.stats.table import Column

DECODING = ("max_new_tokens", "seeds", "temperature")
"""Settings of an evaluation that decide how arms answer."""
Columns = dict[tuple[str, str], "Column"]
"""(arm, metric) → held-out prompt as text → what its value is the mean of."""


def score_differences(
    a: RoundFolder, b: RoundFolder, seed: int
) -> dict[tuple[str, str], Difference]:
    """Return (arm, metric) → difference on the prompts that both rounds asked of that arm."""
    from workbench.stats.intervals import differences_of

    traits = counted_traits((a, b))
    old, new = columns_of(a, traits), columns_of(b, traits)
    both = [key for key in new if key in old]
    found = differences_of([new[key].minus(old[key]) for key in both], seed)
    return {key: one for key, one in zip(both, found, strict=True) if one}


def counted_traits(rounds: Iterable[RoundFolder]) -> list[str] | None:
    """Return the traits that fidelity is made of in every one of the rounds.

    An untrusted judge's are not among them. None where a round does not say.
    """
    found: list[str] | None = None
    for one in rounds:
        path = one.stage("evaluate") / "comparison.json"
        own = json.loads(path.read_text("utf-8")).get("traits") if path.exists() else None
        if not own:
            return None
        found = [trait for trait in own if found is None or trait in found]
    return found


def evaluated_otherwise(a: RoundFolder, b: RoundFolder) -> list[str]:
    """Return in words what of two evaluations differs beside the arms themselves."""
    old, new = a.manifest("evaluate"), b.manifest("evaluate")
    then, now = old.settings if old else {}, new.settings if new else {}
    persona = "persona.yaml"
    same = {
        "base model": then.get("model") == now.get("model"),
        "persona": (old and old.inputs.get(persona)) == (new and new.inputs.get(persona)),
        "decoding": all(then.get(name) == now.get(name) for name in DECODING),
        "judge": then.get("judge") == now.get("judge"),
        "traits that count": counted_traits([a]) == counted_traits([b]),
    }
    return [what for what, is_same in same.items() if not is_same]


def columns_of(round_: RoundFolder, traits: Sequence[str] | None) -> Columns:
    """Return the scores of a round's held-out prompts; none where it is not evaluated.

    Args:
        round_: The round.
        traits: What fidelity is made of; see :func:`counted_traits`.
    """
    folder = round_.stage("evaluate")
    if not (folder / "scores.jsonl").exists():
        return {}
    responses = list(read_records(folder / "responses.jsonl", Response))
    scores = list(read_records(folder / "scores.jsonl", Score))
    return columns_by_prompt(responses, scores, traits)


def columns_by_prompt(
    responses: Sequence[Response], scores: Sequence[Score], traits: Sequence[str] | None
) -> Columns:
    """Return scores of held-out prompts by what was asked: an edited row keeps its prompt."""
    from workbench.stats.table import Column, tabulate

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


def asked_text(row: Response | Example) -> str:
    """Return a prompt as text."""
    return "\n".join(message.content for message in row.prompt)
