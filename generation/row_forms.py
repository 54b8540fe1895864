"""Rows in the forms that other trainers read: the way back of :mod:`generation.row_shapes`.

In: records of a round, by kind and split. Out: a folder with one file for each, with the rows' ids,
and what LLaMA-Factory and axolotl need to read it. :mod:`rounds.row_export` calls it;
``persona import`` reads every form back to the same ids.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from generation.row_columns import BadRow, as_list
from generation.row_shapes import parse_row
from workbench.errors import UserError
from workbench.records import (
    Example,
    Preference,
    Row,
    SplitName,
    UnpairedPreference,
    as_messages,
)
from workbench.store import write_json

RowKind = Literal["sft", "preferences", "unpaired", "prompts"]
KINDS: tuple[RowKind, ...] = get_args(RowKind)
RowFormat = Literal["trl", "openai", "alpaca", "sharegpt", "messages", "parquet", "csv"]
FORMATS: tuple[RowFormat, ...] = get_args(RowFormat)
_FROM = {"user": "human", "assistant": "gpt", "system": "system"}
"""ShareGPT's words for who speaks."""
_SHAREGPT_TAGS = {"role": "from", "content": "value"}
_ROLE_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
}


@dataclass(frozen=True)
class WrittenRows:
    """What an export of rows wrote."""

    files: dict[str, int]
    """File → its rows."""
    changed: list[str] = field(default_factory=list)
    """Ids of rows that an import would read as others: it straightens texts, as their ends."""


def write_rows(
    rows: Mapping[tuple[RowKind, SplitName], Sequence[Row]],
    form: RowFormat,
    out: Path,
    name: str,
    *,
    ids: bool = True,
) -> WrittenRows:
    """Write rows into the folder ``out``, a file a kind and split; empty ones get none.

    Args:
        rows: Examples for ``sft`` and ``prompts``, pairs for ``preferences``, unpaired preferences.
        form: The form of a row and of its file.
        out: The folder, which is there.
        name: What LLaMA-Factory calls the rows, before kind and split.
        ids: Write id, topic and kind of a row beside it. A service may refuse such columns.

    Raises:
        UserError: A row that the form has no place for; it is named.
    """
    files: dict[str, int] = {}
    changed: list[str] = []
    suffix = {"parquet": ".parquet", "csv": ".csv"}.get(form, ".jsonl")
    for (kind, split), records in rows.items():
        if not records:
            continue
        table = [form_row(record, kind, form, ids=ids) for record in records]
        pairs = zip(records, table, strict=True)
        changed += [record.id for record, row in pairs if not _reads_back(record, row)]
        file = f"{kind}-{split}{suffix}"
        _WRITERS.get(form, _write_jsonl)(out / file, table)
        files[file] = len(table)
    if info := _llama_factory(files, form, name):
        write_json(out / "dataset_info.json", info)
    for kind in ("sft", "preferences"):
        if block := _axolotl(files, kind, form):
            text = yaml.safe_dump(block, sort_keys=False)
            (out / f"axolotl-{kind}.yaml").write_text(text, encoding="utf-8")
    return WrittenRows(files, changed)


def form_row(record: Row, kind: RowKind, form: RowFormat, *, ids: bool = True) -> dict[str, Any]:
    """Return one row in a form, with its pictures as paths beside the file.

    Raises:
        UserError: The form has no place for it.
    """
    row = _FORMS[form](record, kind)
    if ids:
        row |= {"id": record.id, "topic": record.topic, "kind": record.kind}
    if record.images:
        images: Any = [f"images/{Path(image).name}" for image in record.images]
        row["images"] = json.dumps(images) if form == "csv" else images
    return row


