"""The graph of everything that a persona's rounds hold: from parent to child, files read once.

In: the folder of a persona's rounds. Out: a :class:`Lineage` of ids, places and links. The rows'
texts are not in it, so that it stays small at any size, and lines are read as plain JSON.
``persona trace`` and ``persona forget`` walk it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rounds.artifacts import Artifact
from rounds.layout import STAGES, RoundFolder, adapter, trained_rows
from rounds.notes import MENDED, MENDED_PAIRS
from workbench.config import METHODS, Method
from workbench.errors import UserError, nearest
from workbench.store import read_json_lines

if TYPE_CHECKING:
    import networkx as nx

PERSONA = "persona-"
"""How the id of a persona's version begins."""
ADAPTER = "adapter_model.safetensors"
KINDS = {
    "ex": "row",
    "pf": "pair",
    "rv": "review",
    "dc": "decision",
    "sp": "split",
    "rs": "answer",
    "sc": "score",
    "dr": "drop",
    "md": "mended answer",
    "persona": "persona",
}
"""Prefix of an id → what it is, in words."""
_ADAPTER = re.compile(r"round-\d+/\w+")
_NO_RECORDS = ("qu-", "questions:")
"""Of what drops name: questions, and requests for some, that never became a record."""


@dataclass(frozen=True)
class Place:
    """Where a record stands."""

    round: str
    """Name of the round, such as ``round-001``."""
    file: str
    """``stage/file.jsonl`` in it."""
    line: int
    """1-based line."""

    def __str__(self) -> str:
        return f"{self.round}/{self.file}:{self.line}"


@dataclass(frozen=True)
class Lineage:
    """The graph, and where its nodes stand."""

    folder: Path
    """The persona's folder of rounds."""
    graph: nx.DiGraph[str]
    """Directed, from what was there first to what was made of it. Nodes are ids of records, ids of
    persona versions, and ``round-001/sft`` for an adapter."""
    places: dict[str, tuple[Place, ...]]
    """Id → every place that holds the record, in the order of rounds and stages."""

    def named(self, name: str) -> str:
        """Return the id that is meant by an id or the beginning of one.

        Raises:
            UserError: Nothing, or more than one, is meant.
        """
        if name in self.graph:
            return name
        matches = sorted(node for node in self.graph if node.startswith(name))
        if len(matches) == 1:
            return matches[0]
        if matches:
            what, fix = f"{len(matches)} ids begin with '{name}'", f"such as {matches[0]}"
            raise UserError(what, where=str(self.folder), fix=f"write more of it, {fix}")
        # Few of the ids, since each is compared letter by letter.
        alike = (str(node) for node in self.graph if node.startswith(name[:5]))
        fix = nearest(name, alike) or "ids stand in the rounds' JSONL files"
        raise UserError(f"no record has the id '{name}'", where=str(self.folder), fix=fix)

    def before(self, node: str) -> list[str]:
        """Return all that ``node`` was made from, what was first first."""
        import networkx as nx

        return _ordered(self.graph, nx.ancestors(self.graph, node))

    def after(self, node: str) -> list[str]:
        """Return all that was made of ``node``, what was first first."""
        import networkx as nx

        return _ordered(self.graph, nx.descendants(self.graph, node))

    def gaps(self, node: str) -> list[str]:
        """Return what is missing on the way back from ``node``; empty for a complete chain.

        A chain is complete when every id that a record names stands in a file, and when its ends
        are a persona's version, or what a person did: a review, a mended answer.
        """
        return [fault for one in (*self.before(node), node) if (fault := self.fault(one))]

    def fault(self, one: str) -> str:
        """Return what is missing at this one record, an empty string for nothing."""
        kind = kind_of(one)
        if kind == "persona" or one in self.places:
            ends = not any(True for _ in self.graph.predecessors(one))
            if ends and kind not in ("persona", "review", "mended answer"):
                return f"{one} names nothing that it was made from"
        elif kind != "adapter":
            return f"{one} is named as a parent, but stands in no file"
        return ""

    def record(self, node: str) -> dict[str, Any]:
        """Return the record itself, read from its first place; empty for what has none."""
        if not self.places.get(node):
            return {}
        place = self.places[node][0]
        for number, row in read_json_lines(self.folder / place.round / place.file):
            if number == place.line:
                return row
        return {}


