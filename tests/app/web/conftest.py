"""Two small rounds written by hand, rows that attack whoever shows them, and a server for them."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from app.web.library import Library
from app.web.server import LOOPBACK, link, site
from evaluation.outcome import ArmSense, MeanEstimate, SenseReport
from rounds.artifacts import Records
from rounds.layout import (
    ASSIGNMENTS,
    BASELINE,
    CONFIG,
    DECISIONS,
    EXAMPLES,
    FILTER_DROPS,
    FILTERED,
    IMPORTED,
    RESOLVE_DROPS,
    RESOLVED,
    RESPONSES,
    REVIEWS,
    SCORES,
    SENSE,
    RoundFolder,
    write,
)
from rounds.talks import TalkRoom
from tests.commands import write_manifest
from tests.generation.conftest import PERSONA
from workbench.records import (
    Decision,
    Drop,
    Example,
    Response,
    Review,
    Score,
    SplitAssignment,
    SplitName,
    user_prompt,
)

SCRIPT = "<script>window.attacked=1</script><img src=x onerror=window.attacked=1>"
RIGHT = "\u202etxet tfel ot thgir\u202c مرحبا"
LONG = "squat " * 17_000
ATTACKS = (SCRIPT, "{{ 7 * 7 }} </textarea></table>", RIGHT, LONG)
"""Of a row's question and answer: markup, templates, another direction, 100 kB."""
TOKEN = "first-link"
KOREAN = "어깨가 뻐근해요. 오늘 운동해도 될까요?"


def example(number: int, question: str = "", answer: str = "", topic: str = "squat") -> Example:
    """Return an imported row."""
    return Example(
        prompt=user_prompt(question or f"Question {number}: how deep?"),
        answer=answer or f"Champ, as deep as a chair, {number} times.",
        topic=topic,
        origin="imported",
        source=f"rows.csv:{number}",
    )


def rows() -> list[Example]:
    """Return thirty rows: plain ones, a Korean one, and the attacks."""
    own = [example(n, topic=("squat", "sleep")[n % 2]) for n in range(25)]
    own.append(example(25, KOREAN, "회원님, 물부터 드세요. champ"))
    return own + [
        example(26 + n, f"{text} {n}", f"Champ, {text}") for n, text in enumerate(ATTACKS)
    ]


def written(one: RoundFolder, persona: Path, *, changed: bool = False) -> None:
    """Write an evaluated round; ``changed`` makes it the later one of two that differ."""
    own = rows()
    if changed:
        own = [*own[1:], example(99, "A new question?", "Champ, a new answer.")]
    split: dict[SplitName, list[Example]] = {
        "train": own[4:20],
        "validation": own[20:22],
        "test": own[2:4],
    }
    dropped = own[-3] if not changed else own[-4]
    drop = Drop.of(dropped, "filter", "too_long", "900 words")
    queue = own[21]
    reviews = [
        Review(reviewer=name, record=row.id, answers={"fidelity": 5, "problems": []})
        for row in own[:22]
        for name in ("ann", "ben")
    ]
    decisions = [
        Decision(record=row.id, outcome="queue" if row is queue else "keep") for row in own[:22]
    ]
    parts: dict[Records[Any], list[Any]] = {
        IMPORTED: own,
        FILTERED: [row for row in own if row is not dropped],
        FILTER_DROPS: [drop],
        RESOLVE_DROPS: [],
        REVIEWS: reviews,
        DECISIONS: decisions,
        RESOLVED: own[:22],
        BASELINE: [answer("base", row, "I am a machine.") for row in own[:22]],
        ASSIGNMENTS: [
            SplitAssignment(record=row.id, split=name, group=row.topic)
            for name, side in split.items()
            for row in side
        ],
        **{EXAMPLES[name]: side for name, side in split.items()},
    }
    for artifact, records in parts.items():
        write(one.stage(artifact.stage), artifact, records)
    _evaluated(one, split["test"], changed)
    for stage in ("import", "generate", "filter", "review", "split", "sft", "dpo", "evaluate"):
        write_manifest(one.folder, stage, counts={"kept": len(own)}, inputs=_INPUTS.get(stage, {}))
    write_manifest(one.folder, "resolve", counts={"kept": 22, "dropped": 1, "queue": 1})
    text = f"persona: {persona}\nreview: {{reviewers: [ann, ben]}}\n"
    (one.folder / CONFIG).write_text(text, encoding="utf-8")


