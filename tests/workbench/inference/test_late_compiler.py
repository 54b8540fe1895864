"""bitsandbytes as it is imported here: its fallbacks are plain functions, and compute the same."""

from __future__ import annotations

import inspect
import sys

import torch

from workbench.inference import late_compiler


def test_its_functions_are_not_compiled_and_others_are_again() -> None:
    from bitsandbytes.backends.default import ops

    # Once this is gone, so can the module be.
    assert "torch.compile(" in inspect.getsource(ops._try_torch_compile)
    for function in (ops._dequantize_4bit_compute, ops._optimizer_update_32bit):
        around = inspect.getclosurevars(function).nonlocals
        assert around["compiled_fn"] is around["fn"]
    assert torch.compile.__module__ == "torch"


def test_it_is_asked_for_once_and_for_nothing_else() -> None:
    import bitsandbytes  # noqa: F401

    late_compiler.install()
    assert not any(isinstance(one, late_compiler._Finder) for one in sys.meta_path)
    assert late_compiler._Finder().find_spec("bitsandbytes.backends", None) is None


def test_four_bit_weights_are_widened_as_by_its_kernel() -> None:
    import bitsandbytes as bnb
    from bitsandbytes.backends.default import ops

    torch.manual_seed(0)
    weights = torch.randn(64, 64)
    packed, state = bnb.functional.quantize_4bit(weights, quant_type="nf4", blocksize=64)
    widened = ops._dequantize_4bit_compute(
        packed.reshape(-1), state.absmax, state.code, 64, weights.shape, torch.float32
    )
    assert torch.allclose(widened, bnb.functional.dequantize_4bit(packed, state), atol=1e-6)
