"""The language filter: rows in another language than the persona's are dropped.

A row comes in, and out goes None or the drop's reason; :mod:`curation.filters.chain` calls it.
"""

from __future__ import annotations

from curation.filters.rules import DropReason, RowFilter
from workbench.language.detection import foreign_language, foreign_script
from workbench.persona import Persona
from workbench.records import Example


def language(persona: Persona) -> RowFilter:
    """Drop rows in another language than the persona's.

    Questions are often too short for n-grams, so they are judged by their script alone.
    """

    def check(example: Example) -> DropReason:
        for part, text in (("question", example.question), ("answer", example.answer)):
            if script := foreign_script(text, persona.language):
                return "wrong_language", f"the {part} is in {script} letters"
        if other := foreign_language(example.answer, persona.language):
            return "wrong_language", f"{other}, the persona speaks {persona.language}"
        return None

    return check
