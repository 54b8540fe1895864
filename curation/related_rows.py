"""What relates two rows, so that they must not be in two splits: one meaning everywhere.

Rows come in from the split stage; :class:`LeakageGroups` puts those that are related into one
group. The leak check of any files (:mod:`curation.leaks`) goes by the same ids and questions.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from workbench.config import SplitSettings
from workbench.errors import UserError
from workbench.near_duplicates import LazyTexts, paraphrase_pairs
from workbench.records import Example, Preference, Row, SplitName
from workbench.text import normalize

SIMILARITY = SplitSettings().related
"""Similarity of two questions from which their rows are related, whatever their topic."""
FEWEST_CHARACTERS = 20
"""Length from which one turn of a longer conversation is compared by itself."""
_RECORD = re.compile(r"(?:ex|pf)-[0-9a-f]{16}")
_SPACE = re.compile(r"\s+")


def record_ids(values: Iterable[object]) -> list[str]:
    """Return those of ``values`` that are ids of examples or preferences.

    Others are shared by rows that are not related: a persona's, a reviewer's, a number.
    """
    return [value for value in values if isinstance(value, str) and _RECORD.fullmatch(value)]


def questions(turns: Sequence[str]) -> tuple[str, ...]:
    """Return the texts by which a conversation is compared, case and spaces folded.

    All that the user says, and each of several turns that is long enough to be a question of its
    own: a chat may open with the question that stands alone in another file.
    """
    composed = (normalize(turn) for turn in turns)  # files of others are checked for leaks, too
    folded = [text for turn in composed if (text := _SPACE.sub(" ", turn).strip().casefold())]
    whole = "\n".join(folded)
    alone = [text for text in folded if len(text) >= FEWEST_CHARACTERS]
    return tuple(dict.fromkeys([whole, *alone])) if whole else ()


def questions_of(row: Row) -> tuple[str, ...]:
    """Return the texts by which a row of ours is compared."""
    return questions([turn.content for turn in row.prompt if turn.role == "user"])


class Placed(NamedTuple):
    """A row of an earlier round, and the split that it was put in there."""

    row: Example | Preference
    split: SplitName
    round: str


class LeakageGroups:
    """Groups of related rows, grown row by row: connected components over keys that rows share.

    A row's keys are its id, those of its ancestors, its questions and, unless topics are spread,
    its topic. A row that shares a key with an earlier one, or whose question nearly repeats or
    paraphrases an earlier one's, joins that one's group.

    Args:
        rows: All rows that will be taken up.
        settings: Whether topics stay apart, and from which similarity questions are related.
    """

    def __init__(self, rows: Sequence[Example | Preference], settings: SplitSettings) -> None:
        from scipy.cluster.hierarchy import DisjointSet

        # Every text once; where it stands, not the text itself.
        at = {
            question_key(text): (row, place)
            for row in rows
            for place, text in enumerate(questions_of(row))
        }
        names = list(at)
        texts = LazyTexts(list(at.values()), lambda place: questions_of(place[0])[place[1]])
        self._near: dict[str, list[str]] = defaultdict(list)
        for one, other, _ in paraphrase_pairs(texts, settings.related):
            self._near[names[one]].append(names[other])
            self._near[names[other]].append(names[one])
        self._apart = settings.topics == "apart"
        self._components = DisjointSet()
        self._split: dict[str, tuple[SplitName, str]] = {}
        """Root of a component → its split, and the row that put it there."""
        self._labels: dict[str, str] = {}

    def place(self, placed: Placed) -> None:
        """Take up a row of an earlier round.

        Raises:
            UserError: It is related to a row that an earlier round has put in another split.
        """
        name = f"{placed.round} {placed.row.source or placed.row.id}"
        own = self._keys(placed.row)
        links = self._shared_keys(own)
        splits = self._splits_of(links) | {placed.split: name}
        if len(splits) > 1:
            raise UserError(
                "earlier rounds have put related rows in two splits: " + _listed(splits),
                fix="`persona split --check` lists them all; make that round's split again",
            )
        self._join(placed.row, own, links, splits)

    def admit(self, row: Example | Preference) -> str:
        """Take up a new row, or return why it can't be: it is related to rows in two splits."""
        own = self._keys(row)
        links = self._shared_keys(own)
        splits = self._splits_of(links)
        if len(splits) > 1:
            return f"related to {_listed(splits)}"
        self._join(row, own, links, splits)
        return ""

    def group(self, row: Example | Preference) -> str:
        """Return the name of the group that ``row`` is in."""
        return self._labels[self._components[row.id]]

    def splits(self) -> dict[str, SplitName]:
        """Return the groups whose split stands already."""
        return {self._labels[root]: split for root, (split, _) in self._split.items()}

    def _splits_of(self, links: Iterable[str]) -> dict[SplitName, str]:
        roots = {self._components[key] for key in links}
        return dict(self._split[root] for root in sorted(roots) if root in self._split)

    def _shared_keys(self, own: Sequence[str]) -> list[str]:
        """Return the keys that rows taken up before share with a row's own, or nearly so."""
        near = [key for name in own for key in self._near.get(name, ())]
        return [key for key in (*own, *near) if key in self._components]

    def _join(
        self,
        row: Example | Preference,
        own: Sequence[str],
        links: Sequence[str],
        splits: Mapping[SplitName, str],
    ) -> None:
        roots = {self._components[key] for key in links}
        named = row.topic if self._apart else ""
        label = min([named or f"row:{row.id}", *(self._labels.pop(root) for root in roots)])
        for root in roots:
            self._split.pop(root, None)
        for key in own:
            self._components.add(key)
        for key in (*own, *links):
            self._components.merge(row.id, key)
        root = self._components[row.id]
        self._labels[root] = label
        for entry in splits.items():
            self._split[root] = entry

    def _keys(self, row: Example | Preference) -> list[str]:
        """Return what rows of one group may share; the row's own id comes first."""
        topic = [f"topic:{row.topic}"] if row.topic and self._apart else []
        texts = (question_key(text) for text in questions_of(row))
        return [row.id, *record_ids(row.parents), *topic, *texts]


def question_key(text: str) -> str:
    """Return the key that rows with this question share."""
    return f"question:{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


def _listed(splits: Mapping[SplitName, str]) -> str:
    return ", ".join(f"{row} ({split})" for split, row in sorted(splits.items()))
