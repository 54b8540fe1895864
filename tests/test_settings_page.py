"""The page of settings is that of the models, and every key on it says what it means."""

from __future__ import annotations

from tests.settings_page import PAGE, page


def test_the_page_is_current_and_every_key_has_a_meaning() -> None:
    """`python -m tests.settings_page` writes it anew."""
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.settings_page"
    assert [row for row in page().splitlines() if row.endswith("|  |")] == []
