"""What depends on the machine: types of computation, peak memory, processes that train together.

Called by all of training; nothing here knows of a recipe or a run.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from workbench.inference.base_models import compute_dtype
from workbench.inference.hub import environment
from workbench.meter import Meter

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Trainer

Fields = dict[str, Any]
"""Fields of a library's own configuration, by its names."""
_NOISY = ("bitsandbytes", "accelerate", "peft", "trl", "transformers", "datasets")


def device_fields(trainer: Fields) -> Fields:
    """Return a recipe's trainer fields with those of the device put in where it leaves them open.

    ``assistant_only_loss`` is not among them: rows were made for it before TRL sees them.
    ``bf16`` and ``fp16`` follow ``compute_dtype`` of the base models: TRL's own default, bf16
    everywhere, is several times slower on processors that only emulate it.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    filled = {"use_cpu": not on_gpu, "dataloader_pin_memory": on_gpu, **trainer}
    filled.pop("assistant_only_loss", None)
    if filled.get("bf16") is None and not filled.get("fp16"):
        dtype = compute_dtype()
        filled |= {"bf16": dtype is torch.bfloat16, "fp16": dtype is torch.float16}
    return filled


def quantization_fields(quantization: Fields | None) -> Fields | None:
    """Return a recipe's quantization with the device's compute type where it leaves it open."""
    if not quantization or not quantization.get("load_in_4bit"):
        return quantization
    dtype = str(compute_dtype()).removeprefix("torch.")
    return {"bnb_4bit_compute_dtype": dtype, **quantization}


def device_name() -> str:
    """Return the name of the GPU, or ``cpu`` and the number of its threads."""
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0))
    return f"cpu ({torch.get_num_threads()} threads)"


class PeakMemory(Meter):
    """Peak of the process's resident memory, and of the GPU's, within a ``with`` block, in MiB.

    It samples: the kernel's own high-water mark is of the whole process, earlier stages included,
    and setting it back would falsify what others measure by it.
    """

    every = 0.05
    gpu_mib = 0.0

    def __enter__(self) -> Self:
        import torch

        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        import torch

        super().__exit__(*exception)
        if torch.cuda.is_available():
            self.gpu_mib = torch.cuda.max_memory_allocated() / 2**20

    def _reading(self) -> float:
        import psutil

        return float(psutil.Process().memory_info().rss / 2**20)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' bars, notices and telemetry; errors still show."""
    import datasets
    from huggingface_hub import constants
    from transformers.utils import logging as transformers_logging

    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    bars, verbosity = datasets.are_progress_bars_disabled(), transformers_logging.get_verbosity()
    weights_bar = transformers_logging.is_progress_bar_enabled()
    telemetry = constants.HF_HUB_DISABLE_TELEMETRY
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        datasets.disable_progress_bars()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        # TRL's trainers report their use to the hub when they are made.
        constants.HF_HUB_DISABLE_TELEMETRY = True
        with environment({"TQDM_DISABLE": "1"}), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
        transformers_logging.set_verbosity(verbosity)
        if weights_bar:
            transformers_logging.enable_progress_bar()
        constants.HF_HUB_DISABLE_TELEMETRY = telemetry


def rank() -> int:
    """Return this process's number among those that train together; 0 for one alone."""
    return int(os.environ.get("RANK", "0"))


def is_writer() -> bool:
    """Return whether this process writes the run's files."""
    return rank() == 0


def together() -> bool:
    """Return whether other processes train with this one."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def wait_for_all() -> None:
    """Return when every process has come here."""
    if together():
        from accelerate import PartialState

        PartialState().wait_for_everyone()


@contextmanager
def writer_first() -> Iterator[None]:
    """Let the process that writes go through the block before the others do."""
    if not is_writer():
        wait_for_all()
    yield
    if is_writer():
        wait_for_all()


def whole_weights(trainer: Trainer) -> dict[str, Tensor] | None:
    """Return the weights that FSDP or DeepSpeed has shared out, put together on the processor.

    Every process has to call it. None where each process holds the whole model.
    """
    if getattr(trainer, "is_fsdp_enabled", False):
        weights: dict[str, Tensor] = trainer.accelerator.get_state_dict(trainer.model)
        return weights
    if getattr(trainer, "is_deepspeed_enabled", False):
        weights = trainer.accelerator.get_state_dict(trainer.deepspeed)
        return weights
    return None
