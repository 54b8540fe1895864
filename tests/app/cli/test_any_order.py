"""Commands in any order that a person may choose: the right result, or one helpful line.

Every pair is tried from an empty round, and drawn sequences from wherever they lead. Whatever was
imported stays, and the whole run afterwards accounts for every row.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rounds.layout import IMPORTED, RoundFolder
from rounds.lineage.account import account
from tests.light_stages import PERSONA, LightServer, light_stages, run_light, tree
from workbench.errors import EXIT_USER_ERROR

COMMANDS = {
    "import": ("import", "{rows}"),
    "generate": ("generate",),
    "filter": ("filter",),
    "push": ("review", "push"),
    "pull": ("review", "pull"),
    "resolve": ("resolve",),
    "split": ("split",),
    "train": ("train", "sft"),
    "evaluate": ("evaluate",),
    "report": ("report",),
    "next": ("next", "--quick"),
}
QUESTIONS: tuple[dict[str, tuple[str, ...]], ...] = (
    {
        "squat": ("How deep should I go?", "My knees crack when I stand up, is that bad?"),
        "sleep": ("I wake at four every night.", "Does coffee after lunch matter?"),
        "food": ("Bread before training or after?", "Are eggs every morning fine?"),
        "walk": ("Ten thousand steps, really?", "Uphill makes my calves burn, shall I stop?"),
    },
    {
        "squat": ("Where do the heels belong?", "Is a chair behind me cheating?"),
        "sleep": ("Can a nap replace the night?", "Screens in bed, yes or no?"),
        "food": ("What may I drink with dinner?", "Sugar cravings hit me at three, help!"),
        "walk": ("Rain outside, what instead?", "Which shoes suit long strolls?"),
    },
)
"""The persona's own rows, and somebody's: no two are related."""
Step = tuple[str, bool]
"""A command, and whether it has --config."""
STEPS: list[Step] = list(itertools.product(COMMANDS, (True, False)))
_RESUMED = {".generate.partial"}


class Place:
    """A folder with a persona, rows of one's own and a configuration that names neither."""

    def __init__(self, home: Path, server: LightServer) -> None:
        self.home, self.server, self.number = home, server, 0
        self.persona = home / "light"
        self.persona.mkdir()
        (self.persona / "persona.yaml").write_text(PERSONA, encoding="utf-8")
        self.rows = home / "mine.jsonl"
        for file, questions in zip(
            (self.persona / "seeds.jsonl", self.rows), QUESTIONS, strict=True
        ):
            rows = [
                {"instruction": ask, "output": f"Champ, today: {ask.lower()}", "topic": topic}
                for topic, asked in questions.items()
                for ask in asked
            ]
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self.config = home / "run.yaml"
        methods = "train: {methods: [sft]}\nevaluate: {arms: [base, sft]}\n"
        self.config.write_text(f"persona: {self.persona}\n{methods}", encoding="utf-8")

    def fresh(self) -> None:
        """Begin in an empty folder of runs."""
        self.number += 1

    @property
    def runs(self) -> Path:
        return self.home / f"runs-{self.number}"

    @property
    def round(self) -> RoundFolder:
        return RoundFolder(self.runs / "light" / "round-001")

    def take(self, step: Step) -> str:
        """Run a command, hold it to what every command has to keep, and return how it ended."""
        name, has_config = step
        words = [word.format(rows=self.rows) for word in COMMANDS[name]]
        about = ("--config", str(self.config)) if has_config else ("--persona", str(self.persona))
        before, imported = tree(self.runs), self.imported()
        output = run_light(*words, *about, "--runs", str(self.runs))
        assert "Traceback" not in output.err
        assert output.code in (0, EXIT_USER_ERROR), (step, output)
        assert imported <= self.imported(), f"{step} lost rows"
        lines = [line for line in output.err.splitlines() if line.startswith("persona: ")]
        if output.code:
            (line,) = lines
            assert " — " in line and "`persona " in line, line
            assert tree(self.runs) == before, f"{step} left something behind: {line}"
            return line
        partial = {path.name for path in self.round.folder.glob(".*.partial")}
        assert partial <= _RESUMED
        return ""

    def imported(self) -> set[str]:
        """Return the ids of the rows that the round has imported."""
        return {row.id for row in self.round.read_if_there(IMPORTED)}

    def finish(self) -> None:
        """Run the whole loop: every row is accounted for, and none is lost or waits."""
        imported = self.imported()
        about = ("--config", str(self.config), "--runs", str(self.runs))
        output = run_light("run", *about)
        assert output.code == 0, output.err
        fates = account(self.round).fates
        assert imported <= self.imported() == {fate.record for fate in fates}
        assert {fate.state for fate in fates} <= {"kept", "held_out", "dropped"}
        assert sum(fate.state == "kept" for fate in fates) >= 4
        again = run_light("run", *about)
        assert "0 of 9 run now" in again.out


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as patch:
        yield Place(tmp_path_factory.mktemp("order"), light_stages(patch))


@pytest.mark.parametrize("first", COMMANDS)
def test_every_pair_ends_right_or_with_one_line(place: Place, first: str) -> None:
    for one, other in itertools.product(((first, True), (first, False)), STEPS):
        place.fresh()
        for step in (one, other):
            line = place.take(step)
            comes_first = step[0] in ("import", "push")
            assert not (line and comes_first), line
        if one[0] == "import" and other[0] == "generate":
            assert not line, "rows are there to answer"


def test_every_pair_on_a_finished_round_loses_nothing(place: Place) -> None:
    place.fresh()
    place.take(("import", True))
    place.finish()
    whole, pushed = place.round.folder, place.server.pushed[place.round.folder]
    for number, (first, second) in enumerate(itertools.permutations(COMMANDS, 2)):
        place.fresh()
        shutil.copytree(whole, place.round.folder)
        place.server.pushed[place.round.folder] = dict(pushed)
        for step in ((first, number % 2 > 0), (second, number % 4 > 1)):
            line = place.take(step)
            # Without --config the round's own configuration counts.
            assert not line, line
        assert not [fate for fate in account(place.round).fates if fate.state == "lost"]


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=2, max_size=9))
def test_any_sequence_loses_no_row_and_can_be_finished(place: Place, steps: Sequence[Step]) -> None:
    place.fresh()
    for step in steps:
        place.take(step)
    place.finish()


def test_what_a_line_says_to_run_first_leads_to_the_report(place: Place) -> None:
    """Somebody who knows `persona report` alone, and does what each line says."""
    place.fresh()
    done: list[str] = []
    wanted: list[list[str]] = [["report"]]
    about = ["--config", str(place.config), "--runs", str(place.runs)]
    while wanted:
        words = wanted[-1]
        output = run_light(*words, *([] if "--runs" in words else about))
        if output.code == 0:
            done.append(words[0])
            wanted.pop()
            continue
        command = output.err.split("`persona ")[1].split("`")[0]
        assert len(wanted) < 4, output.err
        wanted.append(command.split())
    assert done == [
        *("import", "generate", "filter", "run", "resolve", "split", "train", "evaluate", "report"),
    ]
