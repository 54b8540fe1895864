"""What the documentation's site checks beyond its own links, as a hook of mkdocs.

A warning fails the build. There is one for a file or folder of the repository that a page names in
backticks and that is not there, and for a dead link or anchor in the repository's own Markdown.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("app", "rounds", "workbench", "generation", "curation", "training", "evaluation")
TOPS = (*PACKAGES, "benchmarks", "datasets", "deploy", "docs", "examples", "tests")
OWN = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
_NAMED = re.compile(rf"`((?:{'|'.join(TOPS)})/[\w./-]*)`")
_CODE = re.compile(rf"(?<=<code>)(?:{'|'.join(TOPS)})/[\w./-]+(?=</code>)")
_LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")
_FENCE = re.compile(r"^(```+)[^\n]*\n.*?^\1[ \t]*$", re.M | re.S)
_INFO = re.compile(r"^```bash .*$", re.M)
_log = logging.getLogger("mkdocs.hooks.repository")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Check what the page names; strip what only the test of commands reads."""
    for name in missing_files(markdown):
        _log.warning("docs/%s names `%s`, which is not there", page.file.src_uri, name)
    return _INFO.sub("```bash", markdown)


def on_page_content(html: str, **_: object) -> str:
    """Let names of files break after a slash: tables have a column of them."""
    return _CODE.sub(lambda found: found[0].replace("/", "/<wbr>"), html)


def on_pre_build(**_: object) -> None:
    """Check the links of the repository's own Markdown files."""
    for name in OWN:
        for link in dead_links(ROOT / name):
            _log.warning("%s links to %s, which is not there", name, link)


def missing_files(markdown: str) -> list[str]:
    """Return the files and folders of the repository that a text names and that are missing."""
    named = dict.fromkeys(_NAMED.findall(markdown))
    return [name for name in named if not (ROOT / name).exists()]


def dead_links(file: Path) -> list[str]:
    """Return the relative links of a Markdown file whose target or heading is missing."""
    dead = []
    text = _FENCE.sub("", file.read_text(encoding="utf-8"))
    for target, anchor in _LINK.findall(text):
        there = file.parent / target if target else file
        found = there.exists() and (not anchor or anchor in anchors(there))
        if not found:
            dead.append(f"{target}#{anchor}" if anchor else target)
    return dead


def anchors(file: Path) -> set[str]:
    """Return the anchors that a Markdown file's headings get."""
    return set(_anchors(_FENCE.sub("", file.read_text(encoding="utf-8"))))


def _anchors(text: str) -> Iterator[str]:
    for heading in re.findall(r"^#+\s+(.+?)\s*$", text, re.M):
        words = re.sub(r"[^\w\s-]", "", heading.lower())
        yield re.sub(r"\s", "-", words.strip())
