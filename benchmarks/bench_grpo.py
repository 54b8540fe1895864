"""Does GRPO trade one trait for another? TRL's two ways to add rewards, on the same round.

``python benchmarks/bench_grpo.py runs/gym-trainer/round-001 [--steps 12] [--seeds 2]`` goes on from
the round's SFT adapter by ``grpo-embedded``, for each seed once with rewards added and then
normalized (TRL's default) and once normalized and then added. A seed also draws which traits are
held out of the reward. Printed are rewarded and held-out traits on the validation prompts before
and after, and what one way gains over the other, paired by prompt, with its interval.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from training import grpo
from training.recipe import load_recipe, recipe_path
from training.run import TrainingRun
from training.trainer import train
from workbench.inference.base_models import resolve_model
from workbench.persona import load_persona
from workbench.stats.bootstrap import percentile_interval

WAYS = ("sum_then_normalize", "normalize_then_sum")
BASE = "smollm2-135m"
PERSONA = Path("datasets/gym-trainer")
Means = dict[str, dict[str, float]]


def main() -> None:
    """Train each way with each seed and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("round", type=Path, help="folder of a round whose SFT is done")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    gains: dict[str, dict[str, list[float]]] = {way: {} for way in WAYS}
    for seed in range(options.seeds):
        for way in WAYS:
            before, after, groups = trained(options.round, way, seed, options.steps)
            for group, traits in groups.items():
                first, last = (per_prompt(means, traits) for means in (before, after))
                gained = [last[prompt] - first[prompt] for prompt in sorted(first)]
                gains[way].setdefault(group, []).extend(gained)
                means = f"{np.mean(list(first.values())):.2f} to {np.mean(list(last.values())):.2f}"
                print(f"seed {seed}  {way:20} {group:9} {means}  {interval(gained)}", flush=True)
    plain, other = (gains[way] for way in WAYS)
    for group in plain:
        apart = [b - a for a, b in zip(plain[group], other[group], strict=True)]
        print(f"{WAYS[1]} less {WAYS[0]}, {group}: {interval(apart)}")


def trained(folder: Path, way: str, seed: int, steps: int) -> tuple[Means, Means, dict[str, Any]]:
    """Return each prompt's traits before and after, and which were rewarded and held out."""
    changes = {"trainer.multi_objective_aggregation": way, "trainer.max_steps": steps}
    measured: list[Means] = []
    groups: dict[str, Any] = {}
    measure = grpo.RewardHooks._measure

    def kept(hooks: grpo.RewardHooks, trainer: Any) -> Means:
        measured.append(measure(hooks, trainer))
        groups.update(rewarded=hooks.rewards.rewarded, held_out=hooks.rewards.held_out)
        return measured[-1]

    grpo.RewardHooks._measure = kept  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as out:
            train(
                TrainingRun(
                    recipe=load_recipe(recipe_path("grpo-embedded"), changes),
                    model=resolve_model(BASE),
                    base_name=BASE,
                    train=folder / "split" / "train.jsonl",
                    validation=folder / "split" / "validation.jsonl",
                    out=Path(out),
                    seed=seed,
                    adapter=folder / "sft" / "adapter",
                    persona=load_persona(PERSONA),
                )
            )
    finally:
        grpo.RewardHooks._measure = measure  # type: ignore[method-assign]
    before, after = measured
    return before, after, groups


def per_prompt(means: Means, traits: tuple[str, ...]) -> dict[str, float]:
    """Return each prompt's mean over some traits."""
    return {prompt: float(np.mean([own[t] for t in traits])) for prompt, own in means.items()}


def interval(values: list[float]) -> str:
    """Return a mean with its 95 % bootstrap interval over prompts."""
    table = np.array(values)
    ends = percentile_interval(
        len(table), lambda counts: counts @ table / len(table), seed=0, resamples=2000
    )
    low, high = ends or (table.mean(), table.mean())
    return f"{table.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    main()
