"""The runs that bench_training.py compares, each made in a process of its own."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from training.device import PeakMemory, device_fields, quantization_fields, quiet
from training.methods import TRAINING_METHODS
from training.recipe import load_recipe, recipe_path
from training.run import Recipe, TrainingRun
from training.self_distillation import teacher_template
from workbench.inference.base_models import has_gpu, resolve_model
from workbench.persona import load_persona
from workbench.records import Example, Preference, UnpairedPreference, user_prompt
from workbench.store import read_json_lines, read_records, write_records

BASE = os.environ.get("BENCH_BASE", "smollm2-135m")
"""On a GPU the weights are random, so a folder with a configuration and a tokenizer is enough."""
PERSONA = Path("datasets/gym-trainer")
_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NEW = ("sft", "sdft")
"""Methods that make an adapter of their own."""
WARM_UP = 1
"""Steps that are not timed: the first one compiles kernels."""


class Steps(TrainerCallback):  # type: ignore[misc]
    """Keeps the seconds and the loss of every step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.tokens = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop the clock."""
        self.seconds.append(time.perf_counter() - self._started)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Keep the loss."""
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))
            self.tokens = float(logs.get("num_tokens", 0))


def write_rows(folder: Path) -> None:
    """Write 48 of the persona's own rows, pairs that prefer them to a dull answer, and halves."""
    seeds = [row for _, row in read_json_lines(PERSONA / "seeds.jsonl")][:48]
    write_records(
        folder / "sft.jsonl",
        [Example(prompt=user_prompt(r["instruction"]), answer=r["output"]) for r in seeds],
    )
    dull = "As an assistant I can say that exercise is good for you, and that you should rest too."
    write_records(
        folder / "dpo.jsonl",
        [
            Preference(prompt=user_prompt(r["instruction"]), chosen=r["output"], rejected=dull)
            for r in seeds
        ],
    )
    write_records(
        folder / "kto.jsonl",
        [
            UnpairedPreference(
                prompt=user_prompt(r["instruction"]),
                answer=dull if n % 2 else r["output"],
                label=n % 2 == 0,
            )
            for n, r in enumerate(seeds)
        ],
    )


def rows_of(method: str, folder: Path) -> Path:
    """Return the file of rows that a method learns from."""
    return folder / f"{method if method in ('dpo', 'kto') else 'sft'}.jsonl"


def recipe_of(method: str, steps: int, changes: dict[str, Any]) -> Recipe:
    """Return the shipped recipe for this device, cut to a few steps without evaluation."""
    few = {
        "trainer.max_steps": steps,
        "trainer.logging_steps": 1,
        "trainer.save_steps": steps,
        "trainer.eval_strategy": "no",
    }
    name = method if has_gpu() else f"{method}-embedded"
    return load_recipe(recipe_path(name), {**few, **changes})


def random_llama3_8b(quantization: dict[str, Any]) -> Any:
    """Return Llama-3-8B's shape on the GPU with random weights, packed layer by layer.

    16 GB of weights in half precision are never there at once, so that the peak is training's.
    """
    import torch

    from training.plan.model_shapes import bare_model, pack, with_layers
    from training.plan.recipes import shape_config

    config = shape_config("llama3-8b")
    with torch.device("meta"):
        model = bare_model(config, torch.bfloat16)
    with torch.device("cuda"):
        one = bare_model(with_layers(config, 1), torch.bfloat16)
        # Its buffers are computed when it is made, and are not there on "meta".
        model.model.rotary_emb = one.model.rotary_emb
        for block in model.model.layers:
            _fill(block)
            pack(block, quantization)
        _fill(model)
    model.is_loaded_in_4bit = True  # by which TRL and PEFT know it
    return model


def _fill(module: Any) -> None:
    """Give random values to the weights that are on "meta"."""
    import torch

    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            if weight.is_meta:
                values = torch.randn(weight.shape, dtype=torch.bfloat16, device="cuda") * 0.02
                setattr(part, name, torch.nn.Parameter(values, requires_grad=False))


