"""Versions of the prompts that a job used: hashes of our templates and of the system prompt."""

from __future__ import annotations

import hashlib
from pathlib import Path

from workbench.persona import Persona
from workbench.prompts import system_prompt

_DIGITS = 8


def prompt_versions(persona: Persona) -> dict[str, str]:
    """Return name → the first hex digits of the SHA-256 of every prompt in the persona's language.

    ``system`` is the persona's rendered system prompt without exemplars; the others are templates,
    and ``cells`` the words that describe a wanted question.
    """
    found = {"system": system_prompt(persona, [])}
    for path in sorted(Path(__file__).parent.glob(f"*.{persona.language}.*")):
        found[path.name.split(".")[0]] = path.read_text(encoding="utf-8")
    return {
        name: hashlib.sha256(text.encode()).hexdigest()[:_DIGITS] for name, text in found.items()
    }
