"""A reward model of the reviewers: linear heads over what the base makes of an answer.

In: a base with its tokenizer, and answers with their prompts; or a fitted model's file. Out: a
vector an answer, and how likely reviewers would find each trait in it. The evaluation fits one on
a round's reviews (:mod:`evaluation.reward_model`) and GRPO may be rewarded by it.

Why the middle layer's mean: of 144 answers that a reader labelled usable or not it told most, over
topics that it had not seen (``make bench-reward-model``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from workbench.inference.engines.chats import longest_context, prompt_ids
from workbench.inference.likelihood import right_padded
from workbench.records import Messages
from workbench.values import Frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    States = NDArray[np.float32]

NAME = "reward model"
"""What stands in the judge's place in a calibration."""
_AT_ONCE = 8
"""Answers of one pass."""
Answered = tuple[Messages, str]
"""A conversation and the answer to it."""


class TraitHead(Frozen):
    """One trait's logistic regression, on states as they are: scaling is folded into it."""

    weights: tuple[float, ...]
    """One a dimension of the states."""
    bias: float

    def chances(self, states: States) -> NDArray[np.float64]:
        """Return (n,) chances, 0 to 1, that reviewers find the trait shown; states are (n, d)."""
        import numpy as np

        logits = states.astype(np.float64) @ np.asarray(self.weights) + self.bias
        chances: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
        return chances


class RewardModel(Frozen):
    """What a round's reviews taught, of the traits whose head the gate lets through."""

    base: str = ""
    """Fingerprint of the base whose states the heads read."""
    heads: dict[str, TraitHead] = Field(default_factory=dict)
    """Trait → its head."""

    def rewards(self, states: States) -> list[float]:
        """Return the mean chance over the traits for each of (n, d) states."""
        import numpy as np

        table = np.array([head.chances(states) for head in self.heads.values()])
        return [float(value) for value in table.mean(axis=0)]


def answer_states(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, answers: Sequence[Answered]
) -> States:
    """Return (n, d) float32: the middle layer's mean over each answer's tokens.

    Adapters are the caller's to switch off. What lies beyond the model's context is not seen; an
    empty answer is all 0.
    """
    import numpy as np
    import torch

    most = longest_context(model)
    texts = []
    for prompt, answer in answers:
        start = prompt_ids(tokenizer, prompt)
        own = tokenizer(answer, add_special_tokens=False)["input_ids"]
        texts.append((start[-most // 2 :], own[: most // 2]))
    order = sorted(range(len(texts)), key=lambda at: sum(map(len, texts[at])))
    width = model.config.get_text_config().hidden_size
    states: States = np.zeros((len(texts), width), np.float32)
    for begin in range(0, len(order), _AT_ONCE):
        some = [at for at in order[begin : begin + _AT_ONCE] if texts[at][1]]
        if not some:
            continue
        batch = right_padded([(*texts[at][0], *texts[at][1]) for at in some], model)
        with torch.inference_mode():
            layers = model(**batch, output_hidden_states=True, logits_to_keep=1).hidden_states
        for row, at in enumerate(some):
            start, own = texts[at]
            read = layers[len(layers) // 2][row, len(start) : len(start) + len(own)]
            states[at] = read.float().mean(0).cpu().numpy()
    return states


def chances_of(heads: Mapping[str, TraitHead], states: States) -> dict[str, list[float]]:
    """Return trait → the chance of each of (n, d) states."""
    return {trait: [float(one) for one in head.chances(states)] for trait, head in heads.items()}
