"""The reviewers' guide, rendered from the persona's specification in its language."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workbench.language import say
from workbench.persona import Persona
from workbench.records import Example

MAX_EXAMPLES = 3


def guidelines(
    persona: Persona,
    exemplars: Sequence[Example] = (),
    *,
    pairs: bool = False,
    queue: bool = False,
) -> str:
    """Return the guide as Markdown, at most two screens long.

    Args:
        persona: The specification.
        exemplars: Answers that are right; the first :data:`MAX_EXAMPLES` are shown.
        pairs: Explain how two answers are compared.
        queue: Say that this is the disagreement queue.
    """

    def phrase(key: str) -> str:
        return say(persona.language, f"review.guide.{key}", name=persona.name)

    parts = [f"# {phrase('title')}", phrase("task")]
    if queue:
        parts.append(f"**{phrase('queue')}**")
    parts += [
        persona.role.strip(),
        _numbered(persona.structure),
        f"## {phrase('rating')}",
        _bullets(phrase(f"rating.{value}") for value in (5, 4, 3, 2, 1)),
    ]
    if pairs:
        parts.append(phrase("pair"))
    parts += [
        f"## {phrase('safety')}",
        f"{phrase('safety.rule')} {persona.safety.boundary.strip()}",
        f"## {phrase('traits')}",
        _bullets(f"**{trait.name}**: {trait.about}" for trait in persona.traits),
    ]
    if exemplars:
        parts.append(f"## {phrase('examples')}")
        for example in exemplars[:MAX_EXAMPLES]:
            parts.append(f"**{_line(example.question)}**\n\n> {_line(example.answer)}")
    return "\n\n".join(parts)


def problem_labels(persona: Persona) -> dict[str, str]:
    """Return problem id → what a reviewer reads; a trait is named as missed, not as a wish."""
    missed = {
        trait.id: say(persona.language, "review.problem.trait", trait=trait.name)
        for trait in persona.traits
    }
    return {**persona.problems, **missed}


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _numbered(items: Sequence[str]) -> str:
    return "\n".join(f"{number}. {item.strip()}" for number, item in enumerate(items, start=1))


def _line(text: str) -> str:
    return " ".join(text.split())
