"""Prompts that try harder, through the stage of evaluation: what is sent, kept and left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evaluation.arms import ModelPool
from evaluation.prices import Prices
from rounds.arms import own_arms
from rounds.context import RoundContext, open_context
from rounds.layout import PRICES, RESPONSES, TEST, TRAIN, VALIDATION, Manifest
from rounds.models import known_arm, model_folder, open_export
from rounds.pipeline import run_stages
from rounds.prompt_arms import PromptSearch, arm_prompt, left_out
from rounds.talks import arms_of
from tests.round_to_evaluate import write_round
from tests.scripted_server import ScriptedServer, says
from workbench.arm_names import OPTIMISED
from workbench.store import write_records


def _context(home: Path, config: Path, **changes: Any) -> RoundContext:
    settings = json.loads(config.read_text("utf-8"))
    settings["evaluate"] |= {"prompt_arms": ["optimised"], "prompt_budget": {"reflections": 2}}
    settings["evaluate"]["arms"] = ["base", "base+prompt", OPTIMISED]
    # The held-out questions say all here; what else an evaluation asks has tests of its own.
    nothing = dict.fromkeys(("probes", "conversations", "drift", "safety", "requests"), 0)
    settings["evaluate"] |= {**nothing, "robustness": "off"}
    settings["embedder"] = "ngrams"
    config.write_text(json.dumps(settings | changes), encoding="utf-8")
    return open_context(config=config, runs=home / "runs")


def _evaluate(context: RoundContext) -> tuple[Manifest, Prices, set[str]]:
    """Evaluate anew; what was counted, the prices, and the arms that answered."""
    (outcome,) = run_stages(context, ["evaluate"], force=["evaluate"])
    arms = {one.arm for one in context.round.read(RESPONSES)}
    return outcome.manifest, context.round.read(PRICES), arms


def test_a_prompt_that_a_teacher_writes_is_an_arm_and_no_test_prompt_is_sent(
    repo: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, config, model = write_round(tmp_path, repo / "datasets" / "gym-trainer", tiny_model)
    context = _context(tmp_path, config)
    test, rows = context.round.read(TEST), context.round.read(TRAIN)
    write_records(context.round.path(VALIDATION), rows[:3])
    write_records(context.round.path(TRAIN), rows[3:])

    pool = ModelPool(model, [])
    search = PromptSearch(context, pool, rows[3:], rows[:3], 8, tmp_path / "scratch")
    assert search.all() == [] and left_out(context) == {OPTIMISED: "no_teacher"}
    assert f"{OPTIMISED} is left out: no teacher is configured" in capsys.readouterr().err
    assert [arm.name for arm in own_arms(context)] == ["base", "base+prompt"]
    with ScriptedServer(lambda request: says("```\nBe the trainer, shortly.\n```")) as server:
        teacher = {"base_url": server.url, "model": "teacher", "price": {"input": 1, "output": 1}}
        context = _context(tmp_path, config, teacher=teacher)
        manifest, prices, arms = _evaluate(context)
        assert manifest.counts["paid"]["reflect"]["attempts"] == len(server.requests) == 2
        assert manifest.counts["spent"] > 0 and manifest.versions["gepa"]
        (prompt,) = prices.prompts
        assert (prompt.arm, prompt.reflections) == (OPTIMISED, 2) and prompt.text
        assert arms == {"base", "base+prompt", OPTIMISED} and not prices.left_out
        sent = "".join(request.prompt for request in server.requests)
        assert any(row.question in sent for row in rows[3:])
        for row in (*test, *rows[:3]):
            assert row.question not in sent and row.answer not in sent
        # A search that was killed pays nothing again for what was answered.
        scratch = folder / ".evaluate.scratch"
        shutil.rmtree(scratch / "optimised")
        most = manifest.counts["max_new_tokens"]
        search = PromptSearch(context, pool, rows[3:], rows[:3], most, scratch)
        assert [one.text for one in search.all()] == [prompt.text]
        assert len(server.requests) == 2
    # It can be talked to, as base+prompt can.
    assert OPTIMISED in arms_of(context)
    arm = known_arm(context, OPTIMISED)
    assert (arm.stage, arm_prompt(context, arm.name)) == ("", prompt.text)
    # What is exported of it is asked under its prompt, and held against its own answers.
    export = open_export(context, "merged", arm=OPTIMISED)
    assert (export.source.adapter, export.system) == (None, prompt.text)
    assert {chat[0].content for chat in export.prompts.chats} == {prompt.text}
    assert {one.arm for one in export.prompts.recorded} == {OPTIMISED}
    assert len(export.prompts.recorded) == len(export.prompts.chats)
    served = model_folder(context, None, prompt.text) / "chat_template.jinja"
    assert json.dumps(prompt.text) in served.read_text("utf-8")
