"""The next round planned from written rounds: what was planted is found, chance is not claimed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.weakness import Gap
from rounds.planning.learning_curve import STEPS, _steps
from rounds.planning.next_round import PAGE, last_evaluated, plan_next_round
from rounds.planning.proposal import Proposal
from rounds.planning.requests import plan_rows, share_out
from rounds.planning.rows_to_review import PlanInputs, unlearned_rows
from tests.commands import Workspace
from tests.written_rounds import TEST, TRAIN, reviewed, row, written_round
from training.row_loss import RowLoss
from training.run import Recipe
from workbench.config import load_config
from workbench.errors import UserError
from workbench.persona import load_persona
from workbench.records import Example, Response
from workbench.store import read_records, write_records

PRICED = {
    "base_url": "http://127.0.0.1:9/v1",
    "model": "m",
    "price": {"input": 10.0, "output": 20.0, "currency": "EUR"},
}


def _planned(workspace: Workspace, number: int = 1, **options: Any) -> Proposal:
    """Plan the round after ``number``; the model is loaded for no row's loss."""
    config = options.pop("config", None)
    persona = Path("datasets/gym-trainer")
    context = workspace.context(number, config=config, persona=None if config else persona)
    _, proposal = plan_next_round(context, losses=False, **options)
    return proposal


def _page(workspace: Workspace, number: int = 2) -> str:
    return (workspace.folder(number) / PAGE).read_text("utf-8")


@pytest.fixture
def first(workspace: Workspace) -> Path:
    return workspace.folder()


@pytest.fixture
def priced(tmp_path: Path) -> Path:
    """A configuration with a teacher that has a price."""
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"persona": "datasets/gym-trainer", "teacher": PRICED}))
    return config


def test_what_only_the_correction_leaves_open_says_how_many_prompts_would_settle_it(
    workspace: Workspace, first: Path
) -> None:
    # 0 of 8 against 8 of 8 has p 0.0078 alone; with the other traits it is above 0.05.
    persona = load_persona(Path("datasets/gym-trainer"))
    traits = [trait.id for trait in persona.rule_traits]
    written_round(first, per_topic=4, missed={traits[0]: 8, **dict.fromkeys(traits[1:], 1)})
    proposal = _planned(workspace)
    (gap,) = (one for one in proposal.gaps if one.family == "trait" and one.name == traits[0])
    assert (gap.value, gap.reference, gap.prompts, gap.p) == (0, 1, 8, 2 / 2**8)
    assert not gap.is_sure and gap.p_adjusted == pytest.approx(len(traits) * 2 / 2**8)
    assert gap.needed == 9
    assert len(traits) * 2 / 2**9 < 0.05, "nine of nine would be sure"
    page = _page(workspace)
    assert "Nothing is sure after correction for the number of comparisons; 1 taken alone" in page
    assert "8 prompts were asked; if it stays so, about 9 would settle it (`evaluate.rows`" in page
    assert "| sure before correction; about 9 prompts would settle it |" in page
    assert "cannot be told from chance" not in page


def test_a_planted_weak_trait_is_found_and_three_quarters_of_the_rows_go_to_it(
    first: Path, workspace: Workspace
) -> None:
    written_round(first, missed={"why": 16, "promise": 2})
    proposal = _planned(workspace, rows=40)
    asks = Counter({(ask.topic, ask.kind, ask.trait): ask.count for ask in proposal.plan})
    assert {trait for _, _, trait in asks} == {"why", ""}
    assert sum(n for (_, _, trait), n in asks.items() if trait == "why") == 30
    assert sum(asks.values()) == 40
    # Only topics of the training split: rows of the others would be held out.
    assert {topic for topic, _, _ in asks} == set(TRAIN)
    (gap,) = [gap for gap in proposal.gaps if gap.name == "why"]
    assert gap.value == pytest.approx(0.2)
    assert (gap.reference, gap.prompts) == (1.0, 20)
    assert gap.low is not None and gap.high is not None
    assert gap.low <= -0.8 <= gap.high < 0
    page = _page(workspace)
    assert "- Trait “A short why”: 20%, against 100% in the reviewed answers" in page
    assert "100% of the training rows show it already" in page


def test_two_misses_of_twenty_are_shown_and_not_claimed(first: Path, workspace: Workspace) -> None:
    written_round(first, missed={"promise": 2})
    proposal = _planned(workspace, rows=30)
    assert {ask.trait for ask in proposal.plan} == {""}
    assert {ask.topic: ask.count for ask in proposal.plan} == dict.fromkeys(TRAIN, 10)
    page = _page(workspace)
    assert "Nothing is surely weak" in page
    assert "| Promise at the end | 90% (20) | 100% in the reviewed answers |" in page
    assert "not distinguishable" in page


