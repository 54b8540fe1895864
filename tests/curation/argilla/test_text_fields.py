"""Any text goes to Argilla and comes back as it was, but for what the border normalizes."""

from __future__ import annotations

import html
import itertools
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from curation.argilla.client import Connection, connected, existing_dataset, records_of
from curation.argilla.pull import pull
from curation.argilla.push import push
from curation.argilla.recorded import submit_lost
from tests.curation.review_team import few
from workbench.persona import Persona
from workbench.records import Review, user_prompt
from workbench.text import normalize

NUMBERS = itertools.count(150)
MARKUP = ("<b>x</b>", "&amp;lt;", "&#38;", "<!-- -->", "</div>", "\\u0041", "${x}", "  ", "\n\n")
DECOMPOSED = unicodedata.normalize("NFD", "가나")
MARKS = (DECOMPOSED, "\x00", "\ufeff", "\u200b", "\u2028", "\r\n", "👩‍👩‍👧", "مرحبا")
NASTY = st.sampled_from([*MARKUP, *MARKS])
TEXTS = st.lists(
    st.lists(NASTY | st.text(st.characters(codec="utf-8"), max_size=20), max_size=6).map("".join),
    min_size=30,
    max_size=30,
)


@settings(max_examples=2, deadline=None, database=None, derandomize=True)
@given(texts=TEXTS)
def test_every_field_comes_back_normalized(
    owner: Connection, logins: dict[str, Connection], coach: Persona, texts: list[str]
) -> None:
    name = f"round-{next(NUMBERS)}"
    rows = [
        row.evolve(prompt=user_prompt(f"{number} {normalize(text)}"), answer=f"A{normalize(text)}")
        for number, (row, text) in enumerate(zip(few(len(texts)), texts, strict=True))
    ]
    pushed = push(owner, coach, name, rows, reviewers_per_record=1)
    reviews = [
        Review(
            reviewer="reviewer-1",
            record=row.id,
            answers={"fidelity": 4, "corrected": text, "note": text[::-1]},
        )
        for row, text in zip(rows, texts, strict=True)
    ]
    assert submit_lost(owner, coach, name, reviews, rows, logins) == {"reviewer-1": len(rows)}
    with connected(owner) as client:
        held = records_of(client, existing_dataset(client, owner, pushed.dataset))
    fields = {one["external_id"]: one["fields"] for one in held}
    answers = {one.record: one.answers for one in pull(owner, coach, name)}
    for row, text in zip(rows, texts, strict=True):
        shown = {field: html.unescape(value) for field, value in fields[row.id].items()}
        assert shown == {"question": row.question, "answer": row.answer}
        assert answers[row.id]["corrected"] == normalize(text)
        assert answers[row.id]["note"] == normalize(text[::-1])
