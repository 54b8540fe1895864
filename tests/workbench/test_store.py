"""What is written is there whole or not at all, and a full disk is one line."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from workbench.errors import UserError
from workbench.store import (
    check_space,
    disk_errors,
    existing,
    locked,
    read_json,
    read_json_lines,
    whole_folder,
    write_json,
)

FULL = Path("/dev/full")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    with pytest.raises(TypeError):
        write_json(path, {"bad": object()})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_takes_the_place_of_the_one_before_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "export"
    for text in ("old", "new"):
        with whole_folder(target) as folder:
            (folder / "model").write_text(text, encoding="utf-8")
    assert (target / "model").read_text(encoding="utf-8") == "new"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["export"]


def test_a_folder_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    target = tmp_path / "export"
    with whole_folder(target) as folder:
        (folder / "model").write_text("old", encoding="utf-8")
    with pytest.raises(ValueError, match="no"), whole_folder(target) as folder:
        (folder / "model").write_text("half", encoding="utf-8")
        raise ValueError("no")
    assert (target / "model").read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["export"]


def test_two_commands_cannot_write_one_folder(tmp_path: Path) -> None:
    with (
        whole_folder(tmp_path / "export"),
        pytest.raises(UserError, match="another command is at work there"),
        whole_folder(tmp_path / "export"),
    ):
        pass


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("PytorchStreamWriter failed: No space left on device"),
    ],
)
def test_a_full_disk_is_one_line_whoever_meets_it(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(UserError, match="No space left"), disk_errors(tmp_path):
        raise error


@pytest.mark.parametrize("error", [OSError("no such model"), RuntimeError("shapes differ")])
def test_other_failures_are_not_taken_for_a_full_disk(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), disk_errors(tmp_path):
        raise error


@pytest.mark.skipif(not FULL.is_char_device(), reason="no device that is always full")
def test_a_disk_that_torch_finds_full_is_one_line(tmp_path: Path) -> None:
    import torch

    # Written through an open file: saving to the path would replace the device itself.
    line = r"No space left on device.*run the same command again"
    with pytest.raises(UserError, match=line), disk_errors(tmp_path), FULL.open("wb") as file:
        torch.save({"weights": torch.zeros(1000)}, file)


def test_too_little_space_says_how_much_is_needed_and_where_else_to_go(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the export needs 1073741824 .* --out"):
        check_space(tmp_path / "not" / "there", 1 << 50, "the export", "--out")


DEEP = "[" * 100_000
DIGITS = '{"n": ' + "9" * 5000 + "}"


@pytest.mark.parametrize(
    ("text", "what"), [(DEEP, "nested too deep"), (DIGITS, "Exceeds the limit"), ("{", "Expecting")]
)
def test_json_that_cannot_be_held_is_told_with_its_place(
    tmp_path: Path, text: str, what: str
) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=f"manifest.json: broken JSON: {what}"):
        read_json(file)
    lines = tmp_path / "examples.jsonl"
    lines.write_text(f'{{"a": 1}}\n{text}\n{{"b": 2}}\n', encoding="utf-8")
    with pytest.raises(UserError, match=f"examples.jsonl:2: broken JSON: {what}"):
        list(read_json_lines(lines))
    mistakes: list[UserError] = []
    rows = list(read_json_lines(lines, mistakes=mistakes))
    assert (rows, len(mistakes)) == ([(1, {"a": 1}), (3, {"b": 2})], 1)


def test_a_path_that_the_system_refuses_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read \(File name too long"):
        existing(tmp_path / ("a" * 300))
    with pytest.raises(UserError, match="there is no such file"):
        existing(tmp_path / "a\0b")


def test_a_lock_is_not_taken_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "round-001").write_text("", encoding="utf-8")
    file = tmp_path / "round-001" / ".lock"
    with (
        pytest.raises(UserError, match=r"cannot be written \(File exists"),
        locked(file, tmp_path),
    ):
        pass
