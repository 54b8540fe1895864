"""``persona export`` on a round whose adapter is there: files, the Hub, and bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.cli.main import main
from evaluation.prices import Prices, SearchedPrompt
from rounds.layout import PRICES
from tests.app.cli.conftest import trained_round
from tests.scripted_hub import ScriptedHub
from tests.training.export.conftest import make_adapter, make_base
from workbench.arm_names import FEW_SHOT, OPTIMISED
from workbench.errors import EXIT_USER_ERROR
from workbench.inference.engines.llamacpp import available

TOKEN = "hf_verysecret4711"


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and an adapter of it."""
    folder = tmp_path_factory.mktemp("trained")
    make_adapter(folder / "adapter", make_base(folder / "base", tiny_model))
    return folder


@pytest.fixture
def options(persona_folder: Path, trained: Path, tmp_path: Path) -> list[str]:
    """The options of a round that was trained and not evaluated."""
    return trained_round(tmp_path, persona_folder, trained)


@pytest.mark.skipif(not available(), reason="NO LLAMA.CPP: no GGUF is checked on this machine")
def test_gguf_of_the_last_stage_with_the_gates_table(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "gguf", "--type", "f16", "--prompts", "2", *options]) == 0
    out, err = capsys.readouterr()
    made = tmp_path / "runs" / "tester" / "round-001" / "export" / "sft-gguf-f16"
    assert out.strip() == str(made)
    assert {p.name for p in made.iterdir()} == {"tester-sft-f16.gguf", "README.md", "gate.json"}
    for told in ("prompts with the same token ids", "2 of 2", "none on file", "(bound 0.02)"):
        assert told in err
    assert main(["export", "gguf", "--type", "f16", "--name", "coach", "--all", *options]) == 0
    assert json.loads((made / "gate.json").read_text())["parity"]["prompts"] == 3
    assert (made / "coach-f16.gguf").exists() and not (made / "tester-sft-f16.gguf").exists()


