"""When a model hub may be asked: only for a hub id that somebody named, and only to fetch it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from workbench.errors import UserError

_VARIABLE = "HF_HUB_OFFLINE"


@contextmanager
def hub_errors(repository: str) -> Iterator[None]:
    """Tell what goes wrong with the Hub inside of the context in one line.

    Raises:
        UserError: The name is none, or the Hub refuses or cannot be reached.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except HFValidationError:
        raise UserError(f"'{repository}' is no name on the Hub", fix="give OWNER/NAME") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise UserError(
            f"the Hub refuses (HTTP {status})", where=repository, fix="check name and token"
        ) from None
    except OSError as error:
        raise UserError(
            f"the Hub cannot be reached ({type(error).__name__})",
            where=constants.ENDPOINT,
            fix="check the network, and that HF_HUB_OFFLINE is not set",
        ) from None


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
