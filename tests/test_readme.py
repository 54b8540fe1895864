"""What the README and the list of commands say of files and commands is so."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import click
import pytest

from app.cli import ListedGroup
from app.cli.main import COMMANDS, cli, main
from tests.docs_site import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
LIST = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
MAX_BYTES = 15_000
_COMMAND = re.compile(r"(?:^|`)persona ([a-z][a-z-]*)", re.M)
_FILE = re.compile(r"`([\w.-]+/(?:[\w.-]+/?)*)`")


def test_the_readme_is_one_page() -> None:
    assert len(README.encode()) <= MAX_BYTES


@pytest.mark.parametrize("text", [README, LIST], ids=["README.md", "docs/commands.md"])
def test_every_command_that_is_named_exists(text: str) -> None:
    assert set(_COMMAND.findall(text)) - set(COMMANDS) == set()


def test_every_command_is_in_the_list_of_commands() -> None:
    assert set(COMMANDS) - set(_COMMAND.findall(LIST)) == set()


def _named_in_rows() -> dict[str, tuple[set[str], set[str]]]:
    """Return command → the commands below it and the options that its rows of the list name."""
    rows: dict[str, tuple[set[str], set[str]]] = {}
    for line in LIST.splitlines():
        if match := re.match(r"\| `persona ([\w-]+)", line):
            below, options = rows.setdefault(match[1], (set(), set()))
            below.update(re.findall(r"`(?:persona [\w-]+ )?([a-z][\w-]*)(?: [A-Z]+)?`", line))
            options.update(re.findall(r"`(--[a-z-]+)", line))
    return rows


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_s_row_names_all_commands_below_it_and_no_option_that_is_none(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    below, options = _named_in_rows().get(name, (set(), set()))
    commands = dict(command.commands) if isinstance(command, click.Group) else {}
    assert set(commands) - below == set()
    params = (param for one in (command, *commands.values()) for param in one.params)
    assert options - {option for param in params for option in param.opts} == set()


def test_every_file_and_folder_that_the_readme_names_is_there() -> None:
    named = {name for name in _FILE.findall(README) if not name.startswith("runs/")}
    assert len(named) >= 10
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_the_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    assert set(re.findall(r"\bmake ([a-z][\w-]*)", README)) - targets == set()


def test_the_two_commands_come_first() -> None:
    commands = re.findall(r"^(make \w+)", README, re.M)
    assert commands[:2] == ["make run", "make test"]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_no_link_is_dead(repo: Path, name: str) -> None:
    text = (repo / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert [link for link in links if not (repo / link).exists()] == []


def test_every_function_on_the_row_s_walk_exists() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rooms = "app|rounds|generation|curation|training|evaluation|workbench"
    named = set(re.findall(rf"`((?:{rooms})(?:\.\w+)+)(?:\([^`]*\))?`", text))
    assert len(named) >= 20
    assert sorted(name for name in named if not _exists(name)) == []


def _exists(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    return hasattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("group", [[], ["review"], ["export"]], ids=" ".join)
def test_a_group_alone_lists_its_commands_with_a_whole_line_each(
    group: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(group) == 0
    command = cli.get_command(click.Context(cli), group[0]) if group else cli
    assert isinstance(command, ListedGroup)
    assert set(command.lines) == set(command.commands or COMMANDS)  # main's own are imported late
    listed = [line.strip() for line in capsys.readouterr().out.split("Commands:\n")[1].splitlines()]
    # No line is cut or goes on in the next one, and the order is that of use.
    assert [tuple(re.split(r" {2,}", line)) for line in listed] == list(command.lines.items())
