"""Answering speed beside transformers' own ways, over the same prompts at the same batch.

``python benchmarks/bench_evaluation.py [--persona DIR] [--adapter DIR] [--rows 48] [--batch 16]``
prints tokens a second and peak memory of our engine and of a plain loop of ``generate``, in one
run, for the prompts alone and for those led by the persona's system prompt, and the ratio against
the bar. ``--continuous`` adds transformers' continuous batching (``generate_batch``). With
``--check`` the exit code is 1 where a ratio is below its bar.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from workbench.inference.adapters import AdaptedModel
from workbench.inference.base_models import resolve_model
from workbench.inference.engines.batched import BatchedEngine
from workbench.inference.engines.chats import end_tokens, greedy_answers, prompt_ids
from workbench.meter import Meter
from workbench.persona import load_persona
from workbench.prompts import system_prompt, with_system
from workbench.records import Messages, user_prompt
from workbench.store import read_json_lines

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BAR = 0.9
"""Least tokens a second over those of the plain loop."""
Answers = list[tuple[str, int]]
"""Text and new tokens of each answer."""


class Setting(NamedTuple):
    """What chats are answered by, so many at once and with at most so many new tokens."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    batch: int
    most: int


Way = Callable[[Setting, Sequence[Messages]], Answers]


def ours(on: Setting, chats: Sequence[Messages]) -> Answers:
    """Answer as the stages do."""
    engine = BatchedEngine(on.model, on.tokenizer, on.batch)
    answers = greedy_answers(engine, chats, max_new_tokens=on.most)
    return [(answer.text, answer.tokens) for answer in answers if answer]


def plain(on: Setting, chats: Sequence[Messages]) -> Answers:
    """Answer in the order given with ``generate``, as anybody would write it."""
    import torch

    ends, answers = end_tokens(on.model, on.tokenizer), []
    for start in range(0, len(chats), on.batch):
        ids = [prompt_ids(on.tokenizer, chat) for chat in chats[start : start + on.batch]]
        inputs = on.tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(on.model.device)
        with torch.inference_mode():
            output = on.model.generate(
                **inputs,
                max_new_tokens=on.most,
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=on.tokenizer.pad_token_id,
            )
        for row in output[:, inputs["input_ids"].shape[1] :].tolist():
            stop = next((i + 1 for i, token in enumerate(row) if token in ends), len(row))
            answers.append(
                (on.tokenizer.decode(row[:stop], skip_special_tokens=True).strip(), stop)
            )
    return answers


def continuous(on: Setting, chats: Sequence[Messages]) -> Answers:
    """Answer with transformers' continuous batching, which chooses its batch itself."""
    from transformers import GenerationConfig

    config = GenerationConfig(
        max_new_tokens=on.most,
        do_sample=False,
        eos_token_id=end_tokens(on.model, on.tokenizer),
        pad_token_id=on.tokenizer.pad_token_id,
    )
    before = on.model.config._attn_implementation
    outputs = on.model.generate_batch(
        inputs=[prompt_ids(on.tokenizer, chat) for chat in chats], generation_config=config
    )
    on.model.set_attn_implementation(before)
    tokens = [outputs[name].generated_tokens for name in sorted(outputs, key=_number)]
    return [
        (on.tokenizer.decode(own, skip_special_tokens=True).strip(), len(own)) for own in tokens
    ]


def _number(name: str) -> int:
    return int(name.rpartition("_")[2])


def main() -> None:
    """Measure the ways with and without a system prompt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--persona", type=Path, default=Path("datasets/gym-trainer"))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--adapter", type=Path, help="Folder of an adapter, as in an arm.")
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--continuous", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()

    persona = load_persona(options.persona)
    lines = read_json_lines(options.persona / "seeds.jsonl")
    chats = [user_prompt(row["instruction"], row.get("input", "")) for _, row in lines]
    chats = chats[: options.rows]
    prompted = [with_system(system_prompt(persona), chat) for chat in chats]
    adapters = [options.adapter] if options.adapter else []
    adapted = AdaptedModel(resolve_model(options.model), adapters)
    model, tokenizer = adapted.use(options.adapter), adapted.tokenizer
    ways: list[Way] = [ours, plain, *([continuous] if options.continuous else [])]
    for way in ways:
        way(Setting(model, tokenizer, 2, 4), chats[:2])
    setting, low = Setting(model, tokenizer, options.batch, options.tokens), False
    print(f"{'prompts':9} {'way':10} {'tok/s':>7} {'MiB':>6} {'same text':>9} {'ours over it':>12}")
    for name, group in (("alone", chats), ("prompted", prompted)):
        own: Answers = []
        fastest = 0.0
        for way in ways:
            with Meter() as meter:
                started = time.perf_counter()
                answers = way(setting, group)
                seconds = time.perf_counter() - started
            speed = sum(tokens for _, tokens in answers) / seconds
            own, fastest = own or answers, fastest or speed
            same = sum(a[0] == b[0] for a, b in zip(own, answers, strict=True))
            low |= fastest / speed < BAR
            row = f"{name:9} {way.__name__:10} {speed:7.1f} {meter.peak_mib:6.0f}"
            print(f"{row} {same:5}/{len(own)} {fastest / speed:12.2f}", flush=True)
    if low and options.check:
        sys.exit(1)


if __name__ == "__main__":
    main()
