"""Rules of the house: what lies where, who may import whom, and how large a thing may be.

A rule that a room keeps alone is a case of its own, so that `-k training` shows that room's.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import networkx
import pytest

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("generation", "curation", "training", "evaluation")
FLOORS: tuple[tuple[str, ...], ...] = (("workbench",), STAGES, ("rounds",), ("app",))
"""From the ground up; an arrow runs down, never up and never to a neighbour on the same floor."""
ROOMS = tuple(room for floor in FLOORS for room in floor)
EMBEDDED = ROOT / "curation" / "argilla" / "embedded"
"""Runs in the Argilla server's own environment; no module of ours imports it."""
HEAVY = {
    "argilla",
    "bitsandbytes",
    "datasets",
    "datasketch",
    "distilabel",
    "huggingface_hub",
    "matplotlib",
    "numpy",
    "openai",
    "pandas",
    "peft",
    "ragas",
    "scipy",
    "sklearn",
    "statsmodels",
    "torch",
    "transformers",
    "trl",
}
HELP_MODULES = 200
"""What `persona --help` may load; 129 modules take a tenth of a second."""
MAX_LINES = 450
MAX_FUNCTION_LINES = 50
SMALL_FILE = 80
MAX_SMALL_SHARE = 1 / 3
PRIVATE_LOCALS = {"told", "found", "said", "given", "kept"}
"""A participle is not a noun: name what the value is."""
STAGE_FOLDERS = (
    *("import", "generate", "filter", "review", "resolve", "split"),
    *("sft", "dpo", "grpo", "kto", "sdft", "evaluate", "report", "people"),
)
STAGE_PATH = re.compile(rf"^(?:{'|'.join(STAGE_FOLDERS)})/[\w.{{}}-]+")


@cache
def _modules(package: Path) -> tuple[Path, ...]:
    return tuple(sorted(package.rglob("*.py")))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, inside functions and for type checking too."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _where(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


def test_folder_datasets_holds_data_only_and_the_name_means_the_library(repo: Path) -> None:
    import datasets

    assert list((repo / "datasets").rglob("*.py")) == []
    assert repo / "datasets" not in Path(str(datasets.__file__)).parents


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_run_down_only(room: str) -> None:
    floor = next(number for number, rooms in enumerate(FLOORS) if room in rooms)
    allowed = {room} | {name for rooms in FLOORS[:floor] for name in rooms}
    up = [
        f"{_name(path)} imports {name}"
        for path in _modules(ROOT / room)
        for name in _imports(path)
        if name.split(".")[0] in set(ROOMS) - allowed
    ]
    assert up == []


@pytest.mark.parametrize("room", ROOMS)
def test_no_imports_in_a_circle(room: str) -> None:
    names = {_name(path): path for path in _modules(ROOT / room)}
    graph = networkx.DiGraph(
        (name, imported)
        for name, path in names.items()
        if path.name != "__init__.py"
        for imported in _imports(path)
        if imported in names and names[imported].name != "__init__.py"
    )
    circles = [sorted(one) for one in networkx.strongly_connected_components(graph) if len(one) > 1]
    assert circles == []


def test_click_is_imported_by_the_command_line_alone() -> None:
    elsewhere = [
        _name(path)
        for room in ROOMS
        for path in _modules(ROOT / room)
        if "click" in {name.split(".")[0] for name in _imports(path)}
        and not _name(path).startswith("app.cli")
    ]
    assert elsewhere == []


def test_every_package_is_among_those_that_are_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = (file.parent for room in ROOMS for file in (ROOT / room).rglob("__init__.py"))
    packages = {_name(folder) for folder in folders if EMBEDDED not in folder.parents}
    assert packages == set(listed["tool"]["setuptools"]["packages"])


def test_only_the_default_language_is_named_outside_the_packs() -> None:
    codes = {file.parent.name for file in ROOT.glob("workbench/language/*/pack.yaml")}
    naming = [
        _where(path, node)
        for room in ROOMS
        for path in _modules(ROOT / room)
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Constant) and node.value in codes
    ]
    assert {where.split(":")[0] for where in naming} == {"workbench/language/packs.py"}
    assert len(naming) == 1


@pytest.mark.parametrize("part", ["curation/filters", "curation/review"])
def test_filters_and_decisions_know_nothing_of_argilla(part: str) -> None:
    knowing = [
        f"{_name(path)} imports {name}"
        for path in _modules(ROOT / part)
        for name in _imports(path)
        if name.split(".")[0] == "argilla" or name.startswith("curation.argilla")
    ]
    assert knowing == []


def test_workbench_imports_no_heavy_library_at_import_time() -> None:
    modules = [_name(path) for path in _modules(ROOT / "workbench")]
    code = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_imports_no_stage_and_answers_quickly() -> None:
    code = (
        "import sys\nfrom app.cli.main import main\nassert main(['--help']) == 0\n"
        f"heavy = {HEAVY | set(STAGES) | {'rounds', 'rich', 'pydantic'}!r} & set(sys.modules)\n"
        "print(sorted(heavy), len(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, modules = done.stdout.splitlines()[-1].rsplit(" ", 1)
    assert heavy == "[]"
    assert int(modules) < HELP_MODULES


@pytest.mark.parametrize("room", (*ROOMS, "tests", "benchmarks"))
def test_no_file_is_longer_than_the_limit(room: str) -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in _modules(ROOT / room)
    }
    assert {name: count for name, count in lengths.items() if count > MAX_LINES} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_no_function_is_longer_than_the_limit(room: str) -> None:
    long = {
        f"{_where(path, node)} {node.name}": node.end_lineno - node.lineno + 1
        for path in _modules(ROOT / room)
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES
    }
    assert long == {}


@pytest.mark.parametrize("room", ROOMS)
def test_files_are_few_and_deep(room: str) -> None:
    files = [
        path
        for path in _modules(ROOT / room)
        if path.name != "__init__.py" and EMBEDDED not in path.parents
    ]
    small = [
        str(path.relative_to(ROOT))
        for path in files
        if len(path.read_text(encoding="utf-8").splitlines()) < SMALL_FILE
    ]
    assert len(small) <= MAX_SMALL_SHARE * len(files), small


def test_every_file_says_its_role() -> None:
    silent = [_name(p) for room in ROOMS for p in _modules(ROOT / room) if not _says_role(p)]
    assert silent == []


def _says_role(path: Path) -> bool:
    return bool((ast.get_docstring(_tree(path)) or "").split("\n")[0])


def test_no_two_classes_share_a_name() -> None:
    places = defaultdict(list)
    for room in ROOMS:
        for path in _modules(ROOT / room):
            for node in ast.walk(_tree(path)):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(_where(path, node))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_locals_are_named_by_nouns(room: str) -> None:
    private = sorted(
        f"{_where(path, node)} {node.id}"
        for path in _modules(ROOT / room)
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Name)
        and isinstance(node.ctx, ast.Store)
        and node.id in PRIVATE_LOCALS
    )
    assert private == []


@pytest.mark.parametrize("room", ROOMS)
def test_paths_of_stages_are_spelled_in_the_layout_alone(room: str) -> None:
    literal = sorted(
        f"{_where(path, node)} {node.value}"
        for path in _modules(ROOT / room)
        if _name(path) != "rounds.layout"
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and STAGE_PATH.match(node.value)
    )
    assert literal == []
