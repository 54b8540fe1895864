"""Licences, cards, turns of a template, and the service that deploy/ holds."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from training.export.formats import Export
from training.export.hub import model_card
from training.export.ollama import modelfile, read_template
from training.export.source import base_licence
from training.export.vllm import lora_rank
from workbench.errors import UserError
from workbench.records import Message, user_prompt
from workbench.stats import Comparison, MetricCell

DEFAULT_SYSTEM = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe kind<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
HEADERS = (
    "{% for m in messages %}{{ '<h>' + m['role'] + '</h>\n\n' + m['content'] | trim + '<eot>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<h>assistant</h>\n\n' }}{% endif %}"
)
FOLDED = (  # the system prompt goes into the first question
    "{% if messages[0]['role'] == 'system' %}{% set s = messages[0]['content'] %}"
    "{% set rest = messages[1:] %}{% else %}{% set s = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{{ '[' + m['role'] + ']' + (s if loop.first else '') + m['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '[assistant]' + s }}{% endif %}"
)


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    from workbench.inference.base_models import load_tokenizer

    return load_tokenizer(tiny_model)


def test_turns_of_a_template_write_what_it_writes(tokenizer: Any) -> None:
    chat = (Message(role="system", content="Be short."), *user_prompt("How deep?"))
    tokenizer.chat_template = DEFAULT_SYSTEM
    template = read_template(tokenizer, [user_prompt("How deep?"), chat])
    assert template.render(user_prompt("How deep?")) == (
        "<|im_start|>system\nBe kind<|im_end|>\n<|im_start|>user\nHow deep?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    go = template.go_template()
    assert go.startswith("{{ if not .System }}<|im_start|>system\nBe kind")
    assert go.endswith("{{ end }}{{ end }}<|im_start|>assistant\n")
    assert go.count("{{ if") + go.count("{{ range") == go.count("{{ end }}") == 3
    tokenizer.chat_template = HEADERS
    template = read_template(tokenizer, [chat])
    assert template.before["user"] == "<h>user</h>\n\n" and template.preamble == ""
    assert template.go_template().count("{{ else if eq .Role") == 2


def test_a_template_beyond_turns_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = FOLDED
    with pytest.raises(UserError, match="does more than Ollama's template language"):
        read_template(tokenizer, [user_prompt("How deep?")])


def test_a_modelfile_holds_no_three_quotes(tokenizer: object) -> None:
    template = read_template(tokenizer, [])
    with pytest.raises(UserError, match="cannot hold"):
        modelfile("w.gguf", template, [], context=10, system='a """ b')
    text = modelfile("base.gguf", template, ["<e>"], context=10, adapter="lora.gguf")
    assert "FROM ./base.gguf\nADAPTER ./lora.gguf\n" in text and "SYSTEM" not in text


@pytest.mark.parametrize(
    ("name", "card", "found", "restricted"),
    [
        ("smollm2-135m", "", "apache-2.0", False),
        ("google/gemma-3-1b-it", "", "gemma", True),
        ("meta-llama/Llama-3.1-8B-Instruct", "", "llama3.1", True),
        ("team/tuned", "llama3.2", "llama3.2", True),
        ("Qwen/Qwen3-8B", "apache-2.0", "apache-2.0", False),
        ("team/own", "", "other", False),
    ],
)
def test_the_licence_of_a_base(
    name: str, card: str, found: str, restricted: bool, tmp_path: Path
) -> None:
    if card:
        (tmp_path / "README.md").write_text(f"---\nlicense: {card}\n---\n# It\n", encoding="utf-8")
    licence = base_licence(name, tmp_path)
    assert (licence.id, licence.restricted) == (found, restricted)
    if restricted:
        assert "free redistribution is forbidden" in licence.terms


def test_the_card_says_when_the_base_had_only_four_bits(job: Export, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(job.source.base, base)
    (base / "workbench.json").write_text('{"gguf_sha256": "c0ffee"}', encoding="utf-8")
    source = replace(job.source, base=base)
    cell = MetricCell(
        arm="sft", metric="address", scored=4, unscored=0, reasons={}, mean=0.75, difference=None
    )
    comparison = Comparison(
        base="base",
        seed=0,
        level=0.95,
        resamples=1,
        prompts=4,
        arms=("base", "sft"),
        metrics=("address",),
        cells=(cell,),
    )
    provenance = replace(job.provenance, evaluation=comparison, dataset="team/rows")
    card = model_card(source, job.prompts.persona, job.licence, provenance, None, "`use`")
    assert "**Its weights are 4-bit (Q4_1), widened to bfloat16**" in card
    assert "`c0ffee`" in card
    assert "| address | – | 0.750 |" in card
    assert "https://huggingface.co/datasets/team/rows" in card


def test_vllm_is_told_the_least_rank_that_fits(job: Export, tmp_path: Path) -> None:
    assert lora_rank(job.source) == 8
    shutil.copytree(job.source.weights, tmp_path / "a")
    file = tmp_path / "a" / "adapter_config.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(re.sub(r'"r": \d+', '"r": 1000', text), encoding="utf-8")
    with pytest.raises(UserError, match="up to rank 512"):
        lora_rank(replace(job.source, adapter=tmp_path / "a"))


def test_the_service_is_pinned_closed_and_told_everything(repo: Path) -> None:
    text = (repo / "deploy" / "vllm.yaml").read_text(encoding="utf-8")
    service = yaml.safe_load(text)["services"]["vllm"]
    assert re.fullmatch(r"vllm/vllm-openai:v\d+\.\d+\.\d+", service["image"])
    assert service["ports"] == ["${VLLM_BIND:-127.0.0.1}:${VLLM_PORT:-8000}:8000"]
    assert "--enable-lora" in service["command"] and service["healthcheck"]["test"]
    asked = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    example = (repo / "deploy" / "vllm.env.example").read_text(encoding="utf-8")
    assert asked == set(re.findall(r"^(\w+)=", example, re.MULTILINE))
