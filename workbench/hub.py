"""When a model hub may be asked: only for a hub id that somebody named, and only to fetch it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLE = "HF_HUB_OFFLINE"


@contextmanager
def hub_offline() -> Iterator[None]:
    """Let no library ask a hub: PEFT would look up an adapter's base at every save and load.

    Models are fetched before; the hub's own cache still answers for them.
    """
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = "1"  # read by PEFT at every use, by huggingface_hub at its import
    _tell_hub(True)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before
        _tell_hub(before not in (None, "", "0"))


def _tell_hub(offline: bool) -> None:
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        constants.HF_HUB_OFFLINE = offline  # type: ignore[attr-defined]
