"""What GGUF calls the parts of a Llama-like model, and how it lays them out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from training.export.converter import NotWrittenHere
from workbench.errors import UserError

if TYPE_CHECKING:
    import torch

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""``model_type`` of transformers → architecture of llama.cpp."""
ROPE_FACTORS = "rope_freqs.weight"


@dataclass(frozen=True)
class Layout:
    """How one model's tensors are named and laid out in a GGUF file.

    Attributes:
        config: The base's ``config.json``.
    """

    config: dict[str, Any]

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture.

        Raises:
            UserError: A family that is not written here.
        """
        kind = str(self.config.get("model_type"))
        if kind not in ARCHITECTURES or self.config.get("num_local_experts"):
            raise NotWrittenHere(
                f"GGUF is written here for {', '.join(ARCHITECTURES)}, not for '{kind}'"
            )
        return ARCHITECTURES[kind]

    @property
    def blocks(self) -> int:
        """Number of transformer blocks."""
        return int(self.config["num_hidden_layers"])

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return int(self.config["num_attention_heads"])

    @property
    def key_value_heads(self) -> int:
        """Number of heads of keys and values."""
        return int(self.config.get("num_key_value_heads") or self.heads)

    @property
    def head_size(self) -> int:
        """Width of a head."""
        return int(self.config.get("head_dim") or self.config["hidden_size"] // self.heads)

    @cached_property
    def _names(self) -> Any:
        import gguf

        kind = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[self.architecture]
        return gguf.get_tensor_name_map(kind, self.blocks)

    def name(self, tensor: str) -> str:
        """Return the GGUF name of a tensor of transformers, by the gguf library's own map.

        Raises:
            UserError: The architecture has no such tensor.
        """
        found: str | None = self._names.get_name(tensor, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise UserError(f"GGUF has no place for the tensor {tensor}")
        return found

    def laid_out(self, tensor: str, weight: torch.Tensor) -> torch.Tensor:
        """Return the tensor as llama.cpp wants it.

        llama.cpp rotates neighbouring pairs of a head's dimensions for the architecture ``llama``
        (RoPE as in the paper, https://arxiv.org/abs/2104.09864), transformers the first half
        against the second: rows of query and key change places to match.

        Args:
            tensor: Its name in transformers.
            weight: Outputs first, ``(heads * head_size, …)`` for query and key.
        """
        if self.architecture != "llama":
            return weight
        heads = {"q_proj": self.heads, "k_proj": self.key_value_heads}.get(tensor.split(".")[-2])
        return interleaved(weight, heads) if heads else weight

    def rope_factors(self) -> torch.Tensor | None:
        """Return the divisors of the rotary frequencies where the model scales them, else None.

        Llama 3.1's scaling is no formula of llama.cpp: it reads ``head_size / 2`` divisors from
        the file. transformers' own function gives the scaled frequencies.
        """
        rope = self.config.get("rope_parameters") or self.config.get("rope_scaling") or {}
        kind = rope.get("rope_type") or rope.get("type") or "default"
        if kind == "default":
            return None
        if kind != "llama3":
            raise NotWrittenHere(f"rotary scaling of type '{kind}' is not written here")
        import torch
        from transformers import AutoConfig
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

        config = AutoConfig.for_model(**self.config)
        scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
        steps = torch.arange(0, self.head_size, 2, dtype=torch.float32) / self.head_size
        return (1.0 / (self.rope_base**steps)) / scaled.float()

    @property
    def rope_base(self) -> float:
        """Base of the rotary frequencies."""
        rope = self.config.get("rope_parameters") or {}
        return float(rope.get("rope_theta") or self.config.get("rope_theta") or 10000.0)

    def describe(self, writer: Any) -> None:
        """Add the architecture's numbers to a ``gguf.GGUFWriter``."""
        config = self.config
        writer.add_block_count(self.blocks)
        writer.add_context_length(int(config["max_position_embeddings"]))
        writer.add_embedding_length(int(config["hidden_size"]))
        writer.add_feed_forward_length(int(config["intermediate_size"]))
        writer.add_head_count(self.heads)
        writer.add_head_count_kv(self.key_value_heads)
        writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
        writer.add_rope_freq_base(self.rope_base)
        writer.add_rope_dimension_count(self.head_size)
        writer.add_key_length(self.head_size)
        writer.add_value_length(self.head_size)
        writer.add_vocab_size(int(config["vocab_size"]))


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Return rows of each head reordered from halves to pairs: 0, n/2, 1, n/2 + 1 and so on."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape)
