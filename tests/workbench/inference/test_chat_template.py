"""What published templates do is seen, bridged or refused in one line, by tokenizers alone."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.template_families import FAMILIES, Families
from workbench.errors import UserError
from workbench.inference.base_models import examine_model, load_tokenizer
from workbench.inference.chat_template import FROZEN

QUESTION, ANSWER = "Bench today?", "Up, champ."
SYSTEM = {"role": "system", "content": "Be short."}
CHATS = [
    [{"role": "user", "content": QUESTION}],
    [SYSTEM, {"role": "user", "content": QUESTION}],
    [
        SYSTEM,
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "Because."},
        {"role": "user", "content": QUESTION},
    ],
]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_asked_as_it_is_learnt_and_told_everything(
    name: str, families: Families
) -> None:
    folder = families.tokenizer_folder(name)
    tokenizer: Any = load_tokenizer(folder)
    for chat in CHATS:
        learnt_chat = [*chat, {"role": "assistant", "content": ANSWER}]
        asked, learnt = (
            tokenizer.apply_chat_template(c, add_generation_prompt=ask, return_dict=True)[
                "input_ids"
            ]
            for c, ask in ((chat, True), (learnt_chat, False))
        )
        text = tokenizer.decode(asked)
        assert all(text.count(turn["content"]) == 1 for turn in chat)
        assert learnt[: len(asked)] == asked
        rest = learnt[len(asked) :]
        end = rest.index(tokenizer.eos_token_id)
        assert tokenizer.decode(rest[:end]).strip() == ANSWER
        if FAMILIES[name].bos:
            assert asked.count(tokenizer.bos_token_id) == ("bos_token" in tokenizer.chat_template)


WHAT: dict[str, dict[str, str]] = {
    "llama-3": {
        "system text of its own": "'Known until: December 2023 Today: 26 Jul 2024'",
        "dates": "strftime_now(%d %b %Y), date_string: frozen at 2024-07-26",
        "begin of text": "once: the template writes it; that the tokenizer adds one",
    },
    "gemma-2": {
        "system role": "refused by the template; bridged",
        "end of an answer": "'<end_of_turn>' (8): the base's files do not; joined here",
        "turns": "must alternate",
    },
    "gemma-3": {"system role": "the template puts it into a question", "turns": "must alternate"},
    "qwen-2.5": {
        "system role": "a turn of its own",
        "system text of its own": "'You help whoever asks.'",
        "end of an answer": "'<|im_end|>' (10): generation stops there",
    },
    "qwen-3": {
        "thinking": "left out",
        "learnt opens as asked": r"asked '<|im_start|>assistant\n', learnt"
        r" '<|im_start|>assistant\n<think>\n\n</think>\n\n'; bridged: both as learnt",
    },
    "mistral": {"system role": "the template puts it into a question", "thinking": "none"},
    "phi-3": {"end of an answer": "'<|end|>' (18): generation stops there"},
    "chatml": {"end of an answer": "'<|im_end|>' (10): the base's files do not; joined here"},
    "deepseek-r1": {
        "learnt opens as asked": r"asked '<｜Assistant｜><think>\n', learnt '<｜Assistant｜>'"
    },
    "harmony": {
        "end of an answer": "'<|return|>' (28): generation stops there",
        "dates": "strftime_now(%Y-%m-%d): frozen at 2024-07-26",
        "learnt opens as asked": "asked '<|start|>assistant', learnt"
        " '<|start|>assistant<|channel|>final<|message|>'",
    },
    "exaone": {"system text of its own": "none", "begin of text": "none"},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_family_does_is_told(name: str, families: Families) -> None:
    table = examine_model(families.tokenizer_folder(name)).table()
    for label, text in WHAT[name].items():
        assert table[label].startswith(text), (label, table[label])


def test_whether_a_template_marks_answers_is_told(families: Families, tmp_path: Path) -> None:
    folder = families.tokenizer_folder("chatml")
    assert (
        examine_model(folder).table()["answers marked"].startswith("no: with assistant_only_loss")
    )
    marked = tmp_path / "marked"
    shutil.copytree(folder, marked)
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    answer = "{{- one['content'] + '<|im_end|>\\n' -}}"
    asked = "{{- '<|im_start|>' + one['role'] + '\\n' -}}"
    template = template.replace(
        "{{- '<|im_start|>' + one['role'] + '\\n' + one['content'] + '<|im_end|>\\n' -}}",
        f"{asked}{{%- generation -%}}{answer}{{%- endgeneration -%}}",
    )
    (marked / "chat_template.jinja").write_text(template, encoding="utf-8")
    assert examine_model(marked).table()["answers marked"] == "yes, by {% generation %}"


def test_a_template_that_needs_no_bridge_stays_as_it_was_published(families: Families) -> None:
    folder = families.tokenizer_folder("qwen-2.5")
    published = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    assert load_tokenizer(folder).chat_template == published
    assert examine_model(folder).bridged() == []


@pytest.mark.parametrize("name", ["llama-3", "harmony"])
def test_a_prompt_is_the_same_on_another_day(
    name: str, families: Families, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.utils import chat_template_utils

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> Later:
            return cls(2031, 1, 2)

    tokenizer: Any = load_tokenizer(families.tokenizer_folder(name))
    today = tokenizer.apply_chat_template(CHATS[0], tokenize=False)
    monkeypatch.setattr(chat_template_utils, "datetime", Later)
    assert tokenizer.apply_chat_template(CHATS[0], tokenize=False) == today
    assert str(FROZEN.year) in today and "2031" not in today


@pytest.fixture
def other(families: Families, tmp_path: Path) -> Any:
    """Return a function that puts another template into a copy of the ChatML base."""

    def put(template: str) -> Path:
        folder = tmp_path / "other"
        shutil.copytree(families.tokenizer_folder("chatml"), folder)
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        return folder

    return put


TURN = "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
REFUSED = {
    "no end": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}"
        "{% if not loop.last %}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_end|>\n<|im_start|>assistant\n' }}{% endif %}",
        "writes no end after an answer, so a model that learns by it never stops",
    ),
    "an end that is text": (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n###\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
        r"ends an answer with '\n###\n', which is no token",
    ),
    "questions alone": (
        "{% for m in messages if m['role'] == 'user' %}" + TURN + "{% endfor %}" + ASK,
        "the chat template does not write an answer",
    ),
    "one question": (
        "{% if messages | length > 2 %}{{ raise_exception('too long') }}{% endif %}"
        "{% for m in messages %}" + TURN + "{% endfor %}" + ASK,
        "the chat template refuses a conversation of",
    ),
    "parts alone": (
        "{% for m in messages %}{{ m['content'][0]['text'] + '<|im_end|>' }}{% endfor %}",
        "the chat template cannot render a question",
    ),
    "broken": ("{% for m in messages %}" + TURN, "the chat template cannot render a question"),
    "an answer before its question": (
        "{% for m in messages | reverse %}" + TURN + "{% endfor %}" + ASK,
        "opens with",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_bridged_is_one_line(kind: str, other: Any) -> None:
    template, line = REFUSED[kind]
    with pytest.raises(UserError) as caught:
        load_tokenizer(other(template))
    assert line in caught.value.line()
    assert "mend chat_template.jinja" in caught.value.fix and len(caught.value.lines()) == 1


def test_a_dropped_system_text_goes_before_the_first_question(other: Any) -> None:
    folder = other("{% for m in messages if m['role'] != 'system' %}" + TURN + "{% endfor %}" + ASK)
    report, tokenizer = examine_model(folder), load_tokenizer(folder)
    assert report.system == "dropped"
    assert report.bridged()[0] == "system role dropped: its text goes before the first question"
    assert tokenizer.apply_chat_template(CHATS[1], tokenize=False) == (
        "<|im_start|>user\nBe short.\n\nBench today?<|im_end|>\n"
    )


def test_a_date_in_a_computed_format_is_frozen_too(other: Any) -> None:
    folder = other(
        "{% set form = '%' + 'Y' %}{{ strftime_now(form) + '\n' }}"
        "{% for m in messages %}" + TURN + "{% endfor %}" + ASK
    )
    text = load_tokenizer(folder).apply_chat_template(CHATS[0], tokenize=False)
    assert isinstance(text, str) and text.startswith("2024-07-26\n")


def test_white_space_that_melts_into_the_answer_is_left_to_the_answer(
    other: Any, families: Families
) -> None:
    # Two line ends are one token of this tokenizer, but two before a word.
    folder = other(
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n\n' + m['content'] }}"
        "{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n\n' }}{% endif %}"
    )
    tokenizer: Any = load_tokenizer(folder)
    asked = tokenizer.apply_chat_template(CHATS[0], add_generation_prompt=True, tokenize=False)
    learnt = [*CHATS[0], {"role": "assistant", "content": ANSWER}]
    assert asked.endswith("<|im_start|>assistant")
    ids = tokenizer(asked, add_special_tokens=False)["input_ids"]
    whole = tokenizer.apply_chat_template(learnt, return_dict=True)["input_ids"]
    assert whole[: len(ids)] == ids
