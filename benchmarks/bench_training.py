"""What the workbench adds to a bare TRL script: step time and peak memory of the same recipe.

``make bench-training`` (or ``python benchmarks/bench_training.py [--steps 5] [--only sft]``) trains
the embedded model on the shipped gym trainer's rows, each run in a process of its own: the bare
script, then the workbench, then what the plan says, for each method; then what each choice of the
CPU recipe brought. On a machine with a GPU the model is Llama-3-8B's shape with random NF4 weights
made on the device.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training_runs import write_rows

from workbench.inference.base_models import has_gpu

LIMIT = 1.05
METHODS = ("sft", "dpo", "kto", "grpo", "sdft")
CHILD = Path(__file__).with_name("training_runs.py")
CHOICES: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "float32 instead of bfloat16": {
        "trainer.bf16": False,
        "quantization.bnb_4bit_compute_dtype": "float32",
    },
    "4 batches of 2 rows instead of 1 of 8": {
        "trainer.per_device_train_batch_size": 2,
        "trainer.gradient_accumulation_steps": 4,
    },
    "logits at every token, in TRL's tiles": {},
}
HEAD = "logits at every token, in TRL's tiles"


def main() -> None:
    """Run every pair of processes and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--only", choices=(*METHODS, "choices"), help="one part alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder))
        measure("adapter", "sft", 1, Path(folder))
        for method in METHODS:
            if options.only in (None, method):
                compare(method, options.steps, Path(folder))
        if not has_gpu():
            print("Llama-3-8B's shape with random NF4 weights waits for a GPU: there is none here")
        elif options.only == "choices":
            print("the choices are those of a processor: there is a GPU here")
        if options.only in (None, "choices") and not has_gpu():
            print(f"\nwhat each choice brings, SFT, {options.steps} steps")
            shipped = measure("ours", "sft", options.steps, Path(folder))
            for name, changes in CHOICES.items():
                one = shipped
                if name != "as shipped":
                    one = measure("ours", "sft", options.steps, Path(folder), changes, name == HEAD)
                step, peak = (one[key] / shipped[key] for key in ("step", "peak"))
                print(
                    f"  {name:40} {one['step']:6.2f} s a step ({step:.2f}x)"
                    f"  {one['peak']:6.0f} MiB ({peak:.2f}x)"
                )


def compare(method: str, steps: int, folder: Path) -> None:
    """Print one method's figures and its two ratios."""
    kinds = ("bare", "ours") if has_gpu() else ("bare", "ours", "plan")
    # On a GPU the random model has no folder to plan from; bench_gpu.py makes one.
    show(method, {kind: measure(kind, method, steps, folder) for kind in kinds})


def show(method: str, runs: Mapping[str, dict[str, Any]]) -> None:
    """Print what is there of a method's runs by their kind, and the ratios to the bare one."""
    names = {"bare": "bare TRL", "ours": "workbench", "unsloth": "Unsloth"}
    for kind in (kind for kind in names if kind in runs):
        one = runs[kind]
        print(
            f"{method} {names[kind]:10} {one['step']:6.2f} s a step  {one['peak']:6.0f} MiB"
            f"  {one['rate']:6.0f} tokens/s  loss {one['losses'][0]:.3f} to {one['losses'][-1]:.3f}"
        )
    if "ours" in runs and "bare" in runs:
        step, peak = (runs["ours"][key] / runs["bare"][key] for key in ("step", "peak"))
        print(f"{method} ratio: step time {step:.2f}, peak memory {peak:.2f} (limit {LIMIT})")
    if "ours" in runs and "plan" in runs:
        ours, said = runs["ours"], runs["plan"]
        step, peak = (said[key] / ours[key] - 1 if said[key] else 0.0 for key in ("step", "peak"))
        print(
            f"{method} planned    {said['step'] or 0:6.2f} s a step ({step:+.0%})"
            f"  {said['peak']:6.0f} MiB ({peak:+.0%})",
            flush=True,
        )


def measure(
    kind: str,
    method: str,
    steps: int,
    folder: Path,
    changes: dict[str, Any] | None = None,
    plain_head: bool = False,
    *,
    python: str = sys.executable,
    env: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Return the figures of one run in a process of its own.

    Raises:
        subprocess.SubprocessError: It failed, or took longer than ``seconds``.
    """
    wanted = {
        "kind": kind,
        "method": method,
        "steps": steps,
        "folder": str(folder),
        "changes": changes or {},
        "plain_head": plain_head,
    }
    done = subprocess.run(
        [python, str(CHILD), json.dumps(wanted)],
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=seconds,
    )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    main()
