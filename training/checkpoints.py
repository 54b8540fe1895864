"""What a run that was killed, or met a full disk, leaves: checkpoints to go on from."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.console import console
from workbench.store import cannot_write, write_json

_IDENTITY = "run.json"
_STATE = "trainer_state.json"


def last_checkpoint(folder: Path, run: str) -> Path | None:
    """Return the last whole checkpoint of this very run in ``folder``, None to start at step 0.

    Checkpoints of a run with another recipe, data, seed or base are removed.

    Args:
        folder: Of the checkpoints.
        run: See :meth:`training.run.TrainingRun.identity`.
    """
    named = folder / _IDENTITY
    if _json(named).get("run") != run:
        if folder.exists():
            console.print("  checkpoints of a different run were there: starting at step 0")
            shutil.rmtree(folder)
        write_json(named, {"run": run})
        return None
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    # The trainer writes its state last: a folder without it was being written when the run died.
    whole = [path for path in checkpoints if "global_step" in _json(path / _STATE)]
    for path in set(checkpoints) - set(whole):
        shutil.rmtree(path)
    if not whole:
        return None
    console.print(f"  going on from step {whole[-1].name.rpartition('-')[2]}")
    return whole[-1]


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
_LOW_SPACE = 64 * 2**20
"""Free bytes under which a failed write is taken for a full disk."""


@contextmanager
def full_disk(out: Path) -> Iterator[None]:
    """Turn what the libraries raise on a full disk into one line; the last checkpoint stays."""
    from safetensors import SafetensorError

    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        # transformers raises plain OSErrors, without a number, for what is not of the disk.
        if error.errno not in _DISK_ERRORS:
            raise
        raise cannot_write(out, error) from None
    # torch and safetensors wrap the system's error in their own.
    except (RuntimeError, SafetensorError) as error:
        full = "No space left" in str(error) or (
            "write" in str(error).lower() and shutil.disk_usage(out).free < _LOW_SPACE
        )
        if not full:
            raise
        raise cannot_write(out, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from None
