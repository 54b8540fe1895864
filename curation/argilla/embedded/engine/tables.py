"""The engine's own tables in Argilla's database, kept by triggers, and its SQL functions.

``persona_records`` is Argilla's table of records without the texts, which would make every scan
read some kilobytes a record; its ``key`` counts records in the order in which they were added.
``persona_text`` (full text) has a row for each searchable field of a record, at the record's key
times 1024; its ``scope`` holds two words, the dataset and the field, so that both can be asked
for inside the index. ``persona_responses`` knows each response's dataset and its record's key, and
``persona_vectors`` each vector scaled to length 1, as 32-bit floats. All are written by triggers in
the transaction that writes the record: after a crash all of it is there or nothing.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np
from sqlalchemy import event
from sqlalchemy.engine import Engine

from engine.order import shuffle
from engine.words import field_words

_TABLES = """
CREATE TABLE persona_records (
  key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, dataset_id TEXT NOT NULL,
  status TEXT, external_id TEXT, inserted_at TEXT, updated_at TEXT, metadata TEXT);
CREATE INDEX persona_records_status ON persona_records (dataset_id, status);
CREATE VIRTUAL TABLE persona_text USING fts5(
  scope, words, tokenize = "unicode61 remove_diacritics 0 categories 'L* M* N* P* S* C*'");
CREATE TABLE persona_responses (
  id TEXT PRIMARY KEY, key INTEGER NOT NULL, dataset_id TEXT NOT NULL, user_id TEXT NOT NULL,
  status TEXT NOT NULL);
CREATE INDEX persona_responses_status
  ON persona_responses (dataset_id, user_id, status);
CREATE INDEX persona_responses_key ON persona_responses (key, user_id, status);
CREATE INDEX persona_responses_record ON responses (record_id, user_id, status);
CREATE TABLE persona_vectors (
  key INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, settings_id TEXT NOT NULL,
  record_id TEXT NOT NULL, unit BLOB NOT NULL);
CREATE INDEX persona_vectors_settings ON persona_vectors (settings_id);
"""

_COLUMNS = "status, external_id, inserted_at, updated_at, metadata"
_ADD_RECORDS = f"""
INSERT INTO persona_records (id, dataset_id, {_COLUMNS})
  SELECT id, dataset_id, {_COLUMNS} FROM records n WHERE {{which}} ORDER BY inserted_at, rowid;
"""
_CHANGE_RECORD = f"""
UPDATE persona_records SET ({_COLUMNS}) =
  ({", ".join(f"NEW.{name}" for name in _COLUMNS.split(", "))}) WHERE id = NEW.id;
"""
_ADD_WORDS = """
INSERT INTO persona_text (rowid, scope, words)
  SELECT r.key * 1024 + (SELECT count(*) FROM fields g
                         WHERE g.dataset_id = f.dataset_id AND g.id < f.id),
         'd' || f.dataset_id || ' f' || f.id,
         persona_words(json_extract(f.settings, '$.type'), v.value)
  FROM persona_records r JOIN records n ON n.id = r.id
       JOIN fields f ON f.dataset_id = r.dataset_id JOIN json_each(n.fields) v ON v.key = f.name
  WHERE {which} AND json_extract(f.settings, '$.type') <> 'image';
"""
# By the range of keys, never by the dataset's fields: when a dataset is deleted they may be gone
# already, and words left behind would be in the way of the next record that gets this key.
_DROP_WORDS = """
DELETE FROM persona_text
  WHERE rowid >= (SELECT key * 1024 FROM persona_records WHERE id = OLD.id)
    AND rowid < (SELECT (key + 1) * 1024 FROM persona_records WHERE id = OLD.id);
"""
_ADD_RESPONSES = """
INSERT INTO persona_responses (id, key, dataset_id, user_id, status)
  SELECT n.id, r.key, r.dataset_id, n.user_id, n.status
  FROM responses n JOIN persona_records r ON r.id = n.record_id WHERE {which};
"""
_ADD_VECTORS = """
INSERT INTO persona_vectors (id, settings_id, record_id, unit)
  SELECT n.id, n.vector_settings_id, n.record_id, persona_unit(n.value)
  FROM vectors n WHERE {which};
