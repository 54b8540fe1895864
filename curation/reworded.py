"""Rows that ask the same in other words, kept from standing in two splits.

In: rows with their groups and splits, and how questions are compared by meaning. Out: groups
joined, and the rows that have to go. The split calls it. Related wording joins rows into one group
of any size. Of the pairs of questions about one subject one in some five hundred is alike in
meaning, so that joining all of these would chain a large dataset into one group. Hence only small
groups are joined, the likest first, and what still asks the same in two splits is taken out of
training.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence

from curation.related_rows import question_key, questions_of
from workbench.near_duplicates import LazyTexts
from workbench.paraphrases import Meaning
from workbench.records import SPLITS, Row, SplitName

LARGEST = 0.05
"""Share of the rows that a group joined by meaning may hold."""


class Rewordings:
    """The questions of rows that ask the same in other words.

    Args:
        rows: All rows, those of earlier rounds among them.
        meaning: How questions are compared; without it none are.
    """

    def __init__(self, rows: Sequence[Row], meaning: Meaning | None) -> None:
        self._pairs: list[tuple[str, str, float]] = []
        """Keys of questions that ask the same, likest first, with their likeness."""
        self._rows: dict[str, list[str]] = defaultdict(list)
        """Key of a question → ids of the rows that ask it; they are of one group."""
        if meaning is None:
            return
        self._names = {row.id: row.source or row.id for row in rows}
        at: dict[str, tuple[Row, int]] = {}
        for row in rows:
            for place, text in enumerate(questions_of(row)):
                key = question_key(text)
                at.setdefault(key, (row, place))
                self._rows[key].append(row.id)
        keys = list(at)
        texts = LazyTexts(list(at.values()), lambda place: questions_of(place[0])[place[1]])
        self._pairs += [(keys[a], keys[b], likeness) for a, b, likeness in meaning.pairs(texts)]

    def join(self, group_of: dict[str, str], closed: Container[str]) -> None:
        """Join small groups that ask the same, likest first; the name of one stands for both.

        Args:
            group_of: Id of a row → its group; joined groups get one name here.
            closed: Groups that take in no other: a topic, or one whose split stands.
        """
        members = defaultdict(list)
        for row, group in group_of.items():
            members[group].append(row)
        most = LARGEST * sum(len(rows) for group, rows in members.items() if group not in closed)
        for *keys, _ in self._pairs:
            groups = sorted({group_of[self._rows[key][0]] for key in keys})
            size = sum(len(members[group]) for group in groups)
            if len(groups) < 2 or size > most or any(group in closed for group in groups):
                continue
            name, gone = groups
            for row in members[gone]:
                group_of[row] = name
            members[name] += members.pop(gone)

    def across(self, split_of: Mapping[str, SplitName], earlier: Container[str]) -> dict[str, str]:
        """Return the rows to take out, so that no two splits ask the same, each with the reason.

        Of two the one goes that is nearer to training; one of an earlier round stays, since what
        was trained on or measured there can't be taken back.

        Args:
            split_of: Id of a row → its split.
            earlier: Ids of the rows of earlier rounds.
        """
        gone: dict[str, str] = {}
        for *keys, likeness in self._pairs:
            low, high = sorted(
                ([row for row in self._rows[key] if row not in gone] for key in keys),
                key=lambda rows: SPLITS.index(split_of[rows[0]]) if rows else -1,
            )
            if not low or split_of[low[0]] == split_of[high[0]]:
                continue
            for rows, others in ((low, high), (high, low)):
                if new := [row for row in rows if row not in earlier]:
                    why = (
                        f"{likeness:.2f} alike to {self._names[others[0]]} ({split_of[others[0]]})"
                    )
                    gone |= dict.fromkeys(new, why)
                    break
        return gone
