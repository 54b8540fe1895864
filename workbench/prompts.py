"""Text rendered from a persona's specification: system prompts and guides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from workbench.language.packs import PROMPTS, pack_file, say
from workbench.persona import Persona
from workbench.records import Example, Message, Messages

if TYPE_CHECKING:
    from jinja2 import Environment, Template


def system_prompt(persona: Persona, few_shot: Sequence[Example] = ()) -> str:
    """Return the persona as a system prompt, in its own language.

    ``few_shot`` are examples to show at the end, best first.
    """
    voice = persona.voice
    lines = [
        _say(persona, "role", name=persona.name, role=persona.role.strip()),
        _say(persona, "audience", audience=persona.audience.strip()),
        _say(persona, "voice", address=voice.address, register=voice.register_.strip()),
        _say(
            persona,
            "length",
            min=voice.length.min,
            max=voice.length.max,
            unit=_say(persona, f"unit.{voice.length.unit}"),
        ),
        _say(persona, "structure"),
        *_numbered(persona.structure),
    ]
    for key, rules in (("must", persona.must), ("must_not", persona.must_not)):
        if rules:
            lines += [_say(persona, key), *(f"- {rule.strip()}" for rule in rules)]
    lines.append(safety_line(persona))
    if few_shot:
        lines.append(_say(persona, "example"))
        for example in few_shot:
            lines += [
                f"{_say(persona, 'question')}: {example.question}",
                f"{_say(persona, 'answer')}: {example.answer}",
            ]
    return "\n".join(lines)


def safety_line(persona: Persona) -> str:
    """Return the line of a system prompt that says where the persona's advice ends."""
    return _say(persona, "safety", boundary=persona.safety.boundary.strip())


def with_system(system: str, prompt: Messages) -> Messages:
    """Return ``prompt`` led by a system message; one already there is replaced."""
    turns = tuple(message for message in prompt if message.role != "system")
    return (Message(role="system", content=system), *turns)


@lru_cache(maxsize=32)
def load_template(name: str, language: str) -> Template:
    """Return the template of a prompt in a language; a value that is missing is an error."""
    from jinja2 import Environment, StrictUndefined

    source = pack_file(language, f"{PROMPTS}/{name}.j2")
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(source.read_text(encoding="utf-8"))


def page_templates(package: str, *, escape: bool = False, **filters: Any) -> Environment:
    """Return the templates beside a package's modules; a value that is missing is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader(package, ""),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= filters
    return templates


def _say(persona: Persona, key: str, **values: object) -> str:
    return say(persona.language, f"prompt.{key}", **values)


def _numbered(items: Iterable[str]) -> list[str]:
    return [f"{number}. {item.strip()}" for number, item in enumerate(items, start=1)]
