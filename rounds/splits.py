"""What the splits of rounds hold: their sizes, and the proof that no related rows are in two.

In: split rounds, or any files of rows. Out: counts, or leaks. ``persona split`` prints them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.leaks import Item, Leak, find_leaks, read_items
from curation.related_rows import SIMILARITY
from rounds import layout
from rounds.artifacts import Artifact
from rounds.context import RoundContext
from rounds.layout import RoundFolder
from workbench.errors import UserError
from workbench.language.detection import language_of
from workbench.paraphrases import Meaning
from workbench.records import SPLITS, SplitName
from workbench.store import read_json_lines


@dataclass(frozen=True)
class SplitSizes:
    """How much is in each split of a round."""

    topics: Mapping[str, Mapping[SplitName, int]]
    """Topic → split → rows; those that stand in one split together, in the order of splits."""
    rows: Mapping[SplitName, int]
    pairs: Mapping[SplitName, int]
    groups: Mapping[SplitName, int]
    """Groups of related rows."""


def split_sizes(one: RoundFolder) -> SplitSizes:
    """Return the sizes of a round's splits.

    Raises:
        UserError: The round is not split yet.
    """
    topics: dict[str, Counter[SplitName]] = defaultdict(Counter)
    for split in SPLITS:
        for row in _lines(one, layout.EXAMPLES[split]):
            topics[row["topic"]][split] += 1
    groups: dict[SplitName, set[str]] = {split: set() for split in SPLITS}
    for assignment in _lines(one, layout.ASSIGNMENTS):
        groups[assignment["split"]].add(assignment["group"])

    def place(topic: str) -> tuple[int, str]:
        return min(map(SPLITS.index, topics[topic])), topic

    return SplitSizes(
        topics={topic: topics[topic] for topic in sorted(topics, key=place)},
        rows={split: sum(own[split] for own in topics.values()) for split in SPLITS},
        pairs={split: sum(1 for _ in _lines(one, layout.PREFERENCES[split])) for split in SPLITS},
        groups={split: len(names) for split, names in groups.items()},
    )


def _lines(one: RoundFolder, artifact: Artifact) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file of the split as they stand there.

    The split wrote them a moment ago, or its manifest's hashes held: to count them, none has to be
    made a record and identified anew.
    """
    one.require(artifact)
    path = one.path(artifact)
    if path.stat().st_size:
        yield from (row for _, row in read_json_lines(path))


@dataclass(frozen=True)
class LeakCheck:
    """What a leak check looked at, and the leaks."""

    items: list[Item]
    files: int
    leaks: list[Leak]
    similarity: float
    compared: str
    """What compared the questions by meaning."""
    rounds: tuple[str, ...] = ()
    """Names of the rounds whose files they were."""


def check_rounds(context: RoundContext, similarity: float | None = None) -> LeakCheck:
    """Look for related rows in two splits of all rounds of a persona, evaluation prompts included.

    ``similarity`` is the Jaccard similarity from which two questions are related; that of the
    configuration's split by default.

    Raises:
        UserError: No round is split yet.
    """
    rounds = split_rounds(context.round)
    if not rounds:
        raise UserError(
            "no round of this persona is split yet",
            where=str(context.round.folder.parent),
            fix="run `persona split` first, or name the files to compare",
        )
    settings = context.config.split
    files = [file for one in rounds for file in _files(one)]
    names = tuple(one.name for one in rounds)
    threshold = similarity or settings.related
    apart = settings.topics == "apart"
    return _check(files, threshold, context.meaning(settings.meaning), topics=apart, rounds=names)


def check_files(
    files: Sequence[tuple[Path, SplitName]], similarity: float | None = None
) -> LeakCheck:
    """Look for related rows in two splits of any files, each with its split; empty ones are fine.

    Raises:
        UserError: All are of one split, or a file cannot be read or its rows hold no question.
    """
    if len({split for _, split in files}) < 2:
        raise UserError(
            f"all files are of the split '{files[0][1]}', so nothing can leak",
            where=", ".join(str(path) for path, _ in files),
            fix="name files of two splits; --split says which split a file is of",
        )
    return _check(files, similarity or SIMILARITY, None, topics=False)


def split_rounds(one: RoundFolder) -> list[RoundFolder]:
    """Return the rounds of the same persona that were split, first ones first."""
    return [other for other in one.all_rounds if other.done("split")]


def test_files(one: RoundFolder) -> list[Path]:
    """Return the files of a split round that hold what it is evaluated by; none of them empty."""
    paths = (path for path, split in _files(one) if split == "test")
    return [path for path in paths if path.exists() and path.stat().st_size]


def _files(one: RoundFolder) -> Iterator[tuple[Path, SplitName]]:
    """Yield every file of a round whose rows are in a split, evaluation prompts among them."""
    for split in SPLITS:
        both: tuple[Artifact, ...] = (layout.EXAMPLES[split], layout.PREFERENCES[split])
        yield from ((one.path(artifact), split) for artifact in both)
    for artifact in (layout.PROBES, layout.RESPONSES):
        if one.has(artifact):
            yield one.path(artifact), "test"


def _check(
    files: Sequence[tuple[Path, SplitName]],
    similarity: float,
    meaning: Meaning | None,
    *,
    topics: bool,
    rounds: tuple[str, ...] = (),
) -> LeakCheck:
    filled = [(path, split) for path, split in files if not path.is_file() or path.stat().st_size]
    items = [item for path, split in filled for item in _once(read_items(path, split))]
    meaning = meaning or Meaning(language=language_of(item.questions[0] for item in items))
    leaks = find_leaks(items, similarity=similarity, topics=topics, meaning=meaning)
    return LeakCheck(items, len(files), leaks, similarity, meaning.name, rounds)


def _once(items: Iterable[Item]) -> Iterator[Item]:
    """Yield a file's rows; of several answers to one row of ours, such as the arms', the first."""
    seen = set()
    for item in items:
        if not item.ids or (item.ids, item.questions) not in seen:
            seen.add((item.ids, item.questions))
            yield item
