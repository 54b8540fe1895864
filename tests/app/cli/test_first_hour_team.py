"""A PoC team's first hour: a new persona, rows of its own, a served model, two rows more.

Commands as a newcomer types them, one after the other, against the real Argilla and a small base;
what a line or a page says comes next is pasted as it stands. At the end every row that went in, in
the first round or added to the second, is accounted for.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from curation.argilla.pull import review_progress
from curation.argilla.server import Server
from rounds.layout import FILTERED, REVIEWS, TRAIN, RoundFolder
from rounds.lineage.account import Fate, account
from tests.commands import Commands
from tests.curation.review_team import answer, owner_of, reviewers_of
from tests.docs_site import ROOT
from tests.saying_base import SENTENCE, make_saying_base
from tests.waiting import PATIENCE
from workbench.inference.endpoint import free_port
from workbench.persona import load_persona
from workbench.records import Example, Preference

pytestmark = pytest.mark.slow

ID = "coffee-hour"
REVIEWER = "reviewer-1"
ABOUT = {
    "id": ID,
    "language": "en",
    "name": "Mira",
    "address": "my friend",
    "role": "A barista who helps people brew good coffee at home",
    "audience": "People with one kettle and no scales",
    "topics": "grind, water, beans, milk, cleaning",
}
CONFIG = f"""\
persona: datasets/{ID}
model: base
review: {{reviewers: [{REVIEWER}], per_record: 1}}
train: {{methods: [sft], overrides: {{sft: {{trainer.max_steps: 2, rehearsal.rows: 0}}}}}}
evaluate:
  arms: [base, sft]
  probes: 1
  conversations: 0
  drift: 0
  instructed: 1
  safety: 0
  requests: 0
  robustness: "off"
  gate: {{no_answers: 1}}
