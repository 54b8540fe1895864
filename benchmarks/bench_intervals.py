"""How scores' intervals grow with prompts and arms: seconds of a processor and peak memory.

``make bench-intervals`` compares made-up scores of sixteen traits, paired by prompt, of 2, 6 and 12
arms with a base, for 36, 360 and 3 600 prompts, each size in a process of its own. The exponent is
that of the last two sizes: 1 grows as fast as the prompts (or the arms). Exits 1 beyond
:data:`LIMIT`.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from workbench.stats.bootstrap import mean_intervals

TRAITS = 16
LIMIT = 1.1
"""Largest exponent that passes."""
PROMPTS = (36, 360, 3600)
ARMS = (2, 6, 12)


def measure(prompts: int, arms: int) -> None:
    """Compute all intervals once, and print seconds of the processor and MiB beyond the start's."""
    rng = np.random.default_rng(0)
    mean_intervals([rng.random(8), rng.random(8)])  # what is imported
    samples = [rng.choice([-1.0, -0.5, 0.0, 0.5, 1.0], prompts) for _ in range(arms * TRAITS)]
    start, started = _peak_mib(), time.process_time()
    mean_intervals(samples)
    print(json.dumps([time.process_time() - started, _peak_mib() - start]))


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Print the table and the exponents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", type=int, nargs=2, help="prompts and arms; this process")
    options = parser.parse_args()
    if options.one:
        measure(*options.one)
        return
    table: dict[tuple[int, int], tuple[float, float]] = {}
    print("prompts  arms  seconds    MiB")
    for prompts in PROMPTS:
        for arms in ARMS:
            command = [sys.executable, __file__, "--one", str(prompts), str(arms)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            seconds, mib = table[prompts, arms] = tuple(json.loads(output))
            print(f"{prompts:7}{arms:6}{seconds:9.2f}{mib:7.0f}", flush=True)
    worst = 0.0
    for what, sizes in (
        ("prompts", [(prompts, ARMS[-1]) for prompts in PROMPTS]),
        ("arms", [(PROMPTS[-1], arms) for arms in ARMS]),
    ):
        few, many = list(pairwise(sizes))[-1]
        times = math.prod(many) / math.prod(few)
        for kind, name in enumerate(("time", "memory")):
            ratio = max(table[many][kind], 1e-3) / max(table[few][kind], 1e-3)
            exponent = math.log(ratio) / math.log(times)
            worst = max(worst, exponent)
            print(f"{name}: exponent {exponent:.2f} of the {what}")
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
