"""``persona serve`` as a real server on loopback."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from app.cli.main import main
from generation.baseline import baseline_answers
from rounds.context import RoundContext, open_context
from rounds.models import linked_model, model_folder
from rounds.runner import StageSpec, Work, run_stage
from workbench.config import GenerateSettings
from workbench.errors import EXIT_USER_ERROR
from workbench.inference.adapters import save_adapter
from workbench.inference.base_models import load_model, load_tokenizer
from workbench.inference.endpoint import Endpoint, check_reachable, free_port
from workbench.records import Example, user_prompt

pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")


QUESTIONS = ("the chair?", "champ walks now?", "the trainer answers?")


def adapter_stage(context: RoundContext) -> StageSpec:
    """A stage whose adapter PEFT has drawn at random: it says other things than its base."""

    def run(work: Work) -> None:
        import torch
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(1)
        drawn = LoraConfig(r=8, lora_alpha=64, target_modules="all-linear", init_lora_weights=False)
        model = get_peft_model(load_model(Path(context.config.model)), drawn)
        save_adapter(model, work.out / "adapter", context.config.model)

    return StageSpec("sft", run)


def greedy(folder: Path, adapter: Path | None = None) -> list[str]:
    """Answer through transformers and PEFT themselves, the adapter beside its base."""
    tokenizer, model = load_tokenizer(folder), load_model(folder)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    texts = []
    for question in QUESTIONS:
        turns = [{"role": "user", "content": question}]
        asked = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        output = model.generate(**asked, max_new_tokens=8, do_sample=False)
        said = output[0, asked["input_ids"].shape[1] :]
        texts.append(tokenizer.decode(said, skip_special_tokens=True).strip())
    return texts


@pytest.mark.slow
def test_a_rounds_adapter_is_served_merged_into_its_base(
    of_round: Callable[..., list[str]], tmp_path: Path, tiny_model: Path
) -> None:
    port = free_port()
    options = of_round("http://127.0.0.1:1/v1")
    context = open_context(config=tmp_path / "run.yaml", runs=tmp_path / "runs")
    run_stage(context.round, adapter_stage(context), seed=0)
    command = [sys.executable, "-m", "app.cli.main", "serve", "--adapter", "sft"]
    server = subprocess.Popen(
        [*command, "--port", str(port), *options],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        student = Endpoint.model_validate(yaml.safe_load(server.stdout.readline()))
        assert student.model == "tester-sft"
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while True:
            assert server.poll() is None and time.monotonic() < end
            try:
                if httpx.get(f"{url}/health").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.5)
        check_reachable(student)
        asked = [Example(prompt=user_prompt(question), answer="Up.") for question in QUESTIONS]
        baseline = baseline_answers(
            asked, student, GenerateSettings(max_new_tokens=8), workdir=tmp_path / "work"
        )
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
    said = [response.text for response in baseline.responses]
    assert said == greedy(tiny_model, context.round.stage("sft") / "adapter")
    assert said != greedy(tiny_model)
    # Merged once: the second time the folder is there already.
    assert model_folder(context, "sft").stat().st_mtime < time.time() - 1
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_the_base_is_served_under_its_own_name(
    of_round: Callable[..., list[str]], tmp_path: Path, tiny_model: Path
) -> None:
    of_round("http://127.0.0.1:1/v1")
    link = linked_model(open_context(config=tmp_path / "run.yaml", runs=tmp_path / "runs"), None)
    assert (link.name, link.resolve()) == ("tiny-llama", tiny_model.resolve())


def test_what_cannot_be_served_is_told(
    of_round: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    options = of_round("http://127.0.0.1:1/v1")
    assert main(["serve", "--adapter", "dpo", *options]) == EXIT_USER_ERROR
    assert (
        "the round has no adapter 'dpo' — run `persona train dpo` first" in capsys.readouterr().err
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["serve", "--port", port, *options]) == EXIT_USER_ERROR
    assert f"port {port} is taken" in capsys.readouterr().err
