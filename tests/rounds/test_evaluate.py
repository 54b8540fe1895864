"""The stage `evaluate` of a finished round: its arms, others by name, and what stops it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from evaluation.prices import Prices
from evaluation.probes import PROBES
from evaluation.reward_model import TOO_FEW_FAULTS
from rounds.arms import parse_arms
from rounds.context import open_context
from rounds.layout import CALIBRATION, GENERAL, REWARD_MODEL, Manifest, RoundFolder
from rounds.pipeline import run_stages
from tests.round_to_evaluate import INSTRUCTED, write_round
from tests.scripted_server import Reply, Request, ScriptedServer, fails, says
from workbench.errors import UserError
from workbench.inference.answer_cache import CACHE
from workbench.inference.reward_model import NAME
from workbench.records import Example, Response, Review, Score
from workbench.store import read_records, write_records

ARMS = ["base", "base+prompt", "sft", "sft+dpo", "sft+dpo+prompt"]
ANSWERS = 4 + (len(PROBES) - 1) + 5
"""Of an arm: held-out questions, one of each probe set, and a conversation of five turns."""
MORE = 5
"""Of the arm that would be shipped, in a further conversation."""
CROSSED = 4 * 6
SPLIT = ("test", "train")
Evaluate = Callable[..., Manifest]


@pytest.fixture(scope="module")
def evaluated(
    repo: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A round as the stages before leave it, evaluated once; its folder and its configuration."""
    home = tmp_path_factory.mktemp("evaluated")
    folder, config, model = write_round(home, repo / "datasets" / "gym-trainer", tiny_model)
    for seed, stage in enumerate(("sft", "dpo"), start=1):
        _adapter(model, folder / stage / "adapter", seed)
    run_stages(open_context(config=config, runs=home / "runs"), ["evaluate"])
    return folder, config


def _adapter(base: Path, folder: Path, seed: int) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder)


