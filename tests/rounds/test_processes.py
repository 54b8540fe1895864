"""A command on a round as a process of its own: started once, watched, stopped, known later."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rounds import processes
from rounds.layout import RoundFolder
from tests.waiting import waited
from workbench.errors import UserError

TYPED = ("persona", "run", "--round", "1")


@pytest.fixture
def one(tmp_path: Path) -> Iterator[RoundFolder]:
    one = RoundFolder(tmp_path / "round-001")
    yield one
    processes.stop(one)


def shell(one: RoundFolder, script: str) -> processes.RoundProcess:
    return processes.start(one, ("sh", "-c", script), TYPED)


def test_it_prints_into_the_round_and_says_how_it_ended(one: RoundFolder) -> None:
    assert (processes.running(one), processes.last_process(one)) == (None, None)
    state = shell(one, "echo one; echo two >&2; exit 3")
    waited(lambda: processes.exit_code(one) is not None)
    waited(lambda: not state.alive)
    assert processes.exit_code(one) == 3
    assert processes.log_lines(one) == ["one", "two"]
    assert processes.log_lines(one, most=1) == ["two"]
    # What it prints may hold logins: only the owner reads it.
    assert (one.folder / processes.LOG).stat().st_mode & 0o077 == 0
    last = processes.last_process(one)
    assert last and (last.line, last.pid) == ("persona run --round 1", state.pid)
    assert processes.memory_mib(last) == 0


def test_two_cannot_be_at_work_at_once(one: RoundFolder) -> None:
    shell(one, "sleep 30")
    with pytest.raises(UserError, match="persona run --round 1 is at work there"):
        shell(one, "echo no")
    assert processes.running(one)
    assert processes.stop(one)
    assert not processes.running(one)
    assert not processes.stop(one)


def test_a_terminal_that_holds_the_round_is_told(one: RoundFolder) -> None:
    with one.locked(), pytest.raises(UserError, match="another command is at work there"):
        shell(one, "echo no")
    assert processes.running(one) is None


def test_stopped_it_is_interrupted_first_and_killed_where_it_does_not_end(
    one: RoundFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import time\ntry: print('up', flush=True); time.sleep(30)\nexcept KeyboardInterrupt: "
    ends = "print('interrupted'); raise SystemExit(130)"
    processes.start(one, (sys.executable, "-c", code + ends), TYPED)
    waited(lambda: processes.log_lines(one) == ["up"])
    assert processes.stop(one)
    assert processes.log_lines(one) == ["up", "interrupted"]
    assert processes.exit_code(one) == 130
    monkeypatch.setattr(processes, "_PATIENCE", 0.3)
    deaf = "import signal, time\nsignal.signal(2, signal.SIG_IGN)\nprint('deaf', flush=True)"
    processes.start(one, (sys.executable, "-c", f"{deaf}\ntime.sleep(30)"), TYPED)
    waited(lambda: processes.log_lines(one) == ["deaf"])
    assert processes.stop(one)
    assert processes.running(one) is None


def test_it_outlives_whoever_started_it(one: RoundFolder) -> None:
    """A server is killed: what it started goes on, and another one finds it."""
    code = (
        "import time; from pathlib import Path; from rounds import processes\n"
        "from rounds.layout import RoundFolder\n"
        f"processes.start(RoundFolder(Path({str(one.folder)!r})), ('sh', '-c', 'sleep 30'), ('a',))"
        "\nprint('started', flush=True); time.sleep(30)"
    )
    import subprocess

    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert server.stdout and server.stdout.readline() == "started\n"
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    assert processes.running(one)
    assert processes.stop(one)


def test_a_process_number_that_another_one_got_is_not_it(one: RoundFolder) -> None:
    state = shell(one, "exit 0")
    waited(lambda: not state.alive)
    other = state.model_copy(update={"pid": os.getpid()})
    assert not other.alive
