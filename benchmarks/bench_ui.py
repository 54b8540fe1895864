"""The pages at size: first page, table, a row's story, live figures' age, what a training pays.

Made in a temporary folder: a hundred rounds, and a round of ten thousand rows. Each line says a
time and its limit; the exit code is 1 where one is missed. ``python benchmarks/bench_ui.py``
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import psutil

ROUNDS, ROWS, TRIES = 100, 10_000, 7
PAIRS, BLOCK = 12, 4.0
"""Pairs of stretches of a training, with the page open and without, and seconds of one."""
TRAINING = """\
import json, sys, time
from pathlib import Path
import torch
from workbench.console import publishing, track
progress, curve, steps = map(Path, sys.argv[1:])
model = torch.nn.Sequential(*[torch.nn.Linear(768, 768) for _ in range(8)])
optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
rows = torch.randn(128, 768)
with publishing(progress), track("Training SFT", 100_000) as advance, \\
        curve.open("w") as points, steps.open("w", buffering=1) as times:
    for step in range(100_000):
        start = time.time()
        loss = (model(rows) - rows).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        points.write(json.dumps({"step": step, "loss": loss.item()}) + "\\n")
        advance(1, note=f"loss {loss.item():.3f}")
        times.write(f"{start} {time.time() - start}\\n")
"""
"""A training on all cores, which says what it does as the trainer's callbacks do."""