def test_bad_input_is_one_line(
    options: list[str],
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def said(*arguments: str) -> str:
        command = arguments if arguments[0] == "eject" else ("export", *arguments)
        assert main([*command, *options]) == EXIT_USER_ERROR
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and "Traceback" not in err
        return err

    assert "no stage 'sftt' with an adapter — did you mean 'sft'?" in said(
        "merged", "--stage", "sftt"
    )
    assert "run `persona train dpo --" in said("merged", "--stage", "dpo")
    assert "run `persona train dpo --" in said("eject", "--stage", "dpo")
    assert "'so/so' is no name for an export" in said("adapter", "--name", "so/so")
    assert "'nowhere' is no name on the Hub — give OWNER/NAME" in said("hub", "nowhere")
    assert "'sp ace' is no name for an export" in said("hub", "me/sp ace")
    other = make_base(tmp_path / "other", trained / "base")
    assert "the adapter was trained on" in said("merged", "--model", str(other))
    split = tmp_path / "runs" / "tester" / "round-001" / "split" / "test.jsonl"
    split.write_text("", encoding="utf-8")
    assert "the round has no held-out prompt" in said("merged")


def test_an_adapter_is_exported_at_a_strength_and_the_card_says_so(
    options: list[str], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file

    command = ["export", "adapter", "--strength", "0.5", "--prompts", "1", *options]
    assert main(command) == 0
    made = Path(capsys.readouterr().out.strip())
    assert made.name == "sft-0.5-adapter"
    own, scaled = (
        load_file(folder / "adapter_model.safetensors") for folder in (trained / "adapter", made)
    )
    assert own.keys() == scaled.keys()
    for name, weight in own.items():
        assert scaled[name].equal(weight * 0.5 if "lora_B" in name else weight)
    card = (made / "README.md").read_text("utf-8")
    assert "# tester-sft-0.5" in card and "The adapter is at strength 0.5" in card
    assert json.loads((made / "gate.json").read_text())["parity"]["identical"] == 1


PROMPT = "You are Gunnar. Say champ."


@pytest.fixture
def prompted(options: list[str], tmp_path: Path) -> Path:
    """The folder of the round, for which an evaluation searched prompts."""
    made = tmp_path / "runs" / "tester" / "round-001"
    found = [
        SearchedPrompt(arm=OPTIMISED, text=PROMPT),
        SearchedPrompt(arm=FEW_SHOT, text=f"{PROMPT}\nQuestion: Deep?\nAnswer: Deep, champ."),
    ]
    made.joinpath(PRICES.path).parent.mkdir(parents=True)
    prices = Prices(arms=(), prompts=tuple(found))
    made.joinpath(PRICES.path).write_text(prices.model_dump_json(), encoding="utf-8")
    return made


@pytest.mark.skipif(not available(), reason="NO LLAMA.CPP: no GGUF is checked on this machine")
def test_the_arm_that_won_is_exported_with_its_own_prompt(
    options: list[str], prompted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", "ollama", "--type", "f16", "--prompts", "1", *options]
    for arm, part, text in (
        (OPTIMISED, "base-optimised", PROMPT),
        (FEW_SHOT, "base-few-shot", f"{PROMPT}\nQuestion: Deep?\nAnswer: Deep, champ."),
    ):
        assert main([*command, "--arm", arm, "--system"]) == 0
        made = prompted / "export" / f"{part}-ollama-f16"
        assert Path(capsys.readouterr().out.strip()) == made
        modelfile = (made / "Modelfile").read_text("utf-8")
        assert f'SYSTEM """{text}"""' in modelfile and "ADAPTER" not in modelfile
        assert (made / "system_prompt.txt").read_text("utf-8") == text
    # A stage under the persona's own prompt.
    assert main([*command, "--system"]) == 0
    modelfile = (prompted / "export" / "sft-prompt-ollama-f16" / "Modelfile").read_text("utf-8")
    assert "Coach" in modelfile and PROMPT not in modelfile
    assert main(["export", "gguf", "--type", "f16", "--arm", OPTIMISED, *options]) == 0
    made = prompted / "export" / "base-optimised-gguf-f16"
    preset = json.loads((made / "tester-base-optimised.preset.json").read_text("utf-8"))
    fields = {one["key"]: one["value"] for one in preset["operation"]["fields"]}
    assert fields["llm.prediction.systemPrompt"] == PROMPT
    assert fields["llm.prediction.temperature"] == 0


def test_an_arm_that_is_not_there_is_one_line(
    options: list[str], prompted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> str:
        assert main([*arguments, *options]) == EXIT_USER_ERROR
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        return err

    assert "there is no arm 'base+optimized'" in said("export", "gguf", "--arm", "base+optimized")
    both = ("--arm", OPTIMISED, "--stage", "sft")
    assert "is asked for, and --stage sft too" in said("export", "merged", *both)
    assert "the base has no adapter" in said("export", "adapter", "--arm", OPTIMISED)
    scaled = ("--arm", OPTIMISED, "--strength", "0.5")
    assert "nothing to scale" in said("export", "merged", *scaled)
    prompted.joinpath(PRICES.path).unlink()
    searched = said("export", "merged", "--arm", OPTIMISED)
    assert f"no prompt was searched for the arm '{OPTIMISED}' yet" in searched
    assert "run `persona evaluate --prompts" in searched
    both = ("--arm", "base+prompt", "--adapter", "sft")
    assert "--adapter too" in said("serve", *both)


def test_nothing_is_exported_from_an_untrained_round(
    of_round: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    options = of_round("http://127.0.0.1:1/v1")
    assert main(["export", "merged", *options]) == EXIT_USER_ERROR
    assert "no adapter 'sft' — run `persona train sft --" in capsys.readouterr().err


def test_the_hub_gets_cards_that_link_and_a_bound_licence_is_asked_for(
    options: list[str], trained: Path, tmp_path: Path, repo: Path
) -> None:
    def run(url: str, *more: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "HF_ENDPOINT": url,
            "HF_TOKEN": TOKEN,
            "HF_HUB_OFFLINE": "0",
            # The Hub's own store of large files speaks no plain HTTP; LFS does.
            "HF_HUB_DISABLE_XET": "1",
            **variables,
        }
        command = [sys.executable, "-m", "app.cli.main", "export", "hub", "team/coach"]
        return subprocess.run(
            [*command, "--dataset", "team/rows", "--prompts", "1", *more, *options],
            cwd=repo,
            env=environment,
            capture_output=True,
            text=True,
        )

    with ScriptedHub(TOKEN) as hub:
        (trained / "base" / "README.md").write_text("---\nlicense: gemma\n---\n", encoding="utf-8")
        refused = run(hub.url, "--push")
        assert refused.returncode == EXIT_USER_ERROR and not hub.repositories
        assert "Gemma Terms of Use" in refused.stderr and "--accept-licence" in refused.stderr
        done = run(hub.url, "--push", "--accept-licence")
    assert done.returncode == 0, done.stderr
    assert hub.repositories.keys() == {"models/team/coach", "datasets/team/rows"}
    model, rows = hub.repositories["models/team/coach"], hub.repositories["datasets/team/rows"]
    assert model.keys() == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    made = tmp_path / "runs" / "tester" / "round-001" / "export" / "sft-hub-adapter"
    size = (made / "adapter_model.safetensors").stat().st_size
    assert hub.large == {model["adapter_model.safetensors"]: size}
    head = yaml.safe_load(model["README.md"].split("---\n")[1])
    assert (head["license"], head["datasets"]) == ("gemma", ["team/rows"])
    assert "free redistribution is forbidden" in model["README.md"]
    assert "https://huggingface.co/team/coach" in rows["README.md"]
    documents = {"datasheet.md", "croissant.json"}
    assert rows.keys() == {"README.md", "train.jsonl", "test.jsonl", *documents}
    assert "**Where does each row come from?**" in model["README.md"]
    everything: Any = [*model.values(), *rows.values(), done.stdout, done.stderr]
    assert not any(TOKEN in text for text in everything)
