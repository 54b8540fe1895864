"""Memory of the process: what threads allocate from."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

_HEAPS = """
import ctypes, sys, threading
from workbench.meter import share_heap

if sys.argv[1] == "shared":
    share_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
all_there = threading.Barrier(4)

def allocate():
    libc.malloc(100_000)
    all_there.wait()

threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_threads_that_start_after_share_heap_allocate_from_one_heap() -> None:
    def heaps(how: str) -> int:
        printed = subprocess.run(
            [sys.executable, "-c", _HEAPS, how], check=True, capture_output=True, text=True
        )
        return len(re.findall("<heap nr=", printed.stdout))

    assert heaps("shared") == 1
    assert heaps("own") > 1
