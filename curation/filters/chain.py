"""The chain of filters that every row goes through, before people see it and after.

Rows and pairs come in from the filter stage, and once more from the resolve stage, which filters
what reviewers wrote; rows kept, pairs kept and a drop with its reason for every other go out.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

from curation.filters import rules
from curation.filters.rules import DropReason, find_personal_data, mask_personal_data
from workbench.config import FilterSettings
from workbench.console import console, tracked
from workbench.cores import on_all_cores
from workbench.near_duplicates import LazyTexts, repeats
from workbench.paraphrases import SAME_ANSWER, Meaning
from workbench.persona import Language, Persona
from workbench.records import Drop, Example, Preference

STAGE = "filter"
MOST_COMPARED = 2000
"""Rows beyond which their meaning is not compared: embedding them takes longer than all else."""
MOST_ASKING = 20
"""Rows with one question whose answers are compared."""
R = TypeVar("R", Example, Preference)


@dataclass(frozen=True)
class Filtered:
    """Rows kept and rows dropped."""

    examples: list[Example]
    drops: list[Drop]
    preferences: list[Preference] = field(default_factory=list)
    """Pairs kept; their drops are among ``drops``."""

    @property
    def reasons(self) -> dict[str, int]:
        """Number of drops by reason, most first."""
        return dict(Counter(drop.reason for drop in self.drops).most_common())


def filter_examples(
    examples: Sequence[Example],
    persona: Persona,
    settings: FilterSettings | None = None,
    *,
    preferences: Sequence[Preference] = (),
    stage: str = STAGE,
    meaning: Meaning | None = None,
    contested: Collection[str] = (),
) -> Filtered:
    """Put every row through the filters, in the order of their cost.

    A row is dropped by the first filter that objects. Masked rows are new records whose parent is
    the row as it came. Of a pair, the chosen answer has to pass all filters; the rejected one may
    be faulty, but for personal data. Among ``preferences`` only exact repetitions count as
    duplicates. Rows whose ids are ``contested``, and what was made of them, go on whatever a filter
    says, but for exact repetitions and personal data: somebody said that the drop was an error.
    """
    settings = settings or FilterSettings()
    chain = _Chain(persona, settings, stage, frozenset(contested))
    objections: Iterator[_Objection] = on_all_cores(
        partial(_objections, persona, settings), examples
    )
    candidates = tracked("filtering rows", zip(examples, objections, strict=True), len(examples))
    rows = [row for example, own in candidates if (row := chain.passed(example, own))]
    rows = chain.without_near_duplicates(rows)
    if meaning and len(rows) <= MOST_COMPARED:
        rows = chain.without_reworded(rows, meaning)
    elif meaning:
        console.print(f"  {len(rows)} rows are compared by wording alone: over {MOST_COMPARED}")
    pairs = [passed for pair in preferences if (passed := chain.passed_pair(pair))]
    return Filtered(rows, chain.drops, pairs)


class _Objection(NamedTuple):
    """What a row's own text says against it."""

    rule: DropReason
    """Of the first rule that objects."""
    personal: str
    """The kinds of personal data in it."""


def _objections(
    persona: Persona, settings: FilterSettings, rows: Sequence[Example]
) -> list[_Objection]:
    """Return what is said of each row by itself, whatever others there are."""
    own = (
        rules.refusal(persona),
        rules.unsafe(persona),
        *((rules.must_not(persona),) if settings.must_not == "drop" else ()),
        rules.answer_length(persona),
        rules.language(persona),
    )
    return [
        _Objection(
            next((reason for rule in own if (reason := rule(row))), None),
            _personal((_conversation(row), row.answer), persona.language),
        )
        for row in rows
    ]


def _personal(texts: Sequence[str], language: Language) -> str:
    """Return the kinds of personal data; the data itself is not repeated in another file."""
    return ", ".join(sorted({one.kind for one in find_personal_data("\n".join(texts), language)}))


