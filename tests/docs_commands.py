"""The commands of the documentation, found on its pages and run as a reader would run them.

The word after "bash" on a fence says how it is run. None: in every test run. ``slow``: in the
working copy that the tutorial leaves behind. ``norun: why``: never. A comment
`<!-- people review here -->` stands for what people do in the browser.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.docs_site import ROOT
from tests.offline import LoopbackOnly
from workbench.inference.endpoint import free_port

Kind = Literal["fast", "slow", "norun", "people"]
_PARTS = re.compile(
    r"^(?P<people><!-- people review here -->)$"
    r"|^(?P<indent> *)```bash(?P<info>[^\n]*)\n(?P<script>.*?)^(?P=indent)```$",
    re.M | re.S,
)
_INFO = re.compile(r"^(?: (?P<slow>slow)| norun: (?P<why>[^`\s][^`]+))?$")
_HIDDEN = re.compile(r"^ *```(?!bash)\w*\n(?: *#.*\n)* *(?:\.venv/bin/)?(?:persona|make) ", re.M)
SECONDS = 1800
"""Until a block is given up: the longest takes two minutes here, on a quiet machine."""


@dataclass(frozen=True)
class Block:
    """One fence of a page, or the place where people review."""

    page: str
    line: int
    kind: Kind
    script: str = ""
    why: str = ""
    """Why it is not run."""


def pages() -> list[str]:
    """Return the pages that hold commands, relative to the repository."""
    return ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]


def blocks(page: str, text: str | None = None) -> list[Block]:
    """Return the blocks of a page in their order.

    Raises:
        ValueError: A fence says of itself something else than how it is run.
    """
    text = (ROOT / page).read_text(encoding="utf-8") if text is None else text
    found = []
    for part in _PARTS.finditer(text):
        line = text[: part.start()].count("\n") + 1
        if part["people"]:
            found.append(Block(page, line, "people"))
            continue
        info = _INFO.match(part["info"])
        if info is None:
            raise ValueError(f"{page}:{line}: 'bash{part['info']}' is no way to run a block")
        kind: Kind = "norun" if info["why"] else "slow" if info["slow"] else "fast"
        indent = len(part["indent"])
        script = "".join(row[indent:] + "\n" for row in part["script"].splitlines())
        found.append(Block(page, line, kind, script, info["why"] or ""))
    return found


def hidden_commands(text: str) -> list[int]:
    """Return the lines of fences that hold commands and are no bash, so that no test runs them."""
    return [text[: found.start()].count("\n") + 1 for found in _HIDDEN.finditer(text)]


def working_copy(folder: Path) -> Path:
    """Return the folder, with the data of a checkout in it and a small configuration run.yaml."""
    shutil.copytree(ROOT / "datasets", folder / "datasets", dirs_exist_ok=True)
    small = "workbench/presets/smoke.yaml"
    shutil.copy(ROOT / small, folder / "run.yaml")
    return folder


def smaller(script: str, base: Path, teacher: str) -> str:
    """Return a script at a test's size: the same commands, a small base, few rows.

    Args:
        script: Of a page.
        base: Folder of the base that stands in for the embedded one, which ``make run`` proves.
        teacher: Address of the server that stands where the pages have theirs.
    """
    changes = {
        r"^persona: datasets/\S+$": rf"\g<0>\nmodel: {base}",
        r"^evaluate: \{": r"\g<0>gate: {no_answers: 1}, ",
        r"per_topic: 20\b": "per_topic: 1",
        r"http://127\.0\.0\.1:8000/v1": teacher,
    }
    for pattern, change in changes.items():
        script = re.sub(pattern, change, script, flags=re.M)
    return script


def run(block: Block, folder: Path, inside: LoopbackOnly | None = None) -> str:
    """Run a block in a shell of its own, which ends at the first command that fails.

    The port that the page names becomes a free one of this machine.

    Args:
        block: The commands.
        folder: Where they run.
        inside: The network namespace that they run in; that of the tests by default.

    Raises:
        AssertionError: It failed; with the page, the line and what it printed.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = re.sub(r"\b8765\b", str(free_port()), f"cd {folder}\n{block.script}")
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(
        inside.command(*command) if inside else command,
        env={**os.environ, "PATH": path, "PERSONA_ARGILLA_HOME": "", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    where = f"{block.page}:{block.line}"
    assert done.returncode == 0, f"{where}: exit {done.returncode}\n{block.script}\n{done.stdout}"
    return done.stdout
