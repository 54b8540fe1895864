"""Every repair twice: what it does, and the fault without it.

A test whose name begins with ``test_without`` fails once a new version needs the repair no more:
then both go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from training import trl_patches
from training.adapter_init import load_base
from training.run import TrainerParts
from training.trainer import train
from training.trl_patches import (
    _in_one_piece,
    cpu_attention,
    cpu_lm_head,
    keep_gradients,
    no_needless_casts,
    one_gpu,
    prepare_rollouts,
    unpacked,
)
from workbench.errors import UserError

from .conftest import DPO, SFT, building_with, built, recipe_of, run_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Trainer

Batch = dict[str, Any]


@pytest.fixture(scope="module")
def packed(tiny_model: Path) -> Any:
    """The tiny model in 4 bits, with an adapter, as training loads it."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = load_base(recipe_of(SFT), tiny_model, None)
    torch.manual_seed(0)
    lora = LoraConfig(task_type="CAUSAL_LM", **{**SFT["lora"], "init_lora_weights": False})
    return get_peft_model(model, lora)


@pytest.fixture
def batch() -> Batch:
    import torch

    ids = torch.arange(24).reshape(2, 12)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


@pytest.fixture
def half() -> Iterator[None]:
    """Autocast as accelerate has it, where the packed layers compute in bfloat16."""
    import torch

    with torch.autocast("cpu", torch.bfloat16):
        yield


@pytest.fixture
def sft(tiny_model: Path, examples: Path, tmp_path: Path) -> tuple[Trainer, TrainerParts]:
    return built(run_of(recipe_of(SFT), tiny_model, examples, tmp_path))


def loss_and_gradient(trainer: Any, inputs: Batch) -> tuple[float, Tensor]:
    import torch

    trainer.model.zero_grad()
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(trainer.model, dict(inputs))
    loss.backward()
    weights = [p for p in trainer.model.parameters() if p.grad is not None]
    return loss.item(), torch.cat([p.grad.flatten() for p in weights])


