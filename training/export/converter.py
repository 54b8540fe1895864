"""llama.cpp's own converter, for families whose GGUF is not written here, where it is found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from workbench.errors import UserError

VARIABLE = "LLAMA_CONVERTER"
"""Environment variable that names llama.cpp's ``convert_hf_to_gguf.py``."""
_SCRIPT = "convert_hf_to_gguf.py"
_TYPES = ("f32", "f16", "q8_0")


class NotWrittenHere(UserError):
    """A model whose GGUF is left to llama.cpp's converter."""

    def __init__(self, what: str) -> None:
        super().__init__(
            what,
            fix=f"name llama.cpp's {_SCRIPT} in {VARIABLE}, or persona export merged and run it"
            " on that folder",
        )


def converter() -> str:
    """Return the path of llama.cpp's converter, or an empty string."""
    return os.environ.get(VARIABLE) or shutil.which(_SCRIPT) or ""


def convert(merged: Path, path: Path, kind: str) -> None:
    """Write a merged folder as GGUF with llama.cpp's converter.

    Args:
        merged: Folder of the merged model.
        path: The file.
        kind: f32, f16 or q8_0; the converter writes no 4-bit types.

    Raises:
        UserError: Another type, or the converter fails: its last line.
    """
    if kind not in _TYPES:
        fix = f"--type {_TYPES[-1]}, then llama.cpp's llama-quantize"
        raise UserError(f"llama.cpp's converter writes no {kind}", fix=fix)
    script = converter()
    command = [script] if os.access(script, os.X_OK) else [sys.executable, script]
    command += [str(merged), "--outfile", str(path), "--outtype", kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not path.exists():
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise UserError(f"llama.cpp's converter fails: {last}", where=script)
