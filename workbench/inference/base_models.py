"""Base models: names to folders, folders to models. The one way in for every stage.

Heavy libraries are imported inside the functions; a hub is asked only for names that are neither
the embedded model nor a local folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import UserError
from workbench.inference.chat_template import TemplateReport, bridge, examine
from workbench.inference.embedded import EMBEDDED, embedded_model
from workbench.inference.processor import apply_threads, processor
from workbench.meter import share_heap
from workbench.store import expanded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TEXT_FILES = ["*.json", "*.model", "*.txt", "*.jinja"]
_WEIGHTS = "*.safetensors"
"""What is fetched from a hub: never pickled weights, never code."""


def resolve_model(name: str, *, weights: bool = True) -> Path:
    """Return the local folder of a model: embedded, a path, or fetched from a hub.

    ``name`` is ``smollm2-135m``, a local folder, or a hub id such as ``org/name``. Without
    ``weights`` a hub is asked for configuration and tokenizer alone.

    Raises:
        UserError: The model is nowhere to be had; the line says how to get it.
    """
    if name == EMBEDDED:
        return embedded_model()
    folder = expanded(name)
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise UserError(
                "no model there (config.json is missing)",
                where=str(folder),
                fix="name a folder saved with save_pretrained",
            )
        return folder
    return _from_hub(name, weights)


def _from_hub(name: str, weights: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        files = [*_TEXT_FILES, _WEIGHTS] if weights else _TEXT_FILES
        folder = Path(snapshot_download(name, allow_patterns=files))
    except HFValidationError:
        raise UserError(
            f"model '{name}' is neither a folder nor a hub id",
            fix=f"use {EMBEDDED}, a folder, or org/name",
        ) from None
    # What huggingface_hub raises for no network, a gated or an unknown repository.
    except (OSError, ValueError):
        raise UserError(f"model '{name}' cannot be reached", fix=_how_to_get(name)) from None
    # A repository may hold pickled weights alone, which are never fetched.
    if weights and not any(folder.glob(_WEIGHTS)):
        raise UserError(f"model '{name}' has no weights as safetensors", fix=_how_to_get(name))
    return folder


def _how_to_get(name: str) -> str:
    folder = f"models/{name.split('/')[-1]}"
    return (
        f"where there is access: hf download {name} --local-dir {folder} (gated: first"
        f" hf auth login), then --model {folder}; or use --model {EMBEDDED}"
    )


def has_gpu() -> bool:
    """Return whether torch can use a GPU; torch is not imported where no driver is there."""
    drivers = ("/proc/driver/nvidia", "/dev/dxg", "/dev/kfd")
    if not any(Path(driver).exists() for driver in drivers):
        return False
    import torch

    return bool(torch.cuda.is_available())


def compute_dtype() -> torch.dtype:
    """Return a GPU's bfloat16, or float16 where it emulates that; else the processor's choice."""
    import torch

    if torch.cuda.is_available():
        # A T4 says yes to a plain question, and emulates it, several times slower than float16.
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    # bfloat16 that is emulated is slower than float32, and flags don't tell what is switched off.
    return torch.bfloat16 if processor().dtype == "bfloat16" else torch.float32


def load_tokenizer(folder: Path, *, chat: bool = True) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model folder, padded left for generation.

    For chats it needs a chat template, and gets the bridged one (:mod:`.chat_template`), whose end
    of an answer is its end token.

    Raises:
        UserError: The model has no chat template, or one that cannot be bridged.
    """
    tokenizer = published_tokenizer(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if chat:
        bridge(tokenizer, folder)
    return tokenizer


def published_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model folder with its template as it was published."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, padding_side="left")
    return tokenizer


def examine_model(folder: Path) -> TemplateReport:
    """Return what the chat template of a model folder does, and how it is bridged.

    Raises:
        UserError: The model has no chat template, or one that cannot be bridged.
    """
    return examine(published_tokenizer(folder), folder)


def load_model(
    folder: Path,
    *,
    quantization: dict[str, object] | None = None,
    dtype: torch.dtype | None = None,
    images: bool = False,
) -> PreTrainedModel:
    """Return the base model of a folder, on the GPU if there is one.

    ``quantization`` holds fields of ``transformers.BitsAndBytesConfig``, or of ``Mxfp4Config``
    where ``quant_method: mxfp4`` says so; None for full precision. ``images`` loads a model that
    reads images beside text, with its vision part.
    """
    import torch
    import transformers
    from transformers.utils import logging

    apply_threads()
    share_heap()
    logging.disable_progress_bar()  # loading takes a second or is shown by the stage itself
    fields = dict(quantization or {})
    mxfp4 = fields.pop("quant_method", "") == "mxfp4"
    kind = transformers.Mxfp4Config if mxfp4 else transformers.BitsAndBytesConfig
    config = kind(**fields) if quantization else None
    auto = "AutoModelForImageTextToText" if images else "AutoModelForCausalLM"
    return getattr(transformers, auto).from_pretrained(
        folder,
        dtype=dtype or compute_dtype(),
        quantization_config=config,
        device_map={"": 0} if torch.cuda.is_available() else "cpu",
        use_safetensors=True,
        trust_remote_code=False,
    )
