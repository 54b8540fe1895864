"""What the README says of files and commands is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.cli.main import COMMANDS
from tests.readme_tree import PACKAGES, ROOT, role, tree, with_tree

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_tree_is_fresh() -> None:
    assert with_tree(README) == README, "run: python -m tests.readme_tree"


def test_every_file_says_its_role() -> None:
    assert re.findall(r"^\| `[^`]+` \|  \|$", tree(), re.M) == []
    assert all(role(path) for package in PACKAGES for path in (ROOT / package).glob("*.py"))


def test_every_command_of_the_readme_exists_and_every_command_is_in_it() -> None:
    named = set(re.findall(r"(?:^|`)persona ([a-z][a-z-]*)", README, re.M))
    assert named & set(COMMANDS) == set(COMMANDS)
    assert named - set(COMMANDS) == set()


def test_the_two_commands_come_first() -> None:
    commands = re.findall(r"^(make \w+)", README, re.M)
    assert commands[:2] == ["make run", "make test"]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_no_link_is_dead(repo: Path, name: str) -> None:
    text = (repo / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert [link for link in links if not (repo / link).exists()] == []