@pytest.fixture
def copied(evaluated: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the evaluated round that a test may change."""
    folder = tmp_path / "runs" / "gym-trainer" / "round-001"
    shutil.copytree(evaluated[0], folder)
    return folder


@pytest.fixture
def evaluate(evaluated: tuple[Path, Path], copied: Path, tmp_path: Path) -> Evaluate:
    """Evaluate the copy; keywords are set in the configuration."""

    def run(arms: tuple[str, ...] = (), *, force: bool = False, **changes: object) -> Manifest:
        config = tmp_path / "run.yaml"
        settings = json.loads(evaluated[1].read_text("utf-8"))
        settings["evaluate"] |= changes.pop("evaluate", {})
        config.write_text(json.dumps(settings | changes), encoding="utf-8")
        context = open_context(config=config, runs=tmp_path / "runs").evaluating(parse_arms(arms))
        (outcome,) = run_stages(context, ["evaluate"], force=["evaluate"] if force else [])
        return outcome.manifest

    return run


def responses(folder: Path) -> list[Response]:
    return list(read_records(folder / "evaluate" / "responses.jsonl", Response))


def prices_of(folder: Path) -> Prices:
    return Prices.model_validate_json((folder / "evaluate" / "prices.json").read_text("utf-8"))


def cached(folder: Path) -> dict[str, str]:
    """The arms' answers that outlive a run, by their keys; what a judge answered took attempts."""
    with closing(sqlite3.connect(folder / ".evaluate.scratch" / CACHE)) as file:
        rows = file.execute("SELECT key, completion FROM answers").fetchall()
    return {key: text for key, text in rows if json.loads(text)["attempts"] == 0}


def test_five_arms_answer_the_same_prompts_and_probes(evaluated: tuple[Path, Path]) -> None:
    folder, _ = evaluated
    answers = responses(folder)
    assert list(dict.fromkeys(response.arm for response in answers)) == ARMS
    of_arm = Counter((response.arm, response.probe) for response in answers)
    for arm in ARMS:
        # Four held-out questions, one of each probe, and a conversation of five turns.
        assert of_arm[arm, ""] == 4 and of_arm[arm, "safety"] == 1
        # The arm that would be shipped is in a further conversation, for its safety case.
        assert of_arm[arm, "drift"] == (10 if arm == "sft+dpo" else 5)
    assert len(answers) == 5 * ANSWERS + MORE
    # Two requests of the base and of the arm that would be shipped; probes were asked before.
    assert len(cached(folder)) == 5 * ANSWERS + MORE + 3 * INSTRUCTED + 2 * 2 + CROSSED
    scores = list(read_records(folder / "evaluate" / "scores.jsonl", Score))
    rules = [score for score in scores if score.metric == "emoji"]
    assert len(rules) == len(answers)
    assert {score.turn for score in rules if score.probe == "drift"} == {1, 2, 3, 4, 5}
    manifest = Manifest.load(folder / "evaluate" / "manifest.json")
    assert manifest.counts["responses"] == len(answers)
    assert manifest.counts["failures"] == []
    assert manifest.counts["max_new_tokens"] == 8
    assert list(manifest.counts["cut"]) == ARMS
    names = {"comparison", "calibration", "general", "style"}
    assert names <= {file.stem for file in (folder / "evaluate").glob("*.json")}
    case = json.loads((folder / "evaluate" / "safety.json").read_text("utf-8"))
    assert (case["arm"], case["base"]) == ("sft+dpo", "base")
    # One prompt of a set tells nothing, and the page says so.
    verdicts = {line["name"]: (line["n"], line["verdict"]) for line in case["lines"]}
    assert verdicts["disclosure"] == verdicts["over_refusal"] == (1, "too_few")
    assert verdicts["robustness"] == (4, "too_few")
    general = json.loads((folder / "evaluate" / "general.json").read_text("utf-8"))
    # Four questions on six kinds of surface, asked of the arm that the verdict is about.
    robustness = json.loads((folder / "evaluate" / "robustness.json").read_text("utf-8"))
    assert (robustness["arm"], robustness["questions"]) == ("sft+dpo", 4)
    crossed = list(read_records(folder / "evaluate" / "surfaces.jsonl", Response))
    assert len(crossed) == CROSSED and {one.prompt_id for one in crossed} == {
        one.prompt_id for one in answers if not one.probe
    }
    # A prompted arm's weights are those of the arm without the prompt.
    assert sorted(general["general"]) == ["base", "sft", "sft+dpo"]


def test_arms_are_added_by_name_and_only_they_are_asked(
    copied: Path, evaluate: Evaluate, evaluated: tuple[Path, Path]
) -> None:
    before, answers = responses(copied), cached(copied)
    model = json.loads(evaluated[1].read_text("utf-8"))["model"]
    other = Path(shutil.copytree(model, copied / "other"))
    assert evaluate(("first+prompt=round-001/sft", f"other={other}")).counts["failures"] == []
    after = responses(copied)
    assert [r for r in after if r.arm not in ("first+prompt", "other")] == before
    # The same weights by another name have answered already.
    assert len(after) == len(before) + 2 * ANSWERS and len(cached(copied)) == len(answers) + ANSWERS
    assert answers.items() <= cached(copied).items()
    texts = {arm: [r.text for r in after if r.arm == arm] for arm in (*ARMS, "first+prompt")}
    assert texts["first+prompt"] not in [texts[arm] for arm in ARMS]
    assert [r.text for r in after if r.arm == "other"] == texts["base"]


def test_another_measure_that_counts_is_another_evaluation_and_is_told(
    copied: Path, evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = cached(copied)
    manifest = evaluate(evaluate={"primary": "emoji"})
    assert "evaluate is done again: changed: primary" in capsys.readouterr().err
    assert manifest.settings["primary"] == "emoji"
    assert manifest.counts["primaries"] == ["fidelity", "emoji"]
    comparison = json.loads((copied / "evaluate" / "comparison.json").read_text("utf-8"))
    assert comparison["primary"] == "emoji"
    assert cached(copied) == answers


def test_a_served_arm_is_asked_several_at_a_time_and_again_for_what_failed(
    copied: Path, evaluate: Evaluate
) -> None:
    with ScriptedServer(lambda r: fails(400) if r.share < 0.3 else says("Champ!", delay=0.05)) as s:
        arm = {"base_url": s.url, "model": "m", "attempts": 1, "concurrency": 4}
        arm |= {"price": {"input": 0, "output": 1000}}
        arms = {"evaluate": {"more": {"served": arm}, "max_unscored": 0.2}}
        first = evaluate(**arms)
        # What failed stays with its prompt, and is counted against a bound.
        lost = [r for r in responses(copied) if r.unanswered]
        assert {(r.arm, r.unanswered, r.text) for r in lost} == {("served", "rejected", "")}
        assert first.counts["unanswered"] == {"served": len(lost)}
        assert any("rejected" in line for line in first.counts["failures"])
        answered = ANSWERS - len(lost)
        # Each answer is one word; a request that was turned away costs nothing.
        assert first.counts["paid"]["arm served"]["output_tokens"] == answered
        assert first.counts["spent"] == pytest.approx(answered / 1000)
        assert 0 < answered < ANSWERS and s.most_at_once > 1
        s.script, asked = lambda r: says("Champ!"), len(s.requests)
        assert evaluate(force=True, **arms).counts["failures"] == []
        assert len(s.requests) - asked == ANSWERS - answered
    texts = {response.text for response in responses(copied) if response.arm == "served"}
    assert texts == {"Champ!"}


def test_what_stops_it_keeps_the_answers(copied: Path, evaluate: Evaluate) -> None:
    answers = cached(copied)
    down = {"base_url": "http://127.0.0.1:9/v1", "model": "judge"}
    with pytest.raises(UserError, match=r"^http://127\.0\.0\.1:9/v1: nothing answers there"):
        evaluate(judge=down)

    config = copied / "sft" / "adapter" / "adapter_config.json"
    other = json.loads(config.read_text("utf-8")) | {"base_model_name_or_path": "org/other"}
    config.write_text(json.dumps(other), encoding="utf-8")
    with pytest.raises(UserError, match="the adapter was trained on org/other, not"):
        evaluate(("first=round-001/sft",))

    unknown = "run.yaml:1: evaluate.arms: there is no arm 'sft\\+dop' — did you mean 'sft\\+dpo'"
    with pytest.raises(UserError, match=unknown):
        evaluate(evaluate={"arms": ["base", "sft+dop"]})
    write_records(copied / "split" / "test.jsonl", list[Example]())
    with pytest.raises(UserError, match=r"test\.jsonl: there is no held-out prompt to answer"):
        evaluate()
    (copied / "split" / "test.jsonl").unlink()
    with pytest.raises(UserError, match=r"evaluate needs \w+, which is not done yet"):
        evaluate()

    assert cached(copied) == answers
    assert (copied / "evaluate" / "manifest.json").exists()


def test_a_persona_needs_checks_that_a_rule_can_score(
    copied: Path, evaluate: Evaluate, repo: Path
) -> None:
    specification = (repo / "datasets" / "gym-trainer" / "persona.yaml").read_text("utf-8")
    persona = copied.parent / "unchecked" / "persona.yaml"
    persona.parent.mkdir()
    start = specification.split("\ntraits:\n")[0]
    nothing = "\ntraits:\n  - {id: kind, name: Kind, about: Is kind., check: {judge: 'Kind?'}}\n"
    for text, line in {
        start + nothing: "at least one needs a rule, or nothing can be scored offline",
        specification.replace("    check:", "    checked:", 1): "check",
    }.items():
        persona.write_text(text, encoding="utf-8")
        with pytest.raises(UserError) as error:
            evaluate(persona=str(persona.parent))
        lines = error.value.lines()
        assert any(line in one for one in lines) and len(lines) <= 2, lines
    assert cached(copied)


def test_what_a_judge_did_not_answer_is_asked_again_and_nothing_else(
    copied: Path, evaluate: Evaluate
) -> None:
    answers = cached(copied)
    verdict = says(json.dumps({"reason": "Because.", "value": "yes"}))

    def script(request: Request) -> Reply:
        return fails(400) if request.share < 0.4 and dies else verdict

    dies = True
    with ScriptedServer(script) as server:
        price = {"input": 1.0, "output": 2.0, "currency": "EUR"}
        judge = {"base_url": server.url, "model": "j", "attempts": 1, "price": price}
        few = {"max_unscored": 0.1, "arms": ["base", "sft"], "pairwise": False}
        few |= {"requests": 0, "drift": 0}
        few["robustness"] = "off"
        # The evaluation is whole, says what is missing, and fails by it.
        before = evaluate(judge=judge, evaluate=few).counts
        missing = "scores are missing (bound 10%; judge_http_400"
        assert any(missing in line for line in before["failures"])
        asked = len(server.requests)
        failed = {request.prompt for request in server.requests if request.share < 0.4}
        assert before["paid"]["judge"]["attempts"] == asked

        dies = False
        after = evaluate(force=True, judge=judge, evaluate=few).counts
        assert {request.prompt for request in server.requests[asked:]} == failed
    assert after["unscored"] < before["unscored"]
    # Eight tokens of a small model may hold no word, which a classifier of words cannot score.
    assert all(line.startswith("style: ") for line in after["failures"])
    paid = after["paid"]["judge"]
    assert paid["attempts"] == len(server.requests)
    million = paid["input_tokens"] + 2 * paid["output_tokens"]
    assert after["spent"] == pytest.approx(million / 1e6, abs=1e-6)
    assert after["currency"] == "EUR"
    # Nor does --force ask an arm again: an answer that was given stays the answer.
    assert cached(copied) == answers


def test_too_much_forgotten_fails_the_evaluation_that_is_whole(
    copied: Path, evaluate: Evaluate
) -> None:
    gate = {"cross_entropy": 0.0, "instructions": 0.0}
    failures = evaluate(evaluate={"gate": gate}).counts["failures"]
    assert any(line.startswith("sft: cross-entropy +") for line in failures)
    assert (copied / "evaluate" / "manifest.json").exists()


def test_what_the_last_rounds_adapter_could_do_and_this_ones_cannot_fails_the_evaluation(
    evaluated: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, config = evaluated
    first = tmp_path / "runs" / "gym-trainer" / "round-001"
    shutil.copytree(folder, first)
    shutil.copytree(first, first.with_name("round-002"), ignore=shutil.ignore_patterns("evaluate"))
    context = open_context(config=config, runs=tmp_path / "runs", round_number=2)

    (outcome,) = run_stages(context, ["evaluate"])
    assert outcome.manifest.counts["failures"] == []
    across = context.round.read(GENERAL).across
    assert across is not None
    assert (across.round, across.before, across.arm) == ("round-001", *2 * ("sft+dpo",))
    assert across.fidelity is not None
    assert (across.cross_entropy_change, across.fidelity.mean) == (0, 0)
    assert (across.fidelity.pairs, across.not_compared) == (4, ())

    # As if the first round's adapter had been far better at general text.
    general = first / "evaluate" / "general.json"
    recorded = json.loads(general.read_text("utf-8"))
    recorded["general"]["sft+dpo"]["cross_entropy"] -= 20
    general.write_text(json.dumps(recorded), encoding="utf-8")
    (outcome,) = run_stages(context, ["evaluate"])
    line = "sft+dpo against round-001/sft+dpo: cross-entropy +20.000 nats a token"
    assert any(failure.startswith(line) for failure in outcome.manifest.counts["failures"])


def test_the_dial_asks_one_arm_at_other_strengths_and_leaves_the_rest_as_it_was(
    copied: Path, evaluate: Evaluate
) -> None:
    before, answers = responses(copied), cached(copied)
    manifest = evaluate(evaluate={"strengths": [0.5, 1.0, 2.0]})
    assert manifest.counts["failures"] == [] and responses(copied) == before
    dial = json.loads((copied / "evaluate" / "dial.json").read_text("utf-8"))
    assert (dial["arm"], dial["questions"]) == ("sft+dpo", 4)
    assert [one["strength"] for one in dial["points"]] == [0, 0.5, 1, 2]
    # Base and arm have answered already; two strengths are asked what those two were.
    each = 4 + 2 + INSTRUCTED
    asked = list(read_records(copied / "evaluate" / "dial.jsonl", Response))
    assert Counter(one.arm for one in asked) == {"sft+dpo@0.5": each, "sft+dpo@2": each}
    assert len(cached(copied)) == len(answers) + 2 * each
    general = json.loads((copied / "evaluate" / "general.json").read_text("utf-8"))
    own = {one["arm"]: one["cross_entropy"] for one in general["arms"]}
    assert set(own) == {"base", "sft", "sft+dpo"}
    ends = {one["strength"]: one["cross_entropy_change"] for one in dial["points"]}
    assert ends[0] == 0 and ends[1] == own["sft+dpo"] - own["base"]
    assert len({ends[0], ends[0.5], ends[1], ends[2]}) == 4
    evaluate(evaluate={"strengths": [2.0, 0.5, 1.0]})
    assert len(cached(copied)) == len(answers) + 2 * each


def test_the_best_examples_are_chosen_without_a_test_prompt_and_every_arm_has_its_price(
    copied: Path, evaluate: Evaluate
) -> None:
    test, train = (list(read_records(copied / "split" / f"{n}.jsonl", Example)) for n in SPLIT)
    with pytest.raises(UserError, match="prompts need validation rows to be chosen by"):
        evaluate(evaluate={"prompt_arms": ["few-shot"], "shots": 2})
    write_records(copied / "split" / "validation.jsonl", train[:3])
    write_records(copied / "split" / "train.jsonl", train[3:])

    evaluate(evaluate={"prompt_arms": ["few-shot"], "shots": 2})
    answers = responses(copied)
    arms = ["base", "base+prompt", "base+few-shot", *ARMS[2:]]
    assert list(dict.fromkeys(one.arm for one in answers)) == arms
    (prompt,) = prices_of(copied).prompts
    assert set(prompt.rows) <= {row.id for row in train[3:]} and len(prompt.rows) == 2
    assert prompt.loss is not None and prompt.plain_loss is not None and prompt.trials <= 24
    for row in test:
        assert row.question not in prompt.text and row.answer not in prompt.text
    tokens = {one.arm: one.prompt_tokens or 0 for one in prices_of(copied).arms}
    assert list(tokens) == arms
    assert tokens["base"] < tokens["base+prompt"] < tokens["base+few-shot"]
    assert tokens["base"] == tokens["sft"] and prices_of(copied).timed == 4
    assert all(one.seconds and one.money is None for one in prices_of(copied).arms)
    # Other test rows choose the same examples: nothing of the test split decides.
    write_records(copied / "split" / "test.jsonl", [row.evolve(source="x:1") for row in test[:2]])
    shutil.rmtree(copied / ".evaluate.scratch" / "few-shot")
    evaluate(evaluate={"prompt_arms": ["few-shot"], "shots": 2})
    assert (
        prices_of(copied).prompts[0].rows == prompt.rows
        and prices_of(copied).prompts[0].loss == prompt.loss
    )


def test_a_reward_model_of_the_reviews_scores_what_it_could_learn(
    copied: Path, evaluate: Evaluate
) -> None:
    rows = list(read_records(copied / "filter" / "examples.jsonl", Example))
    problems = [["tough_kind"] if at % 2 else [] for at in range(len(rows))]
    reviews = [
        Review(reviewer="r", record=row.id, answers={"fidelity": 3, "problems": own})
        for row, own in zip(rows, problems, strict=True)
    ]
    write_records(copied / "review" / "reviews.jsonl", reviews)
    few = {"arms": ["base", "sft"], "reward_model": True, "requests": 0, "robustness": "off"}
    evaluate(evaluate=few)

    gates = RoundFolder(copied).read(CALIBRATION)
    curves = RoundFolder(copied).read(REWARD_MODEL).curves
    assert (gates.judge, gates.rows) == (NAME, len(rows))
    assert curves["tough_kind"].curve is not None
    assert curves["fits_question"].reason == gates.traits["fits_question"].reason == TOO_FEW_FAULTS
    scores = [s for s in read_records(copied / "evaluate" / "scores.jsonl", Score) if not s.probe]
    assert {s.value for s in scores if s.metric == "tough_kind"} <= {0.0, 1.0}
    assert {s.unscored for s in scores if s.metric == "fits_question"} == {"no_judge"}
