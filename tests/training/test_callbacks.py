from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from training.callbacks import STOP_AFTER, TrainingHealth, report_to, tracked
from training.rewards import DISTINCT, HELD_OUT, REWARDED
from training.trainer import train
from workbench.config import TRACKERS
from workbench.errors import UserError

from .conftest import SFT, building_with, curve, recipe_of, run_of


def say(health: TrainingHealth, entries: list[dict[str, Any]]) -> list[str]:
    return [text for step, entry in enumerate(entries, 1) for text in health.warnings(entry, step)]


def test_a_loss_that_explodes_stops_the_run_and_a_spike_does_not() -> None:
    calm = [{"loss": 2.0}, {"loss": 9.0}, {"loss": 2.1}, {"loss": 9.0}, {"loss": 9.5}]

    assert say(TrainingHealth(), calm) == []
    with pytest.raises(UserError, match=r"explodes: 9.9 at step 6, after 2 at its lowest"):
        say(TrainingHealth(), [*calm, {"loss": 9.9}])


def test_a_loss_below_0_does_not_explode_by_wavering() -> None:
    # The robust loss of DPO falls without end as the margin grows.
    wavering = [{"loss": value} for value in (0.69, -0.6, -0.5, -0.4, -0.5, -0.55)]

    assert say(TrainingHealth(), wavering) == []
    with pytest.raises(UserError, match="explodes"):
        say(TrainingHealth(), [*wavering, *[{"loss": 2.0}] * 3])


def test_the_loss_of_grpo_is_not_looked_at() -> None:
    entries = [{"loss": value, "reward": 0.5} for value in (0.0, 5.0, 6.0, 7.0)]

    assert say(TrainingHealth(), entries) == []


def test_rewards_without_variance_warn_and_then_stop() -> None:
    flat = {"reward": 0.0, "frac_reward_zero_std": 1}

    assert (
        say(TrainingHealth(), [flat, flat, {**flat, "frac_reward_zero_std": 0.9}, flat, flat]) == []
    )
    assert "same reward for 3 steps" in say(TrainingHealth(), [flat] * 3)[0]
    with pytest.raises(UserError, match=f"no variance for {STOP_AFTER} steps"):
        say(TrainingHealth(), [flat] * STOP_AFTER)


def test_an_entry_without_rewards_does_not_break_the_row() -> None:
    flat = {"reward": 0.0, "frac_reward_zero_std": 1}

    assert say(TrainingHealth(), [flat, flat, {"eval_reward": 1.0}, flat])


@pytest.mark.parametrize("sign", [{DISTINCT: 0}, {"completions/mean_length": 0}])
def test_collapsed_completions_stop_the_run(sign: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"collapsed.*beta"):
        say(TrainingHealth(), [{"reward": 0.0, **sign}] * 3)


