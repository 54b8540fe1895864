"""How much of round 1 is left after round 2: plain LoRA against PEFT's OSF, on the embedded model.

``make bench-osf`` (or ``python benchmarks/bench_osf.py [--steps 8]``). Round 1 teaches the shipped
gym trainer's voice, round 2 the timetable of a front desk, without any row of round 1. What counts
is the loss on rows that were held out of each. LoRA goes on with its adapter; OSF
(https://arxiv.org/abs/2504.07097) merges round 1 into the weights, splits them anew, and learns
only in directions orthogonal to the strongest ones.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

from training.data import prompt_completion
from training.device import device_fields, quiet
from training.trl_patches import cpu_lm_head
from workbench.inference.base_models import load_model, load_tokenizer, resolve_model
from workbench.records import Example, user_prompt
from workbench.store import read_json_lines

SEEDS = Path("datasets/gym-trainer/seeds.jsonl")
LAYERS = ["v_proj", "down_proj"]
HELD_OUT = 12
TRAINED = 48
KEPT_RANK = {"round 1": 0.5, "round 2": 0.75}
"""Share of each weight's directions that OSF leaves alone: more, the more has been learnt."""
RATES = {"LoRA": 1e-3, "OSF": 2e-4}
Rows = list[dict[str, Any]]


def trainer_rows() -> Rows:
    """Return round 1: questions that the gym trainer answered."""
    seeds = itertools.islice(read_json_lines(SEEDS), TRAINED + HELD_OUT)
    return [_row(row["instruction"], row["output"]) for _, row in seeds]


def desk_rows() -> Rows:
    """Return round 2: questions about a timetable, answered in a dry way."""
    courses = ("Rowing", "Stretching", "Back care", "Boxing", "Mobility")
    days = ("Monday", "Tuesday", "Wednesday", "Thursday")
    halls = ("Hall A", "Hall B", "Studio 2")
    rows = [
        _row(
            f"When is {course.lower()} on {day} in {hall}?",
            f"{course} in {hall}: {day}, {7 + 3 * number} o'clock. Please bring your member card.",
        )
        for (number, day), course, hall in itertools.product(enumerate(days), courses, halls)
    ]
    # Spread, so that the held-out ones are of every course and day.
    return [rows[(7 * place) % len(rows)] for place in range(TRAINED + HELD_OUT)]


def _row(question: str, answer: str) -> dict[str, Any]:
    return prompt_completion(Example(prompt=user_prompt(question), answer=answer))


class Learner:
    """The embedded model with one kind of adapter, through both rounds."""

    def __init__(self, kind: str, steps: int, folder: Path) -> None:
        import torch

        self.kind, self.steps, self._folder = kind, steps, folder
        base = resolve_model("smollm2-135m")
        self._tokenizer = load_tokenizer(base)
        torch.manual_seed(0)
        # OSF factors the weights themselves, so neither of the two gets packed ones.
        self.model: Any = load_model(base, dtype=torch.float32)

    def learn(self, name: str, rows: Rows) -> None:
        """Train on all rows but the held-out ones."""
        from peft import LoraConfig, OSFConfig, get_peft_model

        if self.kind == "OSF":
            if hasattr(self.model, "merge_and_unload"):
                self.model = self.model.merge_and_unload()
            config = OSFConfig(
                task_type="CAUSAL_LM", effective_rank=KEPT_RANK[name], target_modules=LAYERS
            )
            self.model = get_peft_model(self.model, config)
        elif not hasattr(self.model, "peft_config"):
            lora = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules=LAYERS)
            self.model = get_peft_model(self.model, lora)
        trainer = self._trainer(rows[:-HELD_OUT], rows[-HELD_OUT:])
        trainer.train()
        self.model = trainer.model

    def loss(self, rows: Rows) -> float:
        """Return the mean loss of a token on the held-out rows."""
        held_out = rows[-HELD_OUT:]
        return float(self._trainer(held_out, held_out).evaluate()["eval_loss"])

    def _trainer(self, train: Rows, held_out: Rows) -> Any:
        from datasets import Dataset
        from transformers import PrinterCallback
        from trl import SFTConfig, SFTTrainer

        fields: dict[str, Any] = {
            "output_dir": str(self._folder),
            "max_steps": self.steps,
            "learning_rate": RATES[self.kind],
            "lr_scheduler_type": "constant_with_warmup",
            "warmup_steps": 2,
            "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": HELD_OUT,
            "max_length": 256,
            "gradient_checkpointing": False,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "optim": "adamw_torch",
            "seed": 0,
        }
        trainer = SFTTrainer(
            model=self.model,
            args=SFTConfig(**device_fields(fields)),
            train_dataset=Dataset.from_list(train),
            eval_dataset=Dataset.from_list(held_out),
            processing_class=self._tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        return trainer


def kept(before: float, learnt: float, after: float) -> float:
    """Return the share of what a round brought that is left: 1 all of it, 0 none, below 0 worse."""
    return (before - after) / (before - learnt)


def main() -> None:
    """Take both through both rounds and print what each keeps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=8, help="of each round")
    steps = parser.parse_args().steps
    first, second = trainer_rows(), desk_rows()
    for kind in ("LoRA", "OSF"):
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, quiet(), cpu_lm_head():
            learner = Learner(kind, steps, Path(folder))
            losses = [(learner.loss(first), learner.loss(second))]
            for name, rows in (("round 1", first), ("round 2", second)):
                learner.learn(name, rows)
                losses.append((learner.loss(first), learner.loss(second)))
        one, two = zip(*losses, strict=True)
        print(
            f"{kind:4}  trainer's voice: loss {one[0]:.2f}, after round 1 {one[1]:.2f}, after round"
            f" 2 {one[2]:.2f}: {kept(one[0], one[1], one[2]):.0%} kept; timetable {two[0]:.2f} to"
            f" {two[2]:.2f} ({two[0] - two[2]:.2f} learnt); {time.monotonic() - started:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
