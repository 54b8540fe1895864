"""What a log of a served model may bring into a round, and what is kept out of it.

In: the rows of a log, as the import read them. Out: candidates, and a drop with its reason for
every other row: personal data by the configuration's policy, before anything of it is written; what
the evaluation asks; turns whose conversation goes on in another line. The stage ``import`` calls
it; filters and review then treat the candidates like all others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from curation.filters.rules import find_personal_data, mask_personal_data
from curation.leaks import Item, find_leaks, read_items
from curation.related_rows import questions_of
from evaluation.probes import read_probes
from generation.importing import STAGE, Imported
from rounds.context import RoundContext
from rounds.splits import split_rounds, test_files
from workbench.console import console
from workbench.records import Drop, Example, Message
from workbench.text import counted, some_of

TEST_PROMPT = "test_prompt"
"""Reason of a row that asks what the evaluation asks."""


def candidates_of(context: RoundContext, imported: Imported) -> Imported:
    """Return a log's rows without those that may not come in; what became of all is printed.

    Raises:
        UserError: A file of an earlier round, or the persona's probes, cannot be read.
    """
    rows, drops = imported.examples, list(imported.dropped)
    for part in (_last_turns, _personal, _untested):
        rows, dropped = part(context, rows)
        drops += dropped
    reasons = Counter(drop.reason for drop in drops)
    whose = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    console.print(
        f"  a served model's log: {counted(imported.rows, 'line')}, {len(rows)} candidates"
        + (f"; kept out: {whose}" if whose else ""),
        markup=False,
    )
    if tests := [drop.source for drop in drops if drop.reason == TEST_PROMPT]:
        what = f"{counted(len(tests), 'row')} of it ask what the evaluation asks"
        console.print(f"  {what}: {some_of(tests)}", markup=False)
    return replace(imported, examples=rows, dropped=drops)


_RowsAndDrops = tuple[list[Example], list[Drop]]
"""Rows that may come in, and a drop of each other one."""


def _last_turns(_: RoundContext, rows: Sequence[Example]) -> _RowsAndDrops:
    """Keep the last answer of each conversation: a log repeats what was said in every request."""
    later: dict[tuple[Message, ...], str] = {}
    for row in rows:
        for end in range(1, len(row.prompt)):
            later.setdefault(row.prompt[:end], row.source)
    return _filter(
        rows,
        lambda row: later.get((*row.prompt, Message(role="assistant", content=row.answer)), ""),
        "earlier_turn",
        "its conversation goes on in {}",
    )


def _filter(
    rows: Sequence[Example], why: Callable[[Example], str], reason: str, detail: str
) -> _RowsAndDrops:
    """Return the rows of which ``why`` says nothing, and a drop of each other one."""
    drops = [
        Drop.of(row, STAGE, reason, detail.format(word), *row.parents)
        for row in rows
        if (word := why(row))
    ]
    dropped = {drop.source for drop in drops}
    return [row for row in rows if row.source not in dropped], drops


def _personal(context: RoundContext, rows: Sequence[Example]) -> _RowsAndDrops:
    """Drop or mask personal data, as the filters would: here before it is written anywhere."""
    language = context.persona.language

    def kinds(row: Example) -> str:
        texts = "\n".join([*(turn.content for turn in row.prompt), row.answer])
        return ", ".join(sorted({one.kind for one in find_personal_data(texts, language)}))

    if context.config.filter.personal_data == "drop":
        return _filter(rows, kinds, "personal_data", "{}")
    return [_masked(row, context) if kinds(row) else row for row in rows], []


def _masked(row: Example, context: RoundContext) -> Example:
    def mask(text: str) -> str:
        return mask_personal_data(text, context.persona.language)

    prompt = [turn.model_copy(update={"content": mask(turn.content)}) for turn in row.prompt]
    return row.evolve(prompt=prompt, answer=mask(row.answer))


def _untested(context: RoundContext, rows: Sequence[Example]) -> _RowsAndDrops:
    """Keep what the evaluation asks out: whoever is trained on it can't be tested by it."""
    tests = {text: item.where for item in _test_items(context) for text in item.questions}
    asked = {text for row in rows for text in questions_of(row)}
    settings = context.config.split
    # An item a text: of several rows that share one, a leak check names the first alone.
    leaks = find_leaks(
        [Item(text, "test", (text,)) for text in tests]
        + [Item(text, "train", (text,)) for text in sorted(asked)],
        similarity=settings.related,
        meaning=context.meaning(settings.meaning) if tests and asked else None,
    )
    whys: dict[str, str] = {}
    for leak in leaks:
        test, own = sorted((leak.one, leak.other), key=lambda item: item.split)
        whys.setdefault(own.where, f"{leak.why}: {tests[test.where]}")
    return _filter(
        rows,
        lambda row: next((whys[text] for text in questions_of(row) if text in whys), ""),
        TEST_PROMPT,
        "{}",
    )


def _test_items(context: RoundContext) -> Iterator[Item]:
    """Yield what the evaluation of any round asks, and the persona's own probes."""
    for one in split_rounds(context.round):
        for file in test_files(one):
            yield from read_items(file, "test")
    for path in context.persona_files("probes.jsonl").values():
        for number, probe in enumerate(read_probes(path, context.persona), start=1):
            yield Item(f"{path.name}:{number}", "test", questions_of(probe))
