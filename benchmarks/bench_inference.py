"""Every engine over the same prompts in one run: tokens a second and a processor's second, memory.

``make bench-inference`` (or ``python benchmarks/bench_inference.py [--rows 48] [--avx2]``) answers
the persona's questions alone and led by its system prompt, many at once, and a few one after the
other. Engines are ours (:mod:`workbench.inference.engines.batched`), a plain loop of transformers'
``generate``, its continuous batching (``generate_batch``), and llama.cpp with the embedded model's
own file. The last column is the engine's tokens a processor's second over those of plain
``generate`` in the same group: other work on the machine takes from the seconds, and little from
those. ``--avx2`` holds torch to AVX2, as most laptops and small servers have it; llama.cpp's build
chooses its own. With ``--check`` the exit code is 1 where ours is below its bar, led by a system
prompt.

``--round FOLDER`` asks what the evaluation of that finished round asked instead: every so many-th
(``--each``) of its prompts, ours in the evaluation's batch and plain ``generate`` in ``--batch``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from rounds import Round
from rounds.arms import own_arms
from rounds.layout import INSTRUCTIONS, RESPONSES, SAFETY_ANSWERS, SURFACE_ANSWERS, adapter
from workbench.inference.adapters import AdaptedModel
from workbench.inference.base_models import resolve_model
from workbench.inference.embedded import EMBEDDED, gguf_file
from workbench.inference.engines.batched import BatchedEngine
from workbench.inference.engines.chats import Engine, end_tokens, greedy_answers, prompt_ids
from workbench.inference.engines.llamacpp import LlamaCpp, available
from workbench.meter import Meter, give_memory_back
from workbench.persona import load_persona
from workbench.prompts import system_prompt, with_system
from workbench.records import Messages, user_prompt
from workbench.store import read_json_lines

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BAR = 1.3
"""Least of ours over ``generate_batch`` where a system prompt leads, as it does half of an
evaluation's arms; else our own batching would have to go."""
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
_PAGE = 64
Answers = list[tuple[str, int]]
"""Text and new tokens of each answer."""
Way = Callable[[Sequence[Messages], int], Answers]
"""Answers chats, at most so many at once."""


@dataclass(frozen=True)
class Loaded:
    """A model in memory, and the most new tokens of an answer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    most: int

    def ours(self, chats: Sequence[Messages], batch: int) -> Answers:
        """Answer as the stages do."""
        return self.by(BatchedEngine(self.model, self.tokenizer, batch), chats, batch)

    def by(self, engine: Engine, chats: Sequence[Messages], batch: int) -> Answers:
        """Answer with any engine; at one at once each is handed over when the last is done."""
        groups = [chats] if batch > 1 else [[chat] for chat in chats]
        return [
            (answer.text, answer.tokens)
            for group in groups
            for answer in greedy_answers(engine, group, max_new_tokens=self.most)
            if answer
        ]

    def plain(self, chats: Sequence[Messages], batch: int) -> Answers:
        """Answer in the order given with ``generate``, as anybody would write it."""
        import torch

        ends, answers = end_tokens(self.model, self.tokenizer), []
        for start in range(0, len(chats), batch):
            ids = [prompt_ids(self.tokenizer, chat) for chat in chats[start : start + batch]]
            inputs = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt")
            with torch.inference_mode():
                output = self.model.generate(
                    **inputs.to(self.model.device),
                    max_new_tokens=self.most,
                    do_sample=False,
                    eos_token_id=ends,
                    pad_token_id=self.tokenizer.pad_token_id,
                )
            for row in output[:, inputs["input_ids"].shape[1] :].tolist():
                stop = next((i + 1 for i, token in enumerate(row) if token in ends), len(row))
                answers.append((self._text(row[:stop]), stop))
        return answers

    def continuous(self, chats: Sequence[Messages], batch: int) -> Answers:
        """Answer with transformers' continuous batching, with pages for so many prompts.

        Left to itself it takes pages for all of the memory that there is, and as much more time.
        """
        from transformers import ContinuousBatchingConfig, GenerationConfig

        config = GenerationConfig(
            max_new_tokens=self.most,
            do_sample=False,
            eos_token_id=end_tokens(self.model, self.tokenizer),
            pad_token_id=self.tokenizer.pad_token_id,
        )
        before = self.model.config._attn_implementation
        ids = [prompt_ids(self.tokenizer, chat) for chat in chats]
        pages = -(-(max(map(len, ids)) + self.most) // _PAGE)
        outputs = self.model.generate_batch(
            inputs=ids,
            generation_config=config,
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=_PAGE, num_blocks=batch * pages, max_requests_per_batch=batch
            ),
        )
        self.model.set_attn_implementation(before)
        names = sorted(outputs, key=lambda name: int(name.rpartition("_")[2]))
        tokens = [outputs[name].generated_tokens for name in names]
        return [(self._text(own), len(own)) for own in tokens]

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()


@dataclass
class Measured:
    """What one engine took for a group of chats."""

    answers: Answers
    seconds: float
    cpu_seconds: float
    peak_mib: float

    @property
    def tokens(self) -> int:
        """New tokens of all answers."""
        return sum(tokens for _, tokens in self.answers)

    @property
    def per_cpu_second(self) -> float:
        """Tokens of a processor's second."""
        return self.tokens / self.cpu_seconds


def measured(way: Way, chats: Sequence[Messages], batch: int) -> Measured:
    """Answer chats and return what it took, processes that it started included."""
    give_memory_back()
    with Meter() as meter, _processor_seconds() as spent:
        started = time.perf_counter()
        answers = way(chats, batch)
        seconds = time.perf_counter() - started
    return Measured(answers, seconds, spent[0], meter.peak_mib)