def _turn(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _trl(row: Row, kind: RowKind) -> dict[str, Any]:
    """Return TRL's conversational row with its prompt apart; a prompt alone has its reference."""
    prompt = as_messages(row.prompt)
    if isinstance(row, Preference):
        return {"prompt": prompt, "chosen": [_turn(row.chosen)], "rejected": [_turn(row.rejected)]}
    if isinstance(row, UnpairedPreference):
        return {"prompt": prompt, "completion": [_turn(row.answer)], "label": row.label}
    assert isinstance(row, Example)
    if kind == "prompts":
        return {"prompt": prompt, "answer": row.answer}
    return {"prompt": prompt, "completion": [_turn(row.answer)]}


def _messages(row: Row, kind: RowKind) -> dict[str, Any]:
    """Return one conversation, and beside it what is not learnt as its end."""
    parts = _trl(row, kind)
    prompt = parts["prompt"]
    if isinstance(row, Preference):
        return {"messages": prompt, "chosen": _turn(row.chosen), "rejected": _turn(row.rejected)}
    if kind == "prompts":
        return {"messages": prompt, "reference_answer": parts["answer"]}
    label = {"label": parts["label"]} if "label" in parts else {}
    return {"messages": [*prompt, *parts["completion"]], **label}


def _openai(row: Row, kind: RowKind) -> dict[str, Any]:
    """Return OpenAI's row; it has none for unpaired answers, which get a label beside theirs."""
    if not isinstance(row, Preference):
        return _messages(row, kind)
    return {
        "input": {"messages": as_messages(row.prompt)},
        "preferred_output": [_turn(row.chosen)],
        "non_preferred_output": [_turn(row.rejected)],
    }


def _sharegpt(row: Row, kind: RowKind) -> dict[str, Any]:
    def turn(one: dict[str, str]) -> dict[str, str]:
        return {"from": _FROM[one["role"]], "value": one["content"]}

    names = {"messages": "conversations", "label": "kto_tag"}
    shaped: dict[str, Any] = {}
    for name, value in _messages(row, kind).items():
        if isinstance(value, list):
            value = [turn(one) for one in value]
        shaped[names.get(name, name)] = turn(value) if isinstance(value, dict) else value
    return shaped


def _alpaca(row: Row, kind: RowKind) -> dict[str, Any]:
    turns = list(row.prompt)
    system = turns.pop(0).content if turns[0].role == "system" else ""
    roles = [turn.role for turn in turns]
    if roles != (["user", "assistant"] * len(roles))[: len(roles)] or len(roles) % 2 == 0:
        raise UserError(
            "its turns are not those of question and answer, and Alpaca has no place for others",
            where=row.id,
            fix="take --format messages",
        )
    history = [[turns[i].content, turns[i + 1].content] for i in range(0, len(turns) - 1, 2)]
    shared = {"instruction": turns[-1].content, "input": "", "system": system, "history": history}
    if isinstance(row, Preference):
        return {**shared, "chosen": row.chosen, "rejected": row.rejected}
    label = {"kto_tag": row.label} if isinstance(row, UnpairedPreference) else {}
    assert isinstance(row, Example | UnpairedPreference)
    return {**shared, "output": row.answer, **label}


def _flat(row: Row, kind: RowKind) -> dict[str, Any]:
    """Return TRL's columns as cells: text where one turn says all, JSON of the turns elsewhere."""

    def cell(name: str, value: object) -> Any:
        if not isinstance(value, list):
            return value
        alone = "user" if name == "prompt" else "assistant"
        text = str(value[0]["content"])
        plain = len(value) == 1 and value[0]["role"] == alone and as_list(text) is None
        return text if plain else json.dumps(value, ensure_ascii=False)

    return {name: cell(name, value) for name, value in _trl(row, kind).items()}


_FORMS: dict[RowFormat, Callable[[Row, RowKind], dict[str, Any]]] = {
    "trl": _trl,
    "openai": _openai,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "messages": _messages,
    "parquet": _trl,
    "csv": _flat,
}


def _reads_back(record: Row, row: Mapping[str, object]) -> bool:
    """Return whether an import would read the same texts."""
    try:
        parsed = parse_row(row)
    except BadRow:
        return False
    texts = parsed.answer, parsed.rejected or ""
    if isinstance(record, Preference):
        return (parsed.prompt, *texts) == (record.prompt, record.chosen, record.rejected)
    return (parsed.prompt, texts[0]) == (record.prompt, getattr(record, "answer", ""))


def _write_jsonl(path: Path, rows: Iterable[dict[str, object]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_csv(path: Path, rows: Sequence[dict[str, object]]) -> None:
    names = dict.fromkeys(name for row in rows for name in row)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(names), restval="")
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(path: Path, rows: Sequence[dict[str, object]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = dict.fromkeys(name for row in rows for name in row)
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), path)


_WRITERS: dict[RowFormat, Callable[[Path, Sequence[dict[str, Any]]], None]] = {
    "parquet": _write_parquet,
    "csv": _write_csv,
}


def _llama_factory(files: Iterable[str], form: RowFormat, name: str) -> dict[str, Any]:
    """Return LLaMA-Factory's ``dataset_info.json``; empty for a form that it does not read."""
    if form not in ("alpaca", "sharegpt", "messages", "openai"):
        return {}
    info: dict[str, Any] = {}
    for file in files:
        stem = Path(file).stem
        kind, _, split = stem.partition("-")
        if kind == "prompts" or (form == "openai" and kind == "preferences"):
            continue
        entry: dict[str, Any] = {"file_name": file}
        if form == "alpaca":
            columns = {"prompt": "instruction", "query": "input"}
            columns |= {"system": "system", "history": "history"}
            columns |= {} if kind == "preferences" else {"response": "output"}
        else:
            entry["formatting"] = "sharegpt"
            columns = {"messages": "conversations" if form == "sharegpt" else "messages"}
            if form != "sharegpt":
                entry["tags"] = _ROLE_TAGS
        if kind == "preferences":
            entry["ranking"] = True
            columns |= {"chosen": "chosen", "rejected": "rejected"}
        if kind == "unpaired":
            columns["kto_tag"] = "kto_tag" if form in ("alpaca", "sharegpt") else "label"
        info[f"{name}-{kind}-{split}".replace("-", "_")] = {**entry, "columns": columns}
    return info


def _axolotl(files: Iterable[str], kind: str, form: RowFormat) -> dict[str, Any]:
    """Return axolotl's block for rows of a kind; empty for a form that it reads no such rows of."""
    forms = {"sft": ("messages", "openai", "sharegpt"), "preferences": ("messages", "sharegpt")}
    there = {Path(file).stem: file for file in files}
    if form not in forms[kind] or f"{kind}-train" not in there:
        return {}
    sharegpt = form == "sharegpt"
    words = _FROM if sharegpt else {role: role for role in _FROM}
    sides = {"field_chosen": "chosen", "field_rejected": "rejected"}

    def entry(split: SplitName) -> dict[str, Any]:
        return {
            "path": f"./{there[f'{kind}-{split}']}",
            "ds_type": "json",
            "split": "train",  # what the file is called once it is loaded
            "type": "chat_template" if kind == "sft" else "chat_template.default",
            "field_messages": "conversations" if sharegpt else "messages",
            **(sides if kind == "preferences" else {}),
            "message_property_mappings": _SHAREGPT_TAGS
            if sharegpt
            else {"role": "role", "content": "content"},
            "roles": {role: [word] for role, word in words.items()},
        }

    block: dict[str, Any] = {"rl": "dpo"} if kind == "preferences" else {}
    block["datasets"] = [entry("train")]
    if f"{kind}-validation" in there:
        block["test_datasets"] = [entry("validation")]
    return block