def test_rows_that_reviewers_split_over_are_listed_and_held_out_ones_are_not(
    first: Path, workspace: Workspace
) -> None:
    written_round(first)
    split, agreed, hidden = row(TRAIN[0], 0), row(TRAIN[0], 1), row(TEST[0], 0)
    reviewed(first, {split.id: (5, 2), agreed.id: (5, 5), hidden.id: (5, 1)})
    (disputed,) = _planned(workspace).disputed
    assert (disputed.id, disputed.apart, disputed.outcome) == (split.id, 3, "drop")
    assert disputed.votes == ("reviewer-1: 5/5", "reviewer-2: 2/5")


def test_a_kept_row_that_reads_like_the_base_model_is_a_label_issue(
    first: Path, workspace: Workspace
) -> None:
    written_round(first)
    dull = "There are several factors. It is important to consult a professional about {}."
    planted = row(TRAIN[0], 99, dull.format("soreness"))
    rows = list(read_records(first / "split/train.jsonl", Example))
    write_records(first / "split/train.jsonl", [*rows, planted])
    bare = [
        Response(
            arm="baseline", prompt_id=one.id, prompt=one.prompt, text=dull.format(one.question)
        )
        for one in rows
    ]
    write_records(first / "generate/baseline.jsonl", bare)
    (issue,) = _planned(workspace).label_issues
    assert (issue.id, issue.label) == (planted.id, True)
    assert issue.quality < 0.3


def test_three_rounds_are_a_learning_curve(first: Path, workspace: Workspace) -> None:
    for number, (rows, missed) in enumerate(((3, 18), (6, 12), (12, 8)), start=1):
        folder = first.with_name(f"round-{number:03d}")
        traits = dict.fromkeys(("why", "promise", "emoji", "address"), missed)
        written_round(folder, missed=traits, per_topic=10, training=rows)
    curve = _planned(workspace, 3, rows=3).curve
    assert curve is not None
    assert (curve.measure, curve.sizes) == ("missed", (9, 18, 36))
    # 40 %, 27 % and 18 % of the nine traits are missed: each doubling leaves two thirds.
    assert curve.means == pytest.approx([0.4, 0.2667, 0.1778], abs=1e-3)
    assert curve.exponent == pytest.approx(0.585, abs=0.02)
    assert curve.gain == pytest.approx(1 / 3, abs=0.02)
    page = _page(workspace, 4)
    assert "| 36 | 0.178 |" in page


def test_the_next_round_starts_from_what_was_written(first: Path, workspace: Workspace) -> None:
    written_round(first, missed={"why": 16})
    _planned(workspace, rows=8)
    config = load_config(workspace.folder(2) / "config.yaml")
    assert [str(path) for path in config.sources] == ["round-001"]
    assert sum(ask.count for ask in config.generate.plan) == 8
    assert sum(ask.count for ask in config.generate.plan if ask.trait == "why") == 6
    page = _page(workspace)
    command = f"persona run --persona datasets/gym-trainer --runs {workspace.runs} --round 2"
    assert page.endswith(f"    {command}\n")
    # Planned again before it has begun, it is planned anew, and what people changed is kept.
    changed = workspace.folder(2) / "config.yaml"
    changed.write_text(changed.read_text("utf-8") + "seed: 7\n", encoding="utf-8")
    _planned(workspace, rows=12)
    config = load_config(workspace.folder(2) / "config.yaml")
    assert sum(ask.count for ask in config.generate.plan) == 12
    assert (config.seed, load_config(changed.with_name("config.before.yaml")).seed) == (0, 7)


def test_a_round_that_has_begun_is_left_alone(first: Path, workspace: Workspace) -> None:
    written_round(first)
    written_round(workspace.folder(2))
    with pytest.raises(UserError, match="round-002 has begun already"):
        _planned(workspace, 1)
    assert last_evaluated(workspace.round(1)) == workspace.round(2)


def test_without_an_evaluated_round_there_is_none_to_plan_from(workspace: Workspace) -> None:
    with pytest.raises(UserError, match="no round has been evaluated"):
        last_evaluated(workspace.round())