"""
ADDED = (
    {
        "topic": "beans",
        "instruction": "Is the cheap supermarket bag good enough?",
        "output": "My friend, for a first month, yes. Grind it a bit coarser than usual, because "
        "dark and old turns bitter sooner. Then spend the difference on fresh ones. ☕",
    },
    {
        "topic": "milk",
        "instruction": "Does cold milk foam at all?",
        "output": "My friend, it does, with a whisk and patience. Chill the jug for ten minutes "
        "first, because cold milk holds its foam longer. Then spoon it onto the cup. ☕",
    },
)


class Newcomer:
    """Types commands, and does first what a line says comes first."""

    def __init__(self, commands: Commands, server: Server) -> None:
        self.commands, self.server = commands, server

    def persona(self, *words: str) -> str:
        """Return what a command printed, once it has worked."""
        output = self.commands.run(*words)
        if step := re.search(r"— `persona ([^`]+)` comes first$", output.err.strip()):
            assert self.commands.run(*shlex.split(step[1])).code == 0, step[1]
            output = self.commands.run(*words)
        assert output.code == 0, output.err
        return output.out + output.err

    def review(self, number: int, rows: Sequence[Example]) -> None:
        """Take rows of a round, as its reviewer does in a browser; the sour one is wrong."""
        login = reviewers_of(self.server)[REVIEWER]
        persona = load_persona(Path("datasets") / ID)
        there = review_progress(owner_of(self.server), persona, round_(number).name)
        for row in rows:
            if "sour" in row.question:
                answer(login, there.dataset, row.id, fidelity=1, problems=["wrong_fact"])
            else:
                answer(login, there.dataset, row.id, fidelity=5)


def round_(number: int) -> RoundFolder:
    return RoundFolder(Path("runs") / ID / f"round-{number:03d}")


def rows_file(name: str, rows: Sequence[dict[str, str]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def fates(number: int) -> dict[str, Fate]:
    """Return what became of each row of a round by its place in its file; pairs stay out."""
    pair = f"{Preference.prefix}-"
    every = [one for one in account(round_(number)).fates if not one.record.startswith(pair)]
    by_source = {one.source: one for one in every}
    assert len(by_source) == len(every)
    return by_source


@contextmanager
def served(*words: str) -> Iterator[str]:
    """Serve until the context ends; the address is yielded at once, before the model is there."""
    port = str(free_port())
    command = [sys.executable, "-m", "app.cli.main", "serve", *words, "--port", port]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)


def test_every_row_of_two_rounds_is_accounted_for(
    tmp_path: Path,
    tiny_model: Path,
    reviewed_server: Server,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from openai import OpenAI

    monkeypatch.chdir(tmp_path)
    make_saying_base(tmp_path / "base", tiny_model)
    hour = Newcomer(commands, reviewed_server)
    config = ("--config", "run.yaml")
    hour.persona("new", *(part for key, value in ABOUT.items() for part in (f"--{key}", value)))
    Path("run.yaml").write_text(CONFIG, encoding="utf-8")
    tutorial = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8").splitlines()
    mine = [json.loads(line) for line in tutorial if line.startswith('{"topic"')]
    rows_file("mine.jsonl", [*mine, mine[7]])
    hour.persona("import", "mine.jsonl", *config)
    hour.persona("review", "up", *config)
    hour.persona("review", "push", *config)
    hour.review(1, round_(1).read(FILTERED))
    hour.persona("review", "pull", *config)
    for stage in (["resolve"], ["split"], ["train", "sft"], ["evaluate"], ["report"]):
        hour.persona(*stage, *config)
    hour.persona("export", "merged", *config)

    with served("--adapter", "sft", *config) as url:
        page = hour.persona("next", "--quick", *config)
        rows_file("rows.jsonl", ADDED)
        (pasted,) = re.findall(r"^ {4}persona (import .+)$", page, re.M)
        hour.persona(*shlex.split(pasted))
        hour.persona("review", "push", "--round", "2", *config)
        known = {row.id for row in round_(1).read(FILTERED)}
        hour.review(2, [row for row in round_(2).read(FILTERED) if row.id not in known])
        (pasted,) = re.findall(r"^ {4}persona (run .+)$", page, re.M)
        hour.persona(*shlex.split(pasted))
        client = OpenAI(base_url=url, api_key="none", max_retries=30)
        asked = client.chat.completions.create(
            model=f"{ID}-sft",
            max_tokens=32,
            messages=[{"role": "user", "content": "How hot should the water be?"}],
        )
    assert asked.choices[0].message.content == SENTENCE

    first, second = fates(1), fates(2)
    assert first.keys() == {f"mine.jsonl:{number}" for number in range(1, len(mine) + 2)}
    assert second.keys() - first.keys() == {"rows.jsonl:1", "rows.jsonl:2"}
    states = Counter((one.state, one.why) for one in (first | second).values())
    assert sum(states.values()) == len(mine) + 1 + len(ADDED)
    assert states["dropped", "exact_duplicate"] == states["dropped", "wrong_fact"] == 1
    places = {("kept", "train"), ("held_out", "validation"), ("held_out", "test")}
    assert states.keys() - {("dropped", "exact_duplicate"), ("dropped", "wrong_fact")} == places
    kept = {source for source, one in first.items() if one.state != "dropped"}
    assert {source: second[source].why for source in kept} == {
        source: first[source].why for source in kept
    }, "a row keeps its split"
    questions = {row.question for row in round_(2).read(TRAIN)}
    held_out = {one["topic"] for one in ADDED if one["instruction"] not in questions}
    told = re.search(r"^Held out, and so not asked for: (.+?)\. ", page, re.M)
    assert told and held_out <= set(told[1].split(", "))
    assert {review.record for review in round_(2).read(REVIEWS)} == {
        one.record for source, one in second.items() if source.startswith("rows.jsonl")
    }
    found = json.loads(commands.run("compare", "1", "2", "--json", *config).out)
    assert (len(found["added"]), found["left_out"]) == (2, {})
