"""What a GPU does: speed and memory of SFT, DPO and GRPO against bare TRL, by one command.

``make bench-gpu`` on a machine with CUDA and PyTorch, which needs nothing else: what is missing is
put into an environment of its own (from the network, or from the folder ``--wheels`` that
``make bench-gpu-wheels`` filled elsewhere), a base of Llama-3-8B's shape with random weights is
made on the spot, and every part is measured in a process of its own, within a time of its own and
nine minutes in all: tokens a second, peak memory, the plan's peak against the measured one, SFT
within the 16 GB of a T4, and Unsloth where it installs. What fails is said and costs the others
nothing; figures are written as they come. ``--smallest`` runs the same parts on two cores, on a
tiny base, and its figures say nothing. Only the standard library is imported before the packages
are there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "build" / "bench-gpu"
NEEDED = {
    "accelerate": "accelerate",
    "bitsandbytes": "bitsandbytes",
    "charset-normalizer": "charset_normalizer",
    "datasets": "datasets",
    "jinja2": "jinja2",
    "peft": "peft",
    "platformdirs": "platformdirs",
    "psutil": "psutil",
    "pydantic": "pydantic",
    "pyyaml": "yaml",
    "rich": "rich",
    "transformers": "transformers",
    "trl": "trl",
}
"""Distribution → module, of all that training imports beside torch."""
SECONDS = 520.0
"""Of all measurements together."""
BOUNDS = {"base": 150.0, "weights": 180.0}
"""Part → seconds that it may take; any other :data:`MOST`."""
MOST = 110.0
T4_GIB = 16.0
METHODS = ("sft", "dpo", "grpo")


def main() -> None:
    """Collect what is missing, then measure part by part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--smallest", action="store_true", help="two cores, a tiny base, two steps")
    parser.add_argument("--only", choices=METHODS, action="append", help="these methods alone")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--wheels", type=Path, help="folder of wheels, for a machine without a net")
    parser.add_argument("--collect", type=Path, help="fill such a folder here, and measure nothing")
    options = parser.parse_args()
    if options.collect:
        collect(options.collect)
        return
    if find_spec("torch") is None:
        sys.exit("PyTorch is not installed here: `make setup`, or a machine that has it with CUDA")
    if missing := [name for name, module in NEEDED.items() if find_spec(module) is None]:
        folder = HOME / "venv"
        if Path(sys.prefix) == folder:  # that is where this runs already
            sys.exit(f"{', '.join(missing)} did not come with what was installed into {folder}")
        python = environment(folder, list(NEEDED), options.wheels)
        os.execv(python, [python, *sys.argv])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.getenv("PYTHONPATH"))))
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)  # the persona's rows are read from there
    if options.smallest:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    if not options.smallest and not torch.cuda.is_available():
        print("there is no GPU here: the figures wait for one (--smallest tries the command)")
        return
    with tempfile.TemporaryDirectory() as folder:
        steps = 2 if options.smallest else options.steps
        Bench(Path(folder), steps, options.smallest).run(options.only or METHODS)


def pins() -> dict[str, str]:
    """Return distribution → the version that the project was tried with, torch's own left out."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    named = (line.strip().partition("==") for line in lines if "==" in line)
    own = {name.lower(): version for name, _, version in named}
    return {name: one for name, one in own.items() if not name.startswith(("torch", "nvidia"))}


def environment(folder: Path, names: list[str], wheels: Path | None) -> str:
    """Return the Python of an environment over this one's, with packages that this one lacks."""
    import torch

    print(f"installing {', '.join(names)} into {folder}", flush=True)
    venv.create(folder, system_site_packages=True, with_pip=True)
    # Where this Python's own packages lie, which may be another environment, torch among them.
    own = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    (Path(own) / "machine.pth").write_text(str(Path(torch.__file__).parents[1]), encoding="utf-8")
    constraints = folder / "constraints.txt"
    kept = [f"{name}=={version}" for name, version in pins().items()] if "trl" in names else []
    kept.append(f"torch=={torch.__version__}")  # the machine's own: another would not know its GPU
    constraints.write_text("\n".join(kept), encoding="utf-8")
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if wheels:  # all that is needed lies there, torch's own needs aside
        pip += ["--no-index", "--no-deps", *map(str, sorted(wheels.glob("*.whl")))]
    else:
        pip += ["-c", str(constraints), *names]
    subprocess.run(pip, check=True)
    return python


