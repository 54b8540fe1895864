"""Every planted fault is refused, and the gate says where and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.export.conftest import make_adapter, make_base
from training.export.formats import Export, ask_gguf, export_gguf
from training.export.gate import BOUNDS, ParityError, ParityPrompts, check_parity
from training.export.gguf_layout import GGUFLayout
from training.export.gguf_writer import write_gguf
from training.export.reference_model import ReferenceModel
from training.export.source import ExportSource
from workbench.errors import UserError
from workbench.inference.engines.llamacpp import available
from workbench.records import Response

if not available():
    pytest.skip("NO LLAMA.CPP: no GGUF is checked by it on this machine", allow_module_level=True)


@pytest.fixture(scope="module")
def whole(source: ExportSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("gguf") / "whole.gguf"
    write_gguf(source, file, "f16")
    return file


def refused(evaluated: ReferenceModel, asked: ParityPrompts, file: Path) -> ParityError:
    with pytest.raises(ParityError) as caught:
        check_parity(evaluated, ask_gguf(asked, file), asked, BOUNDS["f16"])
    return caught.value


def test_a_changed_template_is_refused(
    evaluated: ReferenceModel,
    asked: ParityPrompts,
    changed_base: Callable[..., ExportSource],
    tmp_path: Path,
) -> None:
    other = changed_base(
        chat_template__jinja=lambda text: text.replace("<|im_end|>\n", "<|im_end|>")
    )
    write_gguf(other, tmp_path / "made.gguf", "f16")
    fault = refused(evaluated, asked, tmp_path / "made.gguf")
    assert (fault.reason, fault.prompt) == ("template", 0)
    prompt = evaluated.render(asked.chats[0])
    # The first token that differs is the line's end after the user's turn.
    assert evaluated.tokenizer.decode(prompt.ids[: fault.token]).endswith("<|im_end|>")
    assert "prompt 1, token" in fault.line() and "nothing was exported" in fault.line()


def test_a_missing_end_of_turn_token_is_refused(
    evaluated: ReferenceModel, asked: ParityPrompts, whole: Path, tmp_path: Path
) -> None:
    token = b"<|im_end|>"
    data = whole.read_bytes()
    (tmp_path / "made.gguf").write_bytes(data.replace(token, b"<|xx_end|>", 1))
    fault = refused(evaluated, asked, tmp_path / "made.gguf")
    assert fault.reason == "special token"
    ids = evaluated.render(asked.chats[0]).ids
    assert ids[fault.token] == evaluated.tokenizer.eos_token_id


def test_swapped_rows_of_query_and_key_are_refused(
    job: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GGUFLayout, "laid_out", lambda self, name, weight: weight)
    with pytest.raises(ParityError) as caught:
        export_gguf(job, "f16")
    assert caught.value.reason in ("weights", "precision")
    assert "log-probabilities differ by" in caught.value.line()
    assert not job.out.exists()
    assert not [path for path in job.out.parent.iterdir() if path.suffix != ".lock"]


def test_an_adapter_of_another_base_is_refused_by_name(
    source: ExportSource, tmp_path: Path
) -> None:
    other = make_base(tmp_path / "other", source.base)
    with pytest.raises(UserError, match=r"was trained on .*/base, not on .*/other"):
        replace(source, base=other, base_name=str(other)).check()


def test_an_adapter_of_another_base_with_the_same_name_is_refused(
    source: ExportSource, asked: ParityPrompts, recorded: tuple[Response, ...], tmp_path: Path
) -> None:
    asked = replace(asked, recorded=recorded)
    other = replace(source, base=make_base(tmp_path / "other", source.base, initializer_range=0.3))
    model = ReferenceModel.open(other.base, torch.float32, other.adapter)
    write_gguf(other, tmp_path / "made.gguf", "f16")
    fault = refused(model, asked, tmp_path / "made.gguf")
    assert fault.reason == "weights"
    assert "the evaluation's own answer is not one of this base and adapter" in fault.line()


def test_a_truncated_file_is_refused(asked: ParityPrompts, whole: Path, tmp_path: Path) -> None:
    file = tmp_path / "made.gguf"
    file.write_bytes(whole.read_bytes()[:-5000])
    with pytest.raises(UserError) as caught:
        ask_gguf(asked, file)
    assert "llama.cpp refuses the file" in caught.value.line()
    assert str(file) in caught.value.line()


def test_the_whole_file_passes(
    evaluated: ReferenceModel, asked: ParityPrompts, whole: Path
) -> None:
    report = check_parity(evaluated, ask_gguf(asked, whole), asked, BOUNDS["f16"])
    assert report.prompts == 2 and report.tokens > 10
    assert report.mean_difference < 0.01
    assert report.table()["prompts with the same token ids"] == "2 of 2"


def test_an_adapter_that_shifts_one_answer_is_told_with_its_token(
    source: ExportSource, evaluated: ReferenceModel, asked: ParityPrompts, tmp_path: Path
) -> None:
    adapter = make_adapter(tmp_path / "adapter", source.base, lora_alpha=24)
    write_gguf(replace(source, adapter=adapter), tmp_path / "made.gguf", "f16")
    fault = refused(evaluated, asked, tmp_path / "made.gguf")
    assert fault.reason in ("weights", "precision")
    assert fault.token >= 0 and "first at '" in fault.line()
