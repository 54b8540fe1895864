"""How a round's steps grow with its rows: time, peak memory, and how often the text is held.

``make bench-growth`` (or ``python benchmarks/bench_growth.py [--rows 1000 10000 100000]``) makes
rows of the running example's own words and puts them through import, filter, split and trace, each
step as its command in a process of its own. The exponent is that of n log n: 1 grows as fast as
n log n does, less grows slower; constant start-up is taken off before. Copies of the text are the
memory that rows of 20 times the length take more, by the bytes that they are longer.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from bench_filters import rows_of

from generation.importing import import_rows
from workbench.persona import load_persona
from workbench.records import Decision, Example, Review
from workbench.store import read_records, write_json, write_records

PERSONA = Path("datasets/gym-trainer")
LIMIT = 1.1
"""Largest exponent of n log n that passes."""
COPIES = 2.0
"""The text is never held as often as this; half a copy is left for what a step makes of a row."""
LONG = 20
CHILD = """
import sys
from pathlib import Path
from app.cli.main import main
code = main(sys.argv[1:])
# Not from getrusage: that is never below the memory of whoever started the process.
print(next(l for l in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in l))
sys.exit(code)
"""
STEPS = ("import", "filter", "split", "trace")
COMMANDS = {
    "import": ("import",),
    "filter": ("filter",),
    "split": ("split",),
    "trace": ("trace", "--sample", "1000"),
}


@dataclass(frozen=True)
class Spent:
    """What one command took."""

    seconds: float
    mib: float


def main() -> None:
    """Print the growth of every step and its copies of the text; exit 1 beyond a limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument(
        "--copies", type=int, default=1000, help="rows for counting copies; 0: none"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        empty = round_of(Path(folder) / "start", 100, 1)
        print(f"{'rows':>8}" + "".join(f"{step:>10} s{'MiB':>7}" for step in STEPS))
        table = {rows: row_of_table(Path(folder), rows) for rows in sorted(options.rows)}
        worst = growth(table, empty) if len(table) > 1 else 0.0
        held = copies(Path(folder), options.copies) if options.copies else 0.0
    sys.exit(worst > LIMIT or held >= COPIES)


def row_of_table(folder: Path, rows: int) -> dict[str, Spent]:
    """Put so many rows through every step, print what each took, and return it."""
    spent = round_of(folder / str(rows), rows, 1)
    cells = (f"{spent[step].seconds:12.1f}{spent[step].mib:7.0f}" for step in STEPS)
    print(f"{rows:>8}" + "".join(cells), flush=True)
    return spent


def growth(table: dict[int, dict[str, Spent]], empty: dict[str, Spent]) -> float:
    """Print and return the worst exponent between the last two sizes."""
    sizes = sorted(table)[-2:]
    worst = 0.0
    for name, kind in (("time", "seconds"), ("memory", "mib")):
        exponents = []
        for step in STEPS:
            start = getattr(empty[step], kind)
            ends = [max(getattr(table[rows][step], kind) - start, 1e-3) for rows in sizes]
            exponents.append(exponent(*sizes, *ends))
        steps = ", ".join(f"{step} {one:.2f}" for step, one in zip(STEPS, exponents, strict=True))
        print(f"{name}: exponent of n log n from {sizes[0]} to {sizes[1]} rows: {steps}")
        worst = max(worst, *exponents)
    print(f"limit {LIMIT}: {'kept' if worst <= LIMIT else 'BROKEN'}")
    return worst


def exponent(few: int, many: int, little: float, much: float) -> float:
    """Return e for which ``much / little`` is the ratio of n log n to the power of e."""
    return math.log(much / little) / math.log(many * math.log(many) / (few * math.log(few)))


def copies(folder: Path, rows: int) -> float:
    """Print how often each step holds the rows' text, and return the most."""
    short, long = (round_of(folder / f"length-{times}", rows, times) for times in (1, LONG))
    sizes = [text_mib(folder / f"length-{times}/rows.jsonl") for times in (1, LONG)]
    more = sizes[1] - sizes[0]
    held = {step: (long[step].mib - short[step].mib) / more for step in STEPS}
    steps = ", ".join(f"{step} {times:.2f}" for step, times in held.items())
    print(f"copies of the text in memory ({rows} rows, {more:.0f} MiB longer): {steps}")
    print(f"limit {COPIES}: {'kept' if max(held.values()) < COPIES else 'BROKEN'}")
    return max(held.values())


def text_mib(path: Path) -> float:
    """Return the size of all texts of a file of Alpaca rows as Python holds them, in MiB."""
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return sum(sys.getsizeof(r["instruction"]) + sys.getsizeof(r["output"]) for r in rows) / 2**20


def round_of(folder: Path, rows: int, times: int) -> dict[str, Spent]:
    """Put rows through every step and return what each took.

    Args:
        folder: Made; holds the round.
        rows: How many.
        times: How many rows' words each of them is made of.
    """
    folder.mkdir()
    config = settings(folder, times)
    write_rows(folder / "rows.jsonl", rows, times)
    spent = {}
    for step in STEPS:
        round_ = folder / "runs" / "gym-trainer" / "round-001"
        if step == "split":
            reviewed(round_)
        spent[step] = measured(*COMMANDS[step], "--config", config, "--runs", folder / "runs")
    return spent


def settings(folder: Path, times: int) -> Path:
    """Write a persona that lets answers be so long, and the configuration of the round."""
    spec = yaml.safe_load((PERSONA / "persona.yaml").read_text(encoding="utf-8"))
    spec["voice"]["length"]["max"] *= times
    (folder / "persona").mkdir()
    write_json(folder / "persona/persona.yaml", spec)
    path = folder / "config.yaml"
    # What embedding takes depends on the embedder, and is linear in the rows.
    by_wording = {"meaning": 1}
    split = {"topics": "spread"} | by_wording
    sources = [str(folder / "rows.jsonl")]
    config = {"persona": str(folder / "persona"), "sources": sources, "split": split}
    write_json(path, config | {"filter": by_wording})
    return path


def write_rows(path: Path, count: int, times: int) -> None:
    """Write Alpaca rows of the running example's words, as bench_filters makes them."""
    seeds = import_rows(PERSONA / "seeds.jsonl", load_persona(PERSONA)).examples
    with path.open("w", encoding="utf-8") as file:
        for row in longer(rows_of(count, seeds), times):
            data = {"instruction": row[0], "output": row[1], "topic": row[2]}
            file.write(json.dumps(data, ensure_ascii=False) + "\n")


def longer(rows: Sequence[Example], times: int) -> Iterator[tuple[str, str, str]]:
    """Yield question, answer and topic, both texts with the words of ``times`` rows."""
    draw = random.Random(1)
    for row in rows:
        others = draw.sample(rows, times - 1)
        question = " ".join([row.question, *(other.question for other in others)])
        answer = " ".join([row.answer, *(other.answer for other in others)])
        yield question, answer, row.topic


def reviewed(round_: Path) -> None:
    """Write what people leave between filter and split: two reviews and a decision for each row."""
    rows: list[Example] = []
    reviews: list[Review] = []
    decisions: list[Decision] = []
    for row in read_records(round_ / "filter/examples.jsonl", Example):
        two = [Review(reviewer=f"reviewer-{n}", record=row.id) for n in (1, 2)]
        ids = tuple(review.id for review in two)
        reviews += two
        decisions.append(Decision(record=row.id, outcome="keep", parents=(row.id, *ids)))
        rows.append(row.evolve(parents=(*row.parents, *ids)))
    write_records(round_ / "review/reviews.jsonl", reviews)
    write_records(round_ / "resolve/decisions.jsonl", decisions)
    write_records(round_ / "resolve/examples.jsonl", rows)
    write_records(round_ / "resolve/preferences.jsonl", [])


def measured(*arguments: object) -> Spent:
    """Run a command in a process of its own and return its seconds and its peak memory."""
    command = [sys.executable, "-c", CHILD, *map(str, arguments)]
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"persona {' '.join(command[3:])} failed:\n{done.stdout}")
    return Spent(seconds, int(done.stdout.rpartition("VmHWM:")[2].split()[0]) / 1024)


if __name__ == "__main__":
    main()
