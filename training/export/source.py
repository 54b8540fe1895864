"""What an export is made of: a base in full precision, an adapter, and the names of both."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.inference.adapters import check_made_for, read_adapter

CARRIED = ("*.json", "*.jinja", "*.model", "*.txt")
"""Files of a base that go along with merged weights: tokenizer, template, generation settings."""
_NOT_CARRIED = {"config.json", "workbench.json", "model.safetensors.index.json"}


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


@dataclass(frozen=True)
class Source:
    """A base, the adapter that was evaluated on it, and their names.

    Attributes:
        base: Folder of the base model, as ``resolve_model`` returns it.
        base_name: The base as its user names it.
        adapter: Folder of a PEFT adapter.
        name: What the export calls itself, such as ``gym-trainer-dpo``.
    """

    base: Path
    base_name: str
    adapter: Path
    name: str

    def base_config(self) -> dict[str, Any]:
        """Return the base's ``config.json``."""
        return _json(self.base / "config.json")

    def adapter_config(self) -> dict[str, Any]:
        """Return the adapter's ``adapter_config.json``."""
        return read_adapter(self.adapter)

    def check(self) -> None:
        """Raise a UserError unless base and adapter are whole and made for each other by name."""
        check_made_for(self.adapter, self.base_name)
        kind = self.adapter_config().get("peft_type")
        if kind != "LORA":
            raise UserError(
                f"an adapter of type {kind} cannot be exported",
                where=str(self.adapter),
                fix="train with a LoRA configuration",
            )

    @property
    def four_bit_base(self) -> bool:
        """Whether the base's folder holds 4-bit weights, so that nothing better can be merged."""
        return bool(self.base_config().get("quantization_config", {}).get("load_in_4bit"))

    def carried_files(self) -> list[Path]:
        """Return the base's files that go along with merged weights."""
        found = {path for pattern in CARRIED for path in self.base.glob(pattern)}
        return sorted(path for path in found if path.name not in _NOT_CARRIED)


def _json(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def check_name(name: str, where: str) -> str:
    """Return ``name`` if every target takes it: files, the Hub, Ollama, a command line.

    Raises:
        UserError: It has other characters, begins with none of these, or is too long.
    """
    if not _NAME.fullmatch(name) or ".." in name or "--" in name:
        raise UserError(
            f"'{name}' is no name for an export",
            where=where,
            fix="letters, digits, single - and ., and _; a letter or digit first; 96 at most",
        )
    return name
