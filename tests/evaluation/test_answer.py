from pathlib import Path

import pytest

from evaluation.answer import Arm, answer, answer_arms
from workbench.errors import UserError


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
def exact():
    """Full precision, where the order of a batch changes no token."""
    import torch

    return {"dtype": torch.float32, "max_new_tokens": 12}


def texts(responses):
    return [response.text for response in responses]


def test_a_batch_answers_as_one_by_one(tiny_model, examples, exact):
    together = answer(Arm("base"), examples, tiny_model, batch_size=5, **exact)
    one_by_one = answer(Arm("base"), examples, tiny_model, batch_size=1, **exact)

    assert together == one_by_one
    assert [response.prompt_id for response in together] == [example.id for example in examples]
    assert len(set(texts(together))) > 1
    assert all(0 < response.tokens <= 12 for response in together)


def test_answers_are_those_of_a_plain_generate_call(tiny_model, examples, exact):
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


def test_arms_share_one_base_and_do_not_mix(tiny_model, examples, adapters, exact):
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


def test_the_system_prompt_is_heard_but_not_filed_with_the_prompt(tiny_model, examples, exact):
    told = answer(Arm("told", system="Say champ."), examples[:1], tiny_model, **exact)[0]
    untold = answer(Arm("untold"), examples[:1], tiny_model, **exact)[0]
    assert told.text != untold.text
    assert told.prompt == untold.prompt == examples[0].prompt
    assert told.parents == (examples[0].id,)


def test_user_mistakes_are_told(tiny_model, examples, adapters, tmp_path):
    with pytest.raises(UserError, match="no held-out prompt"):
        answer(Arm("base"), [], tiny_model)
    with pytest.raises(UserError, match="different names"):
        answer_arms([Arm("sft"), Arm("sft")], examples, tiny_model)
    with pytest.raises(UserError, match=r"arm 'sft' \(adapter_config.json, adapter_model"):
        answer(Arm("sft", tmp_path), examples, tiny_model)


def test_a_prompt_that_is_too_long_for_the_model_is_told(tiny_model, examples):
    arm = Arm("base+prompt", system="champ " * 600)
    line = "seeds.jsonl:1: a prompt of arm 'base.prompt' leaves no room for 12 new tokens"
    with pytest.raises(UserError, match=line):
        answer(arm, examples[:1], tiny_model, max_new_tokens=12)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"hidden_size": 32, "intermediate_size": 64}, "Error.s. in loading state_dict"),
        ({"num_hidden_layers": 1}, "14 weights differ, such as base_model.model.model.layers.1"),
    ],
)
def test_an_adapter_for_another_base_is_told(
    tiny_model, examples, adapters, tmp_path, change, problem
):
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    other = tmp_path / "other"
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(other)
    config = LlamaConfig.from_pretrained(tiny_model)
    config.update(change)
    AutoModelForCausalLM.from_config(config).save_pretrained(other)

    with pytest.raises(UserError, match=f"arm 'sft' does not fit the base model other: {problem}"):
        answer(Arm("sft", adapters[0]), examples, other)
