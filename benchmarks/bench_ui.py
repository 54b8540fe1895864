"""The pages at size: the first page, a page of the table, a row's story, how old live figures are.

Made in a temporary folder: a hundred rounds, and a round of ten thousand rows. Each line says a
time and its limit; the exit code is 1 where one is missed. ``python benchmarks/bench_ui.py``
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import psutil

ROUNDS, ROWS, TRIES = 100, 10_000, 7


def main() -> int:
    """Measure, print a table, and return the exit code."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    with tempfile.TemporaryDirectory() as folder:
        lines = _measured(Path(folder))
    print(f"{'figure':44} {'first':>9} {'median':>9} {'limit':>9}")
    missed = 0
    for name, first, own, limit in lines:
        over = own > limit
        missed += over
        print(f"{name:44} {first:9.3f} {own:9.3f} {limit:9.3f}{'  MISSED' if over else ''}")
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
    return [*figures, _live(pages), _cost(pages)]


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


def _cost(pages: Any) -> tuple[str, float, float, float]:
    """Return the share of a core that an open live page costs."""
    import httpx

    from tests.app.web.conftest import served_pages

    with served_pages(pages.runs, pages.datasets) as served, httpx.Client(timeout=30) as client:
        client.get(served.link)
        end = threading.Event()

        def watch() -> None:
            with client.stream("GET", f"{served.address}/round/tester/2/live") as answer:
                for _ in answer.iter_lines():
                    if end.is_set():
                        return

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        time.sleep(3)
        process = psutil.Process()
        before, start = sum(process.cpu_times()[:2]), time.perf_counter()
        time.sleep(15)
        share = (sum(process.cpu_times()[:2]) - before) / (time.perf_counter() - start)
        end.set()
        thread.join(timeout=10)
    # One core of a machine with several: what a training could have had of it.
    return "open live page, share of a core", share, share, 0.02


if __name__ == "__main__":
    sys.exit(main())
