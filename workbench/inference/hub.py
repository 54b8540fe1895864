"""When a model hub may be asked: only for a hub id that somebody named, and only to fetch it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
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
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Within the block the process's environment has these variables, after it what it had."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def hub_offline() -> Iterator[None]:
    """Let no library ask a hub: PEFT would look up an adapter's base at every save and load.

    Models are fetched before; the hub's own cache still answers for them.
    """
    before = os.environ.get(_VARIABLE, "")
    with environment({_VARIABLE: "1"}):  # read by PEFT at every use, by the Hub's at its import
        _tell_hub(True)
        try:
            yield
        finally:
            _tell_hub(before not in ("", "0"))


def _tell_hub(offline: bool) -> None:
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        constants.HF_HUB_OFFLINE = offline  # type: ignore[attr-defined]
