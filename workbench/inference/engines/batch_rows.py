"""What a row of a batch is, and what several rows begin with.

Called by :mod:`.batched`, which makes rows of requests, and :mod:`.running_rows`, which answers
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workbench.inference.engines.chats import ChatRequest
from workbench.inference.engines.drafts import Drafts
from workbench.inference.engines.step_attention import KeysValues

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Lead:
    """Tokens that several prompts begin with, computed once."""

    ids: Sequence[int]
    states: Sequence[KeysValues]
    """Of each layer: key-value heads × tokens × head size."""

    def begins(self, ids: Sequence[int]) -> bool:
        """Return whether a prompt begins so, and has a token of its own after it.

        The logits of that token are the answer's first.
        """
        return len(ids) > len(self.ids) and list(ids[: len(self.ids)]) == list(self.ids)


@dataclass
class BatchRow:
    """A prompt's tokens and those of its answer."""

    request: ChatRequest
    ids: list[int]
    new: list[int] = field(default_factory=list)
    shared: int = 0
    """Tokens at its beginning that are attended to where they lie once for all rows."""
    known: Sequence[KeysValues] = ()
    """Of each layer, the tokens after them that are computed already, as in :class:`Lead`."""
    there: int = 0
    """Tokens after ``shared`` whose keys and values lie in the row's place."""
    drafts: Drafts | None = None
    """Guesses at its tokens, made once it is under way; a row that is drawn has none."""
    generator: torch.Generator | None = None
    """Draws its tokens, so that they don't depend on who else is in the batch; None is greedy."""

    @property
    def copied(self) -> int:
        """How many tokens are computed already and copied to the row."""
        return self.known[0][0].shape[1] if self.known else 0

    @property
    def fresh(self) -> list[int]:
        """The tokens of the prompt that are still to be computed, at least one."""
        return self.ids[self.shared + self.copied :]

    @property
    def put_in(self) -> list[int]:
        """The tokens that are put in now: what the prompt still lacks, or the last one chosen."""
        return self.new[-1:] or self.ids[self.shared + self.there :]
