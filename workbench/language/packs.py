"""The registry of languages: a pack is a folder, and the folders there are the languages.

In: a language's code, which is its folder's name. Out: its :class:`Pack`, its phrases, and where
its other pieces lie. Packs stand beside this file; the folder that ``PERSONA_LANGUAGES`` in the
environment names may hold more. A pack must have what the default's has, piece for piece and key
for key; one that is missing is named when a persona speaks it, and nothing stands in its place.
A pack that is not whole keeps nobody from another language.
What it may lack is said to be not measured, or not offered: pages, sets of prompts, rules of its
own. ``CONTRIBUTING.md`` says how one is made.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator

from workbench.errors import UserError, nearest
from workbench.language.conduct_rules import conduct_rules
from workbench.parts import PhraseRule
from workbench.values import Settings
from workbench.yamlfile import line_of, read_text, read_yaml, validate

DEFAULT = "en"
"""The language that is there where nobody names one; what other packs must have is read off it."""
FOLDERS = "PERSONA_LANGUAGES"
"""Variable of the environment that names a folder with more packs."""
FACTS, MESSAGES, CONDUCT, STARTER = "pack.yaml", "messages.yaml", "conduct.yaml", "starter.yaml"
PAGES = "pages.yaml"
"""The words of ``persona ui``; without them a language is not offered there."""
PROMPTS, DATA, CHECKS = "prompts", "data", "checks"
TEXTS = "texts.jsonl"
_HERE = Path(__file__).parent
_OWN_KEYS = frozenset({"numbers", "topics"})
"""Keys below which every language has words of its own."""


class Pack(Settings):
    """What the program has to know of a language: the content of ``pack.yaml``."""

    name: str = Field(min_length=1)
    """What its speakers call it."""
    scripts: tuple[str, ...] = Field(min_length=1)
    """Its letters, by the first word of their names in Unicode, such as LATIN or HIRAGANA."""
    least: float = Field(gt=0, le=1)
    """Least share of them among the letters of a text that is in the language."""
    letters: str = Field(min_length=1)
    """The same letters as a class of a regular expression, for instructions about the language."""
    least_letters: float = Field(gt=0, le=1)
    """Least share of them in an answer that was asked to be in the language."""
    lingua: str = ""
    """Its name in the library lingua; without one a text is told by its script alone."""
    region: str = Field(pattern=r"^[A-Z]{2}$")
    """Where numbers without a country's code are read as phone numbers, as in ISO 3166."""
    tokens_a_character: tuple[float, float]
    """Lowest and highest, over the tokenizers of today's large models."""
    tokens_a_word: tuple[float, float]
    characters_a_token: float = Field(default=0.75, gt=0)
    """Of the embedded model's tokenizer, which cuts other letters than Latin ones small."""
    yes: tuple[str, ...] = Field(min_length=1)
    no: tuple[str, ...] = Field(min_length=1)
    stem: int = Field(default=0, ge=0)
    """Leading letters that two forms of a word share, where particles follow; 0 for whole words."""
    embedder: Literal["", "minilm"] = ""
    """The packaged model that knows what its texts mean; without one, n-grams of letters."""
    loss: str = ""
    """Library whose loss tells its fluent text, by ``loss(text)`` of ``checks.py``; without one the
    base model's."""

    @field_validator("letters")
    @classmethod
    def _is_class(cls, letters: str) -> str:
        if not (letters.startswith("[") and letters.endswith("]")):
            raise ValueError("needs a class of letters, such as [A-Za-z]")
        try:
            re.compile(letters)
        except re.error as error:
            raise ValueError(f"is no class of letters ({error})") from None
        return letters


def languages() -> tuple[str, ...]:
    """Return the codes of all packs, the default's first."""
    return tuple(sorted(_folders(os.environ.get(FOLDERS, "")), key=lambda code: code != DEFAULT))


@lru_cache(maxsize=8)
def _folders(more: str) -> Mapping[str, Path]:
    """Return code → folder; ours cannot be replaced."""
    folders: dict[str, Path] = {}
    for parent in (_HERE, Path(more).expanduser() if more else None):
        if parent is None:
            continue
        if not parent.is_dir():
            raise UserError("there is no such folder", where=f"{FOLDERS}={parent}")
        for facts in sorted(parent.glob(f"*/{FACTS}")):
            folders.setdefault(facts.parent.name, facts.parent)
    return folders


def known_language(code: str) -> str:
    """Return the code of a pack that is there; for models.

    Raises:
        ValueError: There is none.
    """
    if code not in languages():
        raise ValueError(f"there is no pack '{code}' among {', '.join(languages())}")
    check_pack(code)
    return code


def pack_file(code: str, name: str) -> Path:
    """Return where a piece of a pack lies, or would lie.

    Raises:
        UserError: There is no such pack.
    """
    folders = _folders(os.environ.get(FOLDERS, ""))
    if code not in folders:
        raise UserError(
            f"there is no language '{code}'",
            fix=nearest(code, folders) or f"one of {', '.join(languages())}",
        )
    return folders[code] / name


def load_pack(code: str) -> Pack:
    """Return a language's facts.

    Raises:
        UserError: There is no such pack.
        UserErrors: Every mistake of its ``pack.yaml``.
    """
    return _facts(pack_file(code, FACTS))


def known_packs() -> dict[str, Pack]:
    """Return code → facts of every pack that can be read.

    For what looks at all languages at once: one that is broken is told to whoever speaks it.
    """
    packs = {}
    for code in languages():
        with suppress(UserError):
            packs[code] = load_pack(code)
    return packs


