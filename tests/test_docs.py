"""The documentation is true: its commands run, its links live, its pictures are there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from curation.argilla.server import ServerHome, stop
from tests.docs_commands import (
    Block,
    blocks,
    hidden_commands,
    pages,
    run,
    smaller,
    working_copy,
)
from tests.docs_review import PERSONA
from tests.docs_site import ROOT, anchors, dead_links, missing_files
from tests.offline import LoopbackOnly
from tests.saying_base import make_saying_base
from tests.scripted_server import ScriptedServer

TUTORIAL = "docs/tutorial.md"
BY_KIND = {
    page: {kind: [b for b in blocks(page) if b.kind == kind] for kind in ("fast", "slow")}
    for page in pages()
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The base of the pages' rounds, as small as one can be that answers in words."""
    return make_saying_base(tmp_path_factory.mktemp("base") / "small", tiny_model)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in pages() if BY_KIND[page]["fast"]])
def test_the_quick_commands_of_a_page_run_in_their_order(
    page: str, tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", "a-key-of-the-page")
    folder = working_copy(tmp_path)
    with ScriptedServer() as teacher:
        for block in BY_KIND[page]["fast"]:
            run(replace(block, script=smaller(block.script, base, teacher.url)), folder)


class Tutorial:
    """The tutorial as it was followed: its folder, and what each block printed.

    Where a network namespace can be made, it is followed in one that drops what would leave.
    """

    def __init__(self, folder: Path, base: Path, inside: LoopbackOnly | None) -> None:
        self.folder, self.base, self.inside = folder, base, inside
        self.printed: list[str] = []

    def follow(self, block: Block) -> None:
        if block.kind == "norun":
            return
        script = f"cd {ROOT} && {sys.executable} -m tests.docs_review {self.folder}"
        if block.kind != "people":
            script = smaller(block.script, self.base, teacher="http://127.0.0.1:9/v1")
        self.printed.append(run(replace(block, script=script), self.folder, self.inside))


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[Tutorial]:
    folder = tmp_path_factory.mktemp("tutorial")
    with ExitStack() as stack:
        stack.callback(stop, ServerHome(folder / "runs" / ".argilla"))
        inside = None
        if not LoopbackOnly.missing():
            network = tmp_path_factory.mktemp("network")
            inside = stack.enter_context(LoopbackOnly(network, drops=True))
        followed = Tutorial(folder, base, inside)
        for block in blocks(TUTORIAL):
            followed.follow(block)
        yield followed


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
    for block in blocks(page):
        if block.kind != "fast":
            tutorial.follow(block)


@pytest.mark.slow
def test_nothing_left_the_machine_on_the_way(tutorial: Tutorial) -> None:
    if tutorial.inside is None:
        pytest.skip(f"NO NETWORK NAMESPACE HERE: {LoopbackOnly.missing()}")
    assert tutorial.inside.dropped() == 0


def test_no_command_hides_from_the_tests() -> None:
    for page in pages():
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
