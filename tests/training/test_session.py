from __future__ import annotations

from pathlib import Path

import pytest

from training.checkpoints import full_disk
from workbench.errors import UserError

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.is_char_device(), reason="no device that is always full")
def test_a_full_disk_is_one_line_and_leaves_what_is_there(tmp_path: Path) -> None:
    import torch

    (tmp_path / "checkpoints").mkdir()

    # Written through an open file: saving to the path would replace the device itself.
    told = r"No space left on device.*run the same command again"
    with pytest.raises(UserError, match=told), full_disk(tmp_path), FULL.open("wb") as file:
        torch.save({"weights": torch.zeros(1000)}, file)

    assert (tmp_path / "checkpoints").is_dir()


def test_other_failures_are_not_taken_for_afull_disk(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"), full_disk(tmp_path):
        raise RuntimeError("shapes do not fit")
    with pytest.raises(OSError, match="no such model"), full_disk(tmp_path):
        raise OSError("no such model")
