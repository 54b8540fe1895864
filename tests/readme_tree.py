"""The README's tree, made from the first line of every file's own description.

`python -m tests.readme_tree` writes it anew; a test asserts that it is fresh.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- tree: python -m tests.readme_tree -->", "<!-- end of tree -->"
PACKAGES = (
    "app",
    "rounds",
    "workbench",
    "generation",
    "curation",
    "training",
    "evaluation",
    "benchmarks",
)
_COMMENT = re.compile(r"^(?:#|/\*|\{#-?)\s*(.+?)\s*(?:\*/|-?#\})?$")
_LEFT_OUT = {"__pycache__", "constraints.txt"}


def role(path: Path) -> str:
    """Return the first line of a module's docstring, or of another file's leading comment."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]
    found = _COMMENT.match(text.split("\n")[0])
    return found.group(1) if found else ""


def tree() -> str:
    """Return one folded list a package: every file with its role."""
    parts = []
    for package in PACKAGES:
        files = [
            path
            for path in sorted((ROOT / package).rglob("*"))
            if path.is_file() and not _LEFT_OUT & set(path.parts) and path.name not in _LEFT_OUT
        ]
        head = next((role(path) for path in files if path == ROOT / package / "__init__.py"), "")
        rows = [
            f"| `{path.relative_to(ROOT / package)}` | {role(path)} |"
            for path in files
            if path != ROOT / package / "__init__.py"
        ]
        title = f"<b>{package}/</b> {head}".rstrip()
        table = ["| File | Role |", "| --- | --- |", *rows]
        parts += [f"<details><summary>{title}</summary>", "", *table, "", "</details>", ""]
    return "\n".join(parts).strip()


def with_tree(readme: str) -> str:
    """Return the README with a fresh tree between its marks."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tree()}\n\n{END}{after}"


if __name__ == "__main__":
    file = ROOT / "README.md"
    file.write_text(with_tree(file.read_text(encoding="utf-8")), encoding="utf-8")