def test_a_budget_makes_the_plan_as_large_as_it_pays_for(
    first: Path, priced: Path, workspace: Workspace
) -> None:
    written_round(first, missed={"why": 16})
    whole = _planned(workspace, rows=40, config=priced).cost
    assert whole and whole.currency == "EUR"
    half = whole.high / 2
    proposal = _planned(workspace, rows=40, config=priced, budget=half)
    assert proposal.cost and 0 < proposal.cost.low < proposal.cost.high <= half
    assert 12 <= sum(ask.count for ask in proposal.plan) < 40
    assert load_config(workspace.folder(2) / "config.yaml").generate.budget == half


def test_a_budget_that_pays_for_no_row_plans_nothing(
    first: Path, priced: Path, workspace: Workspace
) -> None:
    # A round without a plan would ask for the usual number of rows.
    written_round(first)
    with pytest.raises(UserError, match=r"0\.0001 pays for no row: one may cost 0\.\d+ EUR"):
        _planned(workspace, config=priced, budget=0.0001)
    assert not workspace.folder(2).exists()


def test_a_budget_needs_a_price(first: Path, workspace: Workspace) -> None:
    written_round(first)
    with pytest.raises(UserError, match="needs a teacher with a price"):
        _planned(workspace, budget=1)


def test_a_topic_without_a_row_is_not_called_held_out(first: Path, workspace: Workspace) -> None:
    written_round(first)
    proposal = _planned(workspace)
    assert set(proposal.held_out_topics) == set(TEST)
    assert proposal.rowless_topics
    assert not set(proposal.rowless_topics) & {*TRAIN, *TEST}
    page = _page(workspace)
    assert "No row is of these topics yet" in page


def test_validation_rows_are_held_against_each_other(first: Path, workspace: Workspace) -> None:
    written_round(first)
    unseen = [row(TRAIN[0], n) for n in range(90, 98)]
    write_records(first / "split/validation.jsonl", unseen)
    trained = read_records(first / "split/train.jsonl", Example)
    losses = [
        RowLoss(id=one.id, tokens=9, tuned=0.1 + n / 999, base=3) for n, one in enumerate(trained)
    ]
    losses += [RowLoss(id=r.id, tokens=9, tuned=2 + n / 99, base=3) for n, r in enumerate(unseen)]
    inputs = PlanInputs.read(workspace.round())
    assert unlearned_rows(inputs, losses) == []
    worse = [*losses[:-1], losses[-1].model_copy(update={"tuned": 2.9})]
    assert [one.id for one in unlearned_rows(inputs, worse)] == [unseen[-1].id]


@pytest.mark.parametrize(
    ("rows", "wanted", "steps"), [(12, 2, 2), (12, 60, STEPS), (1000, 60, 125), (1000, -1, 125)]
)
def test_every_part_of_a_curve_is_seen_whole(rows: int, wanted: int, steps: int) -> None:
    trainer = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    recipe = Recipe(method="sft", trainer={**trainer, "max_steps": wanted})
    assert _steps(recipe, rows) == steps


def test_a_curve_does_not_start_at_an_adapter_that_knows_the_rows(
    first: Path, workspace: Workspace, tmp_path: Path
) -> None:
    written_round(first)
    write_records(first / "split/validation.jsonl", [row(TRAIN[0], 99)])
    config = tmp_path / "config.yaml"
    settings = {"persona": "datasets/gym-trainer", "train": {"sft": "sft-continue-embedded"}}
    config.write_text(yaml.safe_dump(settings))
    with pytest.raises(UserError, match="a learning curve starts at the base"):
        _planned(workspace, curve=True, config=config)


def test_few_rows_of_many_weaknesses_are_spread_over_the_topics() -> None:
    sure: dict[str, Any] = {
        "against": "reviewed",
        "prompts": 20,
        "others": 0,
        "value": 0.2,
        "reference": 1.0,
        "gap": -0.8,
        "low": -0.9,
        "high": -0.6,
        "p": 1e-4,
        "p_adjusted": 1e-3,
    }
    weak = [Gap(family="trait", name=name, **sure) for name in "abcd"]
    asks = plan_rows(weak, dict.fromkeys("uvwxyz", 5), 8)
    per_topic = Counter[str]()
    for ask in asks:
        per_topic[ask.topic] += ask.count
    assert sorted(per_topic.values()) == [1, 1, 1, 1, 2, 2]
    assert {ask.trait for ask in asks} == {*"abcd", ""}


def test_shares_are_whole_and_sum_up() -> None:
    assert share_out({"a": 1, "b": 1, "c": 1}, 10) == {"a": 4, "b": 3, "c": 3}
    assert share_out({"a": 0.7, "b": 0.2, "c": 0.1}, 5) == {"a": 4, "b": 1, "c": 0}
    assert share_out({}, 5) == {}
