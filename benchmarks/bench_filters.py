"""How the whole filter chain grows: rows through every filter and the search for duplicates.

``python benchmarks/bench_filters.py [--rows 20000] [--persona datasets/gym-trainer]`` prints the
seconds for a quarter and for all of the rows, and the ratio against what n log n allows; for rows
as people write them, and for the worst: all alike, all half alike, one huge row among few. The
first are the baseline of the others. The first quarter goes through once more the plain way: every
text's language from the whole of it, every sketch by datasketch itself; the ratio is printed. Exits
1 where rows take over :data:`MOST_SECONDS`, or where the plain way decides otherwise.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from datasketch import MinHash

from curation.filters import Filtered, filter_examples
from generation.importing import import_rows
from workbench import cores, near_duplicates
from workbench.language import detection
from workbench.language.detection import foreign_language
from workbench.persona import Persona, load_persona
from workbench.records import Example, user_prompt

MOST_SECONDS = 60.0
"""What the worst of 20 000 rows may take."""


def rows_of(count: int, seeds: Sequence[Example]) -> list[Example]:
    """Return rows made of the words of real ones, as often as those have them.

    One row in twenty nearly repeats the row before it.
    """
    draw = random.Random(0)
    words = Counter(word for seed in seeds for word in f"{seed.question} {seed.answer}".split())
    vocabulary, weights = list(words), list(words.values())
    made: list[Example] = []
    for number in range(count):
        like = seeds[number % len(seeds)]
        question = " ".join(draw.choices(vocabulary, weights, k=len(like.question.split())))
        answer = " ".join(draw.choices(vocabulary, weights, k=len(like.answer.split())))
        if number % 20 == 19:
            question, answer = made[-1].question, f"{made[-1].answer} Now."
        made.append(Example(prompt=user_prompt(question), answer=answer, topic=like.topic))
    return made


def alike(count: int, seeds: Sequence[Example]) -> list[Example]:
    """Return rows that differ by a number alone."""
    text = f"{seeds[0].answer} That makes"
    return [
        Example(prompt=user_prompt(f"Is it {n} squats that I need?"), answer=f"{text} {n}.")
        for n in range(count)
    ]


def half_alike(count: int, seeds: Sequence[Example]) -> list[Example]:
    """Return rows that share much, and too little to repeat each other."""
    draw, words = random.Random(0), seeds[0].answer.split()
    rows = []
    for number in range(count):
        own = [w if draw.random() < 0.85 else f"{draw.randrange(10**6)}" for w in words]
        question = f"How do I begin, and with how much, at {number}?"
        rows.append(Example(prompt=user_prompt(question), answer=" ".join(own)))
    return rows


def one_huge(count: int, seeds: Sequence[Example]) -> list[Example]:
    """Return one row whose question is as long as all questions of so many rows, and a few more."""
    question = " ".join(seeds[n % len(seeds)].question for n in range(count))
    return [seeds[0].evolve(prompt=user_prompt(question)), *seeds[1:9]]


def seconds(rows: Sequence[Example], persona: Persona) -> tuple[float, Filtered]:
    """Return the seconds for the whole chain, and print what it made of the rows."""
    foreign_language.cache_clear()
    started = time.perf_counter()
    filtered = filter_examples(rows, persona)
    spent = time.perf_counter() - started
    reasons = ", ".join(f"{reason} {count}" for reason, count in filtered.reasons.items())
    print(f"  {len(rows)} rows in {spent:.1f} s: {len(filtered.examples)} kept; {reasons}")
    return spent, filtered


def plainly(rows: Sequence[Example], persona: Persona) -> tuple[float, Filtered]:
    """Do the same with the libraries as they are."""

    def hashes(text: str) -> Any:
        return np.array([piece.encode() for piece in near_duplicates.shingles(text)], object)

    def sketch(_: object, pieces: Any) -> Any:
        whole = MinHash(seed=1, permutations=near_duplicates.permutations(), hashfunc=zlib.crc32)
        whole.update_batch(pieces)
        return whole.hashvalues.astype(np.uint32)

    way = near_duplicates.Way(near_duplicates.shingles, hashes)
    with (
        patch.object(near_duplicates, "BY_SHINGLES", way),
        patch.object(near_duplicates.Sketcher, "__call__", sketch),
        patch.object(cores, "MANY", len(rows) + 1),
        patch.object(detection, "beyond_doubt", lambda *_: False),
    ):
        return seconds(rows, persona)


def main() -> None:
    """Measure the chain at a quarter of the size and at the size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--persona", type=Path, default=Path("datasets/gym-trainer"))
    options = parser.parse_args()
    persona = load_persona(options.persona)
    seeds = import_rows(options.persona / "seeds.jsonl", persona).examples
    filter_examples(rows_of(50, seeds), persona)
    size, allowed = options.rows, 4 * math.log(options.rows) / math.log(options.rows / 4)
    baseline, worst, differs = 0.0, 0.0, False
    for make in (rows_of, alike, half_alike, one_huge):
        print(f"{make.__name__}:")
        rows = make(size // 4, seeds)
        few, filtered = seconds(rows, persona)
        spent = [few, seconds(make(size, seeds), persona)[0]]
        if not baseline:
            plain, as_plain = plainly(rows, persona)
            differs = filtered != as_plain
            print(f"  the plain way takes {plain / few:.2f} times as long", end="")
            print("; DECIDES OTHERWISE" if differs else "; all decisions the same")
        baseline, worst = baseline or spent[1], max(worst, spent[1])
        print(f"  {spent[1] / spent[0]:.2f} times the time for 4 times the rows;", end="")
        print(f" n log n: {allowed:.2f}; {spent[1] / baseline:.2f} times the baseline")
    sys.exit(worst > MOST_SECONDS or differs)


if __name__ == "__main__":
    main()
