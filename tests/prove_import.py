"""Files of rows with every kind of damage: none ends in a traceback, none loses a row in silence.

``python -m tests.prove_import [COUNT]`` tries COUNT files (10 000 by default), each made from its
number alone, and prints those that break the promise; the tests try the first few hundred.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from generation.importing import import_rows
from workbench.errors import UserError
from workbench.text import decode

ANSWERS = (
    "Champ, stand up and breathe.",
    "회원님, 지금 바로 무릎을 풀어요! 💪",
    'He said "no pain", champ, and {rest}.',
    "Line one,\nline two; a | bar.",
    "Café ☕ — naïve\u2028separator",
)
MARKER = re.compile(r"Q\d{3}Z")
BINARY = ("parquet", "xlsx")
Rows = list[dict[str, str]]


def _rows(draw: random.Random) -> Rows:
    count = draw.randint(1, 8)
    return [
        {"instruction": f"Q{n:03d}Z how deep?", "output": f"{draw.choice(ANSWERS)} {n}"}
        for n in range(count)
    ]


def _jsonl(rows: Rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _chat(rows: Rows) -> str:
    roles = (("user", "instruction"), ("assistant", "output"))
    turns = ([{"role": role, "content": row[key]} for role, key in roles] for row in rows)
    return "".join(json.dumps({"messages": one}, ensure_ascii=False) + "\n" for one in turns)


def _csv(rows: Rows) -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, ["instruction", "output"])
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _markdown(rows: Rows) -> str:
    def cell(text: str) -> str:
        return text.replace("|", "\\|").replace("\n", "<br>")

    lines = (f"| {cell(row['instruction'])} | {cell(row['output'])} |\n" for row in rows)
    return "| instruction | output |\n|---|---|\n" + "".join(lines)


def _reply(rows: Rows) -> str:
    return f"Sure!\n\n```jsonl\n{_jsonl(rows)}```\nShall I go on?\n"


def _parquet(rows: Rows) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def _excel(rows: Rows) -> bytes:
    import openpyxl

    book, file = openpyxl.Workbook(), io.BytesIO()
    sheet = book.create_sheet("rows", 0)
    sheet.append(["instruction", "output"])
    for row in rows:
        sheet.append(list(row.values()))
    book.save(file)
    return file.getvalue()


FORMATS: dict[str, Callable[[Rows], str | bytes]] = {
    "jsonl": _jsonl,
    "chat.jsonl": _chat,
    "json": lambda rows: json.dumps(rows, ensure_ascii=False, indent=2),
    "csv": _csv,
    "md": _markdown,
    "txt": _reply,
    "mixed.txt": lambda rows: _jsonl(rows[:2]) + "\n" + _csv(rows[2:]),
    "parquet": _parquet,
    "xlsx": _excel,
}
JUNK = ("\ufeff", "\u200b", "Row 1: ", "**1.** ", "> ", "`", "\x00", "\u202e", "\r", "\n", '"', "{")


def _damage(text: str, draw: random.Random) -> str:
    at = draw.randrange(len(text) + 1)
    match draw.randrange(8):
        case 0:
            return text[:at] + text[at + draw.randint(1, 5) :]
        case 1:
            return text[:at] + draw.choice(JUNK) + text[at:]
        case 2:
            line = text.rfind("\n", 0, at) + 1
            return text[:line] + draw.choice(JUNK) + text[line:]
        case 3:
            return text[:at]
        case 4:
            end = min(len(text), at + draw.randint(1, 80))
            return text[:end] + text[at:end] + text[end:]
        case 5:
            lines = text.split("\n")
            draw.shuffle(lines)
            return "\n".join(lines)
        case 6:
            return text.replace('"', draw.choice("“”'"), draw.randint(1, 6))
    return text.replace("\n", draw.choice(("\r\n", "\r", "\n\n")))


def mutated(seed: int) -> tuple[str, bytes]:
    """Return the name and the content of one damaged file."""
    draw = random.Random(seed)
    name = draw.choice(list(FORMATS))
    content = FORMATS[name](_rows(draw))
    if isinstance(content, str):
        for _ in range(draw.choice((0, 1, 1, 2, 3))):
            content = _damage(content, draw)
        charset = draw.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "cp949"))
        raw = content.encode(charset, "ignore")
    else:
        raw = content
    if draw.random() < (0.7 if name in BINARY else 0.2) and raw:
        at = draw.randrange(len(raw))
        raw = raw[:at] + bytes([draw.randrange(256)]) + raw[at + draw.randint(0, 1) :]
    if draw.random() < 0.1:
        name, raw = f"{name}.gz", gzip.compress(raw)
    return name, raw


def complaint(seed: int, folder: Path) -> str:
    """Return how the import of one damaged file breaks the promise, or an empty string."""
    name, raw = mutated(seed)
    path = folder / f"{seed}.{name}"
    path.write_bytes(raw)
    try:
        imported = import_rows(path, None, skip_bad=True)
    except UserError:
        return ""
    except Exception as error:  # noqa: BLE001 the promise is that there is none
        return f"{path.name}: {type(error).__name__}: {error}"
    finally:
        path.unlink()
    if imported.rows != len(imported.examples) + len(imported.preferences) + len(imported.dropped):
        return f"{path.name}: rows do not add up"
    if any(one in name for one in BINARY):
        return ""  # Parquet keeps no checksum: a flipped bit may be a letter
    decoded = decode(gzip.decompress(raw) if name.endswith(".gz") else raw)
    there = set(MARKER.findall(decoded.text if decoded else ""))
    read = {marker for one in imported.examples for marker in MARKER.findall(str(one.prompt))}
    lost = there - read - {m for one in imported.examples for m in MARKER.findall(one.answer)}
    # Amid prose a line of a table that lost its head, or its delimiter, is told as passed over.
    amid_prose = name.startswith("mixed") and any("passed over: line" in n for n in imported.notes)
    reasons = imported.dropped or imported.columns.passed_over()
    if lost and not reasons and not amid_prose:
        return f"{path.name}: {sorted(lost)} went without a reason"
    return ""


def main() -> None:
    """Try many files, and exit 1 if one of them breaks the promise."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    names: Counter[str] = Counter()
    broken = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(count):
            names[mutated(seed)[0]] += 1
            if line := complaint(seed, Path(folder)):
                broken.append(line)
                print(line)
    print(f"{count} files ({', '.join(f'{n} {name}' for name, n in names.most_common())})")
    print(f"{len(broken)} broke the promise")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
