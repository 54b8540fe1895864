"""A record's way through the rounds, as lines, as JSON values and as a small picture."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from xml.sax.saxutils import escape

from rounds.layout import MANIFEST, Manifest
from rounds.lineage.graph import Lineage, kind_of

_CHARACTERS = 100
_LISTED = 6
"""Of a kind of descendants, so many are named; the others are counted."""
_COLUMNS = (("persona",), ("row", "review"), ("pair", "decision", "drop", "split"), ("adapter",))
_LAST = ("answer", "score", "record")


def step(lineage: Lineage, node: str) -> dict[str, Any]:
    """Return what one step of a chain is: id, kind, places, and what its file says of it."""
    found: dict[str, Any] = {"id": node, "kind": kind_of(node)}
    if found["kind"] == "adapter":
        return found | _adapter(lineage, node)
    found["places"] = [str(place) for place in lineage.places.get(node, ())]
    row = lineage.record(node)
    told = ("origin", "source", "topic", "reviewer", "at", "split", "arm", "metric", "value")
    found |= {name: row[name] for name in told if row.get(name) not in (None, "")}
    found |= {name: row[name] for name in ("outcome", "reason", "unscored") if row.get(name)}
    text = row.get("answer") or row.get("chosen") or row.get("text") or row.get("detail") or ""
    if text or "answers" in row:
        found["text"] = _short(text or json.dumps(row["answers"], ensure_ascii=False))
    return found


def _adapter(lineage: Lineage, node: str) -> dict[str, Any]:
    """Return what the manifest of a training stage says of its adapter."""
    path = lineage.folder / node / MANIFEST
    manifest = Manifest.load(path)
    adapter = manifest.outputs.get("adapter/adapter_model.safetensors")
    return {
        "model": manifest.settings.get("model"),
        "recipe": manifest.inputs.get("recipe"),
        "sha256": adapter.sha256 if adapter else None,
        "rows": manifest.counts.get("rows"),
    }


def chain(lineage: Lineage, node: str) -> dict[str, Any]:
    """Return a record's whole way as JSON values.

    Returns:
        ``before`` and ``after`` as lists of steps, first things first; ``gaps``, what is missing on
        the way back, empty for a complete chain. Of an adapter's training rows only ids are given.
    """
    before, after = lineage.before(node), lineage.after(node)
    return {
        **step(lineage, node),
        "before": [step(lineage, one) for one in direct(lineage, before, node)],
        "trained_on": sum(kind_of(one) in ("row", "pair") for one in before)
        - sum(kind_of(one) in ("row", "pair") for one in direct(lineage, before, node)),
        "after": after,
        "adapters": [one for one in after if kind_of(one) == "adapter"],
        "gaps": lineage.gaps(node),
    }


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


def lines(lineage: Lineage, node: str) -> list[str]:
    """Return a record's way as text, one step a line."""
    found = chain(lineage, node)
    told = [_line(found)]
    told += ["came from:", *(f"  {_line(one)}" for one in found["before"])]
    if found["trained_on"]:
        told.append(f"  and, through an adapter, {found['trained_on']} training rows and pairs")
    told.append("touched:" if found["after"] else "touched nothing")
    for kind, count in Counter(kind_of(one) for one in found["after"]).items():
        some = [one for one in found["after"] if kind_of(one) == kind]
        more = f" and {count - _LISTED} more" if count > _LISTED else ""
        told.append(f"  {count} {kind}: {', '.join(some[:_LISTED])}{more}")
    told += [f"gap: {gap}" for gap in found["gaps"]] or ["the chain is complete"]
    return told


def _line(one: dict[str, Any]) -> str:
    place = one["places"][0] if one.get("places") else ""
    said = [
        f"{name} {one[name]}" for name in one if name not in _UNSAID and one[name] not in (None, "")
    ]
    text = f": {one['text']}" if one.get("text") else ""
    return f"{one['kind']} {one['id']}{f' ({place})' if place else ''} {', '.join(said)}{text}"


_UNSAID = frozenset(
    {"id", "kind", "places", "text", "before", "after", "gaps", "adapters", "trained_on"}
)


def picture(lineage: Lineage, node: str) -> str:
    """Return the way back, and the adapters that it touched, as an SVG; about 1 kB a step."""
    import networkx as nx

    before = direct(lineage, lineage.before(node), node)
    adapters = [one for one in lineage.after(node) if kind_of(one) == "adapter"]
    shown = [*before, node, *adapters]
    part = nx.DiGraph(lineage.graph.subgraph(shown))
    for one in shown:
        part.nodes[one]["subset"] = _column(one)
    across = {column: i for i, column in enumerate(sorted({_column(one) for one in shown}))}
    down: Counter[int] = Counter()
    at = {}
    for one in shown:
        column = across[_column(one)]
        at[one] = (20 + 240 * column, 20 + 56 * down[column])
        down[column] += 1
    width, height = 240 * len(across) + 20, 56 * max(down.values()) + 20
    links = "".join(
        f'<line x1="{at[a][0] + 200}" y1="{at[a][1] + 18}" x2="{at[b][0]}" y2="{at[b][1] + 18}"/>'
        for a, b in part.edges
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
        f"{links}{boxes}</svg>\n"
    )


def _column(node: str) -> int:
    kinds = (*_COLUMNS, _LAST)
    return next(i for i, names in enumerate(kinds) if kind_of(node) in names)


def _short(text: str) -> str:
    folded = " ".join(text.split())
    return folded if len(folded) <= _CHARACTERS else f"{folded[: _CHARACTERS - 1]}…"
