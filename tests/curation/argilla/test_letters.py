"""A reviewer sees a text letter by letter, whatever looks like markup in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.argilla.client import Connection
from curation.argilla.dataset import check_guide, guidelines
from curation.argilla.pull import pull, review_progress
from curation.argilla.push import push
from curation.argilla.server import Server, ServerHome, start
from tests.curation.review_page import ReviewPage, browsing
from workbench.errors import UserError
from workbench.persona import Persona
from workbench.records import Example, user_prompt

REVIEWER = "letters-reviewer"
ROUND = "round-025"
TEXTS = [
    "load <a third, <b>bold</b> and </script> &amp; &lt; <img src=x onerror=alert(1)>",
    "3*10*2 is *not* _magic_, `code`, ~~gone~~, [a](http://b.c) and ![p](no/d.png)",
    "# no heading\n## nor this\n- no list\n1. nor this\n> no quote\n---\n```\nno code\n```",
    "    four spaces lead\n\n\ntwo blank lines, and  two spaces   then three\n\ttab",
    "| no | table |\n|---|---|\n| a | b |",
    "it costs $5 and $x^2$ and \\(y\\) and $$z$$ and \\n and {{ field }} and ${field}",
    "한국어와 हिन्दी, שלום עולם, مرحبا بالعالم, é composed, 👩‍👩‍👧 and 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "x" * 300 + " " + "가" * 300,
]


@pytest.fixture
def ui(
    chromium: str, argilla_server: Server, argilla_home: ServerHome
) -> Iterator[tuple[ReviewPage, Server]]:
    server = start(argilla_home, [REVIEWER], reuse=True)
    with browsing(chromium, server.url) as opened:
        yield opened, server


def test_texts_are_shown_and_come_back_letter_by_letter_and_pictures_beside_them(
    ui: tuple[ReviewPage, Server], coach: Persona, tmp_path: Path
) -> None:
    from PIL import Image

    Image.new("RGB", (40, 30), "red").save(tmp_path / "me.png")
    page, server = ui
    owner = Connection(server.url, server.owner_api_key)
    rows = [
        Example(
            prompt=user_prompt(f"Q{number}: {text}"),
            answer=text,
            images=() if number else ("me.png",),
        )
        for number, text in enumerate(TEXTS)
    ]
    shown = [rows[0], rows[1], rows[5]]
    push(owner, coach, ROUND, rows, reviewers_per_record=1, few_shot=shown, folder=tmp_path)
    page.sign_in(server.logins[REVIEWER])
    page.open(review_progress(owner, coach, ROUND).url)
    guide = page.guidelines()
    assert all(" ".join(row.answer.split()) in guide for row in shown)
    seen: set[str] = set()
    for done in range(1, len(TEXTS) + 1):
        number = page.next_row(seen)
        seen.add(f"Q{number}")
        question, answer = page.texts()
        assert (question, answer) == (f"Q{number}: {TEXTS[number]}", TEXTS[number])
        assert page.written("corrected") == answer
        assert page.pictures() == ([] if number else [40])
        page.rate(4)
        page.press("Submit")
        page.has_done("Submitted", done)
    corrected = {one.record: one.answers["corrected"] for one in pull(owner, coach, ROUND)}
    assert corrected == {row.id: row.answer for row in rows}


def test_a_guide_or_label_that_argilla_refuses_is_told_with_its_length(coach: Persona) -> None:
    check_guide(coach)
    long = coach.model_copy(update={"role": "One sentence of ten words. " * 400})
    with pytest.raises(UserError, match=r"guide has 1\d{4} characters, and Argilla takes 10000"):
        check_guide(long)
    traits = (coach.traits[0].model_copy(update={"name": "x" * 600}), *coach.traits[1:])
    with pytest.raises(UserError, match=r"a label of 6\d\d characters, and Argilla takes 500"):
        check_guide(coach.model_copy(update={"traits": traits}))


def test_examples_of_the_guide_are_no_markup(coach: Persona) -> None:
    row = Example(prompt=user_prompt("1. *a*\n- b"), answer="- <i> $x$")
    guide = guidelines(coach, [row])
    assert r"**1\. \*a\* - b**" + "\n\n" + r"> \- \<i\> \$x\$" in guide