def main() -> int:
    """Measure, print a table, and return the exit code."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    with tempfile.TemporaryDirectory() as folder:
        lines = _measured(Path(folder))
    print(f"{'figure':52} {'first':>9} {'median':>9} {'limit':>9}")
    missed = 0
    for name, first, own, limit in lines:
        over = own > limit
        missed += over
        print(f"{name:52} {first:9.3f} {own:9.3f} {limit:9.3f}{'  MISSED' if over else ''}")
    return 1 if missed else 0


def _measured(home: Path) -> list[tuple[str, float, float, float]]:
    """Return (figure, the first time in seconds, the median of later ones, limit)."""
    from tests.app.web.conftest import Pages, written
    from tests.generation.conftest import PERSONA

    datasets, runs = home / "datasets", home / "runs"
    (datasets / "tester").mkdir(parents=True)
    (datasets / "tester" / "persona.yaml").write_text(PERSONA, encoding="utf-8")
    pages = Pages(runs, datasets)
    written(pages.round(1), datasets / "tester")
    for number in range(2, ROUNDS + 1):
        shutil.copytree(pages.round(1).folder, pages.round(number).folder)
    rows = _grown(pages)
    library = pages.library
    library.warm()  # as `persona ui` does before it prints its link
    client = pages.reader(library)
    last = f"/round/tester/{ROUNDS}"

    def seconds(path: str, limit: float, name: str) -> tuple[str, float, float, float]:
        times = [_timed(lambda: client.get(path)) for _ in range(TRIES + 1)]
        return name, times[0], median(times[1:]), limit

    figures = [
        seconds("/", 0.3, f"first page, {ROUNDS} rounds"),
        seconds(f"{last}/rows", 0.2, f"table page, {ROWS} rows"),
        seconds(f"{last}/rows?at=150", 0.2, "table page 150"),
        seconds(f"{last}/rows?text=question+7&decision=keep", 0.2, "search and filter"),
        seconds(f"{last}/row/{rows[5]}", 0.5, "a row's story"),
        seconds(last, 0.3, "a round's page"),
        *_changed(pages, library, client, last),
    ]
    return [*figures, _live(pages), _cost(pages), _slowed(pages)]


def _grown(pages: Any) -> list[str]:
    """Make the last round one of :data:`ROWS` rows, and return their ids."""
    from rounds.layout import ASSIGNMENTS, DECISIONS, FILTERED, IMPORTED, RESOLVED, REVIEWS, write
    from tests.app.web.conftest import example
    from workbench.records import Decision, Review, SplitAssignment

    one = pages.round(ROUNDS)
    rows = [example(n, f"Question {n}: how deep, and why?", f"Champ, {n}.") for n in range(ROWS)]
    parts: dict[Any, list[Any]] = {
        IMPORTED: rows,
        FILTERED: rows,
        RESOLVED: rows,
        REVIEWS: [Review(reviewer="ann", record=row.id, answers={"fidelity": 5}) for row in rows],
        DECISIONS: [Decision(record=row.id, outcome="keep") for row in rows],
        ASSIGNMENTS: [SplitAssignment(record=row.id, split="train", group="g") for row in rows],
    }
    for artifact, records in parts.items():
        write(one.stage(artifact.stage), artifact, records)
    return [row.id for row in rows]


def _changed(
    pages: Any, library: Any, client: Any, last: str
) -> list[tuple[str, float, float, float]]:
    """Return how long the table takes after a stage was done again, and the look that read it."""
    from rounds.layout import DECISIONS, write

    one = pages.round(ROUNDS)
    decisions = [own.evolve(outcome="drop") for own in one.read(DECISIONS)]
    write(one.stage(DECISIONS.stage), DECISIONS, decisions)
    start = time.perf_counter()
    library.warm_rows()  # as its server does every three seconds
    ahead = time.perf_counter() - start
    start = time.perf_counter()
    library.warm_rows()
    idle = time.perf_counter() - start
    first = _timed(lambda: client.get(f"{last}/rows?decision=drop"))
    return [
        ("table page, changed and read ahead", first, first, 0.2),
        ("a look that reads, then one that need not", ahead, idle, 0.1),
    ]


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    answer = work()
    assert answer.status_code == 200, answer.text[:500]
    return time.perf_counter() - start


def _live(pages: Any) -> tuple[str, float, float, float]:
    """Return how long a line of a log takes to an open page."""
    import httpx

    from rounds import processes
    from tests.app.web.conftest import served_pages

    one = pages.round(2)
    ages = []
    with served_pages(pages.runs, pages.datasets) as served, httpx.Client(timeout=30) as client:
        client.get(served.link)
        script = "for n in 1 2 3 4 5 6; do date +stamp:%s.%N; sleep 1.3; done"
        processes.start(one, ("sh", "-c", script), ("persona", "run"))
        seen: set[str] = set()
        with client.stream("GET", f"{served.address}/round/tester/2/live") as answer:
            for line in answer.iter_lines():
                for stamp in (part.split("<")[0] for part in line.split("stamp:")[1:]):
                    if stamp not in seen:
                        seen.add(stamp)
                        ages.append(time.time() - float(stamp))
                if len(seen) == 6:
                    break
        processes.stop(one)
    return "live figures, oldest of six", ages[0], max(ages), 2.0


@contextmanager
def _open_page(served: Any, client: Any) -> Iterator[None]:
    """Keep the live page of the second round open, as a browser does."""
    end = threading.Event()

    def watch() -> None:
        with client.stream("GET", f"{served.address}/round/tester/2/live") as answer:
            for _ in answer.iter_lines():
                if end.is_set():
                    return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(timeout=10)


def _cost(pages: Any) -> tuple[str, float, float, float]:
    """Return the share of a core that an open live page costs."""
    import httpx

    from tests.app.web.conftest import served_pages

    with served_pages(pages.runs, pages.datasets) as served, httpx.Client(timeout=30) as client:
        client.get(served.link)
        with _open_page(served, client):
            time.sleep(3)
            process = psutil.Process()
            before, start = sum(process.cpu_times()[:2]), time.perf_counter()
            time.sleep(15)
            share = (sum(process.cpu_times()[:2]) - before) / (time.perf_counter() - start)
    # One core of a machine with several: what a training could have had of it.
    return "open live page, share of a core", share, share, 0.02


def _slowed(pages: Any) -> tuple[str, float, float, float]:
    """Return by which share a training's step is longer with its live page open than without."""
    import httpx

    from rounds.layout import PROGRESS, curve
    from tests.app.web.conftest import served_pages

    one, times = pages.round(2), pages.runs / "steps.txt"
    one.partial("sft").mkdir(parents=True)
    paths = (one.folder / PROGRESS, one.partial("sft") / curve("sft").name, times)
    blocks: list[tuple[bool, float]] = []
    with served_pages(pages.runs, pages.datasets) as served, httpx.Client(timeout=30) as client:
        client.get(served.link)
        training = subprocess.Popen(
            [sys.executable, "-c", TRAINING, *map(str, paths)],
            cwd=Path(__file__).resolve().parents[1],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not times.exists() or times.stat().st_size < 1000:
            time.sleep(0.2)
        for number in range(2 * PAIRS):
            is_open = number % 4 in (1, 2)  # without, with, with, without: a drift cancels out
            with _open_page(served, client) if is_open else nullcontext():
                time.sleep(0.5)
                blocks.append((is_open, time.time()))
                time.sleep(BLOCK)
        training.kill()
        training.wait()
    steps = [[float(part) for part in line.split()] for line in times.read_text().splitlines()]
    ratios = []
    for first, second in zip(blocks[::2], blocks[1::2], strict=True):
        closed, opened = (
            [own for at, own in steps if start <= at < start + BLOCK]
            for _, start in sorted((first, second))
        )
        if closed and opened:  # a machine that others use may have had no time for a step
            ratios.append(mean(opened) / mean(closed) - 1)
    spread = stdev(ratios) / len(ratios) ** 0.5
    name = f"training's step, page open / closed - 1 (±{1.96 * spread:.3f})"
    return name, ratios[0], mean(ratios), 0.01


if __name__ == "__main__":
    sys.exit(main())
