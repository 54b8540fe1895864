"""Stages on disk: whole or not there, skipped when done, redone when what they read changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from rounds.layout import MANIFEST, RESOLVED, Manifest, OutputFile, RoundFolder
from rounds.runner import Outcome, StageSpec, Work, run_stage
from workbench.errors import UserError
from workbench.store import file_hash, write_json


def _write(work: Work) -> None:
    (work.out / "rows.jsonl").write_text('{"a": 1}\n{"a": 2}\n', encoding="utf-8")
    work.counts["kept"] = 2


def _spec(source: Path, **changes: object) -> StageSpec:
    return StageSpec("import", _write, files={"source": source}, **changes)  # type: ignore[arg-type]


@pytest.fixture
def round_(tmp_path: Path) -> RoundFolder:
    return RoundFolder.open(tmp_path / "runs" / "coach", 1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "seeds.jsonl"
    path.write_text("one\n", encoding="utf-8")
    return path


def _run(round_: RoundFolder, spec: StageSpec, seed: int = 0, force: bool = False) -> Outcome:
    return run_stage(round_, spec, seed=seed, force=force)


def test_the_manifest_explains_every_file(round_: RoundFolder, source: Path) -> None:
    _run(round_, _spec(source))
    manifest = Manifest.load(round_.stage("import") / MANIFEST)
    rows = round_.stage("import") / "rows.jsonl"
    assert manifest.outputs == {
        "rows.jsonl": OutputFile(sha256=file_hash(rows), bytes=18, records=2)
    }
    assert manifest.inputs == {"source": file_hash(source)}
    assert manifest.counts == {"kept": 2}
    assert manifest.peak_mib > 0


def test_a_done_stage_is_not_done_again(round_: RoundFolder, source: Path) -> None:
    assert [_run(round_, _spec(source)).ran for _ in range(2)] == [True, False]


def test_a_stage_made_with_other_libraries_is_told_and_stays(
    round_: RoundFolder, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = _spec(source, packages=("rich",))
    _run(round_, spec)
    file = round_.stage("import") / MANIFEST
    manifest = Manifest.load(file).model_dump(mode="json")
    write_json(file, {**manifest, "versions": {"rich": "1.0"}})
    assert not _run(round_, spec).ran
    err = capsys.readouterr().err
    assert "made with rich 1.0 (here " in err and "--force import makes it anew" in err


def test_force_does_it_again(round_: RoundFolder, source: Path) -> None:
    _run(round_, _spec(source))
    assert _run(round_, _spec(source), force=True).ran


@pytest.mark.parametrize("what", ["input", "setting", "seed"])
def test_what_it_depends_on_changed_so_it_is_done_again(
    round_: RoundFolder, source: Path, what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    _run(round_, _spec(source))
    if what == "input":
        source.write_text("two\n", encoding="utf-8")
    settings = {"rows": 3} if what == "setting" else {}
    assert _run(round_, _spec(source, settings=settings), seed=int(what == "seed")).ran
    changed = {"input": "source", "setting": "rows", "seed": "seed"}[what]
    assert f"import is done again: changed: {changed}" in capfd.readouterr().err


def test_an_output_changed_by_hand_is_told_not_overwritten(
    round_: RoundFolder, source: Path
) -> None:
    _run(round_, _spec(source))
    rows = round_.stage("import") / "rows.jsonl"
    rows.write_text("mine\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"rows\.jsonl: was changed .* --force import"):
        _run(round_, _spec(source))
    assert rows.read_text(encoding="utf-8") == "mine\n"


def test_a_stage_that_fails_leaves_nothing_that_looks_done(
    round_: RoundFolder, source: Path
) -> None:
    def fail(work: Work) -> None:
        _write(work)
        raise UserError("the teacher is gone")

    with pytest.raises(UserError, match="teacher"):
        _run(round_, StageSpec("import", fail, files={"source": source}))
    assert round_.manifest("import") is None
    assert _run(round_, _spec(source)).ran


def test_a_full_disk_is_one_line(round_: RoundFolder, source: Path) -> None:
    def fill(work: Work) -> None:
        with open("/dev/full", "w") as file:  # noqa: PTH123 - the device that is always full
            file.write("x" * 100_000)

    with pytest.raises(UserError, match="cannot be written \\(No space left on device\\)"):
        _run(round_, StageSpec("import", fill, files={"source": source}))
    assert round_.manifest("import") is None


def test_a_resumable_stage_finds_what_it_had_begun(round_: RoundFolder, source: Path) -> None:
    seen = []

    def go_on(work: Work) -> None:
        begun = work.out / "half"
        seen.append(begun.exists())
        begun.write_text("x", encoding="utf-8")
        if len(seen) == 1:
            raise UserError("killed")

    spec = StageSpec("sft", go_on, files={"source": source}, resumable=True)
    with pytest.raises(UserError):
        _run(round_, spec)
    _run(round_, spec)
    assert seen == [False, True]


def test_half_work_for_other_inputs_is_thrown_away(round_: RoundFolder, source: Path) -> None:
    seen = []

    def stop(work: Work) -> None:
        seen.append((work.out / "half").exists())
        (work.out / "half").write_text("x", encoding="utf-8")
        raise UserError("killed")

    spec = StageSpec("sft", stop, files={"source": source}, resumable=True)
    for text in ("one\n", "two\n"):
        source.write_text(text, encoding="utf-8")
        with pytest.raises(UserError):
            _run(round_, spec)
    assert seen == [False, False]


def test_a_missing_input_names_the_stage_to_run(round_: RoundFolder) -> None:
    spec = StageSpec("split", _write, inputs=(RESOLVED,))
    with pytest.raises(UserError, match="`persona resolve` comes first"):
        _run(round_, spec)


def test_two_commands_cannot_write_one_round(round_: RoundFolder) -> None:
    second = RoundFolder(round_.folder).locked()
    with round_.locked(), pytest.raises(UserError, match="another command is at work"), second:
        pass
