"""One function a format: it fills a folder, has it compared, and names it if it passed.

``persona export`` calls them, from Python so can anybody who has an :class:`Export`.
"""

from __future__ import annotations

import gc
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from training.export.carried import (
    SYSTEM,
    TEMPLATE,
    copy_adapter_config,
    is_bridged,
    lead_by,
    write_ends,
    write_preset,
)
from training.export.gate import (
    BOUNDS,
    Bounds,
    ExportAnswers,
    ParityPrompts,
    ParityReport,
    ask,
    check_parity,
)
from training.export.gguf_layout import NotWrittenHere
from training.export.gguf_writer import convert, converter, write_gguf, write_gguf_adapter
from training.export.hub import Provenance, model_card
from training.export.merged import write_merged
from training.export.ollama import modelfile, read_template
from training.export.reference_model import ReferenceModel, gate_dtype
from training.export.source import ExportSource, Licence
from training.export.vllm import ask_vllm, serve_script, vllm_program
from workbench.console import console
from workbench.inference.adapters import CONFIG, WEIGHTS
from workbench.inference.base_models import load_tokenizer
from workbench.inference.chat_template import adds_bos, ends, writes_bos
from workbench.inference.engines.llamacpp import LlamaCpp, check_available
from workbench.store import MIB, check_space, file_hash, whole_folder, write_json

if TYPE_CHECKING:
    import torch

GATE = "gate.json"
_NO_ADAPTER = (
    "Ollama from 0.34.1 on takes no ADAPTER: for it `persona export ollama` writes one merged file."
)
_CONTEXT = 2048
"""Tokens of a conversation that Ollama and vLLM are told to make room for, a prompt beside them."""
_POSITIONS = "max_position_embeddings"


@dataclass(frozen=True)
class Export:
    """What every format is made of."""

    source: ExportSource
    prompts: ParityPrompts
    """What the gate asks."""
    licence: Licence
    provenance: Provenance
    out: Path
    system: str = ""
    """System prompt of the arm, which leads the gate's prompts too; empty for none."""

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together that a server has to have room for."""
        config = self.source.base_config()
        tokens = load_tokenizer(self.source.base)(self.system, add_special_tokens=False)
        wanted = _CONTEXT + len(tokens["input_ids"])
        # Models that read images keep it with their text part; some name no longest context at all.
        places = (config, config.get("text_config") or {})
        longest = [one[_POSITIONS] for one in places if _POSITIONS in one]
        return min(wanted, *map(int, longest)) if longest else wanted


def export_adapter(export: Export) -> ParityReport | None:
    """Write the adapter in PEFT's own format."""
    import torch

    source = export.source
    with whole_folder(export.out) as out:
        _copy_adapter(source, out)
        dtype = gate_dtype(source.base)
        answers = ask(ReferenceModel.open(source.base, dtype, adapter=out), export.prompts)
        exact = BOUNDS["float32" if dtype is torch.float32 else "bfloat16"]
        report = _compare(export, answers, exact, dtype)
        return _finish(export, out, report, _adapter_usage(source, out))


def _adapter_usage(source: ExportSource, out: Path) -> str:
    """Return how an adapter is used; a bridged template and its ends go along, and are told."""
    lines = [
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM",
        "",
        "base = AutoModelForCausalLM.from_pretrained(BASE)  # the base named below",
        f'model = PeftModel.from_pretrained(base, "{source.name}")',
    ]
    bridged = is_bridged(source.base)
    if bridged:
        tokenizer = load_tokenizer(source.base)
        (out / TEMPLATE).write_text(str(tokenizer.chat_template), encoding="utf-8")
        write_ends(source.base, out)
        lines += [
            f'tokenizer.chat_template = open("{TEMPLATE}", encoding="utf-8").read()',
            f"model.generation_config.eos_token_id = {ends(tokenizer, source.base)}",
        ]
    usage = "\n".join(("```python", *lines, "```"))
    notes = "".join(f"\n- {line}" for line in bridged)
    return f"{usage}\n\nThe base's own template is bridged:\n{notes}" if bridged else usage


def export_merged(export: Export, dtype: str) -> ParityReport | None:
    """Write base and adapter as one folder of safetensors."""
    import torch

    source = export.source
    _check_space(export, source.stored_bytes * (2 if dtype == "float32" else 1))
    with whole_folder(export.out) as out:
        write_merged(source, out, dtype=dtype)
        lead_by(out / TEMPLATE, export.system)
        compute = gate_dtype(source.base)
        answers = ask(ReferenceModel.open(out, compute), export.prompts)
        bounds = BOUNDS[dtype if compute is torch.float32 else "bfloat16"]
        report = _compare(export, answers, bounds, compute)
        usage = f'`AutoModelForCausalLM.from_pretrained("{source.name}")`'
        return _finish(export, out, report, usage)


def export_gguf(export: Export, kind: str, *, adapter: bool = False) -> ParityReport | None:
    """Write one GGUF file: of the merged model, or of the adapter alone."""
    with whole_folder(export.out) as out:
        file, report = _write_gguf(export, out, kind, adapter=adapter)
        option = "--lora" if adapter else "--model"
        base = "--model BASE.gguf " if adapter else ""
        usage = f"`llama-server {base}{option} {file} --jinja`, or LM Studio, which opens it too."
        if adapter:
            (out / _base_file(kind)).unlink()
        if export.system:
            write_preset(out, export.source.name, export.system)
            usage += f" LM Studio takes the prompt by its preset, {export.source.name}.preset.json."
        return _finish(export, out, report, usage)


