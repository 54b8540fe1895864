"""How long the embedded Argilla takes, at 1 000 and 10 000 records with 3 reviewers.

``python benchmarks/bench_review.py [--records 1000 10000] [--repeats 60]`` prints a table: the
engine's own calls, measured inside the server's environment; pages and progress end to end through
HTTP, as the web page asks for them; and push and pull of another 1 000 records, as ``persona
review`` does them. Each home is temporary.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from curation.argilla.client import Connection, connected, existing_dataset, put, records_of
from curation.argilla.pull import pull
from curation.argilla.push import push
from curation.argilla.server import Server, ServerHome, server_python, start, stop
from workbench.persona import load_persona
from workbench.records import Example, user_prompt

ROUNDS, ROWS, BULK = 3, 1000, 250
"""Datasets pushed, records in each, and records in a request that adds responses."""
PUSH, PULL = f"push of {ROWS} records", f"pull of {ROWS} records, 1 response each"
PERSONA = Path(__file__).resolve().parents[1] / "datasets" / "gym-trainer"
ENGINE = Path(__file__).with_name("review_engine.py")
LIMITS_MS = {  # p95 at the largest size, on 2 cores
    "two words, 4 filters, 3 sorts": 100.0,
    "dataset progress": 20.0,
    "reviewer's progress": 20.0,
    PUSH: 20_000.0,
}
Times = dict[str, list[float]]


def measure(records: int, repeats: int) -> tuple[Times, float]:
    """Return the milliseconds of each kind of call at this size, and the server's start in s."""
    with tempfile.TemporaryDirectory() as folder:
        home = ServerHome(Path(folder) / "home")
        home.create()
        done = subprocess.run(
            [server_python(), ENGINE, home.path, str(records), str(repeats)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{ENGINE.name} ended with {done.returncode}: {done.stderr.strip()}")
        engine = json.loads(done.stdout.splitlines()[-1])
        begun = time.perf_counter()
        server = start(home, [])
        started = time.perf_counter() - begun
        try:
            pages = through_http(server, engine["dataset"], engine["keys"], repeats)
            rounds = push_and_pull(server)
        finally:
            stop(home)
    calls = {f"engine: {name}": ms for name, ms in engine["calls_ms"].items()}
    return {**calls, **pages, **rounds}, started


def through_http(server: Server, dataset: str, keys: list[str], repeats: int) -> Times:
    """Return the milliseconds of a reviewer's requests, asked by the reviewers in turn."""
    pending = _terms({"entity": "response", "property": "status"}, "pending")
    topics = _terms({"entity": "metadata", "metadata_property": "topic"}, "topic-1", "topic-2")
    suggested = {"entity": "suggestion", "question": "fidelity", "property": "value"}
    by_score = {"scope": {**suggested, "property": "score"}, "order": "desc"}
    records = f"me/datasets/{dataset}/records/search?include=responses&include=suggestions"
    draw = random.Random(3)

    def vector() -> list[float]:
        return [draw.gauss(0, 1) for _ in range(384)]

    requests: dict[str, Callable[[httpx.Client], httpx.Response]] = {
        "page: next 10 pending": lambda api: api.post(
            f"{records}&limit=10", json={"filters": {"and": [pending]}}
        ),
        "page: 50 by text, filters, sort": lambda api: api.post(
            f"{records}&limit=50",
            json={
                "query": {"text": {"q": "squat 무릎"}},
                "filters": {"and": [topics, pending]},
                "sort": [by_score],
            },
        ),
        "page: 50 similar": lambda api: api.post(
            f"{records}&limit=50",
            json={"query": {"vector": {"name": "meaning", "value": vector()}}},
        ),
        "progress": lambda api: api.get(f"me/datasets/{dataset}/metrics"),
    }
    people = [
        httpx.Client(
            base_url=f"{server.url}/api/v1/",
            headers={"X-Argilla-Api-Key": key},
            timeout=60,
            trust_env=False,
        )
        for key in keys
    ]
    taken: Times = {}
    for name, send in requests.items():
        taken[f"http: {name}"] = []
        for i in range(repeats):
            begun = time.perf_counter()
            send(people[i % len(people)]).raise_for_status()
            taken[f"http: {name}"].append((time.perf_counter() - begun) * 1000)
    return taken


def push_and_pull(server: Server) -> Times:
    """Return the milliseconds of pushing and of pulling whole rounds of new records."""
    owner = Connection(server.url, server.owner_api_key)
    persona = load_persona(PERSONA)
    taken: Times = {PUSH: [], PULL: []}
    for number in range(1, ROUNDS + 1):
        name = f"round-{number:03d}"
        rows = [
            Example(
                prompt=user_prompt(f"Question {row} of {name}: may I squat with a sore back?"),
                answer=f"Champ, stand up {row} times, then walk to the window and back. " * 3,
                topic=persona.topics[row % len(persona.topics)],
            )
            for row in range(ROWS)
        ]
        begun = time.perf_counter()
        pushed = push(owner, persona, name, rows, reviewers_per_record=1)
        taken[PUSH].append((time.perf_counter() - begun) * 1000)
        _answer_all(owner, pushed.dataset)
        begun = time.perf_counter()
        reviews = pull(owner, persona, name)
        taken[PULL].append((time.perf_counter() - begun) * 1000)
        if (pushed.new, len(reviews)) != (ROWS, ROWS):
            sys.exit(f"{pushed.new} records pushed and {len(reviews)} reviews pulled, not {ROWS}")
    return taken


def _answer_all(owner: Connection, name: str) -> None:
    values = {"fidelity": {"value": 4}, "corrected": {"value": "Champ, stand up."}}
    with connected(owner) as client:
        dataset = existing_dataset(client, owner, name)
        user = str(client.me.id)
        response = {"user_id": user, "status": "submitted", "values": values}
        items = [
            {"external_id": record["external_id"], "responses": [response]}
            for record in records_of(client, dataset)
        ]
        for at in range(0, len(items), BULK):
            put(client, f"datasets/{dataset.id}/records/bulk", {"items": items[at : at + BULK]})


def _terms(scope: dict[str, Any], *values: str) -> dict[str, Any]:
    return {"type": "terms", "scope": scope, "values": list(values)}


def quantile(values: list[float], share: float) -> float:
    """Return the value below which this share of ``values`` lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> int:
    """Print the table; 1 when a limit of ``LIMITS_MS`` is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--repeats", type=int, default=60)
    options = parser.parse_args()
    sizes = sorted(options.records)
    console = Console()
    console = Console(width=max(console.width, 110))  # the table stays whole in a log, too
    results: dict[int, Times] = {}
    for size in sizes:
        console.print(f"{size} records: filling, measuring …")
        results[size], started = measure(size, options.repeats)
        console.print(f"{size} records: the server was usable after {started:.1f} s")

    table = Table(title="Milliseconds per request, 3 reviewers")
    table.add_column("request", no_wrap=True)
    for size in sizes:
        table.add_column(f"p50 at {size}", justify="right")
        table.add_column(f"p95 at {size}", justify="right")
    table.add_column("growth of p50", justify="right")
    table.add_column("limit of p95", justify="right")
    broken = []
    for name in results[sizes[-1]]:
        cells = [
            f"{quantile(results[size][name], share):.1f}" for size in sizes for share in (0.5, 0.95)
        ]
        medians = [quantile(results[size][name], 0.5) for size in (sizes[0], sizes[-1])]
        limit = LIMITS_MS.get(name.removeprefix("engine: "))
        if limit is not None and quantile(results[sizes[-1]][name], 0.95) > limit:
            broken.append(name)
        shown = f"{limit:.0f}" if limit is not None else ""
        table.add_row(name, *cells, f"{medians[1] / medians[0]:.1f}×", shown)
    console.print(table)
    for name in broken:
        console.print(f"over its limit: {name}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
