"""The chain of filters that every candidate row goes through before people see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from curation.filters import rules
from curation.filters.near import near_pairs
from curation.filters.personal import find_personal_data, mask_personal_data
from workbench.persona import Persona
from workbench.records import Drop, Example

STAGE = "filter"


class FilterSettings(BaseModel):
    """What a team may decide about the filters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    near_duplicate: float = Field(default=0.7, gt=0, le=1)
    """Jaccard similarity of question and answer from which the later row is dropped."""
    personal_data: Literal["drop", "mask"] = "drop"


@dataclass(frozen=True)
class Filtered:
    """Rows kept and rows dropped, with the share kept."""

    kept: list[Example]
    dropped: list[Drop]

    @property
    def kept_share(self) -> float:
        """Kept rows over all rows; 1.0 when there were none."""
        total = len(self.kept) + len(self.dropped)
        return len(self.kept) / total if total else 1.0

    @property
    def reasons(self) -> dict[str, int]:
        """Number of drops by reason, most first."""
        return dict(Counter(drop.reason for drop in self.dropped).most_common())


def filter_examples(
    examples: Sequence[Example], persona: Persona, settings: FilterSettings | None = None
) -> Filtered:
    """Put every example through the filters, in the order of their cost.

    A row is dropped by the first filter that objects. Masked rows are new records whose parent is
    the row as it came.
    """
    settings = settings or FilterSettings()
    chain = (
        rules.refusal,
        rules.unsafe(persona),
        rules.answer_length(persona),
        rules.language(persona),
    )
    kept: list[Example] = []
    dropped: list[Drop] = []
    for example in examples:
        verdict = next((v for check in chain if (v := check(example))), None)
        checked = example
        if not verdict:
            checked, verdict = _personal(example, persona, settings)
        if verdict:
            dropped.append(drop(example, *verdict))
        else:
            kept.append(checked)
    return _without_near_duplicates(kept, dropped, settings.near_duplicate)


def drop(example: Example, reason: str, detail: str) -> Drop:
    """Return the record of a dropped example."""
    return Drop(
        record=example.id,
        stage=STAGE,
        reason=reason,
        detail=detail,
        source=example.source,
        parents=(example.id,),
    )


def _personal(
    example: Example, persona: Persona, settings: FilterSettings
) -> tuple[Example, rules.Verdict]:
    found = find_personal_data(f"{example.question}\n{example.answer}", persona.language)
    if not found:
        return example, None
    if settings.personal_data == "drop":
        # The kind is told, the data itself is not repeated in another file.
        return example, ("personal_data", ", ".join(sorted({item.kind for item in found})))
    prompt = tuple(
        m.model_copy(update={"content": mask_personal_data(m.content, persona.language)})
        for m in example.prompt
    )
    answer = mask_personal_data(example.answer, persona.language)
    return example.evolve(prompt=prompt, answer=answer, parents=(example.id,)), None


def _without_near_duplicates(
    kept: list[Example], dropped: list[Drop], threshold: float
) -> Filtered:
    texts = [f"{example.question}\n{example.answer}" for example in kept]
    gone: set[int] = set()
    for earlier, later, similarity in near_pairs(texts, threshold):
        if earlier in gone or later in gone:
            continue
        gone.add(later)
        detail = f"{similarity:.2f} alike to {kept[earlier].source or kept[earlier].id}"
        dropped.append(drop(kept[later], "near_duplicate", detail))
    return Filtered([e for i, e in enumerate(kept) if i not in gone], dropped)