def export_ollama(export: Export, kind: str, *, adapter: bool = False) -> ParityReport | None:
    """Write a Modelfile beside the GGUF that it names, or beside base and adapter.

    An arm's examples stand in its system prompt, as they did when it was evaluated: SYSTEM, and no
    MESSAGE, which would be another prompt.
    """
    source = export.source
    tokenizer = load_tokenizer(source.base)
    template = read_template(tokenizer, export.prompts.chats)
    if adds_bos(tokenizer) and writes_bos(tokenizer):  # then the file says to add it
        template = template.without(str(tokenizer.bos_token))
    if adapter:
        console.print(f"  {_NO_ADAPTER}", markup=False)
    with whole_folder(export.out) as out:
        file, report = _write_gguf(export, out, kind, adapter=adapter)
        text = modelfile(
            _base_file(kind) if adapter else file,
            template,
            [str(tokenizer.convert_ids_to_tokens(end)) for end in ends(tokenizer, source.base)],
            context=export.context,
            adapter=file if adapter else "",
            system=export.system,
            licence=export.licence.terms,
        )
        (out / "Modelfile").write_text(text, encoding="utf-8")
        name = source.name.lower()
        usage = f"`ollama create {name} -f Modelfile && ollama run {name}`"
        usage += f"\n\n{_NO_ADAPTER}" if adapter else ""
        return _finish(export, out, report, usage)


def export_vllm(export: Export) -> ParityReport | None:
    """Write the adapter, the template and the command that serves both with vLLM.

    The arm's system prompt, if it has one, leads the template, for chats that have none.
    """
    source = export.source
    with whole_folder(export.out) as out:
        if source.adapter:
            folder = out / "adapter"
            folder.mkdir()
            _copy_adapter(source, folder)
        script = serve_script(source, context=export.context)
        (out / "serve.sh").write_text(script, encoding="utf-8")
        (out / "serve.sh").chmod(0o755)
        tokenizer = load_tokenizer(source.base)
        (out / TEMPLATE).write_text(str(tokenizer.chat_template), encoding="utf-8")
        lead_by(out / TEMPLATE, export.system)
        write_ends(source.base, out, bare=True)
        report = None
        if vllm_program():
            answers = ask_vllm(source, out, export.prompts)
            report = _compare(export, answers, BOUNDS["bfloat16"])
        else:
            console.print("  [bold]no vLLM is installed: this export was NOT served and checked[/]")
        return _finish(export, out, report, "`BASE=folder-or-hub-id ./serve.sh`")


def _check_space(export: Export, needed: int) -> None:
    check_space(export.out, needed + 64 * MIB, "the export", "--out")


def _copy_adapter(source: ExportSource, out: Path) -> None:
    shutil.copyfile(source.weights / WEIGHTS, out / WEIGHTS)
    copy_adapter_config(source.weights / CONFIG, out, source.base_name)


def _base_file(kind: str) -> str:
    return f"base-{kind}.gguf"


def _write_gguf(export: Export, out: Path, kind: str, *, adapter: bool) -> tuple[str, ParityReport]:
    """Write the GGUF files of an export; return the name of the one to load, and the report."""
    check_available()
    source, licence = export.source, export.licence.id
    _check_space(export, 2 * source.stored_bytes)
    if adapter:
        model, lora = out / _base_file(kind), out / f"{source.name}-lora.gguf"
        write_gguf(source, model, kind, licence=licence, bare=True)
        write_gguf_adapter(source, lora)
    else:
        model, lora = out / f"{source.name}-{kind}.gguf", None
        _write_or_convert(export, model, kind)
    report = _compare(export, ask_gguf(export.prompts, model, lora), BOUNDS[kind])
    return (lora or model).name, report


def _write_or_convert(export: Export, path: Path, kind: str) -> None:
    try:
        write_gguf(export.source, path, kind, licence=export.licence.id)
    except NotWrittenHere as unknown:
        if not converter():
            raise
        console.print(f"  {unknown.what}: llama.cpp's converter does it")
        path.unlink(missing_ok=True)
        folder = path.with_name(".merged")
        folder.mkdir()
        write_merged(export.source, folder, dtype="bfloat16")
        convert(folder, path, kind)
        shutil.rmtree(folder)


def ask_gguf(prompts: ParityPrompts, model: Path, lora: Path | None = None) -> ExportAnswers:
    """Ask a GGUF file every prompt, through a real llama.cpp."""
    with LlamaCpp(model, lora=lora) as server:
        console.print("  asking llama.cpp")
        return ask(server, prompts)


def _compare(
    export: Export, answers: ExportAnswers, bounds: Bounds, dtype: torch.dtype | None = None
) -> ParityReport:
    gc.collect()  # the exported model need not stay beside the evaluated one
    console.print("  asking the evaluated model")
    source = export.source
    model = ReferenceModel.open(source.base, dtype or gate_dtype(source.base), source.adapter)
    return check_parity(model, answers, export.prompts, bounds)


def _finish(
    export: Export, out: Path, report: ParityReport | None, usage: str
) -> ParityReport | None:
    """Write card, hashes and the gate's figures: the last things before the folder's name."""
    source, persona = export.source, export.prompts.persona
    about = (export.licence, export.provenance, report, usage, export.system)
    (out / "README.md").write_text(model_card(source, persona, *about), encoding="utf-8")
    if export.system:
        (out / SYSTEM).write_text(export.system, encoding="utf-8")
    files = {
        path.relative_to(out).as_posix(): file_hash(path)
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }
    write_json(out / GATE, {"parity": asdict(report) if report else None, "files": files})
    return report
