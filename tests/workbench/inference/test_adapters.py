"""A base with adapters: switched without a trace, merged or not, and refused where they misfit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.errors import UserError
from workbench.inference.adapters import AdaptedModel, check_made_for, scale_adapter


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        output: torch.Tensor = model(input_ids=torch.tensor([[5, 6, 7, 8]])).logits
    return output


def test_each_adapter_is_that_of_plain_peft_and_the_base_comes_back_bit_by_bit(
    base: Path, adapters: list[Path]
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    expected: dict[Path | None, torch.Tensor] = {}
    for adapter in (None, *adapters):
        plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        expected[adapter] = logits(PeftModel.from_pretrained(plain, adapter) if adapter else plain)
    first, second = adapters
    for merge in (True, False):
        adapted = AdaptedModel(base, adapters, dtype=torch.float32, merge=merge)
        for adapter in (None, first, second, first, None):
            torch.testing.assert_close(logits(adapted.use(adapter)), expected[adapter])
        assert torch.equal(logits(adapted.use(None)), expected[None])
    assert not torch.allclose(expected[first], expected[second])


def test_merged_weights_are_rounded_once(base: Path, adapters: list[Path]) -> None:
    from safetensors.torch import load_file

    adapted = AdaptedModel(base, adapters[:1], dtype=torch.bfloat16, merge=True)
    name = "model.layers.0.self_attn.q_proj"
    layer: Any = adapted.use(adapters[0]).get_submodule(f"base_model.model.{name}").base_layer
    lora = load_file(adapters[0] / "adapter_model.safetensors")
    a, b = (lora[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    own = load_file(base / "model.safetensors")[f"{name}.weight"].bfloat16().float()
    assert torch.equal(layer.weight, (own + 4 * (b @ a)).bfloat16())  # alpha 16 over rank 4


def test_an_adapter_at_a_strength_adds_that_part_of_itself(
    base: Path, adapters: list[Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    name = "model.layers.0.mlp.up_proj"
    own = load_file(base / "model.safetensors")[f"{name}.weight"]
    added = {}
    for strength in (1.0, 0.25, 1.5):
        folder = tmp_path / f"{strength}"
        folder.mkdir()
        scale_adapter(adapters[0], strength, folder)
        adapted = AdaptedModel(base, [folder], dtype=torch.float32, merge=True)
        layer: Any = adapted.use(folder).get_submodule(f"base_model.model.{name}").base_layer
        added[strength] = layer.weight.data - own
    assert added[1.0].abs().max() > 0.001
    torch.testing.assert_close(added[0.25], 0.25 * added[1.0], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(added[1.5], 1.5 * added[1.0], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("use_dora", True, "with use_dora has no strength but its own"),
        ("bias", "all", "with bias has no strength"),
        ("modules_to_save", ["lm_head"], "with modules_to_save has no strength"),
        ("peft_type", "OSF", "with type OSF has no strength"),
    ],
)
def test_an_adapter_that_is_more_than_a_product_has_no_other_strength(
    adapters: list[Path], tmp_path: Path, field: str, value: object, reason: str
) -> None:
    other = Path(shutil.copytree(adapters[0], tmp_path / "other"))
    config = json.loads((other / "adapter_config.json").read_text("utf-8"))
    (other / "adapter_config.json").write_text(json.dumps({**config, field: value}), "utf-8")
    with pytest.raises(UserError, match=reason):
        scale_adapter(other, 0.5, tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["other"]


def test_an_adapter_of_another_base_is_refused_by_its_own_word(
    base: Path, adapters: list[Path], tmp_path: Path
) -> None:
    check_made_for(adapters[0], str(base))
    with pytest.raises(UserError, match=rf"was trained on {base}, not on org/other"):
        check_made_for(adapters[0], "org/other")
    with pytest.raises(UserError, match="no adapter there"):
        check_made_for(tmp_path, str(base))