"""
_THIS = "n.id = NEW.id"
_TRIGGERS = {
    "persona_record_added": (
        "AFTER INSERT ON records",
        _ADD_RECORDS.format(which=_THIS) + _ADD_WORDS.format(which=_THIS),
    ),
    "persona_record_changed": ("AFTER UPDATE ON records", _CHANGE_RECORD),
    "persona_record_rewritten": (
        "AFTER UPDATE OF fields ON records WHEN OLD.fields IS NOT NEW.fields",
        _DROP_WORDS + _ADD_WORDS.format(which=_THIS),
    ),
    "persona_record_dropped": (
        "AFTER DELETE ON records",
        _DROP_WORDS + "DELETE FROM persona_records WHERE id = OLD.id;",
    ),
    "persona_response_added": ("AFTER INSERT ON responses", _ADD_RESPONSES.format(which=_THIS)),
    "persona_response_changed": (
        "AFTER UPDATE OF status ON responses",
        "UPDATE persona_responses SET status = NEW.status WHERE id = NEW.id;",
    ),
    "persona_response_dropped": (
        "AFTER DELETE ON responses",
        "DELETE FROM persona_responses WHERE id = OLD.id;",
    ),
    "persona_vector_added": ("AFTER INSERT ON vectors", _ADD_VECTORS.format(which=_THIS)),
    # Dropped and added, for a new key; OR REPLACE would be overruled by the upsert that fires this.
    "persona_vector_changed": (
        "AFTER UPDATE OF value ON vectors",
        "DELETE FROM persona_vectors WHERE id = NEW.id;" + _ADD_VECTORS.format(which=_THIS),
    ),
    "persona_vector_dropped": (
        "AFTER DELETE ON vectors",
        "DELETE FROM persona_vectors WHERE id = OLD.id;",
    ),
}


_SCHEMA = zlib.crc32(repr((_TABLES, _TRIGGERS)).encode()) >> 1  # SQLite's number has 31 bits


def install(engine: Engine) -> None:
    """Make tables, indexes and triggers, and fill them from the records that are there.

    Does nothing where this version of them stands already; an older one is replaced whole.
    """
    with engine.begin() as connection:
        raw: Any = connection.connection.dbapi_connection
        names = {row[0] for row in raw.execute("SELECT name FROM sqlite_master")}
        stands = raw.execute("PRAGMA user_version").fetchone()[0] == _SCHEMA
        if stands and _TRIGGERS.keys() <= names:
            return
        raw.execute("BEGIN IMMEDIATE")
        for kind in ("trigger", "index", "table"):
            # A full-text table takes the tables that lie under it along.
            named = (
                "SELECT name FROM sqlite_master WHERE type = ? "
                "AND name GLOB 'persona_*' AND NOT name GLOB 'persona_text_*'"
            )
            for (name,) in raw.execute(named, (kind,)).fetchall():
                raw.execute(f"DROP {kind} {name}")
        for statement in _TABLES.strip().split(";\n"):
            raw.execute(statement.removesuffix(";"))
        for statement in (_ADD_RECORDS, _ADD_WORDS, _ADD_RESPONSES, _ADD_VECTORS):
            raw.execute(statement.format(which="1").strip().removesuffix(";"))
        for name, (when, body) in _TRIGGERS.items():
            raw.execute(f"CREATE TRIGGER {name} {when} BEGIN {body} END")
        raw.execute(f"PRAGMA user_version = {_SCHEMA}")


def unit_vector(value: str | None) -> bytes:
    """Return a JSON list of numbers, scaled to length 1, as 32-bit floats (zeros stay zeros)."""
    vector = np.asarray(json.loads(value or "[]"), dtype=np.float64)
    length = float(np.linalg.norm(vector))
    return (vector / length if length else vector).astype(np.float32).tobytes()


@event.listens_for(Engine, "connect")
def prepare(connection: Any, _record: Any) -> None:
    """Give every connection, Argilla's own ones too, the functions that the triggers call."""
    connection.create_function("persona_words", 2, field_words, deterministic=True)
    connection.create_function("persona_unit", 1, unit_vector, deterministic=True)
    connection.create_function("persona_shuffle", 2, shuffle, deterministic=True)
    cursor = connection.cursor()
    # Readers do not wait for writers, and a commit is on disk before it is answered.
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA cache_size = -16000")
    cursor.close()
