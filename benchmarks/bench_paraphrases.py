"""Which questions ask the same: thresholds chosen on half of the labelled pairs, tried on the rest.

``make bench-paraphrases`` (or ``python benchmarks/bench_paraphrases.py [--embedder FOLDER]``)
prints a line for each language and way to compare: the threshold that one half gives, the shipped
one, and what they do on the other half (50 paraphrases, 50 look-alikes) and to pairs of different
questions: of the labelled ones (natural) and of the shipped rows (seeds).
"""

from __future__ import annotations

import argparse

from tests.paraphrase_pairs import Compare, by_embedder, by_wording, seeds_of, tried
from workbench.config import SplitSettings
from workbench.inference.embedder import MINILM, NGRAMS, make_embedder
from workbench.paraphrases import Meaning


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--embedder", help="a folder of sentence-transformers, for both languages")
    own = parser.parse_args().embedder
    print(f"{'':16}{'threshold':>10}{'recall':>8}{'look-alikes':>12}", end="")
    print(f"{'precision':>10}{'natural':>9}{'seeds':>8}")
    for language in ("en", "ko"):
        line(f"{language} wording", by_wording, language, SplitSettings().related)
        settings = [own] if own else [NGRAMS, *([MINILM] if language == "en" else [])]
        for setting in settings:
            compare = by_embedder(make_embedder(setting, language, seeds_of(language)))
            line(f"{language} {setting}, half", compare, language, None)
            line(f"{language} {setting}", compare, language, Meaning(setting, language).least)


def line(name: str, compare: Compare, language: str, threshold: float | None) -> None:
    """Print what a threshold does; without one, what the one of the other half does."""
    one = tried(compare, language, threshold)
    shares = f"{one.recall:8.2f}{one.lookalikes:12.2f}{one.precision:10.2f}"
    print(f"{name:16}{one.threshold:10.2f}{shares}{one.natural:9.2%}{one.seeds:8.2%}")


if __name__ == "__main__":
    main()
