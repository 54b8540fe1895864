"""Bases whose templates do what the published families do: one tiny random model, many folders.

The templates under ``tests/templates/`` are written for these tests after the families' behaviour.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "templates"
TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Family:
    """What a family's files say beside its template.

    Attributes:
        eos: The tokenizer's end token.
        ends: What the files say that generation ends at.
        bos: The begin of text, or empty.
        adds_bos: Whether the tokenizer puts it before every text.
    """

    eos: str
    ends: tuple[str, ...]
    bos: str = ""
    adds_bos: bool = False


FAMILIES = {
    "llama-3": Family("<|eot_id|>", ("<|eot_id|>", TEXT), "<|begin_of_text|>", adds_bos=True),
    "gemma-2": Family("<eos>", ("<eos>",), "<bos>", adds_bos=True),
    "gemma-3": Family("<eos>", ("<eos>", "<end_of_turn>"), "<bos>", adds_bos=True),
    "qwen-2.5": Family("<|im_end|>", ("<|im_end|>", TEXT)),
    "qwen-3": Family("<|im_end|>", ("<|im_end|>", TEXT)),
    "mistral": Family("</s>", ("</s>",), "<s>", adds_bos=True),
    "phi-3": Family(TEXT, (TEXT, "<|end|>"), "<s>"),
    "chatml": Family(TEXT, (TEXT,)),
    "deepseek-r1": Family("<｜end｜>", ("<｜end｜>",), "<｜begin｜>", adds_bos=True),
    "harmony": Family("<|return|>", ("<|return|>",)),
    "exaone": Family("[|endofturn|]", ("[|endofturn|]",)),
}
SPECIALS = (
    *(TEXT, "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<|im_start|>", "<|im_end|>"),
    *("<s>", "</s>", "[INST]", "[/INST]", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    *("<｜begin｜>", "<｜end｜>", "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"),
    *("<|start|>", "<|message|>", "<|channel|>", "<|return|>", "[|system|]", "[|user|]"),
    *("[|assistant|]", "[|endofturn|]"),
)
MakeFamily = Callable[[str], Path]


class Families:
    """Folders of bases, made when they are first asked for; the weights are linked.

    Args:
        home: Where the folders go.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._bpe: Any = None

    def tokenizer_folder(self, name: str) -> Path:
        """Return a family's tokenizer, template and configuration, without weights."""
        out = self._home / name
        if not out.exists():
            self._write(name, out)
        return out

    def model_folder(self, name: str) -> Path:
        """Return a family's whole base."""
        out = self.tokenizer_folder(name)
        if not (out / "model.safetensors").exists():
            os.link(self._weights() / "model.safetensors", out / "model.safetensors")
        return out

    def _write(self, name: str, out: Path) -> None:
        from tokenizers.processors import TemplateProcessing
        from transformers import LlamaConfig, PreTrainedTokenizerFast

        family, bpe = FAMILIES[name], self._trained()
        inner = bpe._tokenizer
        number = inner.token_to_id
        if family.adds_bos:
            inner.post_processor = TemplateProcessing(
                single=f"{family.bos} $A",
                pair=f"{family.bos} $A $B",
                special_tokens=[(family.bos, number(family.bos))],
            )
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=inner,
            bos_token=family.bos or None,
            eos_token=family.eos,
            pad_token=TEXT,
        )
        tokenizer.chat_template = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
        tokenizer.save_pretrained(out)
        ends = [number(end) for end in family.ends]
        LlamaConfig(**self._shape(), eos_token_id=number(family.eos)).save_pretrained(out)
        config = {"eos_token_id": ends, "pad_token_id": number(TEXT)}
        (out / "generation_config.json").write_text(json.dumps(config), encoding="utf-8")

    def _trained(self) -> Any:
        """Return a fresh copy of the one tokenizer that is trained for all."""
        from tokenizers import AddedToken, ByteLevelBPETokenizer

        bpe = ByteLevelBPETokenizer()
        bpe.train_from_iterator(
            ["champ sets your chair and walks right now", "the trainer answers today\n\n"] * 2,
            vocab_size=440,
            special_tokens=[AddedToken(text, special=True) for text in SPECIALS],
        )
        return bpe

    def _shape(self) -> dict[str, Any]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": 440,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "tie_word_embeddings": False,
        }

    def _weights(self) -> Path:
        out = self._home / "weights"
        if not out.exists():
            import torch
            from transformers import LlamaConfig, LlamaForCausalLM

            torch.manual_seed(0)
            LlamaForCausalLM(LlamaConfig(**self._shape())).save_pretrained(out)
        return out
