"""A base's safetensors: names and shapes from their headers, each tensor read when it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError

if TYPE_CHECKING:
    import torch

_STATE = ".quant_state.bitsandbytes__"
"""Marks the description of a 4-bit weight, in files saved by bitsandbytes."""


class BaseFiles:
    """The weights of a model folder.

    Where the files hold bitsandbytes' 4-bit weights, these are widened to float32 as they come by.

    Args:
        folder: Of the base model.

    Raises:
        UserError: No weights there, or a file that is not whole.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        found: dict[str, tuple[int, ...]] = {}
        self._files: dict[str, Path] = {}
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            raise UserError("no weights there (*.safetensors)", where=str(folder))
        for path in paths:
            try:
                with safe_open(path, "pt") as file:
                    for key in file.keys():  # noqa: SIM118 — the file is no mapping
                        self._files[key] = path
                        found[key] = tuple(file.get_slice(key).get_shape())
            except SafetensorError as error:
                raise UserError(
                    f"is no whole safetensors file ({error})",
                    where=str(path),
                    fix="fetch or make the model again",
                ) from None
        self._packed = _packed(found)
        side = {key for keys in self._packed.values() for key in keys}
        self.shapes = {key: shape for key, shape in found.items() if key not in side}
        """Name → shape of every weight, in the order of the files."""
        with _Reader(self._files) as read:
            for name, keys in self._packed.items():
                self.shapes[name] = tuple(_state(read, name, keys).shape)

    def tensors(self, names: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the named tensors in the order given, each read once from its file."""
        with _Reader(self._files) as read:
            for name in names:
                keys = self._packed.get(name)
                yield name, read(name) if keys is None else _widened(read, name, keys)


class _Reader:
    """Opens each file once and reads one tensor at a time."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._files, self._opened, self._stack = files, dict[Path, Any](), ExitStack()

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, name: str) -> torch.Tensor:
        from safetensors import safe_open

        path = self._files[name]
        if path not in self._opened:
            self._opened[path] = self._stack.enter_context(safe_open(path, "pt"))
        tensor: torch.Tensor = self._opened[path].get_tensor(name)
        return tensor


def _packed(found: dict[str, Any]) -> dict[str, list[str]]:
    """Return 4-bit weight → the tensors that describe it."""
    names = list(found)
    weights = {name.partition(_STATE)[0] for name in names if _STATE in name}
    return {w: [name for name in names if name.startswith(f"{w}.")] for w in sorted(weights)}


def _state(read: _Reader, name: str, keys: Sequence[str]) -> Any:
    from bitsandbytes.functional import QuantState

    held = {key.removeprefix(f"{name}."): read(key) for key in keys}
    return QuantState.from_dict(held, device="cpu")


def _widened(read: _Reader, name: str, keys: Sequence[str]) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit

    wide: torch.Tensor = dequantize_4bit(read(name), _state(read, name, keys))
    return wide.float()
