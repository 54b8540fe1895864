"""How the whole filter chain grows: rows through every filter and the search for duplicates.

``python benchmarks/bench_filters.py [--rows 10000] [--persona datasets/gym-trainer]`` prints the
seconds for a quarter and for all of the rows, and the ratio against what n log n allows.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from curation.filters import filter_examples
from generation.importing import import_rows
from workbench.persona import Persona, load_persona
from workbench.records import Example, user_prompt


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


def seconds(rows: Sequence[Example], persona: Persona) -> float:
    """Return the seconds of the whole chain, and print what it made of the rows."""
    started = time.perf_counter()
    filtered = filter_examples(rows, persona)
    spent = time.perf_counter() - started
    reasons = ", ".join(f"{reason} {count}" for reason, count in filtered.reasons.items())
    print(f"{len(rows)} rows in {spent:.1f} s: {len(filtered.examples)} kept; {reasons}")
    return spent


def main() -> None:
    """Measure the chain at a quarter of the size and at the size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--persona", type=Path, default=Path("datasets/gym-trainer"))
    options = parser.parse_args()
    persona = load_persona(options.persona)
    seeds = import_rows(options.persona / "seeds.jsonl", persona).examples
    filter_examples(rows_of(50, seeds), persona)
    size = options.rows
    spent = [seconds(rows_of(count, seeds), persona) for count in (size // 4, size)]
    allowed = 4 * math.log(size) / math.log(size / 4)
    print(f"{spent[1] / spent[0]:.2f} times the time for 4 times the rows, n log n: {allowed:.2f}")


if __name__ == "__main__":
    main()
