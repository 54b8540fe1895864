"""The documentation is true: its commands run, its links live, its pictures are there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from curation.argilla.client import Connection
from curation.argilla.pull import review_progress
from curation.argilla.server import ServerHome, start, stop
from tests.curation.review_team import answer
from tests.docs_commands import Block, blocks, hidden_commands, pages, run, working_copy
from tests.docs_site import ROOT, anchors, dead_links, missing_files
from workbench.persona import load_persona
from workbench.records import Example
from workbench.store import read_records

TUTORIAL = "docs/tutorial.md"
PERSONA, REVIEWER = "coffee-friend", "taster"
BY_KIND = {
    page: {kind: [b for b in blocks(page) if b.kind == kind] for kind in ("fast", "slow")}
    for page in pages()
}


@pytest.mark.parametrize("page", [page for page in pages() if BY_KIND[page]["fast"]])
def test_the_quick_commands_of_a_page_run_in_their_order(page: str, tmp_path: Path) -> None:
    folder = working_copy(tmp_path)
    for block in BY_KIND[page]["fast"]:
        run(block, folder)


class Tutorial:
    """The tutorial as it was followed: its folder, and what each block printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.printed: list[str] = []

    def follow(self, block: Block) -> None:
        if block.kind == "people":
            self.people_review()
        elif block.kind != "norun":
            self.printed.append(run(block, self.folder))

    def people_review(self) -> None:
        """Keep every answer, as people do in their browsers."""
        home = ServerHome((self.folder / "runs" / ".argilla").absolute())
        server = start(home, [REVIEWER], reuse=True)
        persona = load_persona(self.folder / "datasets" / PERSONA)
        owner = Connection(server.url, server.owner_api_key)
        login = Connection(server.url, server.login(REVIEWER).api_key)
        there = review_progress(owner, persona, "round-001")
        rows = self.folder / "runs" / PERSONA / "round-001/filter/examples.jsonl"
        for row in read_records(rows, Example):
            answer(login, there.dataset, row.id, fidelity=5)


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tutorial]:
    followed = Tutorial(tmp_path_factory.mktemp("tutorial"))
    try:
        for block in blocks(TUTORIAL):
            followed.follow(block)
        yield followed
    finally:
        stop(ServerHome((followed.folder / "runs" / ".argilla").absolute()))


@pytest.mark.slow
def test_the_tutorial_leads_from_an_empty_folder_to_a_served_persona(tutorial: Tutorial) -> None:
    round_ = tutorial.folder / "runs" / PERSONA / "round-001"
    assert (round_ / "report/report.html").exists()
    assert list((round_ / "export").glob("*/*.gguf"))
    assert re.search(r"^Mira: \S", tutorial.printed[-1], re.M), tutorial.printed[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in pages() if page != TUTORIAL and BY_KIND[page]["slow"]]
)
def test_the_other_commands_of_a_page_run_after_the_tutorial(page: str, tutorial: Tutorial) -> None:
    for block in BY_KIND[page]["slow"]:
        run(block, tutorial.folder)


def test_no_command_hides_from_the_tests() -> None:
    for page in pages():
        if page != "README.md":  # its fences are for reading at a glance
            text = (ROOT / page).read_text(encoding="utf-8")
            assert hidden_commands(text) == [], f"{page}: fence these as bash, perhaps norun"


def test_a_block_that_is_not_run_says_why() -> None:
    text = "```bash norun: needs a GPU\npersona\n```\n\n```bash slow\necho 1\n```\n"
    skipped, slow = blocks("page", text)
    assert (skipped.kind, skipped.why, slow.kind) == ("norun", "needs a GPU", "slow")
    with pytest.raises(ValueError, match="page:1"):
        blocks("page", "```bash norun\npersona\n```\n")


def test_a_dead_link_a_dead_anchor_and_a_missing_file_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# A heading, of `code`\n", encoding="utf-8")
    page.write_text(
        "[a](other.md#a-heading-of-code) [b](gone.md) [c](other.md#none)\n", encoding="utf-8"
    )
    assert anchors(tmp_path / "other.md") == {"a-heading-of-code"}
    assert dead_links(page) == ["gone.md", "other.md#none"]
    assert missing_files("`workbench/records.py` and `workbench/none.py`") == ["workbench/none.py"]


@pytest.fixture(scope="module")
def site(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    mkdocs = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(mkdocs, cwd=repo, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded: list[str] = []

    class Loads(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            named = {"src", "srcset", "data"} | ({"href"} if tag == "link" else set())
            loaded.extend(v for k, v in attrs if k in named and v)

    for page in site.rglob("*.html"):
        Loads().feed(page.read_text(encoding="utf-8"))
    assert [link for link in loaded if re.match(r"(?:\w+:)?//", link)] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\(\s*['\"]?(?:\w+:)?//[^)]*|@import[^;]*//[^;]*", styles) == []


def test_a_dead_link_fails_the_build(repo: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(repo / "docs", copy / "docs")
    shutil.copy(repo / "mkdocs.yml", copy)
    (copy / "mkdocs.yml").write_text(
        (repo / "mkdocs.yml").read_text(encoding="utf-8").replace("hooks: [tests/docs_site.py]", "")
    )
    page = copy / "docs/index.md"
    page.write_text(page.read_text(encoding="utf-8") + "\n[gone](numbers.md#no-such-heading)\n")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build"], cwd=copy, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "no-such-heading" in done.stderr
