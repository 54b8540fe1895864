"""Tokens that a row is likely to get next: those that followed the same few tokens before.

In: a row's tokens so far. Out: a guess at the next ones, which the model checks in one pass instead
of a pass for each, so that the answer is the same. Called by :mod:`.running_rows`.

It is prompt lookup decoding (https://github.com/apoorvumang/prompt-lookup-decoding), for many rows
at once: transformers has it for one. Small models repeat themselves: looked up in the default
round's answers, a pass would give 1.1 to 2.2 tokens of a first one and 1.4 to 4.1 of a later turn,
and 0.55 to 0.97 of the guesses are right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_LONGEST, _SHORTEST = 4, 3
"""Tokens that have to be the same for those after them to be guessed."""
_FIRST, _MOST = 2, 16
"""Tokens of a guess: at first, and at most."""


class Drafts:
    """The guesses at one row's tokens; they grow while they are right."""

    def __init__(self, tokens: Iterable[int]) -> None:
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        """Some tokens in a row → where the one stands that followed them last."""
        self._length = _FIRST
        self.add(tokens)

    def add(self, tokens: Iterable[int]) -> None:
        """Take in tokens that the row has got."""
        for token in tokens:
            at = len(self._tokens)
            for length in range(_SHORTEST, min(_LONGEST, at) + 1):
                self._after[tuple(self._tokens[at - length :])] = at
            self._tokens.append(token)

    def guess(self, most: int) -> Sequence[int]:
        """Return at most so many tokens that may follow; none without a sign of them."""
        for length in range(_LONGEST, _SHORTEST - 1, -1):
            at = self._after.get(tuple(self._tokens[-length:]))
            if at is not None:
                return self._tokens[at : at + max(0, min(self._length, most))]
        return ()

    def judge(self, guessed: int, right: int) -> None:
        """Guess more after a guess that was right to its end, else as much as was right."""
        if guessed:
            self._length = min(2 * self._length, _MOST) if right == guessed else max(right, 1)
