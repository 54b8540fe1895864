"""The tokenizer inside a GGUF file: tokens, merges, special tokens and chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training.export.converter import NotWrittenHere

_PROBE = "12345 I'LL we'll"
_BEHAVIOURS = {
    # How digits and capital contractions are cut → llama.cpp's name of the pre-tokenizer.
    ("12345", False): "gpt-2",
    ("1", False): "smollm",
    ("123", True): "llama-bpe",
    ("1", True): "qwen2",
}


def add_tokenizer(writer: Any, base: Path, vocab_size: int) -> None:
    """Add the tokenizer of a model folder to a ``gguf.GGUFWriter``.

    Raises:
        NotWrittenHere: A tokenizer that is no byte-level BPE, or that cuts text in an unknown way.
    """
    from gguf import SpecialVocab, TokenType

    from workbench.inference.base_models import load_tokenizer

    tokenizer: Any = load_tokenizer(base)
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
    special_vocab.special_token_ids |= _special_ids(tokenizer)
    special_vocab.add_special_token = {"bos": _adds_bos(tokenizer)}
    special_vocab.add_to_gguf(writer, quiet=True)


def pre_tokenizer(tokenizer: Any) -> str:
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


def _special_ids(tokenizer: Any) -> dict[str, int]:
    kinds = ("bos", "eos", "unk", "pad")
    found = {kind: getattr(tokenizer, f"{kind}_token_id") for kind in kinds}
    return {kind: number for kind, number in found.items() if number is not None}


def _adds_bos(tokenizer: Any) -> bool:
    ids = tokenizer("a")["input_ids"]
    return bool(tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id])
