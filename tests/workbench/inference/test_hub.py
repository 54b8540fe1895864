"""No library asks a hub while a stage runs, and afterwards all is as it was."""

from __future__ import annotations

import os

import pytest
from huggingface_hub import constants, file_exists
from huggingface_hub.errors import OfflineModeIsEnabled

from workbench.inference.hub import hub_offline


def test_a_library_that_asks_is_refused_before_it_opens_a_connection() -> None:
    with hub_offline(), pytest.raises(OfflineModeIsEnabled):
        file_exists("smollm2-135m", "config.json")


@pytest.mark.parametrize("said", [None, "0", "1"])
def test_what_the_user_said_holds_again_afterwards(
    monkeypatch: pytest.MonkeyPatch, said: str | None
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", said == "1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    if said is not None:
        monkeypatch.setenv("HF_HUB_OFFLINE", said)
    with hub_offline():
        assert (os.environ["HF_HUB_OFFLINE"], constants.HF_HUB_OFFLINE) == ("1", True)
    assert os.environ.get("HF_HUB_OFFLINE") == said
    assert constants.HF_HUB_OFFLINE is (said == "1")