def kind_of(node: str) -> str:
    """Return in one word what a node is: ``row``, ``pair``, ``review`` …, ``adapter``."""
    return "adapter" if "/" in node else KINDS.get(node.split("-")[0], "record")


def read_lineage(folder: Path) -> Lineage:
    """Read every round of a persona from its folder, such as ``runs/gym-trainer``.

    Raises:
        UserError: There is no round, or a file cannot be read.
    """
    import networkx as nx

    rounds = RoundFolder.open(folder, 1).all_rounds
    if not rounds:
        raise UserError("there is no round yet", where=str(folder), fix="`persona run` makes one")
    graph: nx.DiGraph[str] = nx.DiGraph()
    places: dict[str, list[Place]] = {}
    for one in rounds:
        trained = [method for method in METHODS if (one.path(adapter(method)) / ADAPTER).exists()]
        arms = _named_arms(one)
        files = [path for stage in STAGES for path in sorted(one.stage(stage).glob("*.jsonl"))]
        for path in (one.path(MENDED), one.path(MENDED_PAIRS), *files):
            if path.exists():
                name = Artifact(path.parent.name, path.name).path
                for number, row in _records(path):
                    places.setdefault(row["id"], []).append(Place(one.name, name, number))
                    parents = _parents(row, one.name, trained, arms)
                    graph.add_edges_from((parent, row["id"]) for parent in parents)
        for method in trained:
            _add_adapter(graph, one, method)
    graph.add_nodes_from(places)
    # A row that people kept names its reviews as parents, and they name the row: the first counts.
    both = [(a, b) for a, b in graph.edges if (b, a) in graph.edges and kind_of(b) == "review"]
    graph.remove_edges_from(both)
    return Lineage(folder, graph, {node: tuple(own) for node, own in places.items()})


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.stat().st_size:
        yield from ((number, row) for number, row in read_json_lines(path) if "id" in row)


def _parents(
    row: dict[str, Any], round_name: str, trained: Sequence[Method], arms: Mapping[str, Any]
) -> Iterator[str]:
    """Yield what a record was made from: its own parents, and what its fields name."""
    yield from row.get("parents", ())
    for name in ("record", "response", "prompt_id"):
        if row.get(name) and not row[name].startswith(_NO_RECORDS):
            yield row[name]
    if kind_of(row["id"]) == "mended answer":
        # Of an arm of the round that its source names, wherever the conversation was.
        of, _, arm = row["source"].partition("/")
        yield from (f"{of}/{part}" for part in arm.split("+") if part in METHODS)
    if kind_of(row["id"]) == "answer":
        # An arm's name tells of the stages whose adapter it has, such as sft and dpo of sft+dpo.
        parts = row["arm"].partition("@")[0].split("+")  # at a strength it is the same adapter
        yield from (f"{round_name}/{method}" for method in parts if method in trained)
        if _ADAPTER.fullmatch(str(arms.get(row["arm"], ""))):
            yield arms[row["arm"]]


def _named_arms(one: RoundFolder) -> dict[str, Any]:
    """Return the arms that the evaluation has beside the round's own, with what each of them is."""
    manifest = one.manifest("evaluate")
    return dict(manifest.settings.get("more", {})) if manifest else {}


def _add_adapter(graph: nx.DiGraph[str], one: RoundFolder, method: Method) -> None:
    """Link an adapter to the rows that it was trained on and to the adapter it went on from."""
    node = f"{one.name}/{method}"
    graph.add_node(node)
    own = one.path(trained_rows(method))
    if own.exists():
        graph.add_edges_from((row["id"], node) for _, row in _records(own))
    manifest = one.manifest(method)
    for name in manifest.inputs if manifest else ():
        path = one.folder / name
        if name.endswith("/adapter"):
            # Another round's is named with its round, this round's by its stage alone.
            start = name.removesuffix("/adapter")
            graph.add_edge(start if "/" in start else f"{one.name}/{start}", node)
        elif own.exists():
            continue
        elif path.suffix == ".jsonl" and path.exists() and "train" in path.stem:
            graph.add_edges_from((row["id"], node) for _, row in _records(path))


def _ordered(graph: nx.DiGraph[str], nodes: Iterable[str]) -> list[str]:
    import networkx as nx

    return list(nx.lexicographical_topological_sort(graph.subgraph(nodes)))
