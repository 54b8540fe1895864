"""What runs cost each other on one machine: three at once beside one alone.

``make bench-side-by-side`` (or ``python benchmarks/bench_side_by_side.py [--runs 3]``) starts the
smoke preset in a folder of its own, first once and then so many times at once, and prints seconds
and their ratio. As many times as long as there are runs would be sharing without loss; threads that
spin while they wait for one another take the processor from those that compute. The exit code is 1
beyond one time more than there are runs, or where a run fails.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Print seconds of one run, of several at once, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--preset", default="smoke")
    options = parser.parse_args()
    alone = seconds_at_once(1, options.preset)
    print(f"one run alone: {alone:.0f} s", flush=True)
    together = seconds_at_once(options.runs, options.preset)
    ratio = together / alone
    print(f"{options.runs} runs at once: {together:.0f} s, {ratio:.2f} times one")
    sys.exit(ratio > options.runs + 1)


def seconds_at_once(runs: int, preset: str) -> float:
    """Return seconds until the last of so many runs that start together has ended."""
    command = [sys.executable, "-m", "app.cli.main", "run", "--preset", preset, "--runs"]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        logs = [Path(folder) / f"{number}.log" for number in range(runs)]
        jobs = []
        for log in logs:
            with log.open("w", encoding="utf-8") as out:
                jobs.append(
                    subprocess.Popen([*command, str(log.with_suffix(""))], stdout=out, stderr=out)
                )
        codes = [job.wait() for job in jobs]
        seconds = time.perf_counter() - started
        for log, code in zip(logs, codes, strict=True):
            if code:
                print(log.read_text(encoding="utf-8")[-2000:], file=sys.stderr)
                sys.exit(f"a run ended with exit code {code}")
    return seconds


if __name__ == "__main__":
    main()
