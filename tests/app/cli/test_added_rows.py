"""A second round with rows of one's own: they wait for people, are trained on, and are counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.web.server import LOOPBACK, site
from rounds.layout import DECISIONS, FILTER_DROPS, FILTERED, PREFERENCES, SCORES, RoundFolder
from rounds.lineage.account import account
from rounds.notes import CANDIDATES, MENDED, MENDED_PAIRS, contest
from tests.app.cli.test_any_order import QUESTIONS
from tests.app.web.conftest import TOKEN, Pages
from tests.app.web.test_guard import csrf
from tests.commands import Output
from tests.light_stages import PERSONA, LightServer, light_stages, run_light
from workbench.records import MendedAnswer, Message, Messages, user_prompt

Command = Callable[..., Output]


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[LightServer, Command]:
    """A first round that is done, and what runs a command on its persona."""
    server = light_stages(monkeypatch)
    persona, runs = tmp_path / "light", tmp_path / "runs"
    persona.mkdir()
    (persona / "persona.yaml").write_text(PERSONA, encoding="utf-8")
    config = tmp_path / "run.yaml"
    methods = "train: {methods: [sft]}\nevaluate: {arms: [base, sft]}\n"
    config.write_text(f"persona: {persona}\n{methods}", encoding="utf-8")
    for name, questions in zip(("mine", "more"), QUESTIONS, strict=True):
        rows = [
            {"instruction": ask, "output": f"Champ, today: {ask.lower()}", "topic": topic}
            for topic, asked in questions.items()
            for ask in asked
        ]
        if name == "mine":
            rows.append({"instruction": "How short?", "output": "Champ.", "topic": "food"})
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def command(*words: str) -> Output:
        output = run_light(*words, "--config", str(config), "--runs", str(runs))
        assert output.code == 0, output.err
        return output

    command("import", str(tmp_path / "mine.jsonl"))
    command("run")
    return server, command


def test_rows_added_to_a_second_round_reach_a_split_and_compare_counts_them(
    first: tuple[LightServer, Command], tmp_path: Path
) -> None:
    _, command = first
    command("next", "--quick")
    command("import", str(tmp_path / "more.jsonl"), "--round", "2")
    command("run", "--round", "2")
    second = account(RoundFolder(tmp_path / "runs" / "light" / "round-002"))
    examples = [fate for fate in second.fates if fate.record.startswith("ex-")]
    assert len(examples) == 16, "those of the first round and the added ones, beside its pairs"
    assert {fate.state for fate in second.fates} <= {"kept", "held_out", "dropped"}
    found = json.loads(command("compare", "1", "2", "--json").out)
    assert len(found["added"]) + len(found["left_out"]) == 8
    assert len(found["added"]) >= 6


def test_a_mended_answer_and_a_contested_drop_go_through_the_next_round(
    first: tuple[LightServer, Command], tmp_path: Path
) -> None:
    server, command = first
    one = RoundFolder(tmp_path / "runs" / "light" / "round-001")
    (drop,) = one.read(FILTER_DROPS)
    contest(one, drop.record, "Short is how Coach talks.", "ann")
    talk = (*user_prompt("I sat all day."), Message(role="assistant", content="Stand up, champ."))
    prompt = (*talk, *user_prompt("And then?"))
    mended = _mended_on_the_page(tmp_path, prompt, "No idea.", "Champ, walk to the door and back.")
    assert "1 mended answer carried over" in command("next", "--quick").err
    command("next", "--quick")  # again: it is carried over once
    command("import", str(tmp_path / "more.jsonl"), "--round", "2")
    command("run", "--round", "2")
    two = one.next
    (row,) = two.read(CANDIDATES)
    assert (row.prompt, row.answer, row.parents) == (prompt, mended.answer, (mended.id,))
    assert (row.topic, mended.topic) == ("walk", "walk")
    assert drop.record in {own.id for own in two.read(FILTERED)}
    assert server.queued == {drop.record: "ann: Short is how Coach talks."}
    decisions = {own.record: own.outcome for own in two.read(DECISIONS)}
    assert (decisions[row.id], decisions[drop.record]) == ("keep", "keep")
    assert two.manifest("import").counts["candidates"] == 2  # type: ignore[union-attr]
    fates = {fate.record: fate.state for fate in account(two).fates}
    assert (fates[row.id], fates[drop.record] in ("kept", "held_out")) == ("kept", True)
    command("next", "--quick", "--round", "2")
    assert two.next.read_if_there(CANDIDATES) == []
    assert two.next.read_if_there(MENDED_PAIRS) == []
    _traced(command, two, mended)


def _mended_on_the_page(home: Path, prompt: Messages, rejected: str, answer: str) -> MendedAnswer:
    """Mend the trained arm's last answer of a conversation, as the button of the page does."""
    pages = Pages(home / "runs", home)
    library = pages.library
    app = site(library, token=TOKEN, port=pages.port)
    reader = TestClient(app, base_url=f"http://{LOOPBACK}:{pages.port}", follow_redirects=False)
    reader.get("/", params={"token": TOKEN})
    context = library.context("light", 1)
    talk = app.state.talks.begin(context, ["sft"])
    talk.messages["sft"] = (*prompt, Message(role="assistant", content=rejected))
    address = f"/round/light/1/talk?talk={talk.id}"
    page = reader.get(address).text
    form = {"csrf": csrf(page), "talk": talk.id, "arm": "sft", "turn": "3", "answer": answer}
    say = "/round/light/1/talk/say"
    assert "no topic" in reader.post(say, data={**form, "do": "mend", "topic": "x"}).text
    assert reader.post(say, data={**form, "do": "mend", "topic": "walk"}).status_code == 200
    (mended,) = context.round.read(MENDED)
    return mended


def _traced(command: Command, two: RoundFolder, mended: MendedAnswer) -> None:
    """The answer leads to a pair over what the arm said, to the adapter, and to scores."""
    pairs = [own for own in two.read(PREFERENCES["train"]) if own.rejected == "No idea."]
    assert [(own.prompt, own.chosen) for own in pairs] == [(mended.prompt, mended.answer)]
    assert mended.id in pairs[0].parents
    own = json.loads(command("trace", mended.id, "--json").out)
    assert own["adapters"] == ["round-002/sft"]
    score = next(one for one in two.read(SCORES) if one.arm == "sft")
    assert {pairs[0].id, score.id, score.response} <= set(own["after"])
    chain = json.loads(command("trace", score.id, "--json").out)
    assert (chain["gaps"], "round-002/sft" in {one["id"] for one in chain["before"]}) == ([], True)
