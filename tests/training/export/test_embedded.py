"""The embedded model in the form that people serve most, answered by a real llama.cpp."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.export.conftest import make_adapter
from training.export import formats
from training.export.formats import Export
from training.export.gate import BOUNDS
from training.export.source import ExportSource
from workbench.inference.embedded import embedded_model
from workbench.inference.engines.llamacpp import available
from workbench.records import user_prompt


@pytest.mark.slow
@pytest.mark.skipif(
    not available(), reason="NO LLAMA.CPP: no GGUF is checked by it on this machine"
)
def test_the_embedded_model_is_exported_for_ollama_with_its_own_greeting(
    job: Export, tmp_path: Path
) -> None:
    base = embedded_model()
    adapter = make_adapter(tmp_path / "adapter", base, strength=0.005)
    chats = (user_prompt("My wrist hurts 😀 after 3 sets of 12. Bench today?"),)
    job = replace(
        job,
        source=ExportSource(base, str(base), adapter, "embedded"),
        prompts=replace(job.prompts, chats=chats, recorded=()),
    )
    report = formats.export_ollama(job, "q8_0")
    assert report and report.tokens > 5
    assert report.mean_difference < BOUNDS["q8_0"].mean
    assert (job.out / "embedded-q8_0.gguf").stat().st_size < 160 << 20
    text = (job.out / "Modelfile").read_text(encoding="utf-8")
    # Its template greets with a system turn of its own where there is none.
    assert '"""{{ if not .System }}<|im_start|>system\nYou are a helpful AI assistant' in text
    assert "**Its weights are 4-bit (Q4_1)" in (job.out / "README.md").read_text(encoding="utf-8")
