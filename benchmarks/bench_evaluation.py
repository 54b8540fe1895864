"""Answering speed beside a bare `transformers` loop over the same prompts at the same batch.

``python benchmarks/bench_evaluation.py [--persona DIR] [--adapter DIR] [--rows 48] [--batch 16]``
prints tokens a second and peak memory of both ways, in one run, for the plain prompts and for those
led by the persona's system prompt, and the ratio against the bar. With ``--check`` the exit code is
1 where a ratio is below it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from workbench.inference.engines.batched import BatchedEngine
from workbench.inference.engines.chats import end_tokens, greedy_answers, prompt_ids
from workbench.meter import Meter
from workbench.persona import load_persona
from workbench.prompts import system_prompt, with_system
from workbench.records import Messages, user_prompt
from workbench.store import read_json_lines

BAR = 0.9
"""Least tokens a second over those of the bare loop."""
Said = list[tuple[str, int]]
"""Text and new tokens of each answer."""


def bare(model: Any, tokenizer: Any, chats: Sequence[Messages], batch: int, most: int) -> Said:
    """Answer in the order given with ``generate``, as anybody would write it."""
    import torch

    ends, said = end_tokens(model, tokenizer), []
    for start in range(0, len(chats), batch):
        ids = [prompt_ids(tokenizer, chat) for chat in chats[start : start + batch]]
        inputs = tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(model.device)
        with torch.inference_mode():
            output = model.generate(
                **inputs,
                max_new_tokens=most,
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=tokenizer.pad_token_id,
            )
        for row in output[:, inputs["input_ids"].shape[1] :].tolist():
            stop = next((i + 1 for i, token in enumerate(row) if token in ends), len(row))
            said.append((tokenizer.decode(row[:stop], skip_special_tokens=True).strip(), stop))
    return said


def ours(model: Any, tokenizer: Any, chats: Sequence[Messages], batch: int, most: int) -> Said:
    """Answer as the stages do."""
    engine = BatchedEngine(model, tokenizer, batch)
    answers = greedy_answers(engine, chats, max_new_tokens=most)
    return [(answer.text, answer.tokens) for answer in answers if answer]


def measured(way: Callable[..., Said], *arguments: Any) -> tuple[Said, float, float]:
    """Return the answers, tokens a second, and the peak memory in MiB."""
    with Meter() as meter:
        started = time.perf_counter()
        said = way(*arguments)
        spent = time.perf_counter() - started
    return said, sum(tokens for _, tokens in said) / spent, meter.peak_mib


def main() -> None:
    """Measure both ways with and without a system prompt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--persona", type=Path, default=Path("datasets/gym-trainer"))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--adapter", type=Path, help="Folder of an adapter, as in an arm.")
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()

    from workbench.inference.adapters import AdaptedModel
    from workbench.inference.base_models import resolve_model

    persona = load_persona(options.persona)
    lines = read_json_lines(options.persona / "seeds.jsonl")
    plain = [user_prompt(row["instruction"], row.get("input", "")) for _, row in lines]
    plain = plain[: options.rows]
    prompted = [with_system(system_prompt(persona), chat) for chat in plain]
    adapters = [options.adapter] if options.adapter else []
    adapted = AdaptedModel(resolve_model(options.model), adapters)
    model, tokenizer = adapted.use(options.adapter), adapted.tokenizer
    low = False
    print(f"{'prompts':9} {'bare tok/s':>10} {'ours tok/s':>10} {'ratio':>6} {'bar':>4}", end=" ")
    print(f"{'bare MiB':>8} {'ours MiB':>8} {'same text':>9}")
    warm = (model, tokenizer, plain[:2], 2, 4)
    bare(*warm), ours(*warm)
    for name, chats in (("plain", plain), ("prompted", prompted)):
        always = (model, tokenizer, chats, options.batch, options.tokens)
        own, fast, own_peak = measured(ours, *always)
        others, slow, peak = measured(bare, *always)
        same = sum(one[0] == other[0] for one, other in zip(own, others, strict=True))
        low |= fast / slow < BAR
        print(f"{name:9} {slow:10.1f} {fast:10.1f} {fast / slow:6.2f} {BAR:4}", end=" ")
        print(f"{peak:8.0f} {own_peak:8.0f} {same:5}/{len(own)}", flush=True)
    if low and options.check:
        sys.exit(1)


if __name__ == "__main__":
    main()
