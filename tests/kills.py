"""When to kill a run: moments of its stages, drawn by a seed and spread over all of them."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

from rounds.layout import MANIFEST

SECONDS = {
    "import": 0.1,
    "generate": 30,
    "filter": 1.5,
    "review": 15,
    "resolve": 2,
    "split": 0.4,
    "sft": 25,
    "dpo": 15,
    "evaluate": 30,
    "report": 0.5,
}
"""About how long each stage of the smoke preset takes on two cores."""
START = 4.0
"""About how long the command takes to get to its first stage."""


@dataclass(frozen=True)
class Moment:
    """A moment of a run: so many seconds into a stage, or its end where it is quicker.

    Where an earlier run has done the stage, it is as many seconds after the start of the command.
    """

    stage: str
    seconds: float

    def reached(self, round_: Path, began: float) -> bool:
        """Return whether a run that began at ``began`` (seconds since 1970) is there."""
        if done := _written(round_ / self.stage / MANIFEST):
            return done > began or time.time() - began >= START + self.seconds
        entered = _written(round_ / f".{self.stage}.partial" / ".key")
        return entered > began and time.time() - entered >= self.seconds


def _written(path: Path) -> float:
    """Return when a file was written (seconds since 1970), or 0 where there is none."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0


def moments(count: int, seed: int) -> list[Moment]:
    """Return random moments in the order of the loop; every stage has as many, but for one."""
    drawn = random.Random(seed)
    stages = list(SECONDS)
    chosen = [stage for _ in range(-(-count // len(stages))) for stage in _shuffled(drawn, stages)]
    found = [Moment(stage, drawn.random() * SECONDS[stage]) for stage in chosen[:count]]
    return sorted(found, key=lambda moment: (stages.index(moment.stage), moment.seconds))


def _shuffled(drawn: random.Random, stages: list[str]) -> list[str]:
    return drawn.sample(stages, len(stages))
