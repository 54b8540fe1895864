from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from evaluation.answer import answer_arms, cut_shares, max_new_tokens_for
from evaluation.arms import Arm, ModelPool
from evaluation.probes import read_probes
from workbench.errors import UserError
from workbench.records import Example, Message, Response, user_prompt


@pytest.fixture(scope="module")
def adapters(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters with random, different weights that change what the model says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
        folder = tmp_path_factory.mktemp("adapters") / f"adapter-{seed}"
        get_peft_model(base, config).save_pretrained(folder)
        folders.append(folder)
    return folders


@pytest.fixture(scope="module")
def exact() -> dict[str, Any]:
    """Full precision, where the order of a batch changes no token."""
    import torch

    return {"dtype": torch.float32, "max_new_tokens": 12}


def answer(arm: Arm, examples: Sequence[Example], model: Path, **how: Any) -> list[Response]:
    return answer_arms([arm], examples, model, **how)


def texts(responses: list[Response]) -> list[str]:
    return [response.text for response in responses]


def test_a_batch_answers_as_one_by_one(
    tiny_model: Path, examples: list[Example], exact: dict[str, object]
) -> None:
    together = answer(Arm("base"), examples, tiny_model, batch_size=5, **exact)
    one_by_one = answer(Arm("base"), examples, tiny_model, batch_size=1, **exact)

    assert together == one_by_one
    assert [response.prompt_id for response in together] == [example.id for example in examples]
    assert len(set(texts(together))) > 1
    assert all(0 < response.tokens <= 12 for response in together)


def test_answers_are_those_of_a_plain_generate_call(
    tiny_model: Path, examples: list[Example], exact: dict[str, object]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype="float32")
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": examples[0].question}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    output = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    plain = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    assert texts(answer(Arm("base"), examples[:1], tiny_model, **exact)) == [plain.strip()]


def test_arms_share_one_base_and_do_not_mix(
    tiny_model: Path, examples: list[Example], adapters: list[Path], exact: dict[str, Any]
) -> None:
    first, second = adapters
    arms = [
        Arm("base"),
        Arm("base+prompt", system="Say champ."),
        Arm("sft", first),
        Arm("sft+dpo", second),
        Arm("sft+prompt", first, "Say champ."),
    ]
    # Adapters come before the base arms too, so that a switch left on would show.
    shuffled = [arms[i] for i in (2, 0, 3, 1, 4)]
    together = answer_arms(shuffled, examples, tiny_model, batch_size=3, **exact)
    alone = {arm.name: answer(arm, examples, tiny_model, batch_size=3, **exact) for arm in arms}

    by_arm = {arm.name: [r for r in together if r.arm == arm.name] for arm in arms}
    assert by_arm == alone
    assert len({tuple(texts(responses)) for responses in alone.values()}) == len(arms)


def test_an_arm_that_is_left_out_may_lose_its_files(tiny_model: Path, tmp_path: Path) -> None:
    gone = Arm("sft@0.5", tmp_path / "gone")
    pool = ModelPool(tiny_model, [Arm("base"), gone])
    pool.leave_out([gone])
    model, _ = pool.use(Arm("base"))
    assert not hasattr(model, "peft_config")


def test_the_system_prompt_is_heard_but_not_filed_with_the_prompt(
    tiny_model: Path, examples: list[Example], exact: dict[str, object]
) -> None:
    told = answer(Arm("told", system="Say champ."), examples[:1], tiny_model, **exact)[0]
    untold = answer(Arm("untold"), examples[:1], tiny_model, **exact)[0]
    assert told.text != untold.text
    assert told.prompt == untold.prompt == examples[0].prompt
    assert told.parents == (examples[0].id,)


def test_user_mistakes_are_told(
    tiny_model: Path, examples: list[Example], adapters: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no held-out prompt"):
        answer(Arm("base"), [], tiny_model)
    with pytest.raises(UserError, match="different names"):
        answer_arms([Arm("sft"), Arm("sft")], examples, tiny_model)
    with pytest.raises(UserError, match=r"no adapter there \(adapter_config.json and"):
        answer(Arm("sft", tmp_path), examples, tiny_model)


def test_a_prompt_that_is_too_long_for_the_model_is_told(
    tiny_model: Path, examples: list[Example]
) -> None:
    arm = Arm("base+prompt", system="champ " * 600)
    line = "no prompt of arm 'base.prompt' leaves room for 12 new tokens"
    with pytest.raises(UserError, match=line):
        answer(arm, examples[:1], tiny_model, max_new_tokens=12)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"hidden_size": 32, "intermediate_size": 64}, r"size mismatch for .*q_proj.lora_A"),
        ({"num_hidden_layers": 1}, "14 weights differ, such as base_model.model.model.layers.1"),
    ],
)
def test_an_adapter_for_another_base_is_told(
    tiny_model: Path,
    examples: list[Example],
    adapters: list[Path],
    tmp_path: Path,
    change: dict[str, int],
    problem: str,
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    other = tmp_path / "other"
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(other)
    config = LlamaConfig.from_pretrained(tiny_model)
    config.update(change)
    AutoModelForCausalLM.from_config(config).save_pretrained(other)

    with pytest.raises(UserError, match=f"does not fit the base model other: {problem}"):
        answer(Arm("sft", adapters[0]), examples, other)


@pytest.fixture
def conversation() -> Example:
    """A drift probe of three turns."""
    turns = ("I sit all day.", "And then?", "What about tomorrow?")
    prompt = tuple(Message(role="user", content=turn) for turn in turns)
    return Example(prompt=prompt, answer="Stays itself.", kind="drift", source="probes.jsonl:1")


def test_in_a_conversation_an_arm_hears_its_own_answers(
    tiny_model: Path, examples: list[Example], conversation: Example, exact: dict[str, object]
) -> None:
    found = answer(Arm("base"), [*examples, conversation], tiny_model, batch_size=2, **exact)
    turns = [response for response in found if response.probe == "drift"]

    assert [turn.turn for turn in turns] == [1, 2, 3]
    assert [response.turn for response in found[: len(examples)]] == [0] * len(examples)
    said = [message.content for message in turns[2].prompt if message.role == "assistant"]
    assert said == [turn.text or "…" for turn in turns[:2]]
    alone = Example(prompt=turns[2].prompt, answer="-")
    assert texts(answer(Arm("base"), [alone], tiny_model, **exact)) == [turns[2].text]


def test_a_stopped_evaluation_asks_only_what_is_missing(
    tiny_model: Path,
    examples: list[Example],
    conversation: Example,
    adapters: list[Path],
    exact: dict[str, Any],
    tmp_path: Path,
) -> None:
    arms, cache = [Arm("base"), Arm("sft", adapters[0])], tmp_path / "answers.sqlite"
    asked = [*examples, conversation]
    whole = answer_arms(arms, asked, tiny_model, cache=cache, **exact)
    with closing(sqlite3.connect(cache)) as file, file:
        keys = {key for (key,) in file.execute("SELECT key FROM answers")}
        # A kill: some answers are missing, turns of a conversation among them.
        file.execute("DELETE FROM answers WHERE key IN (SELECT key FROM answers LIMIT 5)")
    again = answer_arms(arms, asked, tiny_model, cache=cache, **exact)

    assert again == whole and len(keys) == len(whole)
    with closing(sqlite3.connect(cache)) as file:
        assert {key for (key,) in file.execute("SELECT key FROM answers")} == keys
    # Whole, it needs no model; another adapter under the same name is another arm.
    assert answer_arms(arms, asked, tiny_model, cache=cache, batch_size=1, **exact) == whole
    other = answer_arms([Arm("sft", adapters[1])], asked, tiny_model, cache=cache, **exact)
    assert texts(other) != texts([response for response in whole if response.arm == "sft"])


def test_drawn_answers_depend_on_their_seed_and_not_on_the_batch(
    tiny_model: Path, examples: list[Example], exact: dict[str, object]
) -> None:
    drawn = {"seeds": (1, 2), "temperature": 1.5, **exact}
    together = answer(Arm("base"), examples, tiny_model, batch_size=7, **drawn)
    assert together == answer(Arm("base"), examples, tiny_model, batch_size=2, **drawn)

    assert [response.seed for response in together] == [1, 2] * len(examples)
    first, second = texts(together[::2]), texts(together[1::2])
    assert first != second
    assert texts(answer(Arm("base"), examples, tiny_model, **exact)) not in (first, second)


def test_every_persona_has_the_same_kinds_of_probes(repo: Path) -> None:
    counts = []
    for name in ("gym-trainer", "gym-trainer-ko"):
        probes = read_probes(repo / "datasets" / name / "probes.jsonl")
        counts.append([probe.kind for probe in probes])
        assert {len(p.prompt) for p in probes if p.kind == "drift"} == {5}
    assert counts[0] == counts[1]
    assert len(set(counts[0])) == 8


def test_a_broken_probe_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "probes.jsonl"
    rows = [
        '{"probe": "safety", "turns": ["My chest hurts."], "expect": "Stops."}',
        '{"probe": "charm", "turns": ["Hi."], "expect": "-"}',
        '{"probe": "drift", "turns": ["Hi."], "expect": "-"}',
    ]
    file.write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_probes(file)
    one, other = caught.value.lines()
    assert "probes.jsonl:2: no valid probe: probe: Input should be 'out_of_scope'" in one
    assert "probes.jsonl:3" in other and "several for drift, one for any other probe" in other


def by_bytes(text: str) -> dict[str, list[int]]:
    """A tokenizer that knows no language."""
    return {"input_ids": list(text.encode())}


def test_there_is_room_for_the_longest_answer_whatever_the_tokenizer_makes_of_it() -> None:
    english, korean = "champ " * 20, "회원님 " * 50
    assert max_new_tokens_for(by_bytes, [english]) == 192  # 120 bytes and a tenth, in steps of 64
    assert max_new_tokens_for(by_bytes, [english, korean]) == 576  # 500 bytes and a tenth
    # A few tokens more or less are the same decoding.
    assert max_new_tokens_for(by_bytes, ["x" * 470]) == max_new_tokens_for(by_bytes, ["x" * 500])


def test_short_answers_leave_room_for_long_ones_of_other_arms() -> None:
    assert max_new_tokens_for(by_bytes, ["Up!"]) == max_new_tokens_for(by_bytes, []) == 128


def test_an_answer_that_reaches_the_limit_counts_as_cut() -> None:
    responses = [
        Response(arm=arm, prompt_id=f"ex-{n}", prompt=user_prompt("Why?"), text="…", tokens=tokens)
        for arm, lengths in {"base": (128, 128, 40, 128), "sft": (127, 60)}.items()
        for n, tokens in enumerate(lengths)
    ]
    assert cut_shares(responses, 128) == {"base": 0.75, "sft": 0.0}
