"""Argilla's pages as the embedded server serves them: nothing outside, Korean, no harmful key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from curation.argilla.client import Connection
from curation.argilla.pull import pull, review_progress
from curation.argilla.push import push
from curation.argilla.server import Server, ServerHome, start
from tests.curation.review_page import browsing
from tests.curation.review_team import seeds
from tests.offline import LoopbackOnly
from tests.waiting import PATIENCE, STUCK, waited
from workbench.persona import load_persona

pytestmark = pytest.mark.slow

ROWS = 20
OUTSIDE = """
import sys, time
from pathlib import Path
from curation.argilla.pull import review_progress
from curation.argilla.push import push
from curation.argilla.server import ServerHome, start, stop
from tests.curation.review_page import browsing
from tests.curation.review_team import few, owner_of
from workbench.persona import load_persona

home = ServerHome(Path(sys.argv[1]))
server = start(home, ["reviewer-1"])
try:
    coach = load_persona(Path("datasets/gym-trainer"))
    push(owner_of(server), coach, "round-001", few(3), reviewers_per_record=1)
    rows = review_progress(owner_of(server), coach, "round-001").url
    with browsing(sys.argv[2], server.url) as ui:
        asked = []
        ui.page.on("request", lambda request: asked.append(request.url))
        begin = time.monotonic()
        ui.page.goto(f"{server.url}/sign-in")
        ui.page.wait_for_selector("input[type=password]")
        print("seconds", round(time.monotonic() - begin, 2))
        begin = time.monotonic()
        ui.sign_in(server.logins["reviewer-1"])
        ui.page.get_by_text("Your datasets").first.wait_for()
        print("seconds", round(time.monotonic() - begin, 2))
        begin = time.monotonic()
        ui.page.goto(rows)
        ui.page.get_by_role("button", name="Submit").last.wait_for()
        print("seconds", round(time.monotonic() - begin, 2))
        outside = [url for url in asked if not url.startswith((server.url, "data:"))]
        print("outside", outside)
finally:
    stop(home)
"""


@pytest.mark.parametrize(
    ("name", "locale", "submit"),
    [("gym-trainer", "en-US", "Submit"), ("gym-trainer-ko", "ko-KR", "제출")],
)
def test_twenty_rows_by_keyboard_alone(
    name: str,
    locale: str,
    submit: str,
    chromium: str,
    argilla_server: Server,
    argilla_home: ServerHome,
    repo: Path,
) -> None:
    reviewer = f"keyboard-{locale[:2]}"
    server = start(argilla_home, [reviewer], reuse=True)
    persona = load_persona(repo / "datasets" / name)
    rows = {" ".join(row.question.split()): row for row in seeds(repo / "datasets" / name)[:ROWS]}
    owner = Connection(server.url, server.owner_api_key)
    push(owner, persona, "round-090", list(rows.values()), reviewers_per_record=1)
    ratings: dict[str, int] = {}
    noted = marked = ""
    failed = {row.id: frozenset(persona.failed_traits(row.answer)) for row in rows.values()}
    suspected = {record: traits for record, traits in failed.items() if traits}
    with browsing(chromium, server.url, locale=locale) as ui:
        ui.sign_in(server.logins[reviewer])
        ui.open(review_progress(owner, persona, "round-090").url)
        ui.page.get_by_role("button", name=submit).last.wait_for()
        for number in range(ROWS):
            question = ui.new_question(set(ratings))
            ratings[question] = number % 5 + 1
            ui.page.keyboard.press(str(ratings[question]))
            ui.is_rated(ratings[question])  # Argilla waits for a second digit
            # The rating goes on to the problems, where a number marks one.
            if number > 4 and not marked and rows[question].id not in suspected:
                marked = question
                ui.page.keyboard.press("1")
                ui.page.wait_for_timeout(600)
            if number == 3:  # down into the note, which Enter and Backspace begin to write, no more
                noted = question
                for key in ("ArrowDown", "ArrowDown", "Backspace", "Enter"):
                    ui.page.keyboard.press(key)
                    ui.page.wait_for_timeout(200)
                ui.page.keyboard.insert_text("why")
                for key in ("Escape", "ArrowUp", "ArrowUp"):
                    ui.page.keyboard.press(key)
                    ui.page.wait_for_timeout(200)
            ui.page.keyboard.press("Enter")
        waited(lambda: len(pull(owner, persona, "round-090")) == ROWS)
    reviews = {review.record: review for review in pull(owner, persona, "round-090")}
    assert len(reviews) == ROWS
    assert {rows[question].id: rating for question, rating in ratings.items()} == {
        record: review.answers["fidelity"] for record, review in reviews.items()
    }
    notes = {record for record, review in reviews.items() if review.answers["note"]}
    assert notes == {rows[noted].id}
    problems = {record: review.problems for record, review in reviews.items() if review.problems}
    assert problems == {**suspected, rows[marked].id: {"unsafe_advice"}}
    assert {review.status for review in reviews.values()} == {"submitted"}


def test_which_answer_is_better_is_asked_of_rows_with_two_alone(
    chromium: str, argilla_server: Server, argilla_home: ServerHome, repo: Path
) -> None:
    server = start(argilla_home, ["one-or-two"], reuse=True)
    persona = load_persona(repo / "datasets" / "gym-trainer-ko")
    rows = seeds(repo / "datasets" / "gym-trainer-ko")[:4]
    two = {row.id: "이것저것 해 보세요." for row in rows[::2]}
    owner = Connection(server.url, server.owner_api_key)
    push(owner, persona, "round-091", rows, reviewers_per_record=1, alternatives=two)
    seen: set[str] = set()
    with browsing(chromium, server.url, locale="ko-KR") as ui:
        ui.sign_in(server.logins["one-or-two"])
        ui.open(review_progress(owner, persona, "round-091").url)
        for _ in rows:
            seen.add(ui.new_question(seen))
            is_pair = len(ui.texts()) == 3
            ui.page.keyboard.press("4")
            ui.focuses("better" if is_pair else "problems")
            box = ui.asked("better").bounding_box()
            assert box and (box["height"] > 50) == is_pair
            ui.page.keyboard.press("ArrowUp")
            ui.focuses("fidelity")
            ui.page.keyboard.press("ArrowDown")
            if is_pair:
                ui.focuses("better")
                ui.page.keyboard.press("1")
            ui.focuses("problems")
            ui.page.keyboard.press("Enter")
        ui.has_done("제출", len(rows))
    answered = {one.record: one.answers.get("better") for one in pull(owner, persona, "round-091")}
    assert {record for record, better in answered.items() if better} == set(two)
    assert len(answered) == len(rows)


def test_pages_open_at_once_and_ask_nothing_outside_where_packets_are_dropped(
    chromium: str, tmp_path: Path
) -> None:
    if reason := LoopbackOnly.missing():
        pytest.skip(reason)
    with LoopbackOnly(tmp_path, drops=True) as inside:
        command = inside.command(sys.executable, "-c", OUTSIDE, str(tmp_path / "home"), chromium)
        done = subprocess.run(command, capture_output=True, text=True, timeout=3 * PATIENCE)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert [line for line in lines if line.startswith("outside")] == ["outside []"]
        seconds = [float(line.split()[1]) for line in lines if line.startswith("seconds")]
        assert len(seconds) == 3 and max(seconds) < STUCK, seconds
        assert inside.dropped() == 0
        trial = "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('192.0.2.1', 9))"
        subprocess.run(inside.command(sys.executable, "-c", trial), check=True)
        assert inside.dropped() == 1, "a try to leave is counted"
