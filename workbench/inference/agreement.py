"""How near an answer is to the reviewed answer of its question, and what is no answer at all.

In: texts, the questions with their reviewed answers, an embedder. Out: agreement from 0, chance, to
1, the reviewed answers' own mean. The scores of sense are made of it, and GRPO watches it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from workbench.inference.embedder import Embedder
from workbench.language import load_pack
from workbench.parts import WORD, sentences, split_words
from workbench.persona import Language

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LOOPING = 0.5
"""Share of new runs of four words (:func:`unlooped`) below which a text goes round in circles."""
ECHOING = 0.5
"""Share of an answer's words copied from its question from which it only repeats it."""
ECHO_RUN = 3
"""Words in a row that count as copied from a question."""
_RUN = 4
"""Words a run, as in seq-rep-4."""


class ReviewedAnswer(NamedTuple):
    """A question and its reviewed answer."""

    question: str
    answer: str


class SenseAgreement:
    """What tells how far answers agree with the reviewed ones; two questions or more.

    With a' an answer without the words of its question and r' the same of the reviewed ones,
    ``margin_i = cos(a'_i, r'_i) − mean over j ≠ i of cos(a'_i, r'_j)``, over the mean margin of the
    reviewed answers themselves. What all reviewed answers share, such as a voice, cancels out.
    """

    def __init__(
        self, rows: Sequence[ReviewedAnswer], embedder: Embedder, language: Language
    ) -> None:
        import numpy as np

        self.rows, self.embedder, self.language = rows, embedder, language
        self._reviewed = embedder.embed(
            [without_question(row.answer, row.question, language) for row in rows]
        )
        every = range(len(rows))
        self._mean = float(np.mean(_margins(self._reviewed @ self._reviewed.T, every)))
        self._halves: tuple[float, float] | None = None

    def sense(self, texts: Sequence[str], own: Sequence[int]) -> list[float]:
        """Return each text's agreement between 0 and 1; 0 where it is none or repeats its question.

        A part of what an evaluation calls sense: nothing is said of fluency, language and copies.
        """
        values = self.of(self.answers(texts, own), own)
        return [
            0.0
            if is_broken(text) or echo_share(text, self.rows[place].question) >= ECHOING
            else min(max(value, 0.0), 1.0)
            for text, place, value in zip(texts, own, values, strict=True)
        ]

    def answers(self, texts: Sequence[str], own: Sequence[int]) -> NDArray[np.float32]:
        """Return the vectors of answers without their questions' words: (n, d)."""
        return self.embedder.embed(
            [
                without_question(text, self.rows[place].question, self.language)
                for text, place in zip(texts, own, strict=True)
            ]
        )

    def of(self, answers: NDArray[np.float32], own: Sequence[int]) -> list[float]:
        """Return the agreement of each answer.

        ``own`` are the places of each answer's question among the rows.
        """
        if self._mean <= 0:
            return [0.0] * len(own)
        margins: list[float] = (_margins(answers @ self._reviewed.T, own) / self._mean).tolist()
        return margins

    def weaker_halves(self, texts: Sequence[str], own: Sequence[int]) -> list[float]:
        """Return the agreement of each answer's weaker half, in the reviewed halves' own means.

        An answer that begins on its question and goes on elsewhere has one good half; as a whole it
        is near enough to the reviewed one to pass for an answer.
        """
        import numpy as np

        if not texts:
            return []
        if self._halves is None:
            every, answers = range(len(self.rows)), [row.answer for row in self.rows]
            first, second = (float(np.mean(m)) for m in self._of_halves(answers, every))
            self._halves = first, second
        margins = zip(self._of_halves(texts, own), self._halves, strict=True)
        shares = [values / mean if mean > 0 else values * 0 for values, mean in margins]
        weaker: list[float] = np.minimum(*shares).tolist()
        return weaker

    def _of_halves(self, texts: Sequence[str], own: Sequence[int]) -> tuple[Array, Array]:
        """Return the margins of all first halves and of all second ones."""
        parts = [_half(text) for text in texts]
        first, second = (self.answers([part[k] for part in parts], own) for k in (0, 1))
        return _margins(first @ self._reviewed.T, own), _margins(second @ self._reviewed.T, own)


def _half(text: str) -> tuple[str, str]:
    """Return a text's two halves, parted between sentences; of one sentence between words."""
    parts = sentences(text)
    parts = parts if len(parts) > 1 else split_words(text)
    total, size, place = sum(map(len, parts)), 0, 0
    while place < len(parts) - 1 and size < total / 2:
        size += len(parts[place])
        place += 1
    return " ".join(parts[:place]), " ".join(parts[place:])


def _margins(near: NDArray[np.float32], own: Sequence[int]) -> Array:
    """Return the cosine to one's own less the mean of those to the others; ``near`` is (n, m)."""
    import numpy as np

    cosines = near.astype(np.float64)
    mine = cosines[np.arange(len(cosines)), list(own)]
    margins: Array = mine - (cosines.sum(axis=1) - mine) / (cosines.shape[1] - 1)
    return margins


def without_question(text: str, question: str, language: Language) -> str:
    """Return a text without the words that its question has, so that an echo earns nothing."""
    leading = load_pack(language).stem or None

    def stem(word: str) -> str:
        return word.casefold()[:leading]

    asked = {stem(word) for word in WORD.findall(question)}
    return WORD.sub(lambda match: "" if stem(match.group()) in asked else match.group(), text)


def words_of(text: str) -> list[str]:
    """Return the words of a text, case aside."""
    return WORD.findall(text.casefold())


def runs_of(words: Sequence[str], size: int) -> set[tuple[str, ...]]:
    """Return every run of ``size`` words."""
    return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}


def copied_share(words: Sequence[str], source: set[tuple[str, ...]], size: int) -> float:
    """Return the share of words that stand in a run of ``size`` words of the source."""
    covered: set[int] = set()
    for start in range(len(words) - size + 1):
        if tuple(words[start : start + size]) in source:
            covered.update(range(start, start + size))
    return len(covered) / len(words) if words else 0.0


def echo_share(text: str, question: str) -> float:
    """Return the share of a text's words that are copied from its question, 0 to 1."""
    return copied_share(words_of(text), runs_of(words_of(question), ECHO_RUN), ECHO_RUN)


def unlooped(text: str) -> float:
    """Return the share of a text's runs of four words that are new in it, 0 to 1.

    1 less seq-rep-4 of Welleck et al. 2020, "Neural Text Generation with Unlikelihood Training"
    (arXiv:1908.04319). People's texts stay near 1; a model that loops comes near 0. A text of
    fewer than four words has no run that could come again: 1.
    """
    words = words_of(text)
    runs = list(zip(*(words[start:] for start in range(_RUN)), strict=False))
    return len(set(runs)) / len(runs) if runs else 1.0


def is_broken(text: str) -> bool:
    """Return whether a text is empty or goes round in circles, which needs nothing but itself."""
    return not WORD.search(text) or unlooped(text) < LOOPING
