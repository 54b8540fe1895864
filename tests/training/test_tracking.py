from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from training.callbacks import report_to, tracked
from workbench.config import TRACKERS
from workbench.errors import UserError


def test_a_tracker_that_is_not_installed_or_not_known_is_one_line() -> None:
    assert report_to("none") == "none"
    with pytest.raises(UserError, match=r"no tracker 'wandbb'.*did you mean 'wandb'"):
        report_to("wandbb")
    for word in TRACKERS:
        package = word.removesuffix("-online")
        if word != "none" and find_spec(package) is None:
            with pytest.raises(UserError, match=f"pip install {package}"):
                report_to(word)


def test_a_tracker_writes_beside_the_run_and_leaves_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.callbacks.find_spec", lambda name: object())
    monkeypatch.setenv("WANDB_MODE", "online")

    with tracked("wandb", tmp_path / "run", "sft"):
        assert os.environ["WANDB_MODE"] == "offline"
        assert Path(os.environ["WANDB_DIR"]) == tmp_path / "tracking" / "sft"
    assert os.environ["WANDB_MODE"] == "online"
    assert "WANDB_DIR" not in os.environ
    with tracked("wandb-online", tmp_path / "run", "sft"):
        assert os.environ["WANDB_MODE"] == "online"
    with tracked("none", tmp_path / "other" / "run", "sft"):
        assert not (tmp_path / "other").exists()


@pytest.fixture
def no_trackio_after() -> Iterator[None]:
    """TRL asks for whatever package of that name is imported: the stand-in must not stay."""
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        del sys.modules[name]


@pytest.mark.usefixtures("no_trackio_after")
def test_trackio_writes_there_though_it_was_imported_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "trackio"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from trackio.utils import TRACKIO_DIR\n")
    (package / "utils.py").write_text(
        "from pathlib import Path\nTRACKIO_DIR = Path('home')\nMEDIA_DIR = TRACKIO_DIR / 'media'\n"
    )
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setattr("training.callbacks.find_spec", lambda name: object())
    import trackio

    folder = tmp_path / "tracking" / "sft"
    with tracked("trackio", tmp_path / "run", "sft"):
        assert folder == trackio.TRACKIO_DIR
        assert folder / "media" == trackio.utils.MEDIA_DIR
