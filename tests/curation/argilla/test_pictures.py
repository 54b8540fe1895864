"""The labeler's pages of the documentation show the real server: their pictures are taken here.

`make docs-pictures` keeps them in docs/pictures; a test run only sees that they can be taken.
"""

from __future__ import annotations

import os
import re
from io import BytesIO
from pathlib import Path

import pytest

from curation.argilla.client import Connection
from curation.argilla.pull import review_progress
from curation.argilla.push import push
from curation.argilla.server import Server, ServerHome, start
from generation.importing import import_rows
from tests.curation.review_page import ReviewPage, browsing
from tests.curation.review_team import seeds
from workbench.persona import load_persona

pytestmark = pytest.mark.slow

KEPT = "PERSONA_PICTURES"
"""Variable that names the folder in which pictures are kept."""
MOST_BYTES = 150_000
REVIEWER = "reviewer-1"
COLOURS = 64
SIZE = (1180, 820)
"""Pixels; wider, and the text is too small to read on the page."""
ENCYCLOPEDIA = {
    "gym-trainer": "There are several possible causes. It is important to consult an expert.",
    "gym-trainer-ko": "여러 가지 원인이 있을 수 있습니다. 전문가와 상담하는 것이 중요합니다.",
}
"""An answer that misses the persona, such as the base model gives; rules find most of it."""
TALK_HEIGHT = 1060
"""So high that a conversation is seen down to the answer."""
OFF_TOPIC = 3
"""Place of the conversation whose last answer forgets what was asked."""
NOTE = {
    "gym-trainer": "Right advice, but no address and no action.",
    "gym-trainer-ko": "호칭도 없고 지금 할 행동도 없어요.",
}


def picture(ui: ReviewPage, folder: Path, name: str) -> None:
    """Keep what the window shows, in few colours, as a PNG below :data:`MOST_BYTES`."""
    from PIL import Image

    ui.page.wait_for_timeout(400)  # panels slide in
    shown = Image.open(BytesIO(ui.page.screenshot())).convert("RGB")
    few = shown.quantize(COLOURS, dither=Image.Dither.NONE)
    folder.mkdir(parents=True, exist_ok=True)
    few.save(folder / f"{name}.png", optimize=True)
    assert (folder / f"{name}.png").stat().st_size < MOST_BYTES


@pytest.mark.parametrize(("name", "suffix"), [("gym-trainer", "en"), ("gym-trainer-ko", "ko")])
def test_the_labelers_pictures_are_of_the_real_server(
    name: str,
    suffix: str,
    chromium: str,
    argilla_server: Server,
    argilla_home: ServerHome,
    repo: Path,
    tmp_path: Path,
) -> None:
    folder = Path(os.environ.get(KEPT) or tmp_path)
    server = start(argilla_home, [REVIEWER], reuse=True)
    persona = load_persona(repo / "datasets" / name)
    rows = seeds(repo / "datasets" / name)[:8]
    weak = rows[2].evolve(answer=ENCYCLOPEDIA[name])
    round_name = "round-070"
    owner = Connection(server.url, server.owner_api_key)
    shown = [weak, *rows[:2], *rows[3:]]
    push(owner, persona, round_name, shown, reviewers_per_record=1, few_shot=rows[3:5])
    locale = "ko-KR" if suffix == "ko" else "en-US"
    with browsing(chromium, server.url, SIZE, locale) as ui:
        ui.page.goto(f"{server.url}/sign-in")
        ui.page.wait_for_selector("input[type=password]")
        picture(ui, folder, "sign-in" if suffix == "en" else "sign-in-ko")
        ui.sign_in(server.logins[REVIEWER])
        ui.page.get_by_text(re.compile(round_name)).first.wait_for()
        ui.open(review_progress(owner, persona, round_name).url)
        ui.search(max(re.findall(r"\w+", weak.question), key=len))
        ui.page.get_by_text(weak.question).first.wait_for()
        picture(ui, folder, f"row-{suffix}")
        ui.page.get_by_label("Expand Panel").first.click()
        picture(ui, folder, f"guide-{suffix}")
        ui.page.get_by_label("Collapse Panel").first.click()
        ui.rate(2)
        ui.write("corrected", rows[2].answer)
        ui.write("note", NOTE[name])
        picture(ui, folder, f"filled-{suffix}")
        button, done = ("Submit", "Submitted") if suffix == "en" else ("제출", "제출")
        ui.press(button)
        ui.has_done(done, 1)
        talks = import_rows(repo / "datasets" / name / "conversations.jsonl", persona).examples
        push(owner, persona, "round-071", [talks[OFF_TOPIC]], reviewers_per_record=1)
        ui.page.set_viewport_size({"width": SIZE[0], "height": TALK_HEIGHT})
        ui.open(review_progress(owner, persona, "round-071").url)
        ui.page.get_by_text(talks[OFF_TOPIC].question).first.wait_for()
        picture(ui, folder, f"conversation-{suffix}")
    page = (repo / "docs" / ("labeler.md" if suffix == "en" else "labeler.ko.md")).read_text()
    shown_there = set(re.findall(r"\(pictures/([\w-]+\.png)\)", page))
    assert shown_there == {path.name for path in folder.glob("*.png") if has(suffix, path.name)}


def has(suffix: str, name: str) -> bool:
    """Return whether the page of a language shows a picture."""
    return name.endswith(f"-{suffix}.png") or (suffix == "en" and name == "sign-in.png")
