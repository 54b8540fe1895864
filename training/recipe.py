"""Recipes: YAML whose keys are TRL's, PEFT's and bitsandbytes' own field names.

A recipe is read as a whole: every mistake is told at once, each with its line and the nearest
right name, before anything is loaded or trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from training.device import Fields, device_fields, quiet
from training.methods import TRAINING_METHODS
from training.recipe_fields import Problem, check_section, quantization_config, sections
from training.recipe_rules import contradictions
from training.rewards import RewardSettings
from training.run import Data, Engine, Recipe, RehearsalSettings, RoundSettings
from workbench.config import METHODS
from workbench.errors import UserError, UserErrors, nearest
from workbench.store import expanded
from workbench.values import Settings
from workbench.yamlfile import line_of, read_yaml

SHIPPED = Path(__file__).parent / "recipes"
_WORDS = {"method": METHODS, "engine": get_args(Engine), "data": get_args(Data)}
_ADAPTERS = ("lora", "osf", "loraplus")
_OWN: Mapping[str, type[Settings]] = {
    "rewards": RewardSettings,
    "rounds": RoundSettings,
    "rehearsal": RehearsalSettings,
}
"""Section of our own → its settings."""
_SECTIONS = ("trainer", *_ADAPTERS, "quantization", "early_stopping", *_OWN)
_KEYS = (*_WORDS, *_SECTIONS)


def recipe_path(name: str) -> Path:
    """Return the file of a recipe: a path, or the name of a shipped one such as ``sft-embedded``.

    Raises:
        UserError: Neither; the line names the nearest shipped recipe.
    """
    path = expanded(name)
    # A round's folder has folders named sft, dpo and so on.
    if path.is_file():
        return path
    shipped = {file.stem: file for file in sorted(SHIPPED.glob("*.yaml"))}
    stem = name.removesuffix(".yaml")
    if stem not in shipped:
        fix = nearest(stem, shipped) or f"shipped ones: {', '.join(shipped)}"
        raise UserError(f"no recipe '{name}'", fix=fix)
    return shipped[stem]


def load_recipe(path: Path, overrides: Fields | None = None) -> Recipe:
    """Load and validate a recipe.

    ``overrides`` are dotted key → value, put in place of the file's (``{"trainer.max_steps": 4}``).

    Raises:
        UserError: Unreadable file or broken YAML.
        UserErrors: Every unknown key, wrong type and contradiction, each with its line.
    """
    data, lines = read_yaml(path)
    data, problems = _overridden(data, overrides or {})
    overridden = tuple(overrides or {})
    recipe, mistakes = _check(data)
    problems += mistakes
    if problems:
        placed = [(_where(p, path, lines, overridden), p) for p in problems]
        placed.sort(key=lambda item: item[0])
        raise UserErrors(
            UserError(f"{'.'.join(p.path)} {p.what}".strip(), where=where, fix=p.fix)
            for (_, where), p in placed
        )
    assert recipe is not None
    return recipe


def _where(
    problem: Problem,
    path: Path,
    lines: dict[tuple[str | int, ...], int],
    overridden: tuple[str, ...],
) -> tuple[int, str]:
    """Return the line, for sorting, and the place to show; overrides come after the file."""
    if ".".join(problem.path) in overridden:
        return 1 << 30, "train.overrides"
    line = line_of(lines, problem.path)
    return line, f"{path}:{line}"


def _overridden(data: Fields, overrides: Fields) -> tuple[Fields, list[Problem]]:
    """Return a copy of ``data`` with the overrides in it."""
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in data.items()}
    problems = []
    for dotted, value in overrides.items():
        section, _, key = dotted.partition(".")
        if section not in _KEYS or (key and not isinstance(result.get(section) or {}, dict)):
            fix = nearest(section, _KEYS) or "write it as trainer.max_steps"
            problems.append(Problem((dotted,), "is no key of a recipe", fix))
        elif key:
            result[section] = {**(result.get(section) or {}), key: value}
        else:
            result[section] = value
    return result, problems


def _check(data: Fields) -> tuple[Recipe | None, list[Problem]]:
    problems = [
        Problem((str(key),), "is no key of a recipe", nearest(str(key), _KEYS) or ", ".join(_KEYS))
        for key in data
        if key not in _KEYS
    ]
    for key, known in _WORDS.items():
        if (value := data.get(key, known[0] if key != "method" else None)) not in known:
            what = f"is {value!r}, which is not known" if key in data else "is missing"
            fix = nearest(str(value), known) or f"one of {', '.join(known)}"
            problems.append(Problem((key,), what, fix))
    method = data.get("method")
    if method not in METHODS:
        # Without the method nobody knows whose fields the trainer's keys are.
        return None, problems
    clean: Fields = {}
    for name, section in sections(data, method).items():
        value = data.get(name)
        if isinstance(value, dict):
            clean[name], mistakes = check_section(name, value, section)
            problems += mistakes
        elif value is not None:
            problems.append(Problem((name,), "is not a mapping of fields to values"))
    words = {key: data.get(key, known[0]) for key, known in _WORDS.items()}
    recipe = Recipe.model_construct(**words, **_typed(clean))
    # A misspelt key is not there for the rules, nor is one of another type: what they would say
    # of these sections, which must hold something, misleads.
    left_out = {p.path[0] for p in problems if len(p.path) > 1 and _absent(p, clean)}
    left_out &= {"quantization", "loraplus"}
    problems += [p for p in contradictions(recipe) if p.path[0] not in left_out]
    return recipe, problems or _constructed(recipe)


def _typed(clean: Fields) -> Fields:
    """Return the sections, those of our own settings as such."""
    own = {
        name: model.model_construct(**clean[name]) for name, model in _OWN.items() if name in clean
    }
    return clean | own


def _absent(problem: Problem, clean: Fields) -> bool:
    section, key = problem.path[:2]
    return key not in (clean.get(section) or {})


def _constructed(recipe: Recipe) -> list[Problem]:
    """Make the real configurations, for what only the libraries know to be wrong."""
    from peft import LoraConfig, OSFConfig

    trainer = {"output_dir": "unused", **device_fields(recipe.trainer)}
    quantization = recipe.quantization
    problems = []
    for name, make, values in (
        ("trainer", TRAINING_METHODS[recipe.method].config_class(), trainer),
        ("lora", LoraConfig, recipe.lora),
        ("osf", OSFConfig, recipe.osf),
        ("quantization", quantization_config(quantization), quantization),
    ):
        if values is None:
            continue
        try:
            with quiet():
                make(**values)
        except (ValueError, TypeError, NotImplementedError, ImportError) as error:
            reason = " ".join(str(error).split())
            named = [key for key in values if key in reason]
            what = f"is refused by {make.__name__}: {reason}"
            problems.append(Problem((name, *named[:1]), what))
    return problems
