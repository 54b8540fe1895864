"""A random base that is sure of what it says, and two adapters on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.export.conftest import make_adapter, make_base


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("model") / "base", tiny_model)


@pytest.fixture(scope="module")
def adapters(base: Path) -> list[Path]:
    """Two adapters that say other things than the base and each other."""
    return [
        make_adapter(base.with_name(f"adapter-{alpha}"), base, lora_alpha=alpha)
        for alpha in (16, 48)
    ]
