"""A new persona from a few answers: a valid specification with checks, to be sharpened by hand."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from workbench.errors import UserError
from workbench.language.packs import STARTER, pack_file, read_words
from workbench.persona import IDENTIFIER, Language, Persona, load_persona
from workbench.store import atomic_file
from workbench.text import counted
from workbench.yamlfile import validate

_MOST_TOPIC_CHARACTERS = 40
FEWEST_TOPICS = 3
"""Below it no split can keep topics apart."""


def split_topics(text: str) -> list[str]:
    """Return the topics of an answer, which has commas between them."""
    return [topic.strip() for topic in text.split(",") if topic.strip()]


def check_answer(name: str, answer: str) -> None:
    """Refuse an answer that makes no persona, by the name of :func:`starter`'s argument.

    Raises:
        UserError: It is blank, no identifier, or names too few topics.
    """
    if not answer.strip():
        raise UserError("is blank", fix="a word or more")
    if name == "id" and not re.fullmatch(IDENTIFIER, answer):
        near = _identifier(answer, 0).replace("_", "-")
        fix = "lower-case letters, digits, - and _"
        like = "" if near.startswith("topic") else f", such as {near}"
        raise UserError(f"'{answer}' is no identifier", fix=fix + like)
    if name == "topics":
        _identified(split_topics(answer))


def starter(
    *,
    id: str,
    language: Language,
    name: str,
    role: str,
    audience: str,
    address: str,
    topics: Sequence[str],
    register: str = "",
) -> dict[str, Any]:
    """Return the data of a new specification.

    Args:
        id: Folder and identifier, lower case.
        language: What the persona speaks; its checks come in that language.
        name: What it is called.
        role: Who it is, in a sentence or two.
        audience: Whom it talks to.
        address: How it calls the asker, such as champ or 회원님.
        topics: What it is asked about, as a reader sees them; at least three different ones.
        register: How it speaks; the starter's own line where it is empty.

    Raises:
        UserError: Too few topics.
    """
    pattern = _word(address) if address.isascii() else re.escape(address)
    values = {"address": address, "address_pattern": pattern, "role": role}
    data = _filled(read_words(pack_file(language, STARTER)), values)
    data["voice"] = {"address": address, **data["voice"]}
    if register:
        data["voice"]["register"] = register
    topic_names = {**_identified(topics), **data["topics"]}
    return {
        "id": id,
        "version": 1,
        "language": language,
        "name": name,
        "role": role,
        "audience": audience,
        **{key: data[key] for key in ("voice", "structure", "must", "must_not", "safety")},
        "topics": list(topic_names),
        "topic_names": topic_names,
        "train_only": list(data["topics"]),
        "traits": data["traits"],
    }


def write_persona(folder: Path, data: dict[str, object]) -> Persona:
    """Write a new persona's folder, validated, and return it.

    Raises:
        UserError: The folder is there already, or the data is no valid persona.
    """
    path = folder / "persona.yaml"
    if path.exists():
        raise UserError(
            "there is a persona already", where=str(path), fix="choose another --id, or edit it"
        )
    validate(Persona, data, {}, path)
    with atomic_file(path) as file:
        file.write(
            "# Sharpen it by hand: structure, must, must_not, safety and the traits' checks.\n"
        )
        yaml.safe_dump(data, file, allow_unicode=True, sort_keys=False, width=100)
    return load_persona(folder)


def _filled(value: object, values: dict[str, str]) -> Any:
    """Put ``values`` into the placeholders of every text; braces of patterns stay."""
    if isinstance(value, dict):
        return {key: _filled(part, values) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, values) for part in value]
    if isinstance(value, str):
        for name, put in values.items():
            value = value.replace(f"{{{name}}}", put)
    return value


def _word(text: str) -> str:
    """Return the pattern of a whole word or several; ``\\b`` stands beside letters alone."""
    left, right = (r"\b" if re.match(r"\w", end) else "" for end in (text[0], text[-1]))
    return f"{left}{re.escape(text)}{right}"


def _identified(topics: Sequence[str]) -> dict[str, str]:
    """Return topics by identifiers of their own, in their order."""
    topics = list(dict.fromkeys(topics))
    if len(topics) < FEWEST_TOPICS:
        raise UserError(
            f"too few for splits that keep topics apart: {counted(len(topics), 'topic')}",
            fix=f"name at least {FEWEST_TOPICS}, with commas between",
        )
    named: dict[str, str] = {}
    for number, topic in enumerate(topics, 1):
        own = _identifier(topic, number)
        # Two topics may have the same words in ASCII, such as "PT 가격" and "PT 예약".
        while own in named:
            own = f"{own}_{number}"
        named[own] = topic
    return named


def _identifier(topic: str, number: int) -> str:
    """Return a topic's identifier: its own words in ASCII, else its number."""
    ascii_ = unicodedata.normalize("NFKD", topic).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "_", ascii_).strip("_")[:_MOST_TOPIC_CHARACTERS]
    return words or f"topic_{number}"
