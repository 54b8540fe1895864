"""What somebody wrote is named wherever it lies: a search for their words finds nothing unnamed."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from rounds import notes
from rounds.lineage.forget import forget_lines
from rounds.lineage.graph import read_lineage
from rounds.row_export import export_rows
from tests.commands import Workspace, write_manifest
from tests.rounds.lineage.test_audit import reviewed, rows_of
from workbench.records import Example

MARK = 'My secret "zebra-4711" knee & hip'
"""With characters that JSON and HTML write in other ways."""


@pytest.fixture
def planted(workspace: Workspace, tmp_path: Path) -> Example:
    """A round in which one row's words lie in stages, notes, scratch, a cache, a page, a log."""
    persona = workspace.repo / "datasets" / "gym-trainer"
    first, *others = rows_of(persona)[:8]
    turn = first.prompt[0].model_copy(update={"content": f"{MARK} hurt after squats."})
    row = first.evolve(prompt=(turn,), answer=f"Champ, {MARK} needs a doctor first. Walk home.")
    log = tmp_path / "log.jsonl"
    request = {"messages": [turn.model_dump()], "output": row.answer}
    log.write_text(f"{{}}\n{json.dumps(request)}\n", encoding="utf-8")
    kept, reviews, decisions = zip(*map(reviewed, [row, *others]), strict=True)
    workspace.put("import/examples.jsonl", [row, *others])
    write_manifest(workspace.folder(), "import", inputs={f"source:{log}": "0"})
    workspace.put("review/reviews.jsonl", reviews)
    workspace.put("resolve/decisions.jsonl", decisions)
    workspace.put("split/train.jsonl", kept)
    for side in ("validation", "test"):
        workspace.put(f"split/{side}.jsonl", [])
    one = workspace.folder()
    notes.rate(workspace.round(), "sft", row.prompt, "Some answer.", good=False)
    for name in (".sweep.scratch/sft-1/train.jsonl", ".sft.scratch/rows.json"):
        (one / name).parent.mkdir(parents=True)
        (one / name).write_text(json.dumps([row.model_dump()]), encoding="utf-8")
    (one / "report").mkdir()
    page = "<p>My secret &#34;zebra-4711&#34; knee &amp; hip hurt after squats.</p>"
    (one / "report" / "report.html").write_text(page.replace("&#34;", "&quot;"), encoding="utf-8")
    with sqlite3.connect(one / ".evaluate.scratch.sqlite") as cache:
        cache.execute("CREATE TABLE answers (text TEXT)")
        cache.execute("INSERT INTO answers VALUES (?)", (row.answer,))
    export_rows(workspace.context(), "csv", kinds=("sft",), out=tmp_path / "handed on")
    export_rows(workspace.context(), "parquet", kinds=("sft",))
    return row


def test_every_file_with_the_words_is_named(
    workspace: Workspace, planted: Example, tmp_path: Path
) -> None:
    runs = workspace.folder().parent
    lines = forget_lines(read_lineage(runs), [planted.id])
    heads = {line.split(": ")[0] for line in lines}
    named = {*(runs / head for head in heads), *map(Path, heads)}
    holding = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and b"zebra-4711" in path.read_bytes()
    ]
    assert len(holding) >= 9
    assert [path for path in holding if named.isdisjoint((path, *path.parents))] == []
    assert (
        f"{tmp_path}/log.jsonl: they came from there; take out line 2, which nothing here does"
        in lines
    )
    assert (
        "round-001/notes/ratings.jsonl: holds their words; remove it, or the stage that"
        in "\n".join(lines)
    )
    assert "round-001: its dataset in Argilla holds them too; delete them there" in lines


def test_files_without_the_words_are_not_named(workspace: Workspace, planted: Example) -> None:
    other = rows_of(workspace.repo / "datasets" / "gym-trainer")[3]
    lines = forget_lines(read_lineage(workspace.folder().parent), [other.id])
    assert not [line for line in lines if "scratch" in line or "report" in line or "log" in line]
    assert "round-001/import/examples.jsonl: 1 record" in lines


def test_the_personas_own_rows_are_named_where_they_lie(
    workspace: Workspace, planted: Example, tmp_path: Path
) -> None:
    folder = tmp_path / "persona"
    folder.mkdir()
    (folder / "persona.yaml").touch()
    row = {"instruction": planted.question, "output": planted.answer}
    (folder / "seeds.jsonl").write_text(f"{{}}\n{{}}\n{json.dumps(row)}\n", encoding="utf-8")
    write_manifest(workspace.folder(), "import", inputs={"source:seeds.jsonl": "0"})
    (workspace.folder() / "config.yaml").write_text(f"persona: {folder}\n", encoding="utf-8")
    lines = forget_lines(read_lineage(workspace.folder().parent), [planted.id])
    assert (
        f"{folder}/seeds.jsonl: they came from there; take out line 3, which nothing here does"
        in lines
    )
