"""New personas, saved versions, brought rows, comparisons and votes, without a browser."""

from __future__ import annotations

import html
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.web.library import Command
from rounds import processes
from rounds.layout import IMPORTED
from rounds.notes import VOTES
from tests.app.web.conftest import SCRIPT, Pages
from tests.app.web.test_guard import ROUND, csrf
from tests.app.web.test_pages import text_of
from tests.waiting import waited
from workbench.persona import load_persona

ANSWERS = {
    "id": "wine-friend",
    "language": "en",
    "name": "Sam",
    "role": "A wine merchant who makes wine easy",
    "audience": "Beginners",
    "address": "friend",
    "topics": "red wine, white wine, food",
}
CSV = 'instruction,output,topic\nWhich glass?,"Any, friend.",food\nHow cold?,"Cool, friend.",food\n'


def test_a_new_persona_is_written_or_its_mistake_told(pages: Pages) -> None:
    reader = pages.reader()
    form = {**ANSWERS, "csrf": csrf(reader.get("/new").text)}
    for name, value in (("id", "../up"), ("id", "tester"), ("topics", "one")):
        answer = reader.post("/new", data={**form, name: value})
        assert (answer.status_code, "mistake" in answer.text) == (422, True)
        assert html.escape(ANSWERS["role"]) in answer.text
    assert sorted(path.name for path in pages.datasets.iterdir()) == ["tester"]
    answer = reader.post("/new", data=form)
    assert answer.headers["location"] == "/round/wine-friend/1"
    assert load_persona(pages.datasets / "wine-friend").name == "Sam"
    assert "Bring rows" in reader.get("/round/wine-friend/1").text


def test_the_form_saves_a_version_or_shows_mistakes_beside_their_fields(pages: Pages) -> None:
    reader = pages.reader()
    page = reader.get("/persona/tester").text
    assert "Passes: 22 of 22 kept rows, 0 of 22 of the base" in text_of(page)
    assert "<strong>Import" in page
    form = {"csrf": csrf(page), "name": "", "traits.0.check": "rule: [", "traits.0.name": "x"}
    answer = reader.post("/persona/tester/check", data=form)
    assert 'aria-describedby="wrong-traits.0.check"' in answer.text
    form = {"csrf": csrf(page), "name": SCRIPT, "why": "a try"}
    assert "Nothing is saved yet" in reader.post("/persona/tester", data={**form, "why": ""}).text
    whole = {**form, **_fields(page), "name": SCRIPT}
    assert reader.post("/persona/tester", data=whole).status_code == 303
    assert load_persona(pages.datasets / "tester").name == SCRIPT
    for path in ("/", "/persona/tester", ROUND):
        assert SCRIPT not in reader.get(path).text
    assert "2 a try" in text_of(reader.get("/persona/tester").text)


def _fields(page: str) -> dict[str, str]:
    """Return the trait's fields as the page shows them."""
    check = page.split('name="traits.0.check"')[1].split(">", 1)[1].split("</textarea>")[0]
    return {
        "traits.0.name": "Says champ",
        "traits.0.about": "calls the person champ",
        "traits.0.check": html.unescape(check),
    }


def test_a_file_is_taken_whole_or_every_mistake_of_it_is_told(pages: Pages) -> None:
    reader = pages.reader()
    form = {**ANSWERS, "csrf": csrf(reader.get("/new").text)}
    reader.post("/new", data=form)
    token = {"x-persona-token": form["csrf"], "hx-request": "true"}
    address = "/round/wine-friend/1/rows"
    folder = pages.datasets / "wine-friend" / "rows"
    bad = CSV.replace("Which glass?", "")
    answer = reader.post(address, params={"name": "../rows.csv"}, content=bad, headers=token)
    assert (answer.status_code, "rows.csv:2" in answer.text) == (409, True)
    assert not folder.exists()
    assert reader.post(address, params={"name": "rows.csv"}, content=CSV).status_code == 403
    answer = reader.post(address, params={"name": "../../rows.csv"}, content=CSV, headers=token)
    assert answer.headers["hx-redirect"] == "/round/wine-friend/1"
    assert [path.name for path in folder.iterdir()] == ["rows.csv"]
    one = pages.library.context("wine-friend", 1).round
    waited(lambda: processes.exit_code(one) is not None)
    assert processes.log_lines(one)[-1:] == [str(one.stage("import"))]
    assert [row.source for row in one.read(IMPORTED)] == ["rows.csv:2", "rows.csv:3"]
    again = reader.post(address, params={"name": "rows.csv"}, content=CSV, headers=token)
    assert (again.status_code, len(list(folder.iterdir()))) == (200, 1)
    processes.stop(one)


def test_two_rounds_are_compared_and_a_vote_is_kept(pages: Pages) -> None:
    reader = pages.reader()
    page = reader.get("/round/tester/2/compare").text
    text = text_of(page)
    assert "0 edited" in text
    assert "100% changed" not in text
    assert text.index("Champ, sit down.") < text.index("I am a machine.")
    before, after = (page.split(f'name="{name}" value="')[1].split('"')[0] for name in _SIDES)
    form = {"csrf": csrf(page), "arm": "sft", "before": before, "after": after}
    assert reader.post("/round/tester/2/vote", data={**form, "better": "x"}).status_code == 409
    answer = reader.post("/round/tester/2/vote", data={**form, "better": "after"})
    assert answer.text == "The second is better"
    (own,) = pages.round(2).read(VOTES)
    assert (own.before, own.after, own.better) == (before, after, "after")
    assert "The second is better</output>" in reader.get("/round/tester/2/compare").text