@contextmanager
def tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """The positions, and the words of a tile, that TRL's head is asked for."""
    from trl.trainer import utils

    plain, seen = utils._ChunkedLogProbFunction.apply, []

    def spying(hidden: Tensor, *rest: Any) -> Any:
        seen.append((len(hidden), rest[4]))
        return plain(hidden, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(utils, "_ChunkedLogProbFunction", SimpleNamespace(apply=spying))
        yield seen


def test_the_head_changes_the_time_but_not_the_loss(sft: tuple[Trainer, TrainerParts]) -> None:
    import torch

    trainer, _ = sft
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    plain, plain_gradient = loss_and_gradient(trainer, inputs)
    with cpu_lm_head():
        cut, cut_gradient = loss_and_gradient(trainer, inputs)

    assert cut == pytest.approx(plain, rel=1e-4)
    assert torch.nn.functional.cosine_similarity(cut_gradient, plain_gradient, dim=0) > 0.999


def test_without_it_the_head_looks_at_prompts_and_padding_too(
    sft: tuple[Trainer, TrainerParts], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _ = sft
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    labelled = int((inputs["labels"][:, 1:] != -100).sum())

    with tiles(monkeypatch) as plain:
        loss_and_gradient(trainer, inputs)
    with cpu_lm_head(), tiles(monkeypatch) as cut:
        loss_and_gradient(trainer, inputs)

    assert plain[0][0] >= inputs["labels"].shape[0] * (inputs["labels"].shape[1] - 1) > labelled
    assert plain[0][1] > 8 * trl_patches.TILE
    assert cut[0] == (labelled, trl_patches.TILE)


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_adapters_are_trained_in_float32_and_without_it_in_bfloat16(
    method: str,
    tiny_model: Path,
    sft_adapter: Path,
    examples: Path,
    preferences: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = run_of(recipe_of(SFT), tiny_model, examples, tmp_path)
    if method == "dpo":
        run = run_of(recipe_of(DPO), tiny_model, preferences, tmp_path, adapter=sft_adapter)

    def trained() -> set[str]:
        return {str(p.dtype) for p in built(run)[0].model.parameters() if p.requires_grad}

    assert trained() == {"torch.float32"}
    monkeypatch.setattr("training.adapter_init.keep_float32", lambda *_, **__: None)
    assert trained() == {"torch.bfloat16"}


def test_a_process_trains_on_one_gpu_of_several() -> None:
    from trl import SFTConfig

    arguments = SFTConfig(bf16=False, use_cpu=True, report_to="none")
    arguments._n_gpu = 2  # what transformers finds with two cards and no launcher

    assert one_gpu(arguments).n_gpu == 1
    assert arguments.train_batch_size == arguments.per_device_train_batch_size


def test_without_it_trl_refuses_two_gpus(
    tiny_model: Path, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def two_gpus(arguments: Any) -> Any:
        arguments._n_gpu = 2
        return arguments

    monkeypatch.setattr("training.trainer.one_gpu", two_gpus)
    with pytest.raises(UserError, match=r"nn\.DataParallel"):
        train(run_of(recipe_of(SFT), tiny_model, examples, tmp_path))


@pytest.mark.usefixtures("half")
def test_adapters_take_half_precision_and_without_it_a_float32_copy(
    packed: Any, batch: Batch
) -> None:
    def input_type() -> str:
        types = []
        adapter = packed.base_model.model.model.layers[1].mlp.down_proj.lora_A["default"]
        hook = adapter.register_forward_pre_hook(lambda _, inputs: types.append(inputs[0].dtype))
        packed(**batch)
        hook.remove()
        return str(types[0])

    assert input_type() == "torch.float32"
    with no_needless_casts(packed, half=True):
        assert input_type() == "torch.bfloat16"


def test_without_it_osf_s_layers_lack_the_switch(tiny_model: Path) -> None:
    from peft import OSFConfig, get_peft_model
    from peft.helpers import disable_input_dtype_casting

    from workbench.inference.base_models import load_model

    config = OSFConfig(task_type="CAUSAL_LM", effective_rank=0.5, target_modules=["q_proj"])
    model = get_peft_model(load_model(tiny_model), config)

    with (
        pytest.raises(AttributeError, match="cast_input_dtype_enabled"),
        disable_input_dtype_casting(model, True),
    ):
        pass
    with no_needless_casts(model, half=True):
        pass


@pytest.mark.usefixtures("half")
def test_an_evaluation_leaves_the_gradients_as_they_were(packed: Any, batch: Batch) -> None:
    import torch

    def gradients() -> dict[str, Tensor]:
        packed.train()
        packed.zero_grad()
        packed(**batch).loss.backward()
        return {n: w.grad.clone() for n, w in packed.named_parameters() if w.grad is not None}

    before = gradients()
    packed.eval()
    with torch.no_grad():
        packed(**batch)
    after = gradients()

    assert any("layers.0." in name for name in before)
    for name, gradient in before.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(after[name], gradient, msg=name)


@pytest.mark.usefixtures("half")
def test_without_it_an_evaluation_repacks_the_weights(
    packed: Any, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from bitsandbytes.nn import Linear4bit, modules

    repacked: list[Any] = []

    def spying(weight: Tensor, state: Any) -> tuple[Tensor, Any]:
        repacked.append(weight)
        return weight, state

    # As on a processor with AVX512-BF16, whatever this one has.
    monkeypatch.setattr(modules, "_convert_weight_packed_for_cpu", spying)
    for layer in packed.modules():
        if isinstance(layer, Linear4bit):
            monkeypatch.setattr(layer, "support_avx512bf16_for_cpu", True)
    packed.eval()
    with torch.no_grad():
        packed(**batch)
        assert repacked
        repacked.clear()
        keep_gradients(packed)
        packed(**batch)
    assert repacked == []


def test_without_it_rollouts_mix_their_types(packed: Any, batch: Batch) -> None:
    import torch

    ids = batch["input_ids"]
    trainer = SimpleNamespace(
        model=packed,
        accelerator=SimpleNamespace(autocast=lambda: torch.autocast("cpu", torch.bfloat16)),
    )
    plain = packed.generate
    with no_needless_casts(packed, half=True), torch.no_grad():
        with pytest.raises(RuntimeError, match="dtype"):
            packed.generate(input_ids=ids, max_new_tokens=2)
        try:
            prepare_rollouts(trainer)
            assert packed.generate(input_ids=ids, max_new_tokens=2).shape[1] > ids.shape[1]
        finally:
            packed.generate = plain


def operations(compute: Callable[[], Any]) -> list[str]:
    """The names of what torch computes with."""
    from torch.utils._python_dispatch import TorchDispatchMode

    names = []

    class Names(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            names.append(function.name())
            return function(*args, **(kwargs or {}))

    with Names():
        compute()
    return names


def test_the_head_gets_its_states_in_one_piece_and_without_it_multiplies_row_by_row() -> None:
    import torch
    from torch.nn.functional import linear

    head = torch.ones(5, 4)  # frozen, as a base's is
    cut = torch.arange(24.0).reshape(2, 3, 4)[:, -1:, :]
    assert not cut.is_contiguous()

    (whole,) = _in_one_piece(None, (cut,))

    assert whole.is_contiguous() and torch.equal(whole, cut)
    assert "aten::bmm" in operations(lambda: linear(cut, head))
    assert "aten::bmm" not in operations(lambda: linear(whole, head))


@pytest.mark.usefixtures("half")
def test_unpacked_weights_give_the_numbers_of_the_packed_ones(packed: Any, batch: Batch) -> None:
    import torch

    with torch.no_grad():
        slow = packed(**batch).logits
        with unpacked(packed):
            forwards = [m.__dict__.get("forward") for m in packed.modules()]
            fast = packed(**batch).logits
        again = packed(**batch).logits

    assert sum(forward is not None for forward in forwards) == 14  # 7 linear layers in 2 blocks
    assert not any("forward" in m.__dict__ for m in packed.modules() if "4bit" in str(type(m)))
    torch.testing.assert_close(fast, slow, atol=0.02, rtol=0.02)
    torch.testing.assert_close(again, slow, atol=0, rtol=0)


@pytest.mark.usefixtures("half")
def test_without_it_every_product_unpacks_its_weights_anew(packed: Any, batch: Batch) -> None:
    import torch

    def unpackings() -> int:
        with torch.no_grad(), torch.profiler.profile() as profile:
            for _ in range(2):
                packed(**batch)
        counts = {event.key: event.count for event in profile.key_averages()}
        return int(counts.get("bitsandbytes::dequantize_4bit", 0))

    packed.eval()
    assert unpackings() == 2 * 14
    with unpacked(packed):
        assert unpackings() == 0


def test_without_it_a_run_that_goes_on_counts_its_tokens_anew(
    tiny_model: Path, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import TrainerCallback

    class Dies(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 2:
                raise KeyboardInterrupt

    def tokens(name: str) -> tuple[int, int]:
        run = run_of(
            recipe_of(SFT, max_steps=3, save_steps=1), tiny_model, examples, tmp_path / name
        )
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr("training.trainer.build", building_with(Dies()))
            train(run)
        summary = train(run)
        return summary.tokens, summary.resumed_from

    whole = tokens("whole")
    monkeypatch.setattr("training.callbacks.add_earlier_tokens", lambda entry, tokens: None)
    anew = tokens("anew")

    assert whole[1] == anew[1] == 1
    assert anew[0] == pytest.approx(whole[0] * 2 / 3, rel=0.1)


def test_attention_by_products_is_as_exact_and_without_it_the_slow_kernel_goes_back(
    packed: Any, batch: Batch, half: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    # A row is padded, so that there is a mask.
    batch["attention_mask"][0, -3:] = 0
    packed.train()

    def step() -> None:
        packed.zero_grad()
        packed(**batch).loss.backward()

    def gradients() -> Tensor:
        weights = [p.grad.flatten() for p in packed.parameters() if p.grad is not None]
        return torch.cat(weights)

    kernel = "aten::_scaled_dot_product_flash_attention_for_cpu_backward"
    assert kernel in operations(step)
    slow = gradients()
    with cpu_attention():
        assert kernel not in operations(step)
    assert torch.nn.functional.cosine_similarity(slow, gradients(), 0) > 0.999
    # Of a longer batch the products' weights would take more memory than they save time.
    monkeypatch.setattr(trl_patches, "LONGEST_PRODUCT", 1)
    with cpu_attention():
        assert kernel in operations(step)