def test_a_hacked_reward_shows_in_what_is_held_out() -> None:
    def history(rewarded: list[float], held_out: list[float]) -> list[dict[str, Any]]:
        pairs = zip(rewarded, held_out, strict=True)
        return [{REWARDED: up, HELD_OUT: down} for up, down in pairs]

    rising, falling = [0.2, 0.3, 0.6, 0.7, 0.9, 1.0], [0.9, 0.8, 0.6, 0.5, 0.4, 0.3]

    assert "rose by 0.70 while those held out fell by 0.50" in TrainingHealth().hacked(
        history(rising, falling)
    )
    assert TrainingHealth().hacked(history(rising, rising)) == ""
    assert TrainingHealth().hacked(history(rising[:2], falling[:2])) == ""
    assert TrainingHealth().hacked([]) == ""


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(
    tiny_model: Path, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file
    from transformers import TrainerCallback

    class Spoils(TrainerCallback):  # type: ignore[misc]
        """Spoils the third step as too high a rate does: a weight is no number."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
            if state.global_step == 2:
                weight = next(w for w in parts["model"].parameters() if w.requires_grad)
                weight.data.fill_(math.nan)

    monkeypatch.setattr("training.trainer.build", building_with(Spoils()))
    with pytest.raises(UserError, match=r"loss is nan at step 3.*lower learning_rate"):
        train(
            run_of(
                recipe_of(SFT, max_steps=4, logging_steps=1, save_steps=2),
                tiny_model,
                examples,
                tmp_path,
            )
        )

    kept = load_file(tmp_path / "checkpoints/checkpoint-2/adapter_model.safetensors")
    assert all(bool(weight.isfinite().all()) for weight in kept.values())
    assert not (tmp_path / "adapter").exists()


def test_a_gradient_that_overflows_in_float16_is_the_scaler_s_to_skip() -> None:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from training.callbacks import TrainingMonitor

    arguments = TrainingArguments(bf16=False, use_cpu=True)
    state = TrainerState(log_history=[{"loss": 2.0, "grad_norm": math.inf, "step": 1}])
    with pytest.raises(UserError, match="grad_norm is inf"):
        TrainingMonitor("", None).on_log(arguments, state, TrainerControl())  # type: ignore[arg-type]
    arguments.fp16 = True
    TrainingMonitor("", None).on_log(arguments, state, TrainerControl())  # type: ignore[arg-type]


def test_the_last_loss_is_looked_at_however_rarely_one_is_logged(
    tiny_model: Path, examples: Path, tmp_path: Path
) -> None:
    rare = recipe_of(SFT, max_steps=3, logging_steps=2, save_steps=2)
    summary = train(run_of(rare, tiny_model, examples, tmp_path))

    assert [entry["step"] for entry in curve(tmp_path)] == [2, 3]
    assert summary.loss_last == curve(tmp_path)[-1]["loss"]


def test_a_metric_that_is_not_measured_is_one_line(
    tiny_model: Path, examples: Path, tmp_path: Path
) -> None:
    wrong = recipe_of(
        SFT,
        max_steps=2,
        eval_strategy="steps",
        eval_steps=1,
        metric_for_best_model="token_accuracy",
    )

    with pytest.raises(UserError, match=r"which no evaluation.*'mean_token_accuracy'"):
        train(run_of(wrong, tiny_model, examples, tmp_path, validation=examples))


def test_a_tracker_that_is_not_installed_or_not_known_is_one_line() -> None:
    assert report_to("none") == "none"
    with pytest.raises(UserError, match=r"no tracker 'wandbb'.*did you mean 'wandb'"):
        report_to("wandbb")
    for word in TRACKERS:
        package = word.removesuffix("-online")
        if word != "none" and find_spec(package) is None:
            with pytest.raises(UserError, match=f"pip install {package}"):
                report_to(word)


def test_a_tracker_writes_beside_the_run_and_leaves_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.callbacks.find_spec", lambda name: object())
    monkeypatch.setenv("WANDB_MODE", "online")

    with tracked("wandb", tmp_path / "run", "sft"):
        assert os.environ["WANDB_MODE"] == "offline"
        assert Path(os.environ["WANDB_DIR"]) == tmp_path / "tracking" / "sft"
    assert os.environ["WANDB_MODE"] == "online"
    assert "WANDB_DIR" not in os.environ
    with tracked("wandb-online", tmp_path / "run", "sft"):
        assert os.environ["WANDB_MODE"] == "online"
    with tracked("none", tmp_path / "other" / "run", "sft"):
        assert not (tmp_path / "other").exists()


@pytest.fixture
def no_trackio_after() -> Iterator[None]:
    """TRL asks for whatever package of that name is imported: the stand-in must not stay."""
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        del sys.modules[name]


@pytest.mark.usefixtures("no_trackio_after")
def test_trackio_writes_there_though_it_was_imported_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "trackio"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from trackio.utils import TRACKIO_DIR\n")
    (package / "utils.py").write_text(
        "from pathlib import Path\nTRACKIO_DIR = Path('home')\nMEDIA_DIR = TRACKIO_DIR / 'media'\n"
    )
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setattr("training.callbacks.find_spec", lambda name: object())
    import trackio

    folder = tmp_path / "tracking" / "sft"
    with tracked("trackio", tmp_path / "run", "sft"):
        assert folder == trackio.TRACKIO_DIR
        assert folder / "media" == trackio.utils.MEDIA_DIR
