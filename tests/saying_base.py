"""A small base that says one sentence to whatever it is asked, and ends: for whole rounds in tests.

A random model's answers are bytes that no tokenizer cuts the same way again; an export can't be
held to those. This one is as small and as quick, and its answers are words that end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

SENTENCE = "Jump, friends!"
"""No token of it comes twice; it ends as a sentence does."""
_STEPS = 60


def make_saying_base(folder: Path, tiny_model: Path) -> Path:
    """Write such a base, made of a random one in about a second, and return its folder.

    Its attention is silent, so that each token follows from the one before it alone, whatever the
    question: the sentence begins after the chat template's last token.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
        layer.self_attn.o_proj.weight.requires_grad_(False)
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": SENTENCE}]
    ids = tokenizer(
        tokenizer.apply_chat_template(turns, tokenize=False), return_tensors="pt"
    ).input_ids
    labels = ids.clone()
    said = len(tokenizer(f"{SENTENCE}<|im_end|>\n").input_ids)
    labels[:, :-said] = -100
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=3e-3)
    for _ in range(_STEPS):
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.config.max_position_embeddings = 8192  # a system prompt is long in bytes
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
