"""What this processor does best, measured once: types, packed weights, threads, and how fast.

In: the machine, and ``processor:`` of the configuration. Out: a :class:`Processor`, by which base
models are loaded, rows answered and trainings computed. Whatever a processor says of itself, what
it does is timed: flags tell of instructions that an environment or a hypervisor has switched off,
and a type that is emulated is several times slower than the one that it is to spare.

A measurement takes under a second and is kept in the user's cache, for this processor with these
versions and variables; a GPU is never asked.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from workbench.errors import UserError
from workbench.inference.embedded import cache_folder
from workbench.inference.hub import environment
from workbench.store import read_json, write_json
from workbench.text import counted
from workbench.values import Frozen, Settings

if TYPE_CHECKING:
    import torch

Type = Literal["float32", "bfloat16"]
FILE = "processor.json"
"""In the cache: what was measured, by :func:`_identity`."""
_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
)
"""By which libraries are told to use less than the processor has."""
_VARIABLE = "PERSONA_PROCESSOR"
"""By which processes that are started for a training learn what was named."""
_SHAPE = 576, 1536
"""Inputs and outputs of the product that is timed: the widest of the embedded model."""
_ROWS = {"step": 64, "pass": 512}
"""Rows of the product: of a step that answers, and of a pass that trains."""
_REPEATS = 4
_CLEARLY = 1.2
"""bfloat16, which rounds more, is taken where it is so much faster."""
_GAIN = 1.05
"""So much faster packed weights are worth their second of packing."""
_ELEMENTS, _TIMES = 2**15, 64
"""Of the vector whose speed tells that of passes, 128 KiB, and how often it is gone over. What lies
farther off is shared with others, whose work would be measured with it."""


class ProcessorSettings(Settings):
    """What the processor computes with, in place of what was measured to be best."""

    dtype: Type | None = None
    """Type of weights and products; bfloat16 where it is clearly faster, by default."""
    packed: bool | None = None
    """Whether rows are answered by weights laid out once for the processor's kernels."""
    threads: int | None = Field(default=None, ge=1)
    """Threads that compute; those of the process's cores and its container's share by default."""


class Processor(Frozen):
    """What a processor computes with, and the speeds that it was chosen by."""

    name: str
    dtype: Type
    packed: bool
    threads: int = 1
    """Threads that compute at once in this process."""
    speeds: dict[str, float]
    """GFLOP/s of one thread, such as ``float32 step`` and ``bfloat16 step packed``."""
    passes: float
    """GB/s of one thread that adds one vector to another, both in a core's own cache."""

    @property
    def line(self) -> str:
        """What was chosen and why, in one line."""
        other: Type = "bfloat16" if self.dtype == "float32" else "float32"
        layout = " packed" if self.packed else ""
        own, others = (self.speed(one, "pass") for one in (self.dtype, other))
        compared = f", {other} {others:.0f}" if others else ""
        return (
            f"processor: {self.dtype}{layout}, {own:.0f} GFLOP/s a thread{compared};"
            f" {counted(self.threads, 'thread')}"
        )

    def speed(self, dtype: Type, product: str) -> float:
        """Return the GFLOP/s of a type in the faster layout; 0 where it was not measured."""
        name = f"{dtype} {product}"
        return max(self.speeds.get(name, 0.0), self.speeds.get(f"{name} packed", 0.0))


def use(settings: ProcessorSettings) -> None:
    """Have this process, and those that it starts, compute with ``settings``.

    What they leave open is as measured.
    """
    os.environ[_VARIABLE] = settings.model_dump_json(exclude_none=True)


def using(settings: ProcessorSettings) -> AbstractContextManager[None]:
    """Within the block, compute with ``settings``; after it, with what was named before.

    So rounds of one process whose configurations differ each compute with their own, one after
    another: all threads of a process share what is named, and a number of threads stays until
    another one is named.
    """
    return environment({_VARIABLE: settings.model_dump_json(exclude_none=True)})


def _named() -> ProcessorSettings:
    return ProcessorSettings.model_validate_json(os.environ.get(_VARIABLE) or "{}")


def processor() -> Processor:
    """Return what this process computes with on its processor; measured where it never was."""
    return chosen(_measured(), _named())


def apply_threads() -> None:
    """Have torch use as many threads as are named, or as the container has a share for."""
    import torch

    torch.set_num_threads(_named().threads or free_threads())


