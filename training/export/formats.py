"""One function a format: it fills a folder, has it compared, and names it if it passed."""

from __future__ import annotations

import gc
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from training.export import loaded
from training.export.card import Provenance, model_card
from training.export.converter import NotWrittenHere, convert, converter
from training.export.gate import BOUNDS, Bounds, Hearing, Questions, Verdict, check_parity, hear
from training.export.gguf_adapter import write_gguf_adapter
from training.export.gguf_model import write_gguf
from training.export.licences import Licence
from training.export.llamacpp import LlamaCpp, available
from training.export.merged import write_merged
from training.export.ollama import modelfile
from training.export.source import Source
from training.export.turns import read_turns
from training.export.vllm import listen_to_vllm, serve_script, vllm_program
from workbench.console import console
from workbench.errors import UserError
from workbench.inference.adapters import CONFIG, WEIGHTS
from workbench.inference.base_models import load_tokenizer
from workbench.store import MIB, check_space, file_hash, whole_folder, write_json

if TYPE_CHECKING:
    import torch

GATE = "gate.json"
_CONTEXT = 2048
"""Tokens of a conversation that Ollama and vLLM are told to make room for, at most."""


@dataclass(frozen=True)
class Export:
    """What every format is made of.

    Attributes:
        source: Base, adapter, name.
        asked: What the gate asks.
        licence: Of the base.
        provenance: For the card.
        out: The folder that is made.
    """

    source: Source
    asked: Questions
    licence: Licence
    provenance: Provenance
    out: Path


def export_adapter(job: Export) -> Verdict | None:
    """Write the adapter in PEFT's own format."""
    import torch

    with whole_folder(job.out) as out:
        _copy_adapter(job.source, out)
        dtype = loaded.gate_dtype(job.source.base)
        hearing = hear(loaded.with_peft(job.source.base, out, dtype), job.asked)
        exact = BOUNDS["float32" if dtype is torch.float32 else "bfloat16"]
        verdict = _compare(job, hearing, exact, dtype)
        name = job.source.name
        usage = (
            "```python\nfrom peft import PeftModel\n"
            "from transformers import AutoModelForCausalLM\n\n"
            "base = AutoModelForCausalLM.from_pretrained(BASE)  # the base named below\n"
            f'model = PeftModel.from_pretrained(base, "{name}")\n```'
        )
        return _finish(job, out, verdict, usage)


def export_merged(job: Export, dtype: str) -> Verdict | None:
    """Write base and adapter as one folder of safetensors."""
    import torch

    stored = _stored(job.source)
    _check_space(job.out, stored * (2 if dtype == "float32" else 1))
    with whole_folder(job.out) as out:
        write_merged(job.source, out, dtype=dtype)
        compute = loaded.gate_dtype(job.source.base)
        hearing = hear(loaded.folder(out, compute), job.asked)
        bounds = BOUNDS[dtype if compute is torch.float32 else "bfloat16"]
        verdict = _compare(job, hearing, bounds, compute)
        usage = f'`AutoModelForCausalLM.from_pretrained("{job.source.name}")`'
        return _finish(job, out, verdict, usage)


def export_gguf(job: Export, kind: str, *, adapter: bool = False) -> Verdict | None:
    """Write one GGUF file: of the merged model, or of the adapter alone."""
    with whole_folder(job.out) as out:
        file, verdict = _gguf(job, out, kind, adapter=adapter)
        option = "--lora" if adapter else "--model"
        base = "--model BASE.gguf " if adapter else ""
        usage = f"`llama-server {base}{option} {file} --jinja`, or LM Studio, which opens it too."
        if adapter:
            (out / _base_file(kind)).unlink()
        return _finish(job, out, verdict, usage)


def export_ollama(
    job: Export, kind: str, *, adapter: bool = False, system: str = ""
) -> Verdict | None:
    """Write a Modelfile beside the GGUF that it names, or beside base and adapter."""
    tokenizer = load_tokenizer(job.source.base)
    turns = read_turns(tokenizer, job.asked.chats)
    with whole_folder(job.out) as out:
        file, verdict = _gguf(job, out, kind, adapter=adapter)
        text = modelfile(
            _base_file(kind) if adapter else file,
            turns,
            [str(tokenizer.eos_token)],
            context=min(_CONTEXT, int(job.source.base_config()["max_position_embeddings"])),
            adapter=file if adapter else "",
            system=system,
            licence=job.licence.terms,
        )
        (out / "Modelfile").write_text(text, encoding="utf-8")
        name = job.source.name.lower()
        return _finish(
            job, out, verdict, f"`ollama create {name} -f Modelfile && ollama run {name}`"
        )


