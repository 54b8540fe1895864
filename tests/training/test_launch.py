"""Two processes over gloo against one, and the shipped configurations through accelerate itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.waiting import PATIENCE, waited
from training.launch import CONFIGS, check_launch, read_launch, recipe_per_process, run_training
from training.launch import _command as command_of
from training.launch import _run as run_command
from training.run import Recipe, TrainingRun, TrainSummary
from workbench.errors import UserError
from workbench.inference.base_models import has_gpu
from workbench.persona import Persona
from workbench.records import Example, user_prompt
from workbench.store import write_records

from .conftest import GRPO, QUANTIZED, SFT, curve, recipe_of, run_of

SHIPPED = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
TOLERANCE = 1e-3
"""Of a step's loss, in nats: float32 is summed in another order, which AdamW makes more of."""
STEPS = 12


def ddp_run(tiny_model: Path, rows: Path, out: Path, **trainer: object) -> TrainingRun:
    recipe = recipe_of(
        {**SFT, "quantization": {**QUANTIZED, "bnb_4bit_compute_dtype": "float32"}},
        bf16=False,
        fp16=False,
        max_steps=STEPS,
        **trainer,
    )
    return run_of(recipe, tiny_model, rows, out, seed=3)


@pytest.fixture(scope="module")
def both(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, list[int]]:
    """The folders of one process's run and of two processes', which are killed -9 on the way."""
    folder = tmp_path_factory.mktemp("launch")
    one, two = folder / "one", folder / "two"
    examples = folder / "train.jsonl"
    # Of very different lengths: a mean over each process's own tokens would show.
    rows = (
        Example(prompt=user_prompt(f"question {n}"), answer="champ walks right now " * (1 + n % 6))
        for n in range(12)
    )
    write_records(examples, rows)
    run_training(ddp_run(tiny_model, examples, one))
    run = ddp_run(tiny_model, examples, two)
    file = folder / "run.json"
    file.write_text(run.to_json())
    code = (
        "import pathlib, sys; from training.launch import run_training; from training.run import"
        " TrainingRun; text = pathlib.Path(sys.argv[1]).read_text();"
        " run_training(TrainingRun.model_validate_json(text), 'ddp', 2)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(file)], start_new_session=True)
    waited(
        lambda: list(two.glob("checkpoints/checkpoint-*/trainer_state.json")),
        unless=lambda: parent.poll() is not None,
    )
    others = [child.pid for child in psutil.Process(parent.pid).children(recursive=True)]
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    living = [psutil.Process(pid) for pid in others if psutil.pid_exists(pid)]
    left = psutil.wait_procs(living, PATIENCE)[1]
    run_training(run, "ddp", 2)
    return one, two, [process.pid for process in left]


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one_although_they_were_killed_on_the_way(
    both: tuple[Path, Path, list[int]],
) -> None:
    one, two, _ = both
    losses = [[entry["loss"] for entry in curve(out) if "loss" in entry] for out in (one, two)]
    summary = TrainSummary.model_validate_json((two / "summary.json").read_text())

    assert summary.resumed_from >= 4
    assert len(losses[1]) == summary.steps == STEPS
    assert losses[1] == pytest.approx(losses[0], abs=TOLERANCE)
    assert losses[0][-1] < losses[0][0] - 0.5


@pytest.mark.slow
def test_the_adapter_of_two_processes_is_that_of_one_and_only_one_of_them_wrote(
    both: tuple[Path, Path, list[int]],
) -> None:
    from safetensors.torch import load_file

    one, two, left = both
    names = [sorted(p.name for p in out.rglob("*") if p.is_file()) for out in (one, two)]
    weights = [load_file(out / "adapter" / "adapter_model.safetensors") for out in (one, two)]

    assert left == []
    assert names[0] == names[1]
    for name, weight in weights[0].items():
        assert (weights[1][name] - weight).abs().max() < 1e-2, name
    recipe = (two / "recipe.yaml").read_text()
    assert "per_device_train_batch_size: 2" in recipe


@pytest.mark.slow
def test_a_mistake_that_a_process_finds_is_the_users_one_line(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"no": "row"}\n')
    file = tmp_path / "run.json"
    file.write_text(ddp_run(tiny_model, rows, tmp_path / "out").to_json())
    rank = [sys.executable, "-m", "training.launch", str(file)]
    with pytest.raises(UserError) as raised:
        run_command(rank, dict(os.environ), tmp_path / "log.txt")
    assert raised.value.lines() == [
        f"{rows}:1: no valid Example: prompt: Field required — run the stage that wrote it again"
    ]


def test_a_process_that_breaks_is_one_line_and_its_story_is_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with pytest.raises(UserError, match="has ended: ValueError: the reason") as raised:
        run_command([sys.executable, "-c", "raise ValueError('the reason')"], dict(os.environ), log)
    assert str(log) in raised.value.line()
    assert "Traceback" in log.read_text() and "Traceback" not in raised.value.line()


@pytest.mark.parametrize("launch", SHIPPED)
def test_accelerate_takes_every_shipped_configuration_and_its_command_line(
    launch: str, tmp_path: Path
) -> None:
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils import DeepSpeedPlugin, FullyShardedDataParallelPlugin, patch_environment
    from accelerate.utils.launch import prepare_multi_gpu_env

    kind = read_launch(launch).distributed_type.value
    command = command_of(launch, 2, tmp_path / "run.json")
    arguments, defaults, _ = _validate_launch_command(
        launch_command_parser().parse_args(command[3:])
    )
    assert (arguments.num_processes, arguments.num_machines) == (2, 1)
    assert arguments.training_script == "training.launch" and arguments.module
    assert defaults.distributed_type.value == kind
    if kind == "DEEPSPEED":
        fields = {k: v for k, v in defaults.deepspeed_config.items() if not k.startswith("zero3_")}
        fields = {k: None if v == "auto" else v for k, v in fields.items()}
        made = DeepSpeedPlugin(**fields).deepspeed_config
        assert made["zero_optimization"]["stage"] == int(launch[-1])
        assert made["zero_optimization"]["offload_param"]["device"] == "none"
        assert json.loads(json.dumps(made)) == made
        # Without it ZeRO-3 leaves no adapter that can be written.
        assert bool(defaults.deepspeed_config.get("zero3_save_16bit_model")) == ("3" in launch)
        return
    environment = prepare_multi_gpu_env(arguments)
    assert ("ACCELERATE_USE_FSDP" in environment) == (kind == "FSDP")
    if kind == "FSDP":
        with patch_environment(**environment):
            plugin = FullyShardedDataParallelPlugin()
        assert plugin.fsdp_version == 2
        assert plugin.cpu_ram_efficient_loading is True
        assert plugin.reshard_after_forward is True
        assert "FULL_STATE_DICT" in str(plugin.state_dict_type)


def test_fsdp_gets_what_sharding_a_four_bit_base_needs() -> None:
    recipe = recipe_of(SFT, gradient_checkpointing=True, per_device_train_batch_size=4)
    quantized = {**QUANTIZED, "bnb_4bit_compute_dtype": "bfloat16"}
    shared = recipe_per_process(recipe.model_copy(update={"quantization": quantized}), "fsdp", 2)
    assert shared.quantization is not None
    assert shared.quantization["bnb_4bit_quant_storage"] == "bfloat16"
    assert shared.trainer["gradient_checkpointing_kwargs"] == {"use_reentrant": False}
    plain = recipe_per_process(recipe, "ddp", 2)
    assert plain.quantization == QUANTIZED
    assert "gradient_checkpointing_kwargs" not in plain.trainer


@pytest.mark.parametrize(
    ("batch", "accumulation", "processes", "wanted"),
    [
        (4, 2, 2, (4, 1)),
        (8, 1, 2, (4, 1)),
        (8, 2, 4, (4, 1)),
        (2, 4, 8, (1, 1)),
        (3, 2, 2, (3, 1)),
        (3, 4, 6, (1, 2)),
    ],
)
def test_a_step_trains_on_as_many_rows_however_many_processes_share_them(
    batch: int, accumulation: int, processes: int, wanted: tuple[int, int]
) -> None:
    fields = {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
    }
    shared = recipe_per_process(recipe_of(SFT, **fields), "ddp", processes)
    got = tuple(shared.trainer.get(name, 1) for name in fields)
    assert got == wanted
    assert got[0] * got[1] * processes == batch * accumulation


def test_rows_that_processes_cannot_share_are_one_line() -> None:
    with pytest.raises(UserError, match="cannot be divided among 3 processes"):
        recipe_per_process(recipe_of(SFT, per_device_train_batch_size=4), "ddp", 3)


def test_mistakes_of_the_setting_are_one_line_each(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("distributed_type: MULTI_GPU\nnum_processors: 2\n")
    many = tmp_path / "many.yaml"
    many.write_text("distributed_type: MULTI_GPU\nnum_machines: 2\nnum_processes: 4\n")
    wrong = {
        "dpd": "did you mean 'ddp'",
        str(broken): "num_processors",
        str(many): "is for several machines",
    }
    if not has_gpu():
        wrong |= {"fsdp": "needs GPUs", "ddp": "nobody says how many processes"}
    for launch, said in wrong.items():
        with pytest.raises(UserError, match=said) as raised:
            check_launch(launch)
        assert "\n" not in raised.value.line()
    assert check_launch("single") == check_launch("single", 1) == 1
    with pytest.raises(UserError, match="2 processes, but launch is single"):
        check_launch("single", 2)
    if not has_gpu():
        assert check_launch("ddp", 2) == 2


def test_a_run_is_the_same_after_it_was_written_and_read(
    tiny_model: Path, examples: Path, small_persona: Persona, tmp_path: Path
) -> None:
    run = run_of(recipe_of(GRPO), tiny_model, examples, tmp_path / "out", persona=small_persona)
    again = TrainingRun.model_validate_json(run.to_json())

    assert again == run
    assert isinstance(again.recipe, Recipe)
    assert again.identity() == run.identity()
