"""Rows as they come: a file that is whole whenever it is read, and its counts."""

from __future__ import annotations

import threading
from pathlib import Path

from datasets import load_dataset

from generation.live_rows import LiveRow, LiveRows, RowCounts, read_live_rows
from generation.teacher import teacher_rows
from tests.generation.conftest import rows
from tests.generation.test_conversations import USERS
from tests.scripted_server import Reply, Request, ScriptedServer, conforms, fails
from tests.waiting import waited
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona
from workbench.records import Example, user_prompt


def test_the_file_is_whole_whenever_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    live, done, seen = LiveRows(path), threading.Event(), [0]

    def read() -> None:
        while not done.is_set() or not seen[-1]:
            seen.append(len(read_live_rows(path)))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(400):
        live.add(LiveRow(kind="ordinary", prompt=user_prompt(f"{number}?"), answer="So. " * 200))
        live.write()
    done.set()
    reader.join()
    # A half line would have been refused, and no version holds fewer rows than one before it.
    assert seen == sorted(seen) and seen[-1] > 0
    assert len(read_live_rows(path)) == 400
    assert [one.name for one in tmp_path.iterdir()] == ["rows.jsonl"]


def test_rows_and_drops_of_a_job_are_there_before_it_ends(
    persona: Persona, seeds: list[Example], tmp_path: Path
) -> None:
    held, path = threading.Event(), tmp_path / "rows.jsonl"
    early: list[LiveRow] = []

    def script(request: Request) -> Reply:
        text = request.body["messages"][-1]["content"]
        if request.system and "I am" not in text and request.share < 0.3:
            return fails(500)
        if "I am ann" in text:
            held.wait(30)
        return conforms(request)

    def look() -> None:
        waited(path.exists)
        early.extend(read_live_rows(path))
        table = load_dataset("json", data_files=str(path), cache_dir=str(tmp_path / "hf"))["train"]
        assert len(table) >= len(early) and set(table.column_names) == set(LiveRow.model_fields)
        held.set()

    looker = threading.Thread(target=look)
    looker.start()
    with ScriptedServer(script) as server:
        endpoint = Endpoint(base_url=server.url, model="m", attempts=1)
        settings = rows(10, mix={"evolved": 0.2}, conversations=2, turn_fidelity=0)
        taught = teacher_rows(persona, seeds, endpoint, settings, workdir=tmp_path, users=USERS)
    looker.join()
    final = read_live_rows(path)
    assert 0 < len(early) <= len(final)
    counts = RowCounts.of(final)
    assert counts.kinds.total() == len(taught.rows)
    assert counts.kinds["conversation"] == 2
    assert counts.dropped == {"server_error": taught.failed["server_error"]}
    share = counts.kinds["conversation"] / counts.kinds.total()
    lines = counts.lines()
    assert lines[0].startswith(f"rows: {len(taught.rows)}: ordinary ")
    assert f"conversation 2 ({share:.0%})" in lines[0]
    lost = taught.failed["server_error"]
    assert lines[1] == f"dropped: {lost}: server_error {lost}"
    # In the form of a stage that is done the same rows count alike.
    whole = RowCounts.of(LiveRow.of(taught.rows, taught.dropped))
    assert (whole.kinds, whole.dropped) == (counts.kinds, counts.dropped)
