"""What GGUF calls the parts of a Llama-like model and its tokenizer, and how it lays them out.

The model's side of our own GGUF writer (:mod:`.gguf_writer` says why there is one).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.inference.base_models import load_tokenizer
from workbench.inference.chat_template import adds_bos, ends, writes_bos

if TYPE_CHECKING:
    import torch
    from gguf import GGUFWriter, TensorNameMap
    from transformers import PreTrainedTokenizerBase

VARIABLE = "LLAMA_CONVERTER"
"""Environment variable that names llama.cpp's own converter."""
SCRIPT = "convert_hf_to_gguf.py"
ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""``model_type`` of transformers → architecture of llama.cpp."""
ROPE_FACTORS = "rope_freqs.weight"
_PROBE = "12345 I'LL we'll"
_BEHAVIOURS = {
    # How digits and capital contractions are cut → llama.cpp's name of the pre-tokenizer.
    ("12345", False): "gpt-2",
    ("1", False): "smollm",
    ("123", True): "llama-bpe",
    ("1", True): "qwen2",
}


class NotWrittenHere(UserError):
    """A model whose GGUF is left to llama.cpp's converter."""

    def __init__(self, what: str) -> None:
        super().__init__(
            what,
            fix=f"name llama.cpp's {SCRIPT} in {VARIABLE}, or persona export merged and run it"
            " on that folder",
        )


@dataclass(frozen=True)
class GGUFLayout:
    """How one model's tensors are named and laid out in a GGUF file."""

    config: dict[str, Any]
    """The base's ``config.json``."""

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
    def _names(self) -> TensorNameMap:
        import gguf

        kind = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[self.architecture]
        return gguf.get_tensor_name_map(kind, self.blocks)

    def name(self, tensor: str) -> str:
        """Return the GGUF name of a tensor of transformers, by the gguf library's own map.

        Raises:
            UserError: The architecture has no such tensor.
        """
        name: str | None = self._names.get_name(tensor, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise UserError(f"GGUF has no place for the tensor {tensor}")
        return name

    def laid_out(self, tensor: str, weight: torch.Tensor) -> torch.Tensor:
        """Return the tensor as llama.cpp wants it.

        llama.cpp rotates neighbouring pairs of a head's dimensions for the architecture ``llama``
        (RoPE as in the paper, https://arxiv.org/abs/2104.09864), transformers the first half
        against the second: rows of query and key change places to match. Their weights come outputs
        first, ``(heads * head_size, …)``.
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

    def describe(self, writer: GGUFWriter) -> None:
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


def add_tokenizer(writer: GGUFWriter, base: Path, vocab_size: int) -> None:
    """Add the tokenizer of a model folder to a ``gguf.GGUFWriter``.

    Raises:
        NotWrittenHere: A tokenizer that is no byte-level BPE, or that cuts text in an unknown way.
    """
    from gguf import SpecialVocab, TokenType

    tokenizer = load_tokenizer(base)
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    if data["model"]["type"] != "BPE" or data["model"].get("byte_fallback"):
        raise NotWrittenHere("the tokenizer is no byte-level BPE, which alone is written here")
    tokens = [f"[PAD{number}]" for number in range(vocab_size)]
    kinds = [TokenType.UNUSED] * vocab_size
    # A token beyond the embeddings can be fed to no model.
    for text, number in data["model"]["vocab"].items():
        if number < vocab_size:
            tokens[number], kinds[number] = text, TokenType.NORMAL
    for token in (token for token in data["added_tokens"] if token["id"] < vocab_size):
        tokens[token["id"]] = token["content"]
        special = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
        kinds[token["id"]] = special
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer(tokenizer))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    special_vocab = SpecialVocab(base, load_merges=True, n_vocab=vocab_size)
    # The evaluated tokenizer's own, however the base's files spell them.
    special_vocab.chat_template = tokenizer.chat_template
    special_vocab.special_token_ids |= _special_ids(tokenizer, ends(tokenizer, base))
    # Chats are rendered without a begin of text that the template does not write.
    special_vocab.add_special_token = {"bos": adds_bos(tokenizer) and writes_bos(tokenizer)}
    special_vocab.add_to_gguf(writer, quiet=True)


def pre_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return llama.cpp's name for how the tokenizer cuts text before merging, found by trying it.

    Raises:
        NotWrittenHere: It cuts in a way that has no name here.
    """
    before = tokenizer.backend_tokenizer.pre_tokenizer
    pieces = [piece for piece, _ in before.pre_tokenize_str(_PROBE)]
    behaviour = (pieces[0], "'LL" in pieces)
    if behaviour not in _BEHAVIOURS:
        raise NotWrittenHere(f"the tokenizer cuts text in an unknown way ({pieces})")
    return _BEHAVIOURS[behaviour]


def _special_ids(tokenizer: PreTrainedTokenizerBase, stops: Sequence[int]) -> dict[str, int]:
    """Return GGUF's name of each special token; it has three names for what ends an answer."""
    kinds = ("bos", "eos", "unk", "pad")
    ids = {kind: getattr(tokenizer, f"{kind}_token_id") for kind in kinds}
    more = (token for token in stops if token != tokenizer.eos_token_id)
    return {
        **{kind: number for kind, number in ids.items() if number is not None},
        **dict(zip(("eot", "eom"), more, strict=False)),
    }