@contextmanager
def _processor_seconds() -> Iterator[list[float]]:
    def now() -> float:
        own = psutil.Process()
        all_times = [one.cpu_times() for one in (own, *own.children(recursive=True))]
        return sum(times.user + times.system for times in all_times)

    before, spent = now(), [0.0]
    yield spent
    spent[0] = now() - before


def main() -> None:
    """Print a row for each engine and group of prompts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--persona", type=Path, default=Path("datasets/gym-trainer"))
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--adapter", type=Path, help="Folder of an adapter, as in an arm.")
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--singles", type=int, default=6, help="Prompts asked one by one.")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--round", type=Path, help="Ask what this round's evaluation asked.")
    parser.add_argument("--each", type=int, default=4, help="Of a round: every so many-th prompt.")
    parser.add_argument("--avx2", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.avx2 and any(os.environ.get(name) != value for name, value in AVX2.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **AVX2})
    if options.round:
        measure_round(Round(options.round), options.each, options.batch)
        return
    persona = load_persona(options.persona)
    lines = read_json_lines(options.persona / "seeds.jsonl")
    chats = [user_prompt(row["instruction"], row.get("input", "")) for _, row in lines]
    chats = chats[: options.rows]
    prompted = [with_system(system_prompt(persona), chat) for chat in chats]
    adapted = AdaptedModel(
        resolve_model(options.model), [options.adapter] if options.adapter else []
    )
    on = Loaded(adapted.use(options.adapter), adapted.tokenizer, options.tokens)
    print_head(on)
    low = False
    for name, group, batch in (
        ("alone", chats, options.batch),
        ("prompted", prompted, options.batch),
        ("one by one", prompted[: options.singles], 1),
    ):
        row = Row(name, group, batch)
        row.measure("plain", on.plain)
        row.measure("ours", on.ours)
        if batch > 1:
            row.measure("continuous", on.continuous)
            low |= group is prompted and row.over("ours", "continuous") < BAR
        if options.model == EMBEDDED and not options.adapter and available():
            with LlamaCpp(gguf_file(), slots=batch) as server:
                row.measure("llama.cpp", partial(on.by, server))
    sys.exit(low and options.check)


def print_head(on: Loaded) -> None:
    """Print what is computed with, and the table's head."""
    import torch

    print(f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads,", end=" ")
    print(f"{str(on.model.dtype).removeprefix('torch.')}, {on.most} new tokens at most")
    print(f"{'prompts':11}engine     {'tok/s':>8}{'tok/cpu s':>10}{'MiB':>7}", end="")
    print(f"{'same text':>11}{'over plain':>11}", flush=True)


def measure_round(of: Round, each: int, batch: int) -> None:
    """Print a row for plain ``generate`` and ours for each local arm of a round's evaluation.

    An arm's prompts are all that it answered greedily in one turn: questions, probes, the safety
    case, other surfaces, instructions.
    """
    files = (RESPONSES, SAFETY_ANSWERS, SURFACE_ANSWERS, INSTRUCTIONS)
    answers = [one for file in files if of.has(file) for one in of.read(file)]
    most = max(one.tokens for one in answers)
    asked: dict[str, dict[str, Messages]] = {}
    for one in answers:
        if not (one.seed or one.turn):
            asked.setdefault(one.arm, {})[one.prompt_id] = one.prompt
    config, stages = of.context.config, {own.name: own.stage for own in own_arms(of.context)}
    folders = {arm: of.path(adapter(stage)) for arm, stage in stages.items() if stage}
    adapted = AdaptedModel(resolve_model(config.model), [*dict.fromkeys(folders.values())])
    totals: dict[str, list[tuple[int, float]]] = {"plain": [], "ours": []}
    for arm in stages:
        chats = [*asked[arm].values()][::each]
        on = Loaded(adapted.use(folders.get(arm)), adapted.tokenizer, most)
        if arm == next(iter(stages)):
            print_head(on)
        row = Row(arm, chats, batch)
        row.measure("plain", on.plain)
        row.measure("ours", lambda group, _, on=on: on.ours(group, config.evaluate.batch_size))
        for engine, one in row.engines.items():
            totals[engine].append((one.tokens, one.cpu_seconds))
    plain, ours = (np.divide(*np.sum(totals[engine], axis=0)) for engine in ("plain", "ours"))
    print(f"all arms: ours {ours:.1f} tok/cpu s, plain {plain:.1f}: {ours / plain:.2f} times")


@dataclass
class Row:
    """A group of prompts, and what each engine took for it."""

    name: str
    chats: Sequence[Messages]
    batch: int
    engines: dict[str, Measured] = field(default_factory=dict)

    def measure(self, engine: str, way: Way) -> None:
        """Measure an engine and print it beside plain ``generate``, which comes first."""
        way(self.chats[:1], self.batch)  # what the first call alone takes
        self.engines[engine] = one = measured(way, self.chats, self.batch)
        plain = self.engines["plain"]
        same = sum(a[0] == b[0] for a, b in zip(plain.answers, one.answers, strict=True))
        print(f"{self.name:11}{engine:11}{one.tokens / one.seconds:8.1f}", end="")
        print(f"{one.per_cpu_second:10.1f}{one.peak_mib:7.0f}{same:7}/{len(self.chats):<3}", end="")
        print(f"{self.over(engine, 'plain'):11.2f}", flush=True)

    def over(self, engine: str, other: str) -> float:
        """Return an engine's tokens a processor's second over another's."""
        return self.engines[engine].per_cpu_second / self.engines[other].per_cpu_second


if __name__ == "__main__":
    main()
