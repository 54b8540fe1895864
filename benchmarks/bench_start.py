"""How soon a command says something: seconds to its first byte, through a pipe.

``make bench-start`` (or ``python benchmarks/bench_start.py [--times 5]``) starts each command of
:data:`COMMANDS` in turn on a round of the running example, beside Python that does nothing, and
prints medians: seconds by the clock and of a processor, and the ratio of these to Python's own.
Exits 1 where ``--help`` takes over :data:`MOST_HELP` seconds of a processor, or another first line
over :data:`MOST_FIRST`: what others do on the machine counts in the clock's seconds alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import psutil

MOST_HELP, MOST_FIRST = 0.3, 1.0
PYTHON = "python"
COMMANDS: dict[str, tuple[str, ...]] = {
    PYTHON: ("-c", "print(flush=True); input()"),
    **{
        f"persona {' '.join(words)}": ("-m", "app.cli.main", *words)
        for words in (
            ("--help",),
            ("prompt",),
            ("import", "--force"),
            ("filter", "--force"),
            ("split",),
            ("watch", "--once"),
            ("evaluate",),
            ("run",),
        )
    },
}


ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}
"""As an installed package has it: modules are compiled once, by the start that is not counted."""


class Start(NamedTuple):
    """Seconds to the first byte of a command, on either stream."""

    clock: float
    processor: float


def start(arguments: tuple[str, ...], runs: str) -> Start:
    """Start a command, stop it at its first byte, and return how long that took."""
    on_round = arguments[0] == "-m" and arguments[-1] not in ("--help", "prompt")
    command = [sys.executable, *arguments, *(("--runs", runs) if on_round else ())]
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout
        if not process.stdout.read(1):
            sys.exit(f"{' '.join(command)} said nothing")
        clock, times = time.perf_counter() - began, psutil.Process(process.pid).cpu_times()
        process.kill()
    return Start(clock, times.user + times.system)


def main() -> None:
    """Print a line a command; exit 1 beyond a limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    starts: dict[str, list[Start]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as runs:
        imported = [sys.executable, "-m", "app.cli.main", "import", "--runs", runs]
        subprocess.run(imported, check=True, capture_output=True)
        for number in range(options.times + 1):
            for name, arguments in COMMANDS.items():
                one = start(arguments, runs)
                starts[name] += [one] if number else []
    medians = {
        name: Start(*map(statistics.median, zip(*own, strict=True))) for name, own in starts.items()
    }
    print(f"{'to the first byte':26}{'clock':>9}{'processor':>12}{'of Python':>12}")
    for name, one in medians.items():
        ratio = one.processor / medians[PYTHON].processor
        print(f"{name:26}{one.clock:7.2f} s{one.processor:10.2f} s{ratio:11.1f}x")
    limits = {name: MOST_HELP if name.endswith("--help") else MOST_FIRST for name in medians}
    broken = [name for name, one in medians.items() if one.processor > limits[name]]
    print(f"limits {MOST_HELP} and {MOST_FIRST} s: {', '.join(broken) or 'kept'}")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
