"""Every shipped recipe's dry run: its keys checked, its memory on the shape it was made for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from training.device import Fields
from training.plan.lengths import Lengths, longest_image
from training.plan.memory import MIB, parts, peak
from training.plan.model_shapes import planned_adapter, read_config
from training.plan.plan import GPU_RESERVE, make_profile
from training.recipe import SHIPPED, load_recipe, recipe_path
from training.run import Recipe
from workbench.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table
    from transformers import PretrainedConfig

USUAL = "llama3-8b"
"""The shape that a recipe for a GPU is planned with, if its name says no other."""
_EMBEDDED = "smollm2-135m"
_SEEING = "llava-qwen-0.5b"
_PROMPT = 256
"""Tokens of a prompt whose answer is still to come (GRPO), and of a row without a ``max_length``
four times as many."""


@dataclass(frozen=True)
class DryRun:
    """What a recipe's dry run gave."""

    recipe: str
    method: str
    adapter: str
    shape: str
    trained: int = 0
    """Weights of the adapter."""
    peak_mib: float = 0.0
    """With rows as long as the recipe allows; on a processor, libraries not counted."""
    problem: str = ""


def dry_run(path: Path) -> DryRun:
    """Check a recipe against its libraries and plan it for the longest rows that it allows."""
    shape = _shape(path.stem)
    try:
        recipe = load_recipe(path)
    except UserError as error:
        return DryRun(path.stem, "", "", shape, problem=error.line())
    named = DryRun(path.stem, recipe.method, _adapter(recipe), shape)
    try:
        config = read_config(_embedded()) if shape == _EMBEDDED else shape_config(shape)
        profile = make_profile(
            recipe,
            config,
            planned_adapter(recipe if recipe.makes_adapter else _sft(path.stem)),
            _longest(recipe, config),
            gpu=shape != _EMBEDDED,
        )
        most = peak(parts(profile)) + (GPU_RESERVE if profile.gpu else 0)
    except UserError as error:
        return replace(named, problem=error.line())
    return replace(named, trained=profile.shapes.adapter, peak_mib=round(most / MIB, 1))


def dry_runs() -> list[DryRun]:
    """Return the dry run of every shipped recipe, by name."""
    return [dry_run(path) for path in sorted(SHIPPED.glob("*.yaml"))]


def table(runs: list[DryRun]) -> Table:
    """Return the dry runs as a table of rich."""
    from rich.table import Table

    grid = Table(title="Recipes, each with rows as long as it allows", title_justify="left")
    for name in ("recipe", "method", "adapter", "on the shape of"):
        grid.add_column(name, overflow="fold")  # a name that is cut names nothing
    for name in ("trained", "peak", "dry run"):
        grid.add_column(name, justify="right")
    for run in runs:
        figures = (f"{run.trained / 1e6:.1f} M", f"{run.peak_mib / 1024:.1f} GiB")
        grid.add_row(
            run.recipe,
            run.method,
            run.adapter,
            run.shape,
            *(figures if run.peak_mib else ("", "")),
            run.problem or "ok",
        )
    return grid


def _shape(stem: str) -> str:
    if stem.endswith("-embedded"):
        return _EMBEDDED
    if "vision" in stem:
        return _SEEING
    return next((shape for shape in _facts() if shape in stem), USUAL)


def _facts() -> dict[str, Fields]:
    text = files("training.plan").joinpath("shapes.yaml").read_text(encoding="utf-8")
    facts: dict[str, Fields] = yaml.safe_load(text)
    return facts


def shape_config(shape: str) -> PretrainedConfig:
    """Return transformers' configuration of a shape of ``shapes.yaml``."""
    from transformers import AutoConfig

    facts = dict(_facts()[shape])
    return AutoConfig.for_model(facts.pop("model_type"), **facts)


def _embedded() -> Path:
    from workbench.inference.embedded import embedded_model

    return embedded_model()


def _sft(stem: str) -> Recipe:
    """Return the SFT recipe whose adapter a recipe without one goes on with."""
    kind = next((kind for kind in ("-embedded", "-osf") if stem.endswith(kind)), "")
    return load_recipe(recipe_path(f"sft{kind}"))


def _longest(recipe: Recipe, config: PretrainedConfig) -> Lengths:
    if recipe.data == "images":
        return longest_image(config, _PROMPT)
    if recipe.samples:
        return Lengths(1, (_PROMPT,), (0,))
    length = int(recipe.trainer.get("max_length") or 4 * _PROMPT)
    return Lengths(1, (length,), (length,))


def _adapter(recipe: Recipe) -> str:
    if recipe.osf is not None:
        return "OSF"
    lora = recipe.lora
    if lora is None:
        return "the last round's" if recipe.continues else "SFT's"
    kinds = [
        name for key, name in (("use_dora", "DoRA"), ("use_rslora", "rsLoRA")) if lora.get(key)
    ]
    if recipe.starts_from_pissa:
        kinds.append("PiSSA")
    if recipe.loraplus:
        kinds.append("LoRA+")
    quantized = "Q" if (recipe.quantization or {}).get("load_in_4bit") else ""
    return quantized + (", ".join(kinds) or "LoRA")
