"""The stages of data from Python: each file of a round read once, and where rows come from."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rounds import IMPORTED, RESOLVED, TRAIN, Round
from rounds.ablation import leave_out, parse_group
from rounds.context import RoundContext
from rounds.layout import (
    ADJUDICATIONS,
    BASELINE,
    CARRY_OVER_EXAMPLES,
    DECISIONS,
    FILTERED,
    GENERATED_PREFERENCES,
    GOLD_REVIEWS,
    RESOLVED_PREFERENCES,
    REVIEWED_PAIRS,
    REVIEWS,
    RoundFolder,
)
from rounds.runner import StageSpec, Work, run_stage
from rounds.stages.evaluate import evaluate_stage
from rounds.stages.filter import filter_stage
from rounds.stages.generate import _step_files, generate_stage
from rounds.stages.importing import import_stage
from rounds.stages.report import report_stage
from rounds.stages.resolve import resolve_stage
from rounds.stages.split import split_stage
from rounds.stages.train import training_stage
from tests.commands import write_manifest
from workbench.records import Decision, Example, Preference, Response, Review, user_prompt
from workbench.store import write_records

SHORT = {"trainer.max_steps": 1, "trainer.save_steps": 1, "trainer.eval_strategy": "no"}
_OPENED: Counter[str] = Counter()
_WATCHED: list[Path] = []


def _on_open(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or not _WATCHED:
        return
    path, mode, flags = arguments
    plain = isinstance(mode, str) and "r" in mode and "+" not in mode
    reads = plain or (mode is None and not flags & (os.O_WRONLY | os.O_RDWR))
    if reads and isinstance(path, str | Path) and _WATCHED[0] in Path(path).parents:
        _OPENED[str(Path(path).relative_to(_WATCHED[0]))] += 1


sys.addaudithook(_on_open)  # it stays for the process, and does nothing while nobody watches


@contextmanager
def _watching(folder: Path) -> Iterator[None]:
    _OPENED.clear()
    _WATCHED.append(folder)
    try:
        yield
    finally:
        _WATCHED.clear()


def _run_watched(one: RoundFolder, spec: StageSpec) -> Counter[str]:
    """Run a stage, and return how often its body has opened each file of the rounds to read."""
    body = spec.run

    def run(work: Work) -> None:
        with _watching(one.folder.parent):
            body(work)

    run_stage(one, replace(spec, run=run), seed=0)
    # What a stage writes itself, and weights, which libraries read in their own way, are left out.
    left_out = ("/.", "/adapter/")
    return Counter({k: n for k, n in _OPENED.items() if not any(part in k for part in left_out)})


@pytest.fixture
def first(repo: Path, tmp_path: Path) -> Round:
    """A round that was reviewed, with an earlier one that it takes rows over from."""
    gym = repo / "datasets" / "gym-trainer"
    earlier = Round.create(gym, runs=tmp_path, rows=24)
    earlier.run("import")
    rows = earlier.read(IMPORTED)
    reviews = [Review(reviewer="ann", record=r.id, answers={"fidelity": 5}) for r in rows]
    kept = [r.evolve(parents=(*r.parents, v.id)) for r, v in zip(rows, reviews, strict=True)]
    write_records(earlier.path(RESOLVED), kept)
    write_records(earlier.path(RESOLVED_PREFERENCES), list[Preference]())
    write_records(earlier.path(DECISIONS), [Decision(record=r.id, outcome="keep") for r in rows])
    write_records(earlier.path(REVIEWS), reviews)
    write_records(earlier.path(ADJUDICATIONS), list[Review]())
    write_records(earlier.path(BASELINE), list[Response]())
    write_manifest(earlier.folder, "generate", settings={"model": earlier.context.config.model})
    earlier.run("split")
    return earlier


@pytest.fixture
def second(first: Round, repo: Path, tmp_path: Path) -> Round:
    gym = repo / "datasets" / "gym-trainer"
    sources = ["round-001", str(gym / "seeds.jsonl")]
    return Round.create(gym, runs=tmp_path, number=2, sources=sources)


def _reviewed(one: Round, *, baseline: bool = True) -> None:
    """Write what the stages between `filter` and `resolve` leave."""
    rows = one.read(FILTERED)
    reviews = [Review(reviewer="ann", record=row.id, answers={"fidelity": 5}) for row in rows]
    write_records(one.path(REVIEWS), reviews)
    for artifact in (GOLD_REVIEWS, ADJUDICATIONS):
        write_records(one.path(artifact), list[Review]())
    write_records(one.path(REVIEWED_PAIRS), list[Example]())
    if baseline:
        answers = [Response(arm="base", prompt_id=r.id, prompt=r.prompt, text="Hm.") for r in rows]
        write_records(one.path(BASELINE), answers)
        write_records(one.path(GENERATED_PREFERENCES), list[Preference]())


@pytest.mark.parametrize("stage", [import_stage, filter_stage, resolve_stage, split_stage])
def test_no_file_of_a_round_is_read_twice_in_one_stage(
    second: Round, stage: Callable[[RoundContext], StageSpec]
) -> None:
    for one in (import_stage, filter_stage, resolve_stage, split_stage):
        if one is resolve_stage:
            _reviewed(second)
        opened = _run_watched(second, one(second.context))
        if one is stage:
            break
    assert opened, "it reads something"
    assert {name: count for name, count in opened.items() if count > 1} == {}


@pytest.mark.slow
def test_stages_of_a_model_read_no_file_of_a_round_twice(
    repo: Path, tmp_path: Path, tiny_model: Path
) -> None:
    one = Round.create(
        repo / "datasets" / "gym-trainer",
        runs=tmp_path,
        rows=24,
        model=str(tiny_model),
        generate={"max_new_tokens": 8},
        train={"methods": ["sft"], "overrides": {"sft": {**SHORT, "rehearsal.rows": 0}}},
        evaluate={
            **{"rows": 2, "probes": 0, "conversations": 0, "drift": 0, "max_new_tokens": 8},
            **{"safety": 0, "requests": 0, "instructed": 2},
            "arms": ["base", "sft"],  # the persona's prompt fills this model's whole context
        },
    )
    one.run("import")
    opened = {"generate": _run_watched(one, generate_stage(one.context))}
    one.run("filter")
    _reviewed(one, baseline=False)
    one.run("resolve", "split")
    for stage in (partial(training_stage, "sft"), evaluate_stage, report_stage):
        spec = stage(one.context)
        opened[spec.name] = _run_watched(one, spec)
    assert all(opened.values()), "each reads something"
    twice = {name: {k: n for k, n in counts.items() if n > 1} for name, counts in opened.items()}
    # A training hashes what it learns from and is measured by too.
    rows = {"round-001/split/train.jsonl": 2, "round-001/split/validation.jsonl": 2}
    assert twice == {"generate": {}, "sft": rows, "evaluate": {}, "report": {}}


def test_a_stage_may_read_only_what_its_manifest_names(second: Round) -> None:
    work = Work(second, second.partial("filter"), frozenset({IMPORTED}))
    with pytest.raises(LookupError, match=r"filter/examples\.jsonl is not among the inputs"):
        work.read(FILTERED)
    assert work.read_if_there(CARRY_OVER_EXAMPLES) == []


def test_rows_that_were_taken_over_are_decided_on_no_more(second: Round) -> None:
    second.run("import", "filter")
    _reviewed(second)
    second.run("resolve")
    carried = {row.id for row in second.read(CARRY_OVER_EXAMPLES)}
    filtered = {row.id for row in second.read(FILTERED)}
    decided = Counter(decision.record for decision in second.read(DECISIONS))
    assert len(carried) == 24 and max(decided.values()) == 1
    assert carried & filtered <= {row.id for row in second.read(RESOLVED)}


def test_a_personas_own_seeds_are_seeds_and_can_be_left_out_as_a_group(
    repo: Path, tmp_path: Path
) -> None:
    gym = repo / "datasets" / "gym-trainer"
    more = tmp_path / "more.jsonl"
    lines = [
        {
            "instruction": f"Is week {n} of my plan too hard?",
            "output": "Champ, walk.",
            "topic": "plateaus",
        }
        for n in range(4)
    ]
    more.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    one = Round.create(gym, runs=tmp_path, sources=[str(gym / "seeds.jsonl"), str(more)])
    one.run("import")
    rows = one.read(IMPORTED)
    assert {(row.source.split(":")[0], row.origin) for row in rows} == {
        ("seeds.jsonl", "seed"),
        ("more.jsonl", "imported"),
    }
    write_records(one.path(RESOLVED), rows)
    write_records(one.path(RESOLVED_PREFERENCES), list[Preference]())
    one.run("split")
    train = one.read(TRAIN)
    others = [row for row in train if row.origin != "seed"]
    train = train if others else [*train, rows[-1]]
    left, _ = leave_out(parse_group("origin=seed"), train, [], [])
    assert {row.origin for row in left} == {"imported"}


def test_a_step_of_ones_own_is_a_file_of_the_stage_in_a_package_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("steps.py", "own/steps.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names = ("steps:Shorten", "own.steps:Shorten", "gone.steps:Shorten")
    assert _step_files(names) == {
        "steps:Shorten": tmp_path / "steps.py",
        "own.steps:Shorten": tmp_path / "own" / "steps.py",
    }


def test_the_same_row_has_the_same_id_wherever_it_came_from() -> None:
    row = Example(prompt=user_prompt("Champ?"), answer="Champ.", origin="seed")
    assert row.evolve(origin="imported", source="elsewhere.jsonl:3").id == row.id


def test_the_file_of_a_step_is_found_in_a_package_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("steps.py", "own/__init__.py", "own/steps.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert _step_files(["steps:A", "own.steps:B", "own:C", "own.nowhere:D"]) == {
        "steps:A": tmp_path / "steps.py",
        "own.steps:B": tmp_path / "own" / "steps.py",
        "own:C": tmp_path / "own" / "__init__.py",
    }