_INPUTS = {
    "import": {"persona.yaml": "ab"},
    "filter": {IMPORTED.path: "ab"},
    "sft": {EXAMPLES["train"].path: "ab"},
}


def answer(arm: str, row: Example, text: str) -> Response:
    return Response(arm=arm, prompt_id=row.id, prompt=row.prompt, text=text, topic=row.topic)


def _evaluated(one: RoundFolder, test: list[Example], changed: bool) -> None:
    texts = {
        "base": "I am a machine.",
        "sft": "Champ, up you get, now and all day." if changed else "Champ, sit down.",
    }
    responses = [answer(arm, row, text) for arm, text in texts.items() for row in test]
    scores = [
        Score(
            arm=own.arm,
            prompt_id=own.prompt_id,
            response=own.id,
            metric="address",
            value=float("Champ" in own.text),
        )
        for own in responses
    ]
    write(one.stage("evaluate"), RESPONSES, responses)
    write(one.stage("evaluate"), SCORES, scores)
    estimates = {arm: MeanEstimate(mean=m, low=m - 0.1, high=m + 0.1) for arm, m in _MEANS.items()}
    arms = [
        ArmSense(arm=arm, voice=own, sense=own, answers=2, answered=1, guards={})
        for arm, own in estimates.items()
    ]
    report = SenseReport(
        embedder="ngrams", by_meaning=False, loss="", floor=0.05, arms=tuple(arms), controls={}
    )
    write(one.stage("evaluate"), SENSE, report)


_MEANS = {"base": 0.2, "base+prompt": 0.4, "sft": 0.8}


@dataclass
class Pages:
    """A server of small rounds, without a port: requests go to it directly."""

    runs: Path
    datasets: Path
    port: int = 8765
    rows: list[Example] = field(default_factory=list)

    @property
    def library(self) -> Library:
        return Library(self.runs, self.datasets)

    def round(self, number: int = 1) -> RoundFolder:
        return RoundFolder.open(self.runs / "tester", number)

    def stranger(self, library: Library | None = None) -> TestClient:
        """Return a browser that nobody gave the link; of a server with a library of its own."""
        app = site(library or self.library, token=TOKEN, port=self.port)
        return TestClient(app, base_url=f"http://{LOOPBACK}:{self.port}", follow_redirects=False)

    def reader(self, library: Library | None = None) -> TestClient:
        """Return a browser that opened the link."""
        client = self.stranger(library)
        assert client.get("/", params={"token": TOKEN}).status_code == 303
        return client


@pytest.fixture(scope="session")
def small_rounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished rounds of a small persona, without a model: to be copied."""
    home = tmp_path_factory.mktemp("pages")
    folder = home / "datasets" / "tester"
    folder.mkdir(parents=True)
    (folder / "persona.yaml").write_text(PERSONA, encoding="utf-8")
    for number in (1, 2):
        one = RoundFolder.open(home / "runs" / "tester", number)
        written(one, Path("datasets/tester"), changed=number == 2)
    return home


@pytest.fixture
def pages(small_rounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pages:
    """A copy of the two rounds, in the folder that is worked in."""
    shutil.copytree(small_rounds, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Pages(Path("runs"), Path("datasets"), rows=rows())


@dataclass(frozen=True)
class Served:
    """The same behind a real port."""

    pages: Pages
    address: str
    link: str
    talks: TalkRoom


@contextmanager
def served_pages(runs: Path, datasets: Path, rows: list[Example] | None = None) -> Iterator[Served]:
    """Serve pages on a free port of loopback."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    pages = Pages(runs, datasets, port, rows or [])
    app = site(pages.library, token=TOKEN, port=port)
    config = uvicorn.Config(app, port=port, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield Served(pages, f"http://{LOOPBACK}:{port}", link(LOOPBACK, port, TOKEN), app.state.talks)
    server.should_exit = True
    thread.join(timeout=5)


@pytest.fixture
def served(pages: Pages) -> Iterator[Served]:
    """The small rounds behind a real port."""
    with served_pages(pages.runs, pages.datasets, pages.rows) as own:
        yield own
