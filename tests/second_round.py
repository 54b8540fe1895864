"""A second round of the smallest loop: planned from the first, taught, reviewed, trained on."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from app.cli.main import main
from curation.argilla.client import connected, find_dataset, records_of
from curation.argilla.server import ServerHome, status, stop
from tests.curation.review_team import REVIEWERS, answer, joined, owner_of, reviewers_of
from tests.scripted_server import Reply, Request, ScriptedServer, says
from workbench.persona import load_persona
from workbench.records import Example
from workbench.store import read_records

NAME = "gym-trainer-round-002"
GYM = Path("datasets/gym-trainer")
ROWS = 4
"""New rows that are planned."""
SETTINGS: dict[str, Any] = {
    "persona": str(GYM),
    "generate": {"max_new_tokens": 24, "hard_negatives": 0},
    # Answers as long as those of the first round: else scores could not be held against them.
    "evaluate": {
        "max_new_tokens": 24,
        "rows": 4,
        "probes": 0,
        "conversations": 0,
        "drift": 0,
        "safety": 0,
        "requests": 0,
        # As many as the first round asks for; other surfaces were tried there.
        "instructed": 4,
        "robustness": "off",
        "arms": ["base", "sft"],
        # Two steps of training are held to nothing.
        "max_unscored": 1,
        "gate": {"cross_entropy": 9, "instructions": 1, "fidelity": 1},
    },
    "train": {
        "methods": ["sft"],
        "sft": "sft-continue-embedded",
        "overrides": {"sft": {"trainer.max_steps": 2}},
    },
}


@dataclass
class Second:
    """Runs commands on the second round of a folder of runs, as a user would."""

    repo: Path
    runs: Path
    planned: str = ""
    """What `persona next` printed."""

    @property
    def first(self) -> Path:
        return self.runs / "gym-trainer" / "round-001"

    @property
    def folder(self) -> Path:
        return self.runs / "gym-trainer" / "round-002"

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def persona(self, *arguments: str) -> str:
        """Run a command in a process of its own and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "app.cli.main", *arguments, "--runs", str(self.runs)],
            cwd=self.repo,
            capture_output=True,
            text=True,
            env={**os.environ, "PERSONA_ARGILLA_HOME": ""},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def read(self, *arguments: str) -> str:
        """Run a command that only reads in this process, and return what it printed."""
        out = io.StringIO()
        with chdir(self.repo), redirect_stdout(out):
            assert main([*arguments, "--runs", str(self.runs)]) == 0
        return out.getvalue()

    def run(self) -> str:
        """Plan the round with a teacher, and run it while people review."""
        first = self.runs / "gym-trainer" / "round-001" / "import" / "examples.jsonl"
        known = {row.question for row in read_records(first, Example)}
        with ScriptedServer(Teacher(self.repo / GYM, known).reply) as server:
            teacher = {"base_url": server.url, "model": "scripted"}
            wanted = self.runs / "second.yaml"
            wanted.write_text(yaml.safe_dump({**SETTINGS, "teacher": teacher}), encoding="utf-8")
            planned = self.persona("next", "--quick", "--rows", str(ROWS), "--config", str(wanted))
            people = threading.Thread(target=self.review)
            people.start()
            try:
                self.persona("run", "--round", "2", "--wait-for-people")
            finally:
                people.join()
                stop(ServerHome(self.runs / ".argilla"))
        return planned

    def review(self, patience: float = 600.0) -> None:
        """Take every row that comes, as two reviewers who agree."""
        home = ServerHome((self.runs / ".argilla").absolute())
        until = time.monotonic() + patience
        while time.monotonic() < until:
            time.sleep(1)
            if not status(home).running:
                continue
            server = joined(home)
            with connected(owner_of(server)) as client:
                dataset = find_dataset(client, NAME)
                shown = (
                    [one["external_id"] for one in records_of(client, dataset)] if dataset else []
                )
            if shown:
                for login in (reviewers_of(server)[name] for name in REVIEWERS):
                    for record in shown:
                        answer(login, NAME, record, fidelity=5)
                return


class Teacher:
    """Knows the persona's seeds, and gives those of a topic that is asked for."""

    def __init__(self, folder: Path, known: set[str]) -> None:
        lines = (folder / "faults.jsonl").read_text(encoding="utf-8").splitlines()
        faulty = {json.loads(line)["row"] for line in lines}
        rows = (folder / "seeds.jsonl").read_text(encoding="utf-8").splitlines()
        self.rows = [json.loads(row) for n, row in enumerate(rows, 1) if n not in faulty]
        self.new = [row for row in self.rows if row["instruction"] not in known]
        persona = load_persona(folder)
        self.topics = {topic: persona.topic_name(topic) for topic in persona.topics}

    def reply(self, request: Request) -> Reply:
        """Return questions of the topic that is named, or the seed's answer to a question."""
        if request.schema is None:
            found = [row for row in self.rows if row["instruction"] == request.prompt]
            return says(found[0]["output"])
        (topic,) = (t for t, name in self.topics.items() if f"\nTopic: {name}\n" in request.prompt)
        own = [row["instruction"] for row in self.new if row["topic"] == topic]
        return says(json.dumps({"questions": own}))
