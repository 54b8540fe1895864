"""Rules of the house: what lies where, and who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

STAGES = ("generation", "curation", "training", "evaluation")
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
    "torch",
    "transformers",
    "trl",
}
TORCH_INSIDE = {"workbench.batching", "workbench.shared_prefix"}
"""What loops over a model's steps; nothing may import them but a function that has a model."""
HELP_SECONDS = 0.5
MAX_LINES = 400


def _modules(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def test_folder_datasets_holds_data_only_and_the_name_means_the_library(repo: Path) -> None:
    import datasets

    assert list((repo / "datasets").rglob("*.py")) == []
    assert repo / "datasets" not in Path(str(datasets.__file__)).parents


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_other_stage(repo: Path, stage: str) -> None:
    others = set(STAGES) - {stage}
    found = []
    for module in _modules(repo / stage):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            found += [f"{module}: {n}" for n in names if n.split(".")[0] in others]
    assert found == []


def test_workbench_imports_no_heavy_library(repo: Path) -> None:
    modules = [
        ".".join(path.relative_to(repo).with_suffix("").parts).removesuffix(".__init__")
        for path in _modules(repo / "workbench")
        if f"workbench.{path.stem}" not in TORCH_INSIDE
    ]
    code = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"print(sorted({HEAVY | TORCH_INSIDE!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_imports_no_stage_and_answers_quickly(repo: Path) -> None:
    code = (
        "import sys, time\nstart = time.process_time()\n"
        "from workbench.cli.main import main\nassert main(['--help']) == 0\n"
        f"heavy = {HEAVY | set(STAGES) | {'rich', 'pydantic'}!r} & set(sys.modules)\n"
        "print(sorted(heavy), time.process_time() - start < " + str(HELP_SECONDS) + ")"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] True"


def test_no_file_is_longer_than_the_limit(repo: Path) -> None:
    tops = (*STAGES, "workbench", "tests", "benchmarks")
    lengths = {
        str(path.relative_to(repo)): len(path.read_text(encoding="utf-8").splitlines())
        for top in tops
        for path in _modules(repo / top)
    }
    assert {name: count for name, count in lengths.items() if count > MAX_LINES} == {}