def export_vllm(job: Export) -> Verdict | None:
    """Write the adapter, the template and the command that serves both with vLLM."""
    with whole_folder(job.out) as out:
        folder = out / "adapter"
        folder.mkdir()
        _copy_adapter(job.source, folder)
        script = serve_script(job.source, context=_CONTEXT)
        (out / "serve.sh").write_text(script, encoding="utf-8")
        (out / "serve.sh").chmod(0o755)
        tokenizer = load_tokenizer(job.source.base)
        (out / "chat_template.jinja").write_text(str(tokenizer.chat_template), encoding="utf-8")
        verdict = None
        if vllm_program():
            hearing = listen_to_vllm(job.source, out, job.asked)
            verdict = _compare(job, hearing, BOUNDS["bfloat16"])
        else:
            console.print("  [bold]no vLLM is installed: this export was NOT served and checked[/]")
        return _finish(job, out, verdict, "`BASE=folder-or-hub-id ./serve.sh`")


def _copy_adapter(source: Source, out: Path) -> None:
    for name in (CONFIG, WEIGHTS):
        shutil.copyfile(source.adapter / name, out / name)


def _check_space(out: Path, needed: int) -> None:
    check_space(out, needed + 64 * MIB, "the export", "--out")


def _base_file(kind: str) -> str:
    return f"base-{kind}.gguf"


def _gguf(job: Export, out: Path, kind: str, *, adapter: bool) -> tuple[str, Verdict]:
    """Write the GGUF files of an export; return the name of the one to load, and the verdict."""
    if not available():
        raise UserError(
            "no llama.cpp is there to check the file with",
            fix="pip install xllamacpp, or name a llama-server in LLAMA_SERVER",
        )
    _check_space(job.out, 2 * _stored(job.source))
    if adapter:
        model, lora = out / _base_file(kind), out / f"{job.source.name}-lora.gguf"
        write_gguf(job.source, model, kind, licence=job.licence.id, bare=True)
        write_gguf_adapter(job.source, lora)
    else:
        model, lora = out / f"{job.source.name}-{kind}.gguf", None
        _write_or_convert(job, model, kind)
    return (lora or model).name, _compare(job, listen_to_gguf(job.asked, model, lora), BOUNDS[kind])


def _write_or_convert(job: Export, path: Path, kind: str) -> None:
    try:
        write_gguf(job.source, path, kind, licence=job.licence.id)
    except NotWrittenHere as left:
        if not converter():
            raise
        console.print(f"  {left.what}: llama.cpp's converter does it")
        path.unlink(missing_ok=True)
        folder = path.with_name(".merged")
        folder.mkdir()
        write_merged(job.source, folder, dtype="bfloat16")
        convert(folder, path, kind)
        shutil.rmtree(folder)


def listen_to_gguf(asked: Questions, model: Path, lora: Path | None = None) -> Hearing:
    """Ask a GGUF file everything, through a real llama.cpp."""
    with LlamaCpp(model, lora=lora) as server:
        console.print("  asking llama.cpp")
        return hear(server, asked)


def _compare(
    job: Export, hearing: Hearing, bounds: Bounds, dtype: torch.dtype | None = None
) -> Verdict:
    gc.collect()  # the exported model need not stay beside the evaluated one
    console.print("  asking the evaluated model")
    model = loaded.evaluated(job.source, dtype or loaded.gate_dtype(job.source.base))
    return check_parity(model, hearing, job.asked, bounds)


def _finish(job: Export, out: Path, verdict: Verdict | None, usage: str) -> Verdict | None:
    """Write card, hashes and the gate's figures: the last things before the folder's name."""
    card = model_card(job.source, job.asked.persona, job.licence, job.provenance, verdict, usage)
    (out / "README.md").write_text(card, encoding="utf-8")
    files = {
        path.relative_to(out).as_posix(): file_hash(path)
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }
    write_json(out / GATE, {"parity": verdict.as_json() if verdict else None, "files": files})
    return verdict


def _stored(source: Source) -> int:
    return sum(path.stat().st_size for path in source.base.glob("*.safetensors"))
