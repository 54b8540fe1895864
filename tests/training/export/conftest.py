"""A small model that is sure of what it says, an adapter on it, and what the gate asks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.generation.conftest import PERSONA
from training.export.formats import Export
from training.export.gate import ParityPrompts
from training.export.hub import Provenance
from training.export.reference_model import ReferenceModel
from training.export.source import ExportSource, Licence
from workbench.inference.engines.chats import greedy_answers
from workbench.persona import load_persona
from workbench.records import Response, user_prompt

QUESTIONS = ("the trainer walks right now?", "sets your chair today 12345!")
NEW_TOKENS = 24


def make_base(folder: Path, tokenizer_of: Path, kind: str = "llama", **config: object) -> Path:
    """Write a random model of a family with weights wide enough to prefer some tokens clearly."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
    torch.manual_seed(3)
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "initializer_range": 0.25,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **config,
    }
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings))
    for name, weight in model.named_parameters():
        if name.endswith("bias"):  # made as zeros, which would hide that they are written
            weight.data.normal_(0, 0.25)
    _speak_in_words(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _speak_in_words(model: Any, tokenizer: Any) -> None:
    """Let only words with a space before them be said: they are cut one way, up to the limit."""
    vocabulary = tokenizer.get_vocab()
    begun = [n for token, n in vocabulary.items() if token[0] == "Ġ" and token[1:].isalpha()]
    words = {n for n in begun if tokenizer.encode(tokenizer.decode([n])) == [n]}
    silent = [number for number in range(len(tokenizer)) if number not in words]
    # Less sure, so that four bits stay within their bound on so small a model.
    model.lm_head.weight.data.mul_(0.4)[silent] = 0


def make_adapter(folder: Path, base: Path, strength: float = 0.05, **lora: object) -> Path:
    """Write a random adapter for a base, of the strength of a trained one."""
    import torch
    from peft import LoraConfig, get_peft_model

    from workbench.inference.adapters import save_adapter
    from workbench.inference.base_models import load_model

    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **lora}
    torch.manual_seed(4)
    config = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **settings)
    model = get_peft_model(load_model(base, dtype=torch.float32), config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, strength)
    save_adapter(model, folder, str(base))
    return folder


@pytest.fixture(scope="session")
def source(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportSource:
    folder = tmp_path_factory.mktemp("export")
    base = make_base(folder / "base", tiny_model)
    return ExportSource(base, str(base), make_adapter(folder / "adapter", base), "tester-sft")


@pytest.fixture(scope="session")
def evaluated(source: ExportSource) -> ReferenceModel:
    import torch

    return ReferenceModel.open(source.base, torch.float32, source.adapter)


@pytest.fixture(scope="session")
def asked(evaluated: ReferenceModel, tmp_path_factory: pytest.TempPathFactory) -> ParityPrompts:
    """What the gate asks."""
    file = tmp_path_factory.mktemp("persona") / "persona.yaml"
    file.write_text(PERSONA, encoding="utf-8")
    chats = tuple(user_prompt(text) for text in QUESTIONS)
    return ParityPrompts(chats, NEW_TOKENS, load_persona(file))


@pytest.fixture(scope="session")
def recorded(evaluated: ReferenceModel, asked: ParityPrompts) -> tuple[Response, ...]:
    """What an evaluation would have written down of this model."""
    answers = greedy_answers(evaluated, asked.chats, max_new_tokens=NEW_TOKENS)
    return tuple(
        Response(arm="sft", prompt_id=f"ex-{number}", prompt=chat, text=f" {answer.text}")
        for number, (chat, answer) in enumerate(zip(asked.chats, answers, strict=True))
        if answer
    )


@pytest.fixture
def job(source: ExportSource, asked: ParityPrompts, tmp_path: Path) -> Export:
    provenance = Provenance("method: sft\n", {"split/train.jsonl": "ab" * 32}, "sft", 7)
    licence = Licence("apache-2.0", "Apache-2.0: keep the notice.")
    return Export(source, asked, licence, provenance, tmp_path / "exports" / "made")


@pytest.fixture
def changed_base(source: ExportSource, tmp_path: Path) -> Callable[..., ExportSource]:
    """Return the same source with another base: a copy with files changed."""

    def change(**texts: Callable[[str], str]) -> ExportSource:
        folder = tmp_path / "changed"
        shutil.copytree(source.base, folder)
        for name, change_text in texts.items():
            file = folder / name.replace("__", ".")
            file.write_text(change_text(file.read_text(encoding="utf-8")), encoding="utf-8")
        return ExportSource(folder, source.base_name, source.adapter, source.name)

    return change
