"""What nobody thought of: any text comes back as it was, any damage ends in rows and reasons."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from generation.importing import import_rows
from tests.prove_import import complaint
from workbench.records import Example
from workbench.store import read_records, write_records
from workbench.text import normalize

SEEDS = range(300)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
ROWS = st.lists(
    st.fixed_dictionaries({"instruction": TEXT, "output": TEXT, "input": TEXT}), min_size=1
)


def test_no_damage_ends_in_a_traceback_or_loses_a_row_in_silence(tmp_path: Path) -> None:
    assert [line for seed in SEEDS if (line := complaint(seed, tmp_path))] == []


def _csv(rows: list[dict[str, str]]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def _parquet(rows: list[dict[str, str]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


WRITERS: dict[str, Any] = {
    "jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    "json": lambda rows: json.dumps(rows, ensure_ascii=False, indent=1).encode(),
    "csv": _csv,
    "parquet": _parquet,
}


@pytest.mark.parametrize("suffix", list(WRITERS))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=ROWS)
def test_every_text_comes_back_normalized_from_every_format(
    tmp_path: Path, suffix: str, rows: list[dict[str, str]]
) -> None:
    path = tmp_path / f"rows.{suffix}"
    # One row at the least can be read.
    rows = [{"instruction": "How?", "output": "So.", "input": ""}, *rows]
    path.write_bytes(WRITERS[suffix](rows))
    imported = import_rows(path, None, skip_bad=True)
    texts = [{key: normalize(value).strip() for key, value in row.items()} for row in rows]
    full = [row for row in texts if row["instruction"] and row["output"]]
    wanted = dict.fromkeys(
        ("\n\n".join(filter(None, (row["instruction"], row["input"]))), row["output"])
        for row in full
    )
    assert [(row.question, row.answer) for row in imported.examples] == list(wanted)
    assert imported.rows == len(rows)
    written = tmp_path / "written.jsonl"
    write_records(written, imported.examples)
    assert list(read_records(written, Example)) == imported.examples
    again = import_rows(written, None)  # our own records are read like anybody's
    assert [row.id for row in again.examples] == [row.id for row in imported.examples]
