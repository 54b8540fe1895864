"""What a processor computes with: by its speeds, by what people name, and measured once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.inference import processor as module
from workbench.inference.processor import (
    FILE,
    Processor,
    ProcessorSettings,
    choose,
    chosen,
    free_threads,
    processor,
    use,
    using,
)

AVX2 = {"float32 step": 76.0, "float32 step packed": 90.0, "float32 pass": 80.0}
"""GFLOP/s as an AVX2 processor has them, which emulates bfloat16."""
EMULATED = {"bfloat16 step": 9.0, "bfloat16 pass": 12.0}
NATIVE = {"bfloat16 step": 190.0, "bfloat16 step packed": 192.0, "bfloat16 pass": 185.0}


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A cache of its own, and nothing measured in this process."""
    monkeypatch.setenv("PERSONA_CACHE", str(tmp_path))
    module._measured.cache_clear()
    monkeypatch.setenv("PERSONA_PROCESSOR", "")
    yield tmp_path / FILE
    module._measured.cache_clear()


def test_the_faster_type_is_taken_and_packed_weights_where_they_gain() -> None:
    slow, fast = choose("a", {**AVX2, **EMULATED}, 10.0), choose("b", {**AVX2, **NATIVE}, 10.0)

    assert (slow.dtype, slow.packed) == ("float32", True)
    assert (fast.dtype, fast.packed) == ("bfloat16", False)  # 192 of 190 is no gain
    # bfloat16 that is hardly faster rounds for nothing.
    hardly = {**AVX2, "bfloat16 pass": 90.0}
    assert choose("c", hardly, 10.0).dtype == "float32"


def test_what_people_name_stands_and_the_rest_follows_from_it() -> None:
    fast = choose("b", {**AVX2, **NATIVE}, 10.0)
    named = chosen(fast, ProcessorSettings(dtype="float32", threads=3))

    assert (named.dtype, named.packed, named.threads) == ("float32", True, 3)
    assert not chosen(fast, ProcessorSettings(dtype="float32", packed=False)).packed
    assert "float32 packed, 80 GFLOP/s a thread, bfloat16 185; 3 threads" in named.line


def test_it_is_measured_once_for_a_processor_and_its_variables(
    unmeasured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = processor()
    kept = json.loads(unmeasured.read_text(encoding="utf-8"))
    monkeypatch.setattr(module, "_speeds", pytest.fail)
    module._measured.cache_clear()

    assert processor() == first and len(kept) == 1
    assert first.speeds["float32 pass"] > 1 and first.passes > 0.1
    monkeypatch.setattr(module, "_speeds", lambda: (AVX2, 5.0))
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    module._measured.cache_clear()
    assert processor().speeds == AVX2
    assert len(json.loads(unmeasured.read_text(encoding="utf-8"))) == 2


def test_a_broken_cache_or_one_that_cannot_be_written_is_no_obstacle(
    unmeasured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_speeds", lambda: (AVX2, 5.0))
    for broken in ('{"x": ', "[]"):
        unmeasured.write_text(broken, encoding="utf-8")
        module._measured.cache_clear()
        assert processor().dtype == "float32"
    # A folder that cannot be made, and one that is there and takes no file.
    for folder in ("/proc/nowhere", "/proc"):
        monkeypatch.setenv("PERSONA_CACHE", folder)
        module._measured.cache_clear()
        assert processor().passes == 5.0


def test_a_process_that_is_started_computes_with_what_was_named(unmeasured: Path) -> None:
    use(ProcessorSettings(dtype="float32", threads=1))
    child = "from workbench.inference.processor import _named; print(_named())"
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(ProcessorSettings(dtype="float32", threads=1))
    assert module._named() == ProcessorSettings(dtype="float32", threads=1)


@pytest.mark.parametrize(
    ("content", "most"), [("100000 100000", 1), ("150000 100000", 2), ("max 100000", 99), ("", 99)]
)
def test_threads_are_no_more_than_the_containers_share(
    tmp_path: Path, content: str, most: int
) -> None:
    import torch

    if content:
        (tmp_path / "cpu.max").write_text(content, encoding="utf-8")
    assert free_threads(tmp_path) == min(torch.get_num_threads(), most)


def test_it_is_read_back_as_it_was_written() -> None:
    one = choose("b", {**AVX2, **NATIVE}, 10.0)
    assert Processor.model_validate_json(one.model_dump_json()) == one


def test_a_round_computes_with_its_own_settings_and_leaves_those_of_others(
    unmeasured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_speeds", lambda: (AVX2, 5.0))
    use(ProcessorSettings(dtype="bfloat16", threads=1))
    with using(ProcessorSettings(packed=False)):
        assert (processor().dtype, processor().packed) == ("float32", False)
        assert module._named().threads is None
    assert (processor().dtype, processor().threads) == ("bfloat16", 1)