def run_of(method: str, recipe: Recipe, folder: Path) -> TrainingRun:
    """Return the workbench's run of a method."""
    return TrainingRun(
        recipe=recipe,
        model=resolve_model(BASE),
        base_name=BASE,
        train=rows_of(method, folder),
        out=folder / f"ours-{method}",
        seed=0,
        adapter=None if method in NEW else folder / "adapter",
        persona=load_persona(PERSONA) if recipe.samples else None,
    )


def ours(method: str, recipe: Recipe, folder: Path, steps: Steps) -> None:
    """Train with the workbench."""
    import training.trainer as trainer

    monitor = trainer._monitor

    def timed(made: Any, *arguments: Any) -> Any:
        shown = monitor(made, *arguments)
        made.add_callback(steps)  # last, so that what the workbench does at a step's end counts
        return shown

    trainer._monitor = timed  # type: ignore[assignment]
    if has_gpu():
        trainer.load_base = lambda *_: random_llama3_8b(recipe.quantization or {})  # type: ignore
    trainer.train(run_of(method, recipe, folder))


_AS_TRL: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "sft": lambda r: {
        "prompt": r["prompt"],
        "completion": [{"role": "assistant", "content": r["answer"]}],
    },
    "dpo": lambda r: {
        "prompt": r["prompt"],
        "chosen": [{"role": "assistant", "content": r["chosen"]}],
        "rejected": [{"role": "assistant", "content": r["rejected"]}],
    },
    "kto": lambda r: {
        "prompt": r["prompt"],
        "completion": [{"role": "assistant", "content": r["answer"]}],
        "label": r["label"],
    },
    "grpo": lambda r: {"prompt": r["prompt"]},
    "sdft": lambda r: {"prompt": r["prompt"], "privileged_context": r["answer"]},
}


def bare(method: str, recipe: Recipe, folder: Path, steps: Steps) -> None:
    """Train with TRL alone: what a script of its documentation would do with the same fields."""
    import torch
    from datasets import load_dataset
    from peft import LoraConfig, PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    fields = device_fields(recipe.trainer) | {
        "output_dir": str(folder / f"bare-{method}"),
        "seed": 0,
        "data_seed": 0,
        "report_to": "none",
        "disable_tqdm": True,
    }
    base = resolve_model(BASE)
    tokenizer = AutoTokenizer.from_pretrained(base)
    packed = quantization_fields(recipe.quantization) or {}
    if has_gpu():
        model = random_llama3_8b(packed)
    else:
        model = AutoModelForCausalLM.from_pretrained(
            base,
            dtype=torch.bfloat16 if fields["bf16"] else torch.float32,
            quantization_config=BitsAndBytesConfig(**packed),
            device_map="cpu",
        )
    rows = load_dataset("json", data_files=str(rows_of(method, folder)), split="train")
    rows = rows.map(_AS_TRL[method], remove_columns=rows.column_names)
    way = TRAINING_METHODS[recipe.method]
    config = way.config_class()(**fields)
    more: dict[str, Any] = {}
    if method == "sdft":  # what the teacher reads is as long as the workbench's
        config.teacher_prompt_template = teacher_template(load_persona(PERSONA))
    if method in NEW:
        more["peft_config"] = LoraConfig(task_type="CAUSAL_LM", **(recipe.lora or {}))
    else:
        model = PeftModel.from_pretrained(model, folder / "adapter", is_trainable=True)
    if method == "grpo":
        more["reward_funcs"] = [_exclaims]
    trainer: Any = way.trainer_class()(
        model=model, args=config, train_dataset=rows, processing_class=tokenizer, **more
    )
    trainer.add_callback(steps)
    trainer.train()
    trainer.save_model(str(folder / f"bare-{method}" / "adapter"))


def _exclaims(completions: list[Any], **_: Any) -> list[float]:
    """Reward an exclamation mark: any cheap reward, since scoring is not what is timed."""
    return [float("!" in one[0]["content"]) + len(one[0]["content"]) / 1e3 for one in completions]


def make_adapter(folder: Path) -> None:
    """Write an untrained adapter of the shipped recipe, to go on with."""
    from peft import LoraConfig, get_peft_model

    from workbench.inference.adapters import save_adapter
    from workbench.inference.base_models import load_model

    lora = recipe_of("sft", 1, {}).lora or {}
    base = random_llama3_8b({}) if has_gpu() else load_model(resolve_model(BASE))
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **lora))
    save_adapter(model, folder / "adapter", BASE)


