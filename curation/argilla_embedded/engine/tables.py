"""The engine's own tables in Argilla's database, kept by triggers, and its SQL functions.

``persona_text`` (full text) has one row for each searchable field of a record; its ``scope`` holds
two words, the dataset and the field, so that both can be asked for inside the full-text index.
``persona_vectors`` has each vector scaled to length 1, as 32-bit floats. Both are written by
triggers in the transaction that writes the record: a crash leaves all of it or nothing.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from sqlalchemy import event
from sqlalchemy.engine import Engine

from engine.order import shuffle
from engine.words import field_words

_TABLES = """
CREATE TABLE IF NOT EXISTS persona_text_rows (
  id INTEGER PRIMARY KEY, record_id TEXT NOT NULL, field_id TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS persona_text_rows_record ON persona_text_rows (record_id);
CREATE VIRTUAL TABLE IF NOT EXISTS persona_text USING fts5(
  record_id UNINDEXED, scope, words,
  tokenize = "unicode61 remove_diacritics 0 categories 'L* M* N* P* S* C*'");
CREATE TABLE IF NOT EXISTS persona_vectors (
  vector_id TEXT PRIMARY KEY, settings_id TEXT NOT NULL, record_id TEXT NOT NULL,
  unit BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS persona_vectors_settings ON persona_vectors (settings_id);
CREATE INDEX IF NOT EXISTS persona_records_status ON records (dataset_id, status);
CREATE INDEX IF NOT EXISTS persona_records_dataset ON records (id, dataset_id);
CREATE INDEX IF NOT EXISTS persona_responses_user ON responses (user_id, record_id, status);
CREATE INDEX IF NOT EXISTS persona_responses_record ON responses (record_id, user_id, status);
"""

_ADD_WORDS = """
INSERT INTO persona_text_rows (record_id, field_id)
  SELECT {record}.id, f.id FROM fields f
  WHERE f.dataset_id = {record}.dataset_id AND json_extract(f.settings, '$.type') <> 'image';
INSERT INTO persona_text (rowid, record_id, scope, words)
  SELECT t.id, {record}.id, 'd' || {record}.dataset_id || ' f' || f.id,
         persona_words(json_extract(f.settings, '$.type'), v.value)
  FROM persona_text_rows t JOIN fields f ON f.id = t.field_id
       JOIN json_each({record}.fields) v ON v.key = f.name
  WHERE t.record_id = {record}.id;
"""
_DROP_WORDS = """
DELETE FROM persona_text WHERE rowid IN (
  SELECT id FROM persona_text_rows WHERE record_id = OLD.id);
DELETE FROM persona_text_rows WHERE record_id = OLD.id;
"""
_ADD_VECTOR = """
INSERT OR REPLACE INTO persona_vectors (vector_id, settings_id, record_id, unit)
  SELECT v.id, v.vector_settings_id, v.record_id, persona_unit(v.value)
  FROM vectors v WHERE {which};
"""
_TRIGGERS = {
    "persona_record_added": ("AFTER INSERT ON records", _ADD_WORDS.format(record="NEW")),
    "persona_record_changed": (
        "AFTER UPDATE OF fields ON records WHEN OLD.fields IS NOT NEW.fields",
        _DROP_WORDS + _ADD_WORDS.format(record="NEW"),
    ),
    "persona_record_dropped": ("AFTER DELETE ON records", _DROP_WORDS),
    "persona_vector_added": ("AFTER INSERT ON vectors", _ADD_VECTOR.format(which="v.id = NEW.id")),
    "persona_vector_changed": (
        "AFTER UPDATE OF value ON vectors",
        _ADD_VECTOR.format(which="v.id = NEW.id"),
    ),
    "persona_vector_dropped": (
        "AFTER DELETE ON vectors",
        "DELETE FROM persona_vectors WHERE vector_id = OLD.id;",
    ),
}


def install(engine: Engine) -> None:
    """Create what is missing of tables, indexes and triggers, and fill them from the records.

    Filling happens once: for a database that Argilla had used before without this engine.
    """
    with engine.begin() as connection:
        raw: Any = connection.connection.dbapi_connection
        for statement in _TABLES.strip().split(";\n"):
            raw.execute(statement.removesuffix(";"))
        known = {row[0] for row in raw.execute("SELECT name FROM sqlite_master")}
        for name, (when, body) in _TRIGGERS.items():
            if name not in known:
                raw.execute(f"CREATE TRIGGER {name} {when} BEGIN {body} END")
        if not _TRIGGERS.keys() <= known:
            _fill(raw)


def _fill(raw: Any) -> None:
    raw.execute("DELETE FROM persona_text")
    raw.execute("DELETE FROM persona_text_rows")
    raw.execute("DELETE FROM persona_vectors")
    raw.execute(
        "INSERT INTO persona_text_rows (record_id, field_id) SELECT r.id, f.id FROM records r "
        "JOIN fields f ON f.dataset_id = r.dataset_id "
        "AND json_extract(f.settings, '$.type') <> 'image'"
    )
    raw.execute(
        "INSERT INTO persona_text (rowid, record_id, scope, words) "
        "SELECT t.id, r.id, 'd' || r.dataset_id || ' f' || f.id, "
        "persona_words(json_extract(f.settings, '$.type'), v.value) FROM persona_text_rows t "
        "JOIN records r ON r.id = t.record_id JOIN fields f ON f.id = t.field_id "
        "JOIN json_each(r.fields) v ON v.key = f.name"
    )
    raw.execute(_ADD_VECTOR.format(which="1").strip().removesuffix(";"))


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
