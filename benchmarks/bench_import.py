"""How long 20 000 rows take to import, and how much memory, in every format.

Run: ``python benchmarks/bench_import.py [--rows 20000]``; exits 1 where a limit is broken. Each
format is read in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MOST_SECONDS = 10.0
MOST_MIB = 500
ANSWER = (
    "Champ, {n} is only a number and numbers bend. Put both feet flat right now and breathe out"
    " slowly, because a calm start keeps the back straight. 무릎을 먼저 풀고 오늘은 의자에 앉았다"
    " 일어나기를 세 번씩 두 번 해 보세요. I'll ask you tomorrow how it went. 💪"
)


def rows(count: int) -> list[dict[str, str]]:
    """Return rows of some 400 bytes each."""
    return [
        {"instruction": f"Is it {n} squats that I need, or {n + 1}?", "output": ANSWER.format(n=n)}
        for n in range(count)
    ]


def write_all(folder: Path, count: int) -> list[Path]:
    """Write the same rows in every format."""
    import datasets
    import pandas

    data = rows(count)
    lines = [json.dumps(row, ensure_ascii=False) for row in data]
    text = "\n".join(lines) + "\n"
    files = {
        "rows.jsonl": text,
        "array.json": json.dumps(data, ensure_ascii=False, indent=1),
        "reply.txt": "Sure, here they are:\n\n"
        + "\n".join(f"{i}. {x}" for i, x in enumerate(lines)),
        "table.md": "| instruction | output |\n|---|---|\n"
        + "".join(f"| {row['instruction']} | {row['output']} |\n" for row in data),
    }
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    for name, delimiter in (("rows.csv", ","), ("rows.tsv", "\t")):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, data[0], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(data)
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "utf16.jsonl").write_text(text, encoding="utf-16")
    frame = pandas.DataFrame(data)
    frame.to_parquet(folder / "rows.parquet")
    frame.to_excel(folder / "rows.xlsx", index=False)
    datasets.Dataset.from_list(data).save_to_disk(folder / "saved")
    return sorted(folder.iterdir())


def import_one(path: Path) -> None:
    """Import one file, and print rows, seconds and MiB as JSON."""
    from generation.importing import import_rows

    started = time.perf_counter()
    imported = import_rows(path, None)
    seconds = time.perf_counter() - started
    # ru_maxrss of a child begins with what its parent held.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps([imported.rows, seconds, peak]))


def main() -> None:
    """Write the files, import each, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--one", type=Path)
    options = parser.parse_args()
    if options.one:
        import_one(options.one)
        return
    broken = False
    with tempfile.TemporaryDirectory() as name:
        print(f"| format | rows | seconds (≤{MOST_SECONDS:.0f}) | MiB (≤{MOST_MIB}) |")
        print("| --- | ---: | ---: | ---: |")
        for path in write_all(Path(name), options.rows):
            command = [sys.executable, __file__, "--one", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            count, seconds, peak = json.loads(done.stdout.splitlines()[-1])
            print(f"| {path.name} | {count} | {seconds:.1f} | {peak:.0f} |")
            broken |= count != options.rows or seconds > MOST_SECONDS or peak > MOST_MIB
    sys.exit(broken)


if __name__ == "__main__":
    main()
