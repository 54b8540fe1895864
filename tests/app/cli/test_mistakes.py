"""Mistakes of a user: one line that says what, where and how to mend it; exit code 2."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from app.cli.main import EXIT_FAULT, TRACEBACK, cli, main
from app.cli.options import FiniteRange
from tests.scripted_server import Reply, ScriptedServer
from workbench.errors import EXIT_USER_ERROR

ROW = {"instruction": "How many squats?", "input": "", "output": "Ten, champ.", "topic": "eating"}
Told = Callable[..., list[str]]


@pytest.fixture
def told(
    repo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Told:
    """Run a command that must fail, and return the lines that it told the user."""
    monkeypatch.chdir(repo)

    def run(*arguments: str) -> list[str]:
        assert main([*arguments, "--runs", str(tmp_path / "runs")]) == EXIT_USER_ERROR
        err = capsys.readouterr().err
        assert "Traceback" not in err
        return [
            line.removeprefix("persona: ")
            for line in err.splitlines()
            if line.startswith("persona: ")
        ]

    return run


def _rows(path: Path, *lines: str | bytes) -> str:
    encoded = [line if isinstance(line, bytes) else line.encode() for line in lines]
    path.write_bytes(b"\n".join(encoded))
    return str(path)


def _nothing_is_half_written(tmp_path: Path, stage: str) -> None:
    round_ = tmp_path / "runs" / "gym-trainer" / "round-001"
    assert not (round_ / stage).exists()


def test_a_missing_field_is_told_with_its_line(told: Told, tmp_path: Path) -> None:
    rows = [json.dumps({**ROW, "instruction": f"Question {n}?"}) for n in range(20)]
    rows[16] = json.dumps({"instruction": "How?", "topic": "eating"})
    (line,) = told("import", _rows(tmp_path / "rows.jsonl", *rows))
    assert line.startswith(f"{tmp_path / 'rows.jsonl'}:17: ")
    assert "output" in line
    _nothing_is_half_written(tmp_path, "import")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('{"instruction": "How?",', ":1: broken JSON"),
        ("", "is empty"),
        ("[1]", "is not a JSON object"),
    ],
)
def test_a_broken_file_is_told(told: Told, tmp_path: Path, content: str | bytes, what: str) -> None:
    (line,) = told("import", _rows(tmp_path / "rows.jsonl", content))
    assert what in line
    assert " — " in line, "it says how to mend it"
    _nothing_is_half_written(tmp_path, "import")


def test_a_missing_file_is_told(told: Told, tmp_path: Path) -> None:
    (line,) = told("import", str(tmp_path / "none.jsonl"))
    assert line == f"{tmp_path / 'none.jsonl'}: there is no such file — check the path"


def test_all_mistakes_of_a_configuration_are_told_with_lines(told: Told, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("sed: 1\nrows: many\ngenerate:\n  batch_sise: 4\n", encoding="utf-8")
    lines = told("run", "--config", str(config))
    assert [line.removeprefix(str(config)) for line in lines] == [
        ":1: sed: unknown key — did you mean 'seed'?",
        ":2: rows: Input should be a valid integer, unable to parse string as an integer",
        ":4: generate.batch_sise: unknown key — did you mean 'batch_size'?",
    ]


def test_an_unknown_recipe_key_is_told_before_anything_runs(
    told: Told, repo: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.yaml"
    text = (repo / "training/recipes/sft.yaml").read_text(encoding="utf-8")
    recipe.write_text(text.replace("learning_rate:", "learning_rat:"), encoding="utf-8")
    number = next(n for n, line in enumerate(text.splitlines(), 1) if "learning_rate:" in line)
    config = tmp_path / "run.yaml"
    config.write_text(f"train: {{sft: {recipe}}}\n", encoding="utf-8")
    (line,) = told("run", "--config", str(config))
    assert line.startswith(f"{recipe}:{number}: ")
    assert "learning_rate" in line
    _nothing_is_half_written(tmp_path, "import")


def test_mistakes_of_every_stage_are_found_at_once_each_with_its_line(
    told: Told, tmp_path: Path
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        "filter: {near_duplicat: 0.7}\n"
        "split:\n  test: 2\n"
        "review:\n  policy: {rule: loudest}\n"
        "train:\n  overrides:\n    stf: {}\n    sft:\n      triner.max_steps: 4\n",
        encoding="utf-8",
    )
    lines = told("run", "--config", str(config))
    assert [line.removeprefix(str(config)) for line in lines] == [
        ":1: filter.near_duplicat: unknown key — did you mean 'near_duplicate'?",
        ":3: split.test: Input should be less than 1",
        ":5: review.policy.rule: Input should be 'majority', 'dawid-skene' or 'adjudication'",
        ":8: train.overrides.stf: Input should be 'sft', 'dpo', 'grpo', 'kto' or 'sdft'",
        ":10: train.overrides.sft.triner.max_steps: is no key of a recipe; did you mean 'trainer'?",
    ]
    _nothing_is_half_written(tmp_path, "import")


def test_a_model_that_cannot_be_reached_says_how_to_get_it(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (line,) = told("run", "--model", "meta-llama/Llama-3.1-8B-Instruct")
    assert "cannot be reached" in line
    assert "hf download meta-llama/Llama-3.1-8B-Instruct --local-dir" in line


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["run", "--force", "splitt"], "there is no stage 'splitt' — did you mean 'split'?"),
        (["run", "--until", "spit"], "there is no stage 'spit' — did you mean 'split'?"),
        (["run", "--preset", "smok"], "there is no preset 'smok' — did you mean 'smoke'?"),
        (["run", "--persona", "datasets"], "no persona.yaml there"),
        (["split"], "split needs import, which is not done yet — `persona import --runs"),
        (["report"], "report needs import, which is not done yet — `persona import --runs"),
        (["review", "adjudicate"], "nothing is there to review yet — `persona import FILE"),
        (["review", "push"], "the Argilla server is not running — run `persona review up --runs"),
        (["train", "ppo"], "'ppo' is not one of"),
    ],
)
def test_a_wrong_word_is_told_with_the_nearest_right_one(
    told: Told, arguments: list[str], what: str
) -> None:
    (line,) = told(*arguments)
    assert what in line


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "--budget"],
        ["generate", "--min-share"],
        ["next", "--budget"],
        ["split", "--check", "--similarity"],
        ["review", "agreement", "--width"],
    ],
)
def test_a_fraction_that_is_no_number_is_told_and_nothing_is_written(
    told: Told, tmp_path: Path, arguments: list[str], number: str
) -> None:
    (line,) = told(*arguments, number)
    assert f"Invalid value for '{arguments[-1]}'" in line
    assert not (tmp_path / "runs").exists()


def _params(command: click.Command) -> Iterator[click.Parameter]:
    yield from command.params
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            if inner := command.get_command(context, name):
                yield from _params(inner)


def test_no_option_takes_a_fraction_that_may_be_no_number() -> None:
    types = [param.type for param in _params(cli)]
    fractions = [one for one in types if "float" in one.name]
    assert len(fractions) >= 5
    assert all(isinstance(one, FiniteRange) for one in fractions)


def test_a_configuration_takes_no_fraction_that_is_no_number(told: Told, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        "generate: {budget: 'nan', mix: {evolved: 'nan'}}\n"
        "judge: {base_url: 'http://127.0.0.1:1/v1', model: m,\n  timeout: 'inf',\n"
        "  price: {input: 1e999, output: 1}}\n",
        encoding="utf-8",
    )
    lines = told("run", "--config", str(config))
    assert [line.split(": ")[1] for line in lines] == [
        "generate.mix.evolved",
        "generate.budget",
        "judge.timeout",
        "judge.price.input",
    ]
    assert all("finite number" in line for line in lines)


@pytest.mark.parametrize("option", ["--persona", "--runs", "--config"])
def test_a_path_that_the_system_refuses_is_told(
    repo: Path,
    tmp_path: Path,
    option: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(repo)
    assert main(["watch", "--once", option, str(tmp_path / ("a" * 300))]) == EXIT_USER_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert "File name too long" in line
    assert "check the path" in line


def test_a_home_that_nobody_has_is_told(told: Told, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    arms = "evaluate: {more: {other: ~nobodyhere/adapter}}"
    # All of them before anything runs, arms too.
    for text, what in {
        "model: ~nobodyhere/base": "model '~nobodyhere/base' is neither a folder nor a hub id",
        "train: {sft: ~nobodyhere/sft.yaml}": "'~nobodyhere/sft.yaml'",
        "train: {launch: ~nobodyhere/a.yaml}": "'~nobodyhere/a.yaml'",
        arms: "model '~nobodyhere/adapter' is neither a folder nor a hub id",
    }.items():
        config.write_text(text, encoding="utf-8")
        assert what in told("run", "--config", str(config))[0]
    assert main(["import", "--runs", str(tmp_path / "runs")]) == 0
    config.write_text("embedder: ~nobodyhere/embedder", encoding="utf-8")
    (line,) = told("filter", "--config", str(config))
    assert line.startswith("~nobodyhere/embedder: there is no such embedder")


def test_a_file_in_a_place_that_no_path_can_name_is_told(told: Told, tmp_path: Path) -> None:
    (line,) = told("import", str(tmp_path / ("a" * 300)))
    assert "cannot be read (File name too long) — check the path" in line
    config = tmp_path / "run.yaml"
    config.write_text('rows: 3\nsources: ["a\\0b"]\n', encoding="utf-8")
    (line,) = told("import", "--config", str(config))
    assert line.startswith(f"{config}:2: ")
    assert "NUL" in line


def test_a_round_that_is_a_file_is_told(told: Told, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "gym-trainer"
    folder.mkdir(parents=True)
    (folder / "round-001").write_text("", encoding="utf-8")
    (line,) = told("report")
    assert str(folder / "round-001") in line


def test_a_fault_of_ours_is_one_line_with_a_report_that_developers_can_see(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("left\nover" + "x" * 500)

    monkeypatch.setattr(cli, "main", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["report"]) == EXIT_FAULT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("persona: a fault of ours: KeyError: 'left")
    assert f"set {TRACEBACK}=1" in line
    assert len(line) < 700
    (report,) = tmp_path.iterdir()
    assert str(report) in line
    assert report.stat().st_mode & 0o077 == 0
    assert "in broken" in report.read_text(encoding="utf-8")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert main(["report"]) == EXIT_FAULT, "a report that can't be written hides nothing"
    assert "the whole report" not in capsys.readouterr().err
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(KeyError, match="left"):
        main(["report"])


def test_a_taken_port_is_told(told: Told) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        (line,) = told("review", "up", "--port", port)
    assert f"port {port} is taken" in line


def test_a_wrong_api_key_is_told_and_not_shown(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", "sk-very-secret")
    source = _rows(tmp_path / "rows.jsonl", json.dumps(ROW))
    with ScriptedServer(lambda _: Reply(status=401)) as server:
        config = tmp_path / "run.yaml"
        config.write_text(
            f"sources: [{source}]\n"
            f"teacher: {{base_url: {server.url}, model: m, api_key_env: TEACHER_KEY}}\n",
            encoding="utf-8",
        )
        (line,) = told("run", "--config", str(config), "--until", "generate")
    assert "refuses the API key (HTTP 401)" in line
    assert "$TEACHER_KEY" in line
    written = [p.read_bytes() for p in (tmp_path / "runs").rglob("*") if p.is_file()]
    assert not any(b"sk-very-secret" in content for content in written)


def test_a_full_disk_is_told_and_nothing_is_left_that_looks_done(
    repo: Path, tmp_path: Path
) -> None:
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("NO MOUNT NAMESPACE HERE")
    script = f'mount -t tmpfs -o size=1m none {tmp_path} && exec "$@" --runs {tmp_path}/runs'
    command = [sys.executable, "-m", "app.cli.main", "import"]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "-", *command],
        cwd=repo,
        capture_output=True,
        text=True,
    )
    assert done.returncode == EXIT_USER_ERROR
    assert "are free, a round needs" in done.stderr
