"""A record's way through the rounds, as lines, as JSON values and as a small picture.

In: a lineage and one of its ids. Out: a :class:`Chain`, its lines, or an SVG. ``persona trace``
prints them.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import Any
from xml.sax.saxutils import escape

from pydantic import Field

from rounds.layout import RoundFolder, adapter
from rounds.lineage.graph import ADAPTER, Lineage, kind_of
from workbench.text import shortened
from workbench.values import Frozen

_short = partial(shortened, characters=100)
_FACTS = (
    *("origin", "source", "topic", "reviewer", "at", "split", "arm", "metric", "value"),
    *("outcome", "reason", "unscored"),
)
"""Fields of a record that say what it is."""
_LISTED = 6
"""Of a kind of descendants, so many are named; the others are counted."""
_COLUMNS = (
    ("persona",),
    ("row", "review", "mended answer"),
    ("pair", "decision", "drop", "split"),
    ("adapter",),
)
_LAST = ("answer", "score", "record")


class ChainStep(Frozen):
    """One record of a chain, and what its file says of it."""

    id: str
    kind: str
    places: tuple[str, ...] = ()
    """Where it stands, as ``round/stage/file:line``; an adapter stands in none."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """Fields of the record; of an adapter model, recipe, hash of its weights and rows."""
    text: str = ""
    """The beginning of what it says."""


class Chain(ChainStep):
    """A record's whole way, first things first."""

    before: tuple[ChainStep, ...]
    """What it was made from, without what only stands behind an adapter's training rows."""
    trained_on: int
    """Those rows and pairs."""
    after: tuple[str, ...]
    """Ids of what was made of it."""
    adapters: tuple[str, ...]
    """Those of them that are adapters."""
    gaps: tuple[str, ...]
    """What is missing on the way back; empty for a complete chain."""


def step(lineage: Lineage, node: str) -> ChainStep:
    """Return what one step of a chain is."""
    kind = kind_of(node)
    if kind == "adapter":
        return ChainStep(id=node, kind=kind, facts=_adapter(lineage, node))
    row = lineage.record(node)
    text = row.get("answer") or row.get("chosen") or row.get("text") or row.get("detail") or ""
    if not text and "answers" in row:
        text = json.dumps(row["answers"], ensure_ascii=False)
    return ChainStep(
        id=node,
        kind=kind,
        places=tuple(str(place) for place in lineage.places.get(node, ())),
        facts={name: row[name] for name in _FACTS if row.get(name) not in (None, "")},
        text=_short(text),
    )


def _adapter(lineage: Lineage, node: str) -> dict[str, Any]:
    """Return what the manifest of a training stage says of its adapter."""
    round_name, _, method = node.partition("/")
    manifest = RoundFolder(lineage.folder / round_name).manifest(method)
    if manifest is None:
        return {}
    weights = manifest.outputs.get(f"{adapter(method).name}/{ADAPTER}")
    return {
        "model": manifest.settings.get("model"),
        "recipe": manifest.inputs.get("recipe"),
        "sha256": weights.sha256 if weights else None,
        "rows": manifest.counts.get("rows"),
    }


def chain(lineage: Lineage, node: str) -> Chain:
    """Return a record's whole way."""
    before, after = lineage.before(node), lineage.after(node)
    near = direct(lineage, before, node)
    rows, near_rows = (
        sum(kind_of(one) in ("row", "pair") for one in nodes) for nodes in (before, near)
    )
    return Chain(
        **step(lineage, node).model_dump(),
        before=tuple(step(lineage, one) for one in near),
        trained_on=rows - near_rows,
        after=tuple(after),
        adapters=tuple(one for one in after if kind_of(one) == "adapter"),
        gaps=tuple(lineage.gaps(node)),
    )


def direct(lineage: Lineage, before: list[str], node: str) -> list[str]:
    """Return of ``before`` what does not only stand behind an adapter's training rows."""
    import networkx as nx

    adapters = {one for one in (*before, node) if kind_of(one) == "adapter"}
    rows = lineage.graph.copy()
    rows.remove_edges_from(
        [(a, b) for b in adapters for a in lineage.graph.predecessors(b) if a not in adapters]
    )
    reached = nx.ancestors(rows, node)
    return [one for one in before if one in reached]


def chain_lines(chain: Chain) -> list[str]:
    """Return a record's way as text, one step a line."""
    lines = [_line(chain), "came from:", *(f"  {_line(one)}" for one in chain.before)]
    if chain.trained_on:
        lines.append(f"  and, through an adapter, {chain.trained_on} training rows and pairs")
    lines.append("touched:" if chain.after else "touched nothing")
    for kind, count in Counter(map(kind_of, chain.after)).items():
        some = [one for one in chain.after if kind_of(one) == kind]
        more = f" and {count - _LISTED} more" if count > _LISTED else ""
        lines.append(f"  {count} {kind}: {', '.join(some[:_LISTED])}{more}")
    return lines + ([f"gap: {gap}" for gap in chain.gaps] or ["the chain is complete"])


def _line(one: ChainStep) -> str:
    place = f" ({one.places[0]})" if one.places else ""
    facts = ", ".join(
        f"{name} {fact}" for name, fact in one.facts.items() if fact not in (None, "")
    )
    text = f": {one.text}" if one.text else ""
    return f"{one.kind} {one.id}{place} {facts}{text}"


def draw_picture(lineage: Lineage, node: str) -> str:
    """Return the way back, and the adapters that it touched, as an SVG; about 1 kB a step."""
    before = direct(lineage, lineage.before(node), node)
    adapters = [one for one in lineage.after(node) if kind_of(one) == "adapter"]
    nodes = [*before, node, *adapters]
    links = lineage.graph.subgraph(nodes).edges
    across = {column: i for i, column in enumerate(sorted({_column(one) for one in nodes}))}
    down: Counter[int] = Counter()
    at = {}
    for one in nodes:
        column = across[_column(one)]
        at[one] = (20 + 240 * column, 20 + 56 * down[column])
        down[column] += 1
    width, height = 240 * len(across) + 20, 56 * max(down.values()) + 20
    lines = "".join(
        f'<line x1="{at[a][0] + 200}" y1="{at[a][1] + 18}" x2="{at[b][0]}" y2="{at[b][1] + 18}"/>'
        for a, b in links
    )
    boxes = "".join(
        f'<g><rect x="{x}" y="{y}" width="200" height="36" rx="6"/>'
        f'<text x="{x + 8}" y="{y + 15}" class="kind">{escape(kind_of(one))}</text>'
        f'<text x="{x + 8}" y="{y + 29}">{escape(one)}</text></g>'
        for one, (x, y) in at.items()
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{escape(node)}</title><style>rect{{fill:#fff;stroke:#555}}line{{stroke:#999}}"
        "text{font:11px sans-serif;fill:#111}.kind{font-weight:bold}</style>"
        f"{lines}{boxes}</svg>\n"
    )


def _column(node: str) -> int:
    kinds = (*_COLUMNS, _LAST)
    return next(i for i, names in enumerate(kinds) if kind_of(node) in names)