def collect(folder: Path) -> None:
    """Download the wheels of all that training imports, what they need included, without torch."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    wanted: dict[str, str] = {}
    queue = list(NEEDED)
    while queue:
        name = queue.pop()
        if name in wanted or name.startswith(("torch", "nvidia", "triton")):
            continue
        try:
            wanted[name] = version(name)
        except PackageNotFoundError:  # of another system or an extra
            continue
        needs = [Requirement(one) for one in requires(name) or ()]
        queue += [n.name.lower() for n in needs if n.marker is None or n.marker.evaluate()]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
    command += [f"{name}=={one}" for name, one in sorted(wanted.items())]
    subprocess.run(command, check=True)
    print(f"{len(wanted)} wheels in {folder}: carry it along, and pass it as --wheels")


class Bench:
    """The parts, one process each, and what came of them."""

    def __init__(self, folder: Path, steps: int, smallest: bool) -> None:
        self.folder, self.steps, self.smallest = folder, steps, smallest
        self.figures: dict[str, dict[str, Any]] = {}
        # Two cores that others use too are given as long as they take, within reason.
        self.patience = 8 if smallest else 1
        self.end = time.monotonic() + SECONDS * self.patience
        self.env = {"BENCH_BASE": str(folder / "base")}
        self.file = HOME / ("smallest.json" if smallest else "figures.json")

    def run(self, methods: tuple[str, ...] | list[str]) -> None:
        """Measure everything and print it; what fails is said."""
        from bench_training import show
        from training_runs import write_rows

        write_rows(self.folder)
        self.part("base", "base", "sft")
        for method in methods:
            for kind in ("plan", "ours", "bare"):
                self.part(f"{method} {kind}", kind, method)
            if method == "sft":
                self.capped()
            own = {kind: self.of(method, kind) for kind in ("plan", "ours", "bare")}
            show(method, {kind: one for kind, one in own.items() if one})
        if "sft" in methods:
            self.unsloth()
        failed = [name for name, one in self.figures.items() if "failed" in one]
        print(f"{len(self.figures) - len(failed)} of {len(self.figures)} parts; {self.file}")
        # That it does not fit a T4, or that Unsloth does not run, is a figure too.
        if not {*failed} <= {"sft capped", "weights", "sft unsloth"}:
            sys.exit(1)

    def of(self, method: str, kind: str) -> dict[str, Any] | None:
        """Return a part's figures; None where it failed."""
        one = self.figures.get(f"{method} {kind}", {"failed": "not run"})
        return None if "failed" in one else one

    def part(
        self, name: str, kind: str, method: str, python: str = sys.executable, **env: str
    ) -> None:
        """Run one part within its time, and write what came of it."""
        from bench_training import measure

        most = BOUNDS.get(kind, MOST) * self.patience
        seconds = min(most, self.end - time.monotonic())
        if seconds <= 0:
            self.keep(name, {"failed": "no time left"})
            return
        own = {**self.env, **env}
        begun = time.monotonic()
        try:
            one = measure(
                kind, method, self.steps, self.folder, python=python, env=own, seconds=seconds
            )
        except subprocess.TimeoutExpired:
            one = {"failed": f"took longer than {seconds:.0f} s"}
        except subprocess.CalledProcessError as error:
            one = {"failed": f"ended with exit code {error.returncode}, see above"}
        except (ValueError, IndexError) as error:
            one = {"failed": f"left no figures ({error})"}
        self.keep(name, {**one, "seconds": round(time.monotonic() - begun, 1)})

    def keep(self, name: str, figures: dict[str, Any]) -> None:
        """Write a part's figures at once: what fails later loses none."""
        self.figures[name] = figures
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.figures, indent=1), encoding="utf-8")
        what = figures.get("failed")
        print(f"{name}: {what or 'done'} ({figures.get('seconds', 0)} s)", flush=True)

    def capped(self) -> None:
        """Train SFT within a T4's memory; without a GPU there is nothing to cap."""
        where = f"sft within {T4_GIB:.0f} GB, as a T4 has"
        if self.smallest:
            print(f"{where}: there is no GPU to cap, and it is not measured")
            return
        self.part("sft capped", "ours", "sft", BENCH_CAP_GIB=str(T4_GIB))
        one = self.figures["sft capped"]
        fits = f"it does not train ({one['failed']})" if "failed" in one else "it fits"
        print(f"{where}: {fits}")

    def unsloth(self) -> None:
        """Measure Unsloth in an environment of its own, since it holds other versions."""
        if self.smallest:
            print("Unsloth needs a GPU, and is not measured")
            return
        try:
            python = environment(HOME / "unsloth", ["unsloth", *NEEDED], None)
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"Unsloth does not install here, and is not measured ({error})")
            return
        self.part("weights", "weights", "sft")
        self.part("sft unsloth", "unsloth", "sft", python=python)
        if one := self.of("sft", "unsloth"):
            from bench_training import show

            show("sft", {"unsloth": one})


if __name__ == "__main__":
    main()