def make_base(folder: Path) -> None:
    """Write a base that is nowhere else, and an untrained adapter of it to go on with.

    It is a tokenizer of the rows' own text and a configuration.

    On a GPU it has Llama-3-8B's shape and no weights, which are made on the device; elsewhere some
    hundred thousand random weights.
    """
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    from training.plan.recipes import shape_config

    texts = [
        f"{one.prompt[-1].content} {one.answer}"
        for one in read_records(folder / "sft.jsonl", Example)
    ]
    ends = ["<|im_start|>", "<|im_end|>"]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=2000, special_tokens=ends)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, eos_token=ends[1], pad_token=ends[1], padding_side="left"
    )
    tokenizer.chat_template = _CHATML
    tokenizer.save_pretrained(folder / "base")
    if has_gpu():
        shape_config("llama3-8b").save_pretrained(folder / "base")
        make_adapter(folder)
        return
    small = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(small).save_pretrained(folder / "base")
    make_adapter(folder)


def make_weights(folder: Path) -> None:
    """Write the random weights of Llama-3-8B's shape as files, which Unsloth reads: 16 GB."""
    random_llama3_8b({}).save_pretrained(folder / "base")


def unsloth(method: str, recipe: Recipe, folder: Path, steps: Steps) -> None:
    """Train SFT with Unsloth's model class, as ``persona eject --engine unsloth`` writes it."""
    from unsloth import FastLanguageModel  # isort: skip, before the libraries that it patches
    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer

    if method != "sft":
        raise ValueError("Unsloth is measured on sft")
    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=str(folder / "base"), max_seq_length=2048, load_in_4bit=True
    )
    model = FastLanguageModel.get_peft_model(model, **(recipe.lora or {}))
    rows = load_dataset("json", data_files=str(folder / "sft.jsonl"), split="train")
    rows = rows.map(_AS_TRL["sft"], remove_columns=rows.column_names)
    own = {"output_dir": str(folder / "unsloth"), "seed": 0, "report_to": "none"}
    config = SFTConfig(**(device_fields(recipe.trainer) | own))
    trainer = SFTTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer)
    trainer.add_callback(steps)
    trainer.train()


def cap_memory() -> None:
    """Keep this process to so many GiB of the GPU as ``BENCH_CAP_GIB`` says, such as a T4's 16."""
    import torch

    if (gib := os.environ.get("BENCH_CAP_GIB")) and torch.cuda.is_available():
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(float(gib) * 2**30 / whole, 1.0))


def planned(method: str, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Return what the plan says of the same run, before it."""
    from training.methods import read_rows
    from training.plan.plan import EstimateRequest, make_plan

    run = run_of(method, recipe, folder)
    plan = make_plan(EstimateRequest(run, read_rows(recipe, run.train)))
    return {"step": plan.step_seconds, "peak": plan.peak_mib}


def main(
    kind: str, method: str, steps: int, folder: str, changes: dict[str, Any], plain_head: bool
) -> dict[str, Any]:
    """Make one run and return its figures."""
    made = {"base": make_base, "weights": make_weights, "adapter": make_adapter}
    cap_memory()
    if kind in made:
        made[kind](Path(folder))
        return {}
    recipe = recipe_of(method, steps, changes)
    if kind == "plan":
        return planned(method, recipe, Path(folder))
    if plain_head:
        import training.trainer as trainer

        trainer.cpu_lm_head = nullcontext  # type: ignore[assignment, attr-defined]
    seen = Steps()
    with quiet(), PeakMemory() as peak:
        {"ours": ours, "bare": bare, "unsloth": unsloth}[kind](method, recipe, Path(folder), seen)
    timed = seen.seconds[WARM_UP:]
    return {
        "step": statistics.median(timed),
        "peak": peak.gpu_mib or peak.peak_mib,
        "losses": seen.losses,
        "rate": seen.tokens / sum(seen.seconds),
    }


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
