"""What an export is made of: a base, an adapter or none, their names, and the base's licence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.inference.adapters import check_made_for, read_adapter
from workbench.inference.embedded import EMBEDDED
from workbench.store import read_json

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


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


@dataclass(frozen=True)
class ExportSource:
    """A base, the adapter that was evaluated on it if there is one, and their names."""

    base: Path
    """Folder of the base model, as ``resolve_model`` returns it."""
    base_name: str
    """The base as its user names it."""
    adapter: Path | None
    """Folder of a PEFT adapter; None for the base itself, as the arms with a prompt answer."""
    name: str
    """What the export calls itself, such as ``gym-trainer-dpo``."""

    @property
    def weights(self) -> Path:
        """The adapter's folder, where only an adapter will do.

        Raises:
            UserError: The base is exported, which has none.
        """
        if self.adapter is None:
            raise UserError(
                "the base has no adapter, so that there is none to write",
                where=self.name,
                fix="export ollama, gguf, vllm or merged, without --adapter",
            )
        return self.adapter

    def base_config(self) -> dict[str, Any]:
        """Return the base's ``config.json``."""
        return read_json(self.base / "config.json")

    def adapter_config(self) -> dict[str, Any]:
        """Return the adapter's ``adapter_config.json``."""
        return read_adapter(self.weights)

    def check(self) -> None:
        """Raise a UserError unless base and adapter are whole and made for each other by name."""
        if self.adapter is None:
            return
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

    @property
    def stored_bytes(self) -> int:
        """Size of the base's weights on disk."""
        return sum(path.stat().st_size for path in self.base.glob("*.safetensors"))


@dataclass(frozen=True)
class Licence:
    """Under which terms a base may be passed on, as far as its name or its own card tells."""

    id: str
    """The Hub's identifier, such as ``apache-2.0``; ``other`` where it is not known."""
    terms: str
    """What whoever passes the weights on has to heed, one sentence."""
    restricted: bool = False
    """Whether passing on is bound to terms that somebody has to accept first."""


_GEMMA = Licence(
    "gemma",
    "Gemma Terms of Use: free redistribution is forbidden; whoever passes the weights on must pass"
    " on those terms, their use restrictions and a notice.",
    restricted=True,
)
_LLAMA = (
    "Llama Community License: free redistribution is forbidden; whoever passes the weights on must"
    " include the licence, show 'Built with Llama' and begin the model's name with 'Llama'."
)
_UNKNOWN = Licence("other", "The base's licence is not known here: look it up before passing on.")
_OPEN = {"apache-2.0", "mit", "bsd-3-clause", "cc0-1.0"}


def base_licence(base_name: str, base: Path) -> Licence:
    """Return the licence of a base, by its name, then by the card in its folder."""
    if base_name == EMBEDDED:
        return Licence("apache-2.0", "Apache-2.0: keep the notice.")
    own = _licence_of_card(base)
    text = f"{own} {base_name} {base.name}".lower()
    if "gemma" in text:
        return _GEMMA
    if own.startswith("llama") or re.search(r"meta-llama|llama-?[234]\b|llama-?3\.\d", text):
        version = re.search(r"llama-?(\d(?:\.\d)?)", text)
        return Licence(f"llama{version[1]}" if version else "llama3", _LLAMA, restricted=True)
    if own in _OPEN:
        return Licence(own, f"{own}: keep the notice.")
    return Licence(own, _UNKNOWN.terms) if own else _UNKNOWN


def _licence_of_card(base: Path) -> str:
    """Return the licence that the base's own card names, or an empty string."""
    from huggingface_hub import ModelCard
    from yaml import YAMLError

    card = base / "README.md"
    if not card.exists():
        return ""
    text = card.read_text(encoding="utf-8", errors="replace")
    try:
        return str(ModelCard(text, ignore_metadata_errors=True).data.get("license") or "").lower()
    except (YAMLError, ValueError):  # no front matter that the Hub would read
        return ""
