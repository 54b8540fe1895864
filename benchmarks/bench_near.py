"""How the search for near duplicates grows: questions as they come, and rows in one go.

``python benchmarks/bench_near.py [--rows 10000]`` prints seconds for a quarter and for all of the
rows, and the ratio against what n log n allows.
"""

from __future__ import annotations

import argparse
import math
import random
import time

from workbench.near_duplicates import NearTextIndex, repeats


def texts_of(count: int, words: int) -> list[str]:
    """Return texts of a vocabulary as large as real rows have, some of them near duplicates."""
    draw = random.Random(0)
    vocabulary = [
        "".join(draw.choices("abdegiklmnoprstu", k=draw.randint(3, 9))) for _ in range(9000)
    ]
    weights = [1 / rank for rank in range(1, len(vocabulary) + 1)]
    made = [" ".join(draw.choices(vocabulary, weights, k=words)) for _ in range(count)]
    for place in draw.sample(range(1, count), count // 20):
        made[place] = made[place - 1] + " indeed"
    return made


def questions(texts: list[str]) -> int:
    """Return how many near duplicates are met while texts come one by one."""
    index, near = NearTextIndex(90.0), 0
    for number, text in enumerate(texts):
        near += index.nearest(text) is not None
        index.add(number, text)
    return near


def rows(texts: list[str]) -> int:
    """Return how many of the texts repeat an earlier one."""
    return sum(1 for _ in repeats(texts, 0.7))


def main() -> None:
    """Measure both searches at a quarter of the size and at the size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    size = parser.parse_args().rows
    for name, search, words in (("questions", questions, 14), ("rows", rows, 80)):
        search(texts_of(200, words))
        spent = []
        for count in (size // 4, size):
            made = texts_of(count, words)
            started = time.perf_counter()
            count_near = search(made)
            spent.append(time.perf_counter() - started)
            print(f"{name}: {count} in {spent[-1]:.1f} s, {count_near} near duplicates")
        allowed = 4 * math.log(size) / math.log(size / 4)
        print(f"{name}: {spent[1] / spent[0]:.2f} times the time, n log n allows {allowed:.2f}")


if __name__ == "__main__":
    main()