@lru_cache(maxsize=16)
def _facts(file: Path) -> Pack:
    return validate(Pack, *read_yaml(file), file)


def check_pack(code: str) -> None:
    """Hold a whole pack against the default's, once.

    Raises:
        UserError: There is no such pack, or it lacks a piece, which is named.
        UserErrors: Every mistake of its ``pack.yaml``.
    """
    load_pack(code)
    _check(pack_file(code, ""))


@lru_cache(maxsize=16)
def _check(folder: Path) -> None:
    model = _HERE / DEFAULT
    if folder == model:
        return
    _check_lingua(folder)
    for name in (*sorted(f"{PROMPTS}/{one.name}" for one in (model / PROMPTS).iterdir()), CONDUCT):
        if not (folder / name).is_file():
            raise _lacks(folder, f"the file {name}")
    for name in (MESSAGES, CONDUCT, STARTER, f"{PROMPTS}/topic_plan.yaml", PAGES):
        if name != PAGES or (folder / name).is_file():
            _same_keys(folder / name, read_words(folder / name), read_words(model / name))
    if folder.parent != _HERE:  # ours are tested
        conduct_rules(read_words(folder / CONDUCT), folder / CONDUCT)
    if not (folder / DATA / TEXTS).is_file() and folder.parent != _HERE:
        raise _lacks(folder, f"the file {DATA}/{TEXTS}")


def _check_lingua(folder: Path) -> None:
    if name := _facts(folder / FACTS).lingua:
        import lingua

        known = sorted(language.name for language in lingua.Language.all())
        if name not in known:
            fix = nearest(name, known) or "leave it out: its script alone tells it then"
            raise UserError(f"lingua knows no '{name}'", where=str(folder / FACTS), fix=fix)


def _lacks(where: Path, what: str) -> UserError:
    return UserError(
        f"lacks {what}", where=str(where), fix=f"write it after the one in {_HERE / DEFAULT}"
    )


def _same_keys(file: Path, own: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Refuse a file that lacks a key of the default's, or a place to fill in a phrase."""
    texts, wanted = dict(_texts(own)), dict(_texts(model))
    if missing := [key for key in wanted if key not in texts]:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise _lacks(file, f"'{missing[0]}'{more}")
    for key, value in wanted.items():
        if file.name != CONDUCT and not _alike(texts[key], value):
            _, lines = read_yaml(file)
            line = lines.get((key,)) or line_of(lines, tuple(key.split(".")))
            what, where = f"'{key}' needs {_type_of(value)}", f"{file}:{line}"
            raise UserError(what, where=where, fix="put it in quotes if it is a text")
    if file.name not in (MESSAGES, PAGES):
        return
    for key, text in wanted.items():
        if isinstance(text, str) and _places(texts[key]) != _places(text):
            places = ", ".join(f"{{{name}}}" for name in sorted(_places(text))) or "nothing"
            raise UserError(f"'{key}' needs {places} to fill", where=str(file))


def _texts(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys of a mapping, those below one another too, with their values."""
    for name, below in value.items():
        yield f"{above}{name}", below
        if isinstance(below, dict) and name not in _OWN_KEYS:
            yield from _texts(below, f"{above}{name}.")


def _type_of(value: object) -> str:
    """Return for people what a value of a pack's file is, by its model's."""
    if isinstance(value, list):
        return "a list of texts" if value and isinstance(value[0], str) else "a list"
    return (
        "a text"
        if isinstance(value, str)
        else "a mapping"
        if isinstance(value, dict)
        else "a number"
    )


def _alike(own: object, model: object) -> bool:
    """Return whether a value is of the type that the default's has."""
    if isinstance(own, list) and isinstance(model, list):
        texts = bool(model) and isinstance(model[0], str)
        return not texts or all(isinstance(one, str) for one in own)
    return _type_of(own) == _type_of(model) and not isinstance(own, bool | None)


def _places(text: str) -> set[str]:
    try:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}
    except ValueError:
        return {"a closed brace"}


@lru_cache(maxsize=64)
def read_words(file: Path) -> dict[str, Any]:
    """Return the mapping in a pack's YAML file.

    Raises:
        UserError: It is missing, or no such mapping.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        data = yaml.load(read_text(file), Loader=loader)
    except yaml.YAMLError as error:
        read_yaml(file)  # which names the line; the quick loader does not
        raise UserError(f"broken YAML: {error}", where=str(file)) from None
    if not isinstance(data, dict):
        raise UserError("is no mapping of words", where=str(file))
    return data


def phrases(code: str) -> dict[str, str]:
    """Return every phrase of a language by its dotted key."""
    return read_words(pack_file(code, MESSAGES))


def say(code: str, key: str, **values: object) -> str:
    """Return the phrase ``key`` with ``values`` filled in.

    Raises:
        KeyError: The phrase is missing in that language: a mistake of ours, not of a user's.
    """
    return phrases(code)[key].format(**values)


def own_module(code: str) -> Any:
    """Return a pack's ``checks.py``, imported; None where it has none.

    A pack of somebody else's is read and never run: its traits are checked by patterns.
    """
    file = pack_file(code, f"{CHECKS}.py")
    if file.parent.parent != _HERE or not file.is_file():
        return None
    return import_module(f"{__package__}.{code}.{CHECKS}")


def own_rules() -> dict[str, type[PhraseRule]]:
    """Return rule → the model of it, of all packs that have rules of their own."""
    modules = (own_module(code) for code in languages())
    return {name: rule for module in modules if module for name, rule in module.RULES.items()}
