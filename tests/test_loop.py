"""The loop at its smallest size, for real: embedded model, real Argilla server, no network.

It is killed three times on its way: among people's reviews, as training begins, and at a random
moment; KILLS=20 in the environment makes that twenty random ones (`make prove-kills`).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.cli.main import main
from rounds.layout import MANIFEST, STAGES
from rounds.lineage.graph import read_lineage
from tests.loop_round import KILLS, LOOP, SIDES, Loop, options, persona
from tests.offline import LoopbackOnly
from workbench.records import Example, Preference, Response, Review, Score, SplitAssignment
from workbench.store import file_hash, read_records

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2700 if KILLS < 20 else 7200)]
HEAVY = {"torch", "transformers", "distilabel", "argilla", "sklearn"}
ARMS = ["base", "base+prompt", "sft", "sft+dpo", "sft+dpo+prompt"]


def _rows(loop: Loop, name: str, kind: type[Any]) -> list[Any]:
    return list(read_records(loop.folder / name, kind))


def test_every_stage_ends_with_its_manifest_and_the_table_names_them(loop: Loop) -> None:
    assert [stage for stage in STAGES if (loop.folder / stage / MANIFEST).exists()] == LOOP
    table = [line for line in loop.output.splitlines() if line.startswith("│")]
    assert [line.split()[1] for line in table[: len(LOOP)]] == LOOP
    assert loop.output.strip().splitlines()[-1] == f"Report: {loop.folder / 'report/report.html'}"


def test_every_file_is_explained_by_its_manifest(loop: Loop) -> None:
    for stage in LOOP:
        folder = loop.folder / stage
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = {
            path.relative_to(folder).as_posix(): file_hash(path)
            for path in folder.rglob("*")
            if path.is_file() and path.name != MANIFEST
        }
        assert {name: said["sha256"] for name, said in manifest["outputs"].items()} == files
        for name, digest in manifest["inputs"].items():
            if (loop.folder / name).exists():
                assert file_hash(loop.folder / name) == digest


def test_a_second_run_redoes_nothing_and_loads_no_library_that_takes_seconds(loop: Loop) -> None:
    assert loop.again.count("already done") == len(LOOP)
    imported = set(re.findall(r"^import time:.*\| +(\w+)$", loop.again, re.M))
    assert "yaml" in imported
    assert imported.isdisjoint(HEAVY), "no module that takes seconds to load"


def test_nothing_tries_to_leave_loopback(loop: Loop) -> None:
    if loop.attempts is None:
        pytest.skip(f"NO NETWORK NAMESPACE HERE: {LoopbackOnly.missing()}")
    assert loop.attempts == 0


def test_an_attempt_to_leave_would_be_counted(tmp_path: Path) -> None:
    if reason := LoopbackOnly.missing():
        pytest.skip(f"NO NETWORK NAMESPACE HERE: {reason}")
    code = "import socket; socket.getaddrinfo('example.org', 443)"
    with LoopbackOnly(tmp_path) as inside:
        subprocess.run(inside.command(sys.executable, "-c", code), capture_output=True)
        assert inside.attempts_to_leave() >= 1


def test_killed_again_and_again_yet_no_row_is_lost_or_doubled(loop: Loop) -> None:
    filtered = [row.id for row in _rows(loop, "filter/examples.jsonl", Example)]
    reviews = _rows(loop, "review/reviews.jsonl", Review)
    said = sorted((review.record, review.reviewer) for review in reviews)
    assert said == sorted((row, f"reviewer-{n}") for row in filtered for n in (1, 2))
    splits = _rows(loop, "split/splits.jsonl", SplitAssignment)
    assert len({split.record for split in splits}) == len(splits)


def test_every_id_of_the_round_has_a_complete_chain_back(loop: Loop) -> None:
    lineage = read_lineage(loop.folder.parent)
    assert len(lineage.graph) > 1000
    assert {node: gaps for node in lineage.graph if (gaps := lineage.gaps(node))} == {}


def test_an_undisturbed_run_ends_with_the_same_rows_and_splits(
    loop: Loop, tmp_path_factory: pytest.TempPathFactory, repo: Path
) -> None:
    runs = tmp_path_factory.mktemp("undisturbed") / "runs"
    again = runs / "gym-trainer" / "round-001"
    again.mkdir(parents=True)
    # The base model's answers are greedy and take longest: only the long proof does them anew.
    copied = ("import", "generate") if KILLS < 20 else ()
    for stage in copied:
        shutil.copytree(loop.folder / stage, again / stage)
    done = subprocess.run(
        persona(runs, "run", "--until", "split"), cwd=repo, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("already done") == len(copied)
    rows = ("import/examples.jsonl", "filter/examples.jsonl")
    for name in (*rows, *(f"split/{side}.jsonl" for side in SIDES)):
        ids = [
            [row.id for row in read_records(one / name, Example)] for one in (loop.folder, again)
        ]
        assert ids[0] == ids[1], name
    splits = [file_hash(one / "split/splits.jsonl") for one in (loop.folder, again)]
    assert splits[0] == splits[1]


def test_no_topic_is_on_two_sides(loop: Loop) -> None:
    topics: dict[str, set[str]] = {}
    for side in SIDES:
        for row in _rows(loop, f"split/{side}.jsonl", Example):
            topics.setdefault(row.topic, set()).add(side)
        for row in _rows(loop, f"split/preferences-{side}.jsonl", Preference):
            topics.setdefault(row.topic, set()).add(side)
    assert {topic: sides for topic, sides in topics.items() if len(sides) > 1} == {}


def test_the_row_whose_walk_is_documented_is_held_out(loop: Loop, repo: Path) -> None:
    text = (repo / "docs/architecture.md").read_text(encoding="utf-8")
    source = re.search(r'`source` "(seeds\.jsonl:\d+)"', text)
    assert source is not None
    row = next(row for row in _rows(loop, "split/test.jsonl", Example) if row.source == source[1])
    pairs = _rows(loop, "resolve/preferences.jsonl", Preference)
    assert [pair for pair in pairs if pair.chosen == row.answer], "it is chosen in a pair"


def test_rejected_answers_are_really_the_base_models_own(loop: Loop) -> None:
    bare = {r.id: r.text for r in _rows(loop, "generate/baseline.jsonl", Response)}
    pairs = [
        pair
        for side in SIDES
        for pair in _rows(loop, f"split/preferences-{side}.jsonl", Preference)
    ]
    against_bare = [pair for pair in pairs if pair.rejected in bare.values()]
    assert len(against_bare) >= 20
    assert all(pair.chosen not in bare.values() for pair in pairs)


def test_every_arm_answers_every_held_out_prompt_and_is_scored_or_says_why(loop: Loop) -> None:
    every = _rows(loop, "evaluate/responses.jsonl", Response)
    responses = [response for response in every if not response.probe]
    prompts = {r.prompt_id for r in responses}
    held_out = {row.id for row in _rows(loop, "split/test.jsonl", Example)}
    assert prompts <= held_out
    assert sorted((r.arm, r.prompt_id) for r in responses) == sorted(
        (arm, prompt) for arm in ARMS for prompt in prompts
    )
    scores = _rows(loop, "evaluate/scores.jsonl", Score)
    unscored = {(s.metric, s.unscored) for s in scores if s.value is None and not s.probe}
    meanings = ("action_now:meaning", "why:meaning", "promise:meaning")
    judged = ("tough_kind", "fits_question", "content", *meanings)
    assert unscored == {(metric, "no_judge") for metric in judged}


def test_the_report_shows_the_arms_and_loads_nothing(loop: Loop) -> None:
    html = (loop.folder / "report/report.html").read_text(encoding="utf-8")
    loaded: list[str] = []

    class Loads(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            named = {"src", "srcset", "data"} | ({"href"} if tag == "link" else set())
            loaded.extend(v for k, v in attrs if k in named and v and not v.startswith("data:"))

    Loads().feed(html)
    assert loaded == []
    shown = ("Base model", "Base + system prompt", "SFT", "SFT + DPO")
    assert [name for name in shown if name not in html] == []


def test_no_secret_is_in_the_rounds_files(loop: Loop) -> None:
    kept = json.loads((loop.runs / ".argilla" / "secrets.json").read_text(encoding="utf-8"))
    accounts = [kept["owner"], *kept["reviewers"].values()]
    secrets = [kept["auth_secret"], *(a[key] for a in accounts for key in ("password", "api_key"))]
    assert all(len(secret) >= 12 for secret in secrets)
    for path in loop.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert [s for s in secrets if s.encode() in content] == []
    assert [s for s in secrets if s in loop.output] == []


def test_the_review_server_is_gone_after_an_unattended_run(loop: Loop) -> None:
    from curation.argilla.server import ServerHome, status

    state = json.loads((loop.runs / ".argilla" / "server.json").read_text(encoding="utf-8"))
    assert status(ServerHome(loop.runs / ".argilla")).stage == "stopped"
    # Its port says nothing: another test's server may have taken it since.
    assert not psutil.pid_exists(int(state["pid"]))


def test_forcing_a_stage_redoes_it_and_what_hangs_on_it(
    loop: Loop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["split", "--force", *options(loop.runs)]) == 0
    assert "already done" not in capsys.readouterr().err
