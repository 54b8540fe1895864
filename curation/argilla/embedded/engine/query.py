"""The query language of Argilla's search box, as SQLite full-text expressions.

It is the ``simple_query_string`` of Elasticsearch with AND as default: all words must match, in
any field; ``a | b`` either; ``-a`` without; ``"a b"`` in this order; ``"a b"~2`` near each other;
``be*`` begins with; parentheses group. What can't be parsed is taken as words, never an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from engine.words import units, words


@dataclass(frozen=True)
class Leaf:
    """One full-text expression (FTS5 syntax, without columns) that a field must satisfy."""

    match: str


@dataclass(frozen=True)
class Not:
    """What must not match."""

    node: Node


@dataclass(frozen=True)
class Junction:
    """Several nodes, of which all or any must match."""

    join: Literal["and", "or"]
    nodes: tuple[Node, ...]


Node = Leaf | Not | Junction

_TOKEN = re.compile(
    r"""\s*(?:(?P<op>[()|+])
    |(?P<minus>-+)(?=[^\s])
    |"(?P<phrase>(?:\\.|[^"\\])*)"(?:~(?P<slop>\d+))?
    |(?P<word>(?:\\.|[^\s()|+"\\])+)
    |(?P<stray>["\\]))""",
    re.VERBOSE,
)


@dataclass
class _Level:
    """What stands between two parentheses, read from left to right."""

    node: Node | None = None
    join: Literal["and", "or"] = "and"
    negated: bool = False

    def take(self, node: Node | None) -> None:
        if node is not None:
            node = Not(node) if self.negated else node
            self.node = node if self.node is None else _joined(self.join, self.node, node)
        self.join, self.negated = "and", False


def parse(text: str) -> Node | None:
    """Return the query's tree, or None where it holds no word (which matches nothing)."""
    levels = [_Level()]
    position = 0
    while (token := _TOKEN.match(text, position)) is not None:
        position = token.end()
        level = levels[-1]
        if token["op"] == "(":
            levels.append(_Level())
        elif token["op"] == ")":
            if len(levels) > 1:
                inner = levels.pop().node
                levels[-1].take(inner)
        elif token["op"]:
            level.join = "or" if token["op"] == "|" else "and"
        elif token["minus"]:
            level.negated = len(token["minus"]) % 2 == 1
        elif token["phrase"] is not None:
            level.take(_phrase(_unescaped(token["phrase"]), token["slop"]))
        elif token["word"]:
            level.take(_word(token["word"]))
    while len(levels) > 1:  # a parenthesis that was never closed
        inner = levels.pop().node
        levels[-1].take(inner)
    return levels[0].node


def _joined(join: Literal["and", "or"], left: Node, right: Node) -> Node:
    if isinstance(left, Junction) and left.join == join:
        return Junction(join, (*left.nodes, right))
    return Junction(join, (left, right))


def _word(raw: str) -> Node | None:
    prefix = raw.endswith("*") and not raw.endswith("\\*")
    raw = re.sub(r"~\d*$", "", raw.removesuffix("*") if prefix else raw)
    quoted = [_quoted(unit) for unit in units(_unescaped(raw))]
    if not quoted:
        return None
    if prefix:
        quoted[-1] += " *"
    return Leaf(" AND ".join(quoted))


def _phrase(raw: str, slop: str | None) -> Node | None:
    spoken = [word for unit in units(raw) for word in unit]
    if not spoken:
        return None
    if slop is not None:
        near = " ".join(_quoted(unit) for unit in units(raw))
        return Leaf(f"NEAR({near}, {min(int(slop), 1000)})")
    return Leaf(_quoted(tuple(words(raw).split())))


def _quoted(unit: tuple[str, ...]) -> str:
    return '"' + " ".join(unit) + '"'  # no word holds a quotation mark


def _unescaped(raw: str) -> str:
    return re.sub(r"\\(.)", r"\1", raw)
