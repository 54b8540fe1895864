"""Per-row loss on a tiny model: what torch says of one row, and which rows stand out."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.row_loss import RowLoss, row_losses, unlearned
from workbench.records import Example, user_prompt


def _row(question: str, answer: str) -> Example:
    return Example(prompt=user_prompt(question), answer=answer)


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return folder


def test_a_batch_gives_the_losses_that_single_rows_have(tiny_model: Path, adapter: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = [
        _row("champ?", "walk right now"),
        _row("the trainer sets your chair and walks", "the question today right now champ"),
    ]
    together = row_losses(tiny_model, adapter, rows)
    alone = [row_losses(tiny_model, adapter, [row])[0] for row in rows]
    assert [one.id for one in together] == [row.id for row in rows]
    for one, other in zip(together, alone, strict=True):
        assert one.tuned == pytest.approx(other.tuned, rel=2e-2)
        assert one.base == pytest.approx(other.base, rel=2e-2)
        assert one.tuned != one.base
    # By hand, of the base: the mean over the answer's tokens, the end of the turn included.
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model).float()
    text = "<|im_start|>user\nchamp?<|im_end|>\n<|im_start|>assistant\n"
    start = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    whole = f"{text}walk right now<|im_end|>\n"
    ids = tokenizer(whole, return_tensors="pt", add_special_tokens=False)["input_ids"]
    labels = ids.clone()
    labels[:, :start] = -100
    with torch.no_grad():
        expected = float(model(input_ids=ids, labels=labels).loss)
    first = next(one for one in together if one.id == rows[0].id)
    assert first.base == pytest.approx(expected, rel=2e-2)
    assert first.tokens == ids.shape[1] - start


def test_a_row_without_any_of_its_answer_is_left_out(tiny_model: Path, adapter: Path) -> None:
    assert row_losses(tiny_model, adapter, [_row("champ", "walk")], max_length=4) == []


def test_rows_far_above_the_median_or_worse_than_the_base_stand_out() -> None:
    usual = [RowLoss(id=f"ex-{n}", tokens=9, tuned=1 + n / 100, base=3) for n in range(20)]
    hard = RowLoss(id="ex-hard", tokens=9, tuned=2.5, base=3)
    worse = RowLoss(id="ex-worse", tokens=9, tuned=1.2, base=1.1)
    assert [one.id for one in unlearned([*usual, hard, worse])] == ["ex-hard", "ex-worse"]
    assert unlearned(usual) == []
    assert unlearned([]) == []
