"""Under which terms a base may be passed on, as far as its name or its own card tells."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from workbench.inference.embedded import EMBEDDED


@dataclass(frozen=True)
class Licence:
    """A base's licence.

    Attributes:
        id: The Hub's identifier, such as ``apache-2.0``; ``other`` where it is not known.
        terms: What whoever passes the weights on has to heed, one sentence.
        restricted: Whether passing on is bound to terms that somebody has to accept first.
    """

    id: str
    terms: str
    restricted: bool = False


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
    told = _card(base)
    text = f"{told} {base_name} {base.name}".lower()
    if "gemma" in text:
        return _GEMMA
    if told.startswith("llama") or re.search(r"meta-llama|llama-?[234]\b|llama-?3\.\d", text):
        version = re.search(r"llama-?(\d(?:\.\d)?)", text)
        return Licence(f"llama{version[1]}" if version else "llama3", _LLAMA, restricted=True)
    if told in _OPEN:
        return Licence(told, f"{told}: keep the notice.")
    return Licence(told, _UNKNOWN.terms) if told else _UNKNOWN


def _card(base: Path) -> str:
    """Return what the front matter of the base's own card says, or an empty string."""
    card = base / "README.md"
    if not card.exists():
        return ""
    parts = card.read_text(encoding="utf-8", errors="replace").split("---", 2)
    if len(parts) < 3:
        return ""
    try:
        head = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return ""
    return str(head.get("license", "")).lower() if isinstance(head, dict) else ""
