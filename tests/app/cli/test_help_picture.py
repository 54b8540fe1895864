"""The picture of the help in the docs: what `persona`, `persona review` and `export` list."""

from __future__ import annotations

import html
import os
from pathlib import Path

import pytest

from tests.commands import Commands
from tests.curation.review_page import FLAGS

KEPT = "PERSONA_PICTURES"
"""Variable that names the folder in which pictures are kept (`make docs-pictures`)."""


@pytest.mark.skipif(KEPT not in os.environ, reason="only for the docs' pictures")
def test_the_help_is_drawn_as_it_is_printed(chromium: str, commands: Commands) -> None:
    from playwright.sync_api import sync_playwright

    parts = []
    for words in ((), ("review",), ("export",)):
        lines = commands.run(*words).out.rstrip().splitlines()
        listed = lines[lines.index("Commands:") + 1 :]
        parts.append(f"<b>$ {' '.join(('persona', *words))}</b>")
        parts.append(html.escape("\n".join(listed)) + "\n")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 780, "height": 600})
        page.set_content("<pre style='font-size:15px'>" + "\n".join(parts) + "</pre>")
        page.screenshot(path=Path(os.environ[KEPT]) / "help.png", full_page=True)
        browser.close()