class _Chain:
    """The filters of one persona, and what they have dropped so far."""

    def __init__(
        self, persona: Persona, settings: FilterSettings, stage: str, contested: frozenset[str]
    ) -> None:
        self._persona, self._settings, self._stage = persona, settings, stage
        self._contested = contested
        self._first: dict[bytes, str] = {}
        """Digest of the texts of each row so far → where the first of them came from."""
        self.drops: list[Drop] = []

    def passed(self, example: Example, objection: _Objection) -> Example | None:
        """Return the row, masked where that is the policy; None where it is dropped."""
        texts = (_conversation(example), example.answer)
        reason = self._repeated(example, texts) or self._heeded(example, objection)
        if not reason and objection.personal:
            if self._settings.personal_data == "mask":
                return _masked(example, self._mask, answer=self._mask(example.answer))
            reason = "personal_data", objection.personal
        return None if self._drop(example, reason) else example

    def passed_pair(self, pair: Preference) -> Preference | None:
        """Return the pair, masked where that is the policy; None where it is dropped."""
        candidate = Example(prompt=pair.prompt, answer=pair.chosen)
        texts = (_conversation(pair), pair.chosen, pair.rejected)
        [objection] = _objections(self._persona, self._settings, [candidate])
        reason = self._repeated(pair, texts) or self._heeded(pair, objection)
        if not reason and (kinds := _personal(texts, self._persona.language)):
            chosen, rejected = self._mask(pair.chosen), self._mask(pair.rejected)
            if self._settings.personal_data == "mask" and chosen != rejected:
                return _masked(pair, self._mask, chosen=chosen, rejected=rejected)
            reason = "personal_data", kinds
        return None if self._drop(pair, reason) else pair

    def without_near_duplicates(self, rows: list[Example]) -> list[Example]:
        """Return the rows but for those that nearly repeat an earlier one."""
        texts = LazyTexts(rows, lambda row: f"{row.question}\n{row.answer}")
        gone: set[int] = set()
        for earlier, later, similarity in repeats(texts, self._settings.near_duplicate):
            if rows[later].id in self._contested:
                continue
            gone.add(later)
            detail = f"{similarity:.2f} alike to {rows[earlier].source or rows[earlier].id}"
            self._drop(rows[later], ("near_duplicate", detail))
        return [row for index, row in enumerate(rows) if index not in gone]

    def without_reworded(self, rows: list[Example], meaning: Meaning) -> list[Example]:
        """Return the rows but for those that ask and answer the same as an earlier one."""
        asking: dict[str, list[int]] = defaultdict(list)
        for place, row in enumerate(rows):
            asking[row.question].append(place)
        questions = list(asking)
        alike = [(place, place, 1.0) for place in range(len(questions))]
        couples = {
            (min(one, other), max(one, other)): by
            for left, right, by in (*alike, *meaning.pairs(questions))
            for one in asking[questions[left]][:MOST_ASKING]
            for other in asking[questions[right]][:MOST_ASKING]
            if one != other
        }
        gone: set[int] = set()
        answers = {place: rows[place].answer for couple in couples for place in couple}
        cosines = meaning.cosines(answers)
        for (earlier, later), by in sorted(couples.items()):
            if rows[later].id in self._contested:
                continue
            if gone & {earlier, later} or (same := cosines(earlier, later)) < SAME_ANSWER:
                continue
            gone.add(later)
            named = rows[earlier].source or rows[earlier].id
            detail = f"says the same as {named}: question {by:.2f}, answer {same:.2f} alike"
            self._drop(rows[later], ("near_duplicate", detail))
        return [row for place, row in enumerate(rows) if place not in gone]

    def _heeded(self, row: Example | Preference, objection: _Objection) -> DropReason:
        """Return what the first rule says of a row, unless somebody contested it."""
        contested = not self._contested.isdisjoint((row.id, *row.parents))
        return None if contested else objection.rule

    def _repeated(self, row: Example | Preference, texts: tuple[str, ...]) -> DropReason:
        # A digest: the texts themselves would all be held a second time.
        folded = "\0".join(" ".join(text.split()) for text in texts)
        key = hashlib.blake2b(folded.encode(), digest_size=16).digest()
        if key in self._first:
            return "exact_duplicate", f"the same as {self._first[key]}"
        self._first[key] = row.source or row.id
        return None

    def _mask(self, text: str) -> str:
        return mask_personal_data(text, self._persona.language)

    def _drop(self, row: Example | Preference, reason: DropReason) -> bool:
        if reason:
            self.drops.append(Drop.of(row, self._stage, *reason))
        return bool(reason)


def _conversation(row: Example | Preference) -> str:
    return "\n".join(message.content for message in row.prompt)


def _masked(row: R, mask: Callable[[str], str], **texts: str) -> R:
    prompt = tuple(m.model_copy(update={"content": mask(m.content)}) for m in row.prompt)
    return row.evolve(prompt=prompt, parents=(row.id,), **texts)
