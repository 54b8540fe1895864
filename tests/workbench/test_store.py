"""What is written is there whole or not at all, and a full disk is one line."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from workbench.errors import UserError
from workbench.store import check_space, disk_errors, whole_folder, write_json

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