_SIDES = ("before", "after")


def test_two_arms_of_one_round_are_compared_by_their_questions(pages: Pages) -> None:
    reader = pages.reader()
    text = text_of(reader.get(f"{ROUND}/compare?before=1&after=1").text)
    assert "Scores: Round 1 · SFT minus Round 1 · Base model, paired by question" in text
    assert "SFT Says champ 2 +100" in text
    assert "I am a machine. Round 1 · SFT Champ, sit down." in text
    assert "Rows:" not in text, "they are the same"
    backwards = f"{ROUND}/compare?before=1&after=1&arm=sft&other=base"
    assert "Base model Says champ 2 −100" in text_of(reader.get(backwards).text)
    across = text_of(reader.get(f"{ROUND}/compare?before=2&after=1&arm=base&other=sft").text)
    assert "Scores: Round 1 · SFT minus Round 2 · Base model" in across
    for query in ("before=..", "before=1&after=3", "before=1&after=1&arm=x&other=sft"):
        answer = reader.get(f"{ROUND}/compare?{query}")
        assert (answer.status_code, "there is no" in answer.text) == (409, True), query


def test_trainings_with_another_seed_are_compared_with_their_round(pages: Pages) -> None:
    reader, one = pages.reader(), pages.round()
    again = one.folder / ".seeds" / "seed-43" / one.name
    shutil.copytree(pages.round(2).folder, again)
    page = reader.get(f"{ROUND}/compare?before=1&after=1:seed-43&arm=sft&other=sft").text
    text = text_of(page)
    assert "Round 1, trained with seed 43" in text
    assert "Scores: Round 1, trained with seed 43 minus Round 1, paired by question" in text
    assert text.index("Champ, sit down.") < text.index("Champ, up you get, now and all day.")


def test_a_report_is_shown_inside_and_runs_nothing(pages: Pages) -> None:
    reader = pages.reader()
    assert "There is no report yet." in reader.get(f"{ROUND}/report").text
    folder = pages.round().stage("report")
    folder.mkdir()
    (folder / "report.html").write_text(f"<h1>Report</h1>{SCRIPT}", encoding="utf-8")
    (folder / "report.json").write_text("{}", encoding="utf-8")
    assert "<iframe" in reader.get(f"{ROUND}/report").text
    answer = reader.get(f"{ROUND}/report/report.html")
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    policy = answer.headers["content-security-policy"]
    assert "script-src" not in policy
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    for name in ("report.json", "..%2fconfig.yaml", "model-card.md"):
        assert reader.get(f"{ROUND}/report/{name}").status_code == 404


def test_review_shows_the_queue_with_contested_drops(pages: Pages) -> None:
    reader = pages.reader()
    page = reader.get(f"{ROUND}/review").text
    assert "persona review up --persona datasets/tester" in text_of(page)
    assert f"/row/{pages.rows[21].id}" in page
    form = {"csrf": csrf(page), "record": pages.rows[-3].id, "note": "mine"}
    reader.post(f"{ROUND}/contest", data=form)
    assert "Contested: mine" in text_of(reader.get(f"{ROUND}/review").text)


@pytest.mark.parametrize("do", ["", "rm", "up; rm"])
def test_only_known_commands_are_started(pages: Pages, do: str) -> None:
    reader = pages.reader()
    token = csrf(reader.get(ROUND).text)
    assert reader.post(f"{ROUND}/review", data={"csrf": token, "do": do}).status_code == 422
    answer = reader.post(f"{ROUND}/start", data={"csrf": token, "force": "--help"})
    assert answer.status_code == 409
    assert processes.last_process(pages.round()) is None


def test_two_people_cannot_start_the_same_round_at_once(pages: Pages, tmp_path: Path) -> None:
    first, second = pages.reader(), pages.reader()
    with pages.round().locked():  # as a command in a terminal holds it
        page = first.get(ROUND).text
        assert "A command in a terminal is at work on this round." in page
        answer = second.post(f"{ROUND}/start", data={"csrf": csrf(second.get("/").text)})
        assert "another command is at work there" in answer.text
    processes.start(pages.round(), ("sleep", "30"), ("persona", "run"))
    answer = second.post(f"{ROUND}/start", data={"csrf": csrf(second.get("/").text)})
    assert "persona run is at work there" in answer.text
    page = first.get(ROUND).text
    assert "Stop" in text_of(page)
    assert first.post(f"{ROUND}/stop", data={"csrf": csrf(page)}).status_code == 303
    assert processes.running(pages.round()) is None
    assert first.post(f"{ROUND}/stop", data={"csrf": csrf(page)}).status_code == 409


def test_of_two_who_press_the_same_button_at_once_one_is_told_who_was_first(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def start(command: Command) -> processes.RoundProcess:
        one = processes.start(command.context.round, ("sleep", "30"), command.typed)
        started.append(one.pid)
        return one

    monkeypatch.setattr(Command, "start", start)
    readers = [pages.reader(library) for library in (pages.library, pages.library)]
    forms = [{"csrf": csrf(reader.get("/").text)} for reader in readers]
    with ThreadPoolExecutor(2) as pool:
        posts = [
            pool.submit(reader.post, f"{ROUND}/start", data=form)
            for reader, form in zip(readers, forms, strict=True)
        ]
        answers = [post.result() for post in posts]
    assert sorted(answer.status_code for answer in answers) == [303, 409]
    (refused,) = (answer.text for answer in answers if answer.status_code == 409)
    assert "is at work there" in text_of(refused)
    assert len(started) == 1
    assert processes.stop(pages.round())
