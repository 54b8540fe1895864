"""Training by several processes: one word names a configuration of ``accelerate launch``.

:func:`run_training` is called by ``rounds/stages/train.py``. As ``python -m training.launch FILE``
this file is one of the processes: it carries out the run whose JSON it is given.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from training.device import is_writer, quantization_fields, rank
from training.run import Recipe, TrainingRun, TrainSummary
from training.trainer import train
from workbench.console import console, publishing
from workbench.errors import EXIT_USER_ERROR, UserError, UserErrors, nearest
from workbench.inference.base_models import has_gpu
from workbench.inference.hub import hub_offline
from workbench.store import expanded, write_json

if TYPE_CHECKING:
    from accelerate.commands.config.config_args import ClusterConfig

SINGLE = "single"
CONFIGS = Path(__file__).parent / "accelerate"
_FOLDER = "launch"
"""Within the run's folder, gone at its end: the run as JSON, the log, the processes' mistakes."""
_LAST_WORDS = re.compile(r"^(?:\[rank\d+\]: ?)?(\w*(?:Error|Exception|Interrupt)\b.*)$")
_BATCH = ("gradient_accumulation_steps", "per_device_train_batch_size")
_DEFAULT_BATCH = {"gradient_accumulation_steps": 1, "per_device_train_batch_size": 8}
"""transformers' own."""
SPOKEN = "\x1etold "
"""How a line of a process begins that is for people; all others go to the log."""
ERRORS = "error-*.json"
"""Beside the run's JSON: the mistakes of the user that a process met."""
NEWS = "PERSONA_NEWS"
"""Environment variable: where progress is published for ``persona watch``."""


def launch_file(launch: str) -> Path:
    """Return the configuration that a word or a path names.

    Raises:
        UserError: Neither; the line names the nearest word.
    """
    path = expanded(launch)
    if path.suffix in (".yaml", ".yml", ".json") and path.is_file():
        return path
    shipped = {file.stem: file for file in sorted(CONFIGS.glob("*.yaml"))}
    if launch not in shipped:
        words = (SINGLE, *shipped)
        fix = nearest(launch, words) or f"one of {', '.join(words)}, or a YAML of accelerate's"
        raise UserError(f"there is no launch '{launch}'", where="train.launch", fix=fix)
    return shipped[launch]


def read_launch(launch: str) -> ClusterConfig:
    """Return a configuration as accelerate reads it.

    Raises:
        UserError: No such file, or one that accelerate refuses.
    """
    import yaml
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

    path = launch_file(launch)
    try:
        read = load_config_from_file(str(path))
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"accelerate refuses it: {reason}", where=str(path)) from None
    if not isinstance(read, ClusterConfig) or read.num_machines > 1:
        raise UserError(
            "is for several machines, and processes are started on this one alone",
            where=str(path),
            fix="set num_machines: 1",
        )
    return read


def check_launch(launch: str, processes: int | None = None) -> int:
    """Return how many processes will train; checked before anything runs.

    ``launch`` is :data:`SINGLE`, a shipped configuration's name, or a path of one; without
    ``processes`` it is the file's own number, else one a GPU.

    Raises:
        UserError: An unknown or broken configuration, or one that needs what is not here.
    """
    if launch == SINGLE:
        if (processes or 1) > 1:
            raise UserError(
                f"{processes} processes, but launch is {SINGLE}",
                where="train.processes",
                fix="say how they share the training, such as train.launch: ddp",
            )
        return 1
    config = read_launch(launch)
    kind = str(config.distributed_type.value)
    if kind == "DEEPSPEED" and find_spec("deepspeed") is None:
        raise UserError(
            f"launch {launch} needs the package deepspeed, which is not here",
            where="train.launch",
            fix="pip install deepspeed, or use fsdp",
        )
    if kind in ("FSDP", "DEEPSPEED") and not has_gpu():
        raise UserError(
            f"launch {launch} needs GPUs, and there is none here",
            where="train.launch",
            fix="use ddp, which also trains on processors",
        )
    count = processes or (config.num_processes if config.num_processes > 0 else _gpus())
    if not count:
        raise UserError(
            "nobody says how many processes shall train, and there is no GPU to count",
            where="train.processes",
            fix="set it, such as to 2",
        )
    if has_gpu() and count > _gpus():
        raise UserError(f"{count} processes, but {_gpus()} GPUs", where="train.processes")
    return count


def rows_per_step(recipe: Recipe) -> int:
    """Return how many rows one optimizer step trains on, in all processes together."""
    return math.prod(int(recipe.trainer.get(name) or _DEFAULT_BATCH[name]) for name in _BATCH)


