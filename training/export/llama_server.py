"""llama.cpp's own HTTP server, out of the package ``xllamacpp``, as a process of its own.

Run as ``python -m training.export.llama_server OPTIONS``: it prints its address as one line and
serves until its standard input ends, so that it cannot outlive whoever started it.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import sys
from pathlib import Path


def _lend_openmp() -> None:
    """Load torch's OpenMP library where the system has none: llama.cpp's build wants one."""
    torch = importlib.util.find_spec("torch")
    for folder in (torch.submodule_search_locations or ()) if torch else ():
        library = Path(folder) / "lib" / "libgomp.so.1"
        if library.exists():
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def main() -> None:
    """Serve one GGUF file on loopback."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--lora")
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()

    _lend_openmp()
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.n_ctx = options.context * options.slots
    params.n_parallel = options.slots
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.use_jinja, params.warmup = True, False
    if options.lora:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(options.lora, 1.0)]
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
