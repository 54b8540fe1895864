"""Every family's template through the loop at its smallest: two steps, an answer, llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.template_families import FAMILIES, Families
from training.export.gguf_writer import write_gguf
from training.export.source import ExportSource
from training.trainer import train
from workbench.inference.adapters import AdaptedModel
from workbench.inference.engines.batched import BatchedEngine
from workbench.inference.engines.chats import greedy_answers, prompt_ids
from workbench.inference.engines.llamacpp import LlamaCpp, available
from workbench.records import Message, Messages, user_prompt

from .conftest import SFT, recipe_of, run_of

SYSTEM = Message(role="system", content="Be short.")
TURNS = (*user_prompt("why walk"), Message(role="assistant", content="now"), *user_prompt("and?"))
CHATS: tuple[Messages, ...] = (user_prompt("question"), (SYSTEM, *user_prompt("question")), TURNS)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_trains_answers_and_is_served_with_one_template(
    name: str, families: Families, examples: Path, tmp_path: Path
) -> None:
    base = families.model_folder(name)
    recipe = recipe_of(
        {**SFT, "quantization": None}, max_steps=2, save_steps=2, per_device_train_batch_size=2
    )
    summary = train(run_of(recipe, base, examples, tmp_path / "sft", base_name=str(base)))
    assert summary.steps == 2 and summary.cut_rows == 0

    adapter = tmp_path / "sft" / "adapter"
    adapted = AdaptedModel(base, [adapter])
    engine = BatchedEngine(adapted.use(adapter), adapted.tokenizer)
    answers = greedy_answers(engine, CHATS, max_new_tokens=4)
    assert all(answer and 1 <= answer.tokens <= 4 for answer in answers)

    if available():
        file = tmp_path / "model.gguf"
        write_gguf(ExportSource(base, name, adapter, "tester"), file, "f32")
        with LlamaCpp(file) as server:
            rendered = [server.render(chat) for chat in CHATS]
        tokenizer: Any = adapted.tokenizer
        expected = [prompt_ids(tokenizer, chat) for chat in CHATS]
        assert [list(prompt.ids) for prompt in rendered] == expected
