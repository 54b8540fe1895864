"""Each format is written, opens where it should, and answers as the evaluated model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.training.export.conftest import make_adapter, make_base
from training.export import formats
from training.export.formats import Export
from training.export.gate import BOUNDS, ask, check_parity
from training.export.hub import Provenance, model_card
from training.export.merged import MergedWeights, write_merged
from training.export.reference_model import ReferenceModel
from training.export.source import ExportSource
from workbench.errors import UserError
from workbench.inference.engines.llamacpp import available
from workbench.prompts import with_system

needs_llama_cpp = pytest.mark.skipif(
    not available(), reason="NO LLAMA.CPP: no GGUF is checked by it on this machine"
)


def test_each_tensor_of_the_base_is_read_and_merged_once(source: ExportSource) -> None:
    merged = MergedWeights(source)
    names = [name for name, _ in merged.tensors()]
    assert sorted(names) == sorted(set(names)) == sorted(merged.files.shapes)
    from safetensors.torch import load_file

    base = load_file(source.base / "model.safetensors")
    lora = load_file(source.weights / "adapter_model.safetensors")
    name = "model.layers.0.self_attn.q_proj"
    a, b = (lora[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    found = dict(merged.tensors([f"{name}.weight"]))[f"{name}.weight"]
    # W + alpha / r * B A, https://arxiv.org/abs/2106.09685, with alpha 8 and r 4.
    torch.testing.assert_close(found, base[f"{name}.weight"] + 2 * (b @ a))


def test_merged_shards_answer_identically(
    job: Export, evaluated: ReferenceModel, tmp_path: Path
) -> None:
    out = tmp_path / "merged"
    out.mkdir()
    write_merged(job.source, out, dtype="float32", shard_bytes=100_000)
    shards = sorted(out.glob("*.safetensors"))
    assert len(shards) > 2 and max(p.stat().st_size for p in shards) < 120_000
    answers = ask(ReferenceModel.open(out, torch.float32), job.prompts)
    report = check_parity(evaluated, answers, job.prompts, BOUNDS["float32"])
    assert (report.identical, report.prompts) == (2, 2)
    assert report.mean_difference < 1e-4


def test_the_adapter_opens_with_plain_peft_and_has_its_card(job: Export) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    report = formats.export_adapter(job)
    assert report and report.identical == 2
    base = AutoModelForCausalLM.from_pretrained(job.source.base)
    assert PeftModel.from_pretrained(base, job.out).peft_config["default"].r == 4
    _, head, text = (job.out / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(head)["license"] == "apache-2.0"
    for told in ("`base`", "method: sft", "ab" * 32, "seed 7", "The round was not evaluated."):
        assert told in text
    assert str(job.source.base.parent) not in text
    gate = json.loads((job.out / "gate.json").read_text(encoding="utf-8"))
    assert gate["parity"]["identical"] == 2 and "adapter_model.safetensors" in gate["files"]


@needs_llama_cpp
@pytest.mark.parametrize("kind", ["q8_0", "q4_1", "q4_0"])
def test_quantized_gguf_is_within_its_bounds(job: Export, kind: str) -> None:
    report = formats.export_gguf(job, kind)
    assert report and 0 < report.mean_difference < BOUNDS[kind].mean
    import gguf

    tensors = {
        t.name: t.tensor_type.name
        for t in gguf.GGUFReader(job.out / f"tester-sft-{kind}.gguf").tensors
    }
    assert tensors["blk.0.attn_q.weight"] == kind.upper()
    assert tensors["token_embd.weight"] == "Q8_0"
    assert tensors["blk.0.attn_norm.weight"] == "F32"


@needs_llama_cpp
@pytest.mark.parametrize(
    "lora",
    [{}, {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"o_proj": 2}}],
)
def test_the_adapter_as_gguf_is_put_on_its_base(
    job: Export, tmp_path: Path, lora: dict[str, Any]
) -> None:
    adapter = make_adapter(tmp_path / "adapter", job.source.base, **lora)
    job = replace(
        job,
        source=replace(job.source, adapter=adapter),
        prompts=replace(job.prompts, recorded=()),
    )
    report = formats.export_gguf(job, "f16", adapter=True)
    assert report and report.mean_difference < BOUNDS["f16"].mean
    assert {p.name for p in job.out.iterdir()} == {"tester-sft-lora.gguf", "README.md", "gate.json"}


@needs_llama_cpp
@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "mistral"])
def test_other_families_answer_alike(job: Export, tmp_path: Path, kind: str) -> None:
    extra = {"sliding_window": None} if kind == "mistral" else {}
    base = make_base(tmp_path / "base", job.source.base, kind, **extra)
    adapter = make_adapter(tmp_path / "adapter", base)
    source = ExportSource(base, str(base), adapter, "other")
    job = replace(job, source=source, prompts=replace(job.prompts, recorded=()))
    report = formats.export_gguf(job, "f16")
    assert report and report.mean_difference < BOUNDS["f16"].mean


@needs_llama_cpp
def test_scaled_rotary_frequencies_answer_alike(job: Export, tmp_path: Path) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    base = make_base(tmp_path / "base", job.source.base, rope_parameters=rope)
    source = ExportSource(base, str(base), make_adapter(tmp_path / "adapter", base), "scaled")
    job = replace(job, source=source, prompts=replace(job.prompts, recorded=()))
    report = formats.export_gguf(job, "f16")
    assert report and report.mean_difference < BOUNDS["f16"].mean


def test_a_family_that_is_not_written_here_names_the_converter(job: Export, tmp_path: Path) -> None:
    from training.export.gguf_layout import GGUFLayout

    with pytest.raises(UserError, match=r"not for 'gemma3_text' .*convert_hf_to_gguf\.py"):
        _ = GGUFLayout({"model_type": "gemma3_text"}).architecture


@needs_llama_cpp
def test_ollama_gets_a_modelfile_beside_the_weights(job: Export) -> None:
    # Long: room is made for it beside the conversation.
    system = "You are a coach. " + "Be short. " * 12
    chats = tuple(with_system(system, chat) for chat in job.prompts.chats)
    prompts = replace(job.prompts, chats=chats, recorded=())
    assert formats.export_ollama(replace(job, prompts=prompts, system=system), "q8_0")
    text = (job.out / "Modelfile").read_text(encoding="utf-8")
    assert text.startswith("FROM ./tester-sft-q8_0.gguf\n")
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert "PARAMETER repeat_penalty 1.0" in text
    assert f'SYSTEM """{system}"""' in text
    assert "<|im_start|>user\n{{ .Content }}<|im_end|>\n" in text


def test_vllm_gets_a_command_with_the_adapter(job: Export) -> None:
    formats.export_vllm(job)
    script = (job.out / "serve.sh").read_text(encoding="utf-8")
    assert "--enable-lora" in script and "--max-lora-rank 8" in script
    assert "--lora-modules tester-sft=./adapter" in script
    assert subprocess.run(["sh", "-n", str(job.out / "serve.sh")], check=False).returncode == 0
    assert {p.name for p in (job.out / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_the_base_under_a_prompt_is_served_by_vllm_with_the_prompt_in_its_template(
    job: Export,
) -> None:
    from workbench.inference.base_models import load_tokenizer

    # Quotes, a brace and a line break: what a template might read as its own.
    system = 'Say "champ". {{ no }} {% end %}\nПрыгай \\ 무릎'
    source = replace(job.source, adapter=None, name="tester-base-optimised")
    made = replace(job, source=source, system=system, provenance=Provenance("", {}, "", 7))
    formats.export_vllm(made)
    script = (job.out / "serve.sh").read_text(encoding="utf-8")
    assert "--served-model-name tester-base-optimised" in script and "lora" not in script
    assert not (job.out / "adapter").exists()
    tokenizer = load_tokenizer(job.source.base)
    own = str(tokenizer.chat_template)
    question = {"role": "user", "content": "How deep?"}
    chats = [[{"role": "system", "content": text}, question] for text in (system, "Mine.")]
    whole, other = (tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats)
    tokenizer.chat_template = (job.out / "chat_template.jinja").read_text(encoding="utf-8")
    assert tokenizer.chat_template != own
    assert tokenizer.apply_chat_template([question], tokenize=False) == whole
    assert system in whole and whole.count("How deep?") == 1
    assert tokenizer.apply_chat_template(chats[1], tokenize=False) == other
    card = (job.out / "README.md").read_text(encoding="utf-8")
    assert system in card and "None: these are the base's own weights." in card
    with pytest.raises(UserError, match="the base has no adapter"):
        formats.export_adapter(made)


def test_a_killed_export_leaves_no_folder_and_the_next_one_completes(
    job: Export, tmp_path: Path
) -> None:
    code = (
        "import sys, pickle, time\n"
        "from training.export import formats\n"
        "formats.write_merged = lambda *a, **k: (print('at work', flush=True), time.sleep(60))\n"
        "formats.export_merged(pickle.load(open(sys.argv[1], 'rb')), 'float32')\n"
    )
    import pickle

    (tmp_path / "job").write_bytes(pickle.dumps(job))
    command = [sys.executable, "-c", code, str(tmp_path / "job")]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None and killed.stdout.readline() == "at work\n"
    partial = job.out.with_name(f".{job.out.name}.partial")
    (partial / "half").write_text("half", encoding="utf-8")
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    time.sleep(0.1)
    assert partial.exists() and not job.out.exists()
    report = formats.export_merged(job, "float32")
    assert report and report.identical == 2
    assert not partial.exists() and not (job.out / "half").exists()


def test_no_space_and_a_name_with_odd_characters_are_one_line(
    job: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.export.source import check_name

    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("U", (), {"free": 1 << 20}))
    with pytest.raises(UserError, match=r"only 1 MiB are free, the export needs \d+"):
        formats.export_merged(job, "float32")
    for name in ("", "-x", "a b", "a/b", "ä", "..", "a--b", "x" * 97):
        with pytest.raises(UserError, match="is no name for an export"):
            check_name(name, "--name")


def test_a_base_of_four_bits_is_widened_where_it_is_all_there_is(
    job: Export, tmp_path: Path
) -> None:
    from workbench.inference.base_models import load_model, load_tokenizer

    fields = {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "float32",
    }
    base = tmp_path / "base"
    model = load_model(job.source.base, quantization=fields, dtype=torch.float32)
    model.save_pretrained(base)
    load_tokenizer(job.source.base).save_pretrained(base)
    source = replace(job.source, base=base)
    assert source.four_bit_base and not job.source.four_bit_base
    merged = MergedWeights(source)
    assert not [key for key in merged.shapes if "absmax" in key]
    name = "model.layers.0.self_attn.q_proj"
    assert merged.shapes[f"{name}.weight"] == (64, 64)
    # What the 4-bit layer itself multiplies with: the identity goes through it.
    layer = model.get_submodule(name)
    wide = layer(torch.eye(64)).T
    from safetensors.torch import load_file

    lora = load_file(source.weights / "adapter_model.safetensors")
    x, y = (lora[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    found = dict(merged.tensors([f"{name}.weight"]))[f"{name}.weight"]
    torch.testing.assert_close(found, wide.detach().float() + 2 * (y @ x), atol=1e-2, rtol=0)
    card = model_card(source, job.prompts.persona, job.licence, job.provenance, None, "`use`")
    assert "**Its weights are 4-bit**" in card


@needs_llama_cpp
def test_what_is_not_written_here_goes_through_llama_cpps_converter_where_it_is_found(
    job: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.export import gguf_layout
    from training.export.gguf_writer import write_gguf

    write_gguf(job.source, tmp_path / "right.gguf", "f16")
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text(
        "import shutil, sys\n"
        "folder, _, out, _, kind = sys.argv[1:]\n"
        "assert kind == 'f16' and open(folder + '/config.json')\n"
        f"shutil.copy({str(tmp_path / 'right.gguf')!r}, out)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(gguf_layout, "_BEHAVIOURS", {})
    with pytest.raises(UserError, match=r"unknown way .*LLAMA_CONVERTER"):
        formats.export_gguf(job, "f16")
    assert not job.out.exists()
    monkeypatch.setenv("LLAMA_CONVERTER", str(script))
    assert formats.export_gguf(job, "f16")
    assert {p.name for p in job.out.iterdir()} == {"tester-sft-f16.gguf", "README.md", "gate.json"}
    with pytest.raises(UserError, match="converter writes no q4_0"):
        formats.export_gguf(job, "q4_0")
