"""The search for few-shot examples: what it finds, and what a prompt is held to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from evaluation.few_shot import answer_loss, search_few_shot
from workbench.records import Example, user_prompt


def _rows(count: int, words: str = "Rest") -> list[Example]:
    return [
        Example(prompt=user_prompt(f"Question {n}?"), answer=f"{words} {n}.", source=f"s:{n}")
        for n in range(1, count + 1)
    ]


def test_the_best_rows_are_found_within_the_trials_and_alike_each_time() -> None:
    rows = _rows(20)
    good = {rows[3].id, rows[17].id}
    asked: list[tuple[str, ...]] = []

    def loss(shown: Sequence[Example]) -> float:
        asked.append(tuple(row.id for row in shown))
        return 3.0 - sum(row.id in good for row in shown)

    first = search_few_shot(rows, loss, shots=4, trials=40, seed=1)
    assert good <= {row.id for row in first.rows} and first.loss == 1.0
    assert len(first.rows) == 4 and first.trials == len(asked) <= 40
    assert len(set(asked)) == len(asked)  # no set is paid for twice
    # Twenty rows in sets of four: five sets show each of them once.
    assert len({one for shown in asked[:5] for one in shown}) == 20
    again = search_few_shot(rows, loss, shots=4, trials=40, seed=1)
    assert again == first


@pytest.mark.parametrize(("room", "shown"), [(2, 2), (0, 0)])
def test_fewer_rows_are_shown_where_more_leave_no_room(room: int, shown: int) -> None:
    found = search_few_shot(
        _rows(8), lambda rows: 1.0 if len(rows) <= room and rows else None, shots=4, trials=12
    )
    assert len(found.rows) == shown and found.trials <= 12
    assert (found.loss is None) == (not shown)


def test_a_set_of_all_rows_is_tried_once() -> None:
    rows = _rows(2)
    found = search_few_shot(rows, lambda _: 2.0, shots=4, trials=8)
    assert (found.rows, found.loss) == (tuple(rows), 2.0)


def test_the_loss_of_answers_is_that_of_the_whole_text_and_room_is_kept(tiny_model: Path) -> None:
    import torch

    from workbench.inference.base_models import load_model, load_tokenizer
    from workbench.records import as_messages

    model = load_model(tiny_model, dtype=torch.float32).eval()
    tokenizer = load_tokenizer(tiny_model)
    rows = [*_rows(2), *_rows(1, "Walk slowly and breathe")]
    expected = []
    for row in rows:
        chat = [{"role": "system", "content": "Be short."}, *as_messages(row.prompt)]
        prompt, whole = (
            tokenizer.apply_chat_template(messages, add_generation_prompt=asks, return_dict=True)[
                "input_ids"
            ]
            for messages, asks in (
                (chat, True),
                ([*chat, {"role": "assistant", "content": row.answer}], False),
            )
        )
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
        own = [-float(logits[at - 1, whole[at]]) for at in range(len(prompt), len(whole))]
        expected.append(sum(own) / len(own))
    value = answer_loss(model, tokenizer, "Be short.", rows)
    assert value == pytest.approx(sum(expected) / 3, abs=1e-4)
    context = model.config.max_position_embeddings
    assert answer_loss(model, tokenizer, "Be short.", rows, room=context) is None
