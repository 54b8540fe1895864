"""Prove the bundle: collect it, install it and run the whole loop where there is only loopback.

Run as ``python -m tests.prove_bundle [FOLDER]``; with FOLDER, what was made is kept there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.offline import LoopbackOnly

REPORT = "runs/gym-trainer/round-001/report/report.html"


def prove(folder: Path) -> None:
    """Go the whole way in ``folder`` and print what it took; any failure is an exception."""
    bundle, checkout, home = folder / "bundle", folder / "checkout", folder / "home"
    for fresh in (checkout, home):
        shutil.rmtree(fresh, ignore_errors=True)
    home.mkdir(parents=True)
    persona = [sys.executable, "-m", "app.cli.main", "bundle", str(bundle)]
    _timed("collect", persona)
    _timed("check", [*persona, "--check"])
    # The Python that environments are made from, an empty home, nothing that is set here.
    python = Path(sys.base_prefix) / "bin" / "python3"
    path = f"{python.parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    threads = [f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS",) if name in os.environ]
    bare = ["env", "-i", f"PATH={path}", f"HOME={home}", f"TMPDIR={folder}", "LANG=C.UTF-8"]
    bare += threads
    with LoopbackOnly(folder) as inside:
        install = [*bare, str(python), str(bundle / "install.py"), str(checkout)]
        _timed("install", inside.command(*install))
        run = [*bare, "make", "-C", str(checkout), "run", "PRESET=smoke"]
        _timed("run", inside.command(*run))
        left = inside.attempts_to_leave()
    if not (checkout / REPORT).is_file() or left:
        raise SystemExit(f"NOT PROVEN: report {checkout / REPORT}, {left} attempts to leave")
    print(f"bundle {_mb(bundle)} MB, installed {_mb(checkout)} MB; nothing tried to leave")


def _timed(name: str, command: list[str]) -> None:
    began = time.monotonic()
    subprocess.run(command, check=True)
    print(f"== {name}: {time.monotonic() - began:.0f} s", flush=True)


def _mb(folder: Path) -> int:
    files = (p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    return round(sum(p.stat().st_size for p in files) / 1e6)


if __name__ == "__main__":
    if reason := LoopbackOnly.missing():
        raise SystemExit(f"no network namespace can be made here: {reason}")
    os.environ["PYTHONUNBUFFERED"] = "1"
    if len(sys.argv) > 1:
        prove(Path(sys.argv[1]).absolute())
    else:
        with tempfile.TemporaryDirectory() as folder:
            prove(Path(folder))
