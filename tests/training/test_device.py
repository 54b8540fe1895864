from __future__ import annotations

import pytest
import yaml

from training.device import device_fields, quantization_fields


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_device_decides_the_types_that_a_recipe_leaves_open(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr("training.device.compute_dtype", lambda: getattr(torch, dtype))

    fields = device_fields({})
    packed = quantization_fields({"load_in_4bit": True})

    assert (fields["fp16"], fields["bf16"]) == (dtype == "float16", dtype == "bfloat16")
    assert packed == {"load_in_4bit": True, "bnb_4bit_compute_dtype": dtype}
    named = {"load_in_4bit": True, "bnb_4bit_compute_dtype": "float32"}
    assert quantization_fields(named) == named
    assert device_fields({"fp16": True})["fp16"] is True


def test_no_shipped_recipe_names_a_type_that_a_gpu_may_only_emulate() -> None:
    from training.recipe import SHIPPED

    recipes = {file.name: yaml.safe_load(file.read_text()) for file in SHIPPED.glob("*.yaml")}
    named = [name for name, recipe in recipes.items() if "bfloat16" in str(recipe)]
    assert recipes and named == []