def chosen(measured: Processor, settings: ProcessorSettings) -> Processor:
    """Return what is computed with: what was measured, but for what ``settings`` name."""
    named = {"threads": free_threads(), **settings.model_dump(exclude_none=True)}
    if settings.dtype and settings.packed is None:
        named["packed"] = _is_packed(measured.speeds, settings.dtype)
    return measured.model_copy(update=named)


def choose(name: str, speeds: dict[str, float], passes: float) -> Processor:
    """Return what such speeds speak for."""
    draft = Processor(name=name, dtype="float32", packed=False, speeds=speeds, passes=passes)
    faster = draft.speed("bfloat16", "pass") > _CLEARLY * draft.speed("float32", "pass")
    dtype: Type = "bfloat16" if faster else "float32"
    return draft.model_copy(update={"dtype": dtype, "packed": _is_packed(speeds, dtype)})


def _is_packed(speeds: dict[str, float], dtype: Type) -> bool:
    plain, packed = (speeds.get(f"{dtype} step{layout}", 0.0) for layout in ("", " packed"))
    return packed > _GAIN * plain


@cache
def _measured() -> Processor:
    """Return what was measured on this processor, by this process or one before it."""
    file, identity = cache_folder() / FILE, _identity()
    earlier: dict[str, object] = {}
    with suppress(UserError, ValueError, KeyError):  # nothing yet, or nothing that can be read
        earlier = read_json(file)
        return Processor.model_validate(earlier[identity])
    result = choose(_name(), *_speeds())
    with suppress(UserError):  # a cache that cannot be written: it is measured again
        write_json(file, {**earlier, identity: result.model_dump(mode="json")})
    return result


def _identity() -> str:
    """Return what tells this processor, as libraries use it, from others."""
    about = [_name(), metadata.version("torch"), *(os.environ.get(one, "") for one in _VARIABLES)]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


@cache
def _name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def free_threads(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the threads that may compute at once: torch's own, or the container's share of time.

    torch counts cores, and not the quota by which a container is held to some of their time:
    threads beyond it are stopped in turn, each while the others wait for it.
    """
    import torch

    threads = int(torch.get_num_threads())
    with suppress(OSError, ValueError):
        quota, period = (root / "cpu.max").read_text(encoding="utf-8").split()
        threads = min(threads, max(1, math.ceil(int(quota) / int(period))))
    return threads


def _speeds() -> tuple[dict[str, float], float]:
    """Time products of both types, packed and not, and passes over a vector, on one thread."""
    import torch

    speeds: dict[str, float] = {}
    inputs, outputs = _SHAPE
    with _one_thread(), torch.inference_mode():
        for dtype in (torch.float32, torch.bfloat16):
            weight = torch.ones(outputs, inputs, dtype=dtype)
            for product, rows in _ROWS.items():
                rows_of = torch.ones(rows, inputs, dtype=dtype)
                name = f"{str(dtype).removeprefix('torch.')} {product}"
                for layout, call in _products(weight, rows_of):
                    speeds[name + layout] = 2e-9 * rows * inputs * outputs / _seconds(call)
        one, other = torch.ones(_ELEMENTS), torch.ones(_ELEMENTS)

        def passes() -> None:
            for _ in range(_TIMES):
                one.add_(other)

        moved = 3 * 4e-9 * _ELEMENTS * _TIMES / _seconds(passes)
    return {name: round(speed, 1) for name, speed in speeds.items()}, round(moved, 1)


def _products(
    weight: torch.Tensor, rows: torch.Tensor
) -> Iterator[tuple[str, Callable[[], object]]]:
    import torch

    from workbench.inference.packed_weights import is_packed_here, pack, product

    yield "", lambda: torch.nn.functional.linear(rows, weight)
    if is_packed_here(weight.dtype):
        packed = pack(weight, len(rows))
        yield " packed", lambda: product(packed, None, rows)


def _seconds(call: Callable[[], object]) -> float:
    """Return the least seconds of this thread's processor time that a call takes, of a few.

    Time beside others' work would be theirs.
    """
    call()
    seconds = []
    for _ in range(_REPEATS):
        started = time.thread_time()
        call()
        seconds.append(time.thread_time() - started)
    return max(min(seconds), 1e-9)


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