def recipe_per_process(recipe: Recipe, launch: str, processes: int) -> Recipe:
    """Return the recipe for each of several processes: one step trains on the same rows as before.

    Accumulation is divided first, then the batch. FSDP also gets what sharding a 4-bit base needs:
    https://huggingface.co/docs/peft/accelerate/fsdp

    Raises:
        UserError: The rows of one step cannot be divided by ``processes``.
    """
    trainer, quantization = dict(recipe.trainer), recipe.quantization
    undivided = processes
    for name in _BATCH:
        before = int(trainer.get(name) or _DEFAULT_BATCH[name])
        if (common := math.gcd(before, undivided)) > 1:
            trainer[name], undivided = before // common, undivided // common
    if undivided > 1:
        raise UserError(
            f"a step's rows cannot be divided among {processes} processes",
            where="train.processes",
            fix=f"choose {' and '.join(_BATCH)} whose product it divides",
        )
    if read_launch(launch).distributed_type.value == "FSDP":
        if trainer.get("gradient_checkpointing"):
            trainer["gradient_checkpointing_kwargs"] = {"use_reentrant": False}
        if quantization and quantization.get("load_in_4bit"):
            filled = quantization_fields(quantization) or {}
            storage = filled["bnb_4bit_compute_dtype"]
            quantization = {**filled, "bnb_4bit_quant_storage": storage}
    return recipe.model_copy(update={"trainer": trainer, "quantization": quantization})


def run_training(
    run: TrainingRun,
    launch: str = SINGLE,
    processes: int | None = None,
    news: Path | None = None,
) -> TrainSummary:
    """Train: in this process, or in several that ``accelerate launch`` starts.

    ``launch`` and ``processes`` are as in :func:`check_launch`; ``news`` is where progress is
    published for ``persona watch``.

    Raises:
        UserError: What the processes say, or that one of them has ended, with the log's place.
    """
    if launch == SINGLE:
        return train(run)
    count = check_launch(launch, processes)
    run = run.model_copy(update={"recipe": recipe_per_process(run.recipe, launch, count)})
    folder = run.out / _FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    file = folder / "run.json"
    file.write_text(run.to_json(), encoding="utf-8")
    console.print(f"  {launch}: {count} processes")
    _run(_command(launch, count, file), _environment(news), folder / "log.txt")
    summary = TrainSummary.model_validate_json((run.out / "summary.json").read_text("utf-8"))
    shutil.rmtree(folder)
    return summary


def _command(launch: str, processes: int, run: Path) -> list[str]:
    import torch

    threads = max(1, torch.get_num_threads() // (1 if has_gpu() else processes))
    options: dict[str, object] = {
        "--config_file": launch_file(launch),
        "--num_processes": processes,
        "--main_process_port": 0,  # any that is free
        "--num_cpu_threads_per_process": threads,
    }
    arguments = [str(part) for option in options.items() for part in option]
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    return [*launcher, *arguments, "--module", "training.launch", str(run)]


def _environment(news: Path | None) -> dict[str, str]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if news:
        environment[NEWS] = str(news)
    if not has_gpu():
        environment["ACCELERATE_USE_CPU"] = "true"
        if sys.platform == "linux":
            # All processes are here: a machine whose name has no address can train as well.
            environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return environment


def _run(command: list[str], environment: dict[str, str], log: Path) -> None:
    """Run the launcher; what it says goes to ``log``, lines for people to the console."""
    last = ""
    # The processes end when standard input does: see _leave_with_the_command.
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    try:
        with log.open("w", encoding="utf-8") as file:
            for line in process.stdout:
                if line.startswith(SPOKEN):
                    console.print(line.removeprefix(SPOKEN).rstrip("\n"), markup=False)
                    continue
                file.write(line)
                if error := _LAST_WORDS.match(line.strip()):
                    last = error[1]
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if mistakes := _mistakes(log.parent):
        raise mistakes
    if code:
        raise UserError(
            f"a process of the training has ended: {last or f'exit code {code}'}",
            where=str(log),
            fix="that file tells more; the same command goes on from the last checkpoint",
        )


def _mistakes(folder: Path) -> UserError | None:
    """Return what the processes say that the user can mend; they mostly say the same."""
    lines = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob(ERRORS))]
    return UserErrors(UserError(line) for line in lines[0]) if lines else None


def _gpus() -> int:
    if not has_gpu():
        return 0
    import torch

    return int(torch.cuda.device_count())


class _Spoken(io.StringIO):
    """Standard output, each line marked as one for people."""

    def write(self, text: str) -> int:
        for line in text.splitlines():
            sys.stdout.write(f"{SPOKEN}{line}\n")
        sys.stdout.flush()
        return len(text)


def main(file: str) -> int:
    """Carry out a run as one of several processes; the user's mistakes are written beside it."""
    from accelerate import PartialState

    threading.Thread(target=_leave_with_the_command, daemon=True).start()
    path = Path(file)
    run = TrainingRun.model_validate_json(path.read_text(encoding="utf-8"))
    if is_writer():
        console.file = _Spoken()
    else:
        console.quiet = True
    news = os.environ.get(NEWS)
    try:
        with hub_offline(), publishing(Path(news)) if news and is_writer() else nullcontext():
            PartialState(cpu=not has_gpu())
            train(run)
    except UserError as error:
        write_json(path.with_name(ERRORS.replace("*", str(rank()))), error.lines())
        return EXIT_USER_ERROR
    return 0


def _leave_with_the_command() -> None:
    """End when the command that started all processes has ended, however it did.

    It holds the other end of standard input, which the system closes even after a kill -9.
    """
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
