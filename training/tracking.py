"""Trackers by one word: where a run's curves go while it is under way."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from workbench.config import TRACKERS
from workbench.errors import UserError, nearest

FOLDER = "tracking"
"""Beside the run's folder: the files of a tracker name machine and time, and are no result."""
_ONLINE = {"wandb-online": "wandb"}


def report_to(tracker: str) -> str:
    """Return the name of transformers' integration for a tracker's word.

    Raises:
        UserError: An unknown word, or a tracker that is not installed.
    """
    if tracker not in TRACKERS:
        fix = nearest(tracker, TRACKERS) or f"one of {', '.join(TRACKERS)}"
        raise UserError(f"there is no tracker '{tracker}'", fix=fix)
    package = _ONLINE.get(tracker, tracker)
    if package != "none" and find_spec(package) is None:
        raise UserError(
            f"the tracker {tracker} is not installed",
            fix=f"pip install {package}, or use --tracker none",
        )
    return package


@contextmanager
def tracked(tracker: str, out: Path, method: str) -> Iterator[None]:
    """Within the block the tracker writes under ``tracking/`` beside the run's folder.

    ``wandb`` stays offline; only ``wandb-online`` sends, to wherever wandb is logged in.
    """
    folder = str(out.parent / FOLDER / method)
    mode = "online" if tracker in _ONLINE else "offline"
    wanted = {
        "tensorboard": {"TENSORBOARD_LOGGING_DIR": folder},
        "trackio": {"TRACKIO_DIR": folder},
        "wandb": {"WANDB_DIR": folder, "WANDB_MODE": mode, "WANDB_SILENT": "true"},
    }.get(report_to(tracker), {})
    if wanted:
        Path(folder).mkdir(parents=True, exist_ok=True)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    if tracker == "trackio":
        _move_trackio(Path(folder))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _move_trackio(folder: Path) -> None:
    """Have trackio write there: it reads its folder once, when TRL first imports it."""
    import trackio.utils

    before = trackio.utils.TRACKIO_DIR
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != "trackio":
            continue
        for key, path in list(vars(module).items()):
            if isinstance(path, Path) and key.isupper() and path.is_relative_to(before):
                setattr(module, key, folder / path.relative_to(before))
