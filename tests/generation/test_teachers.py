"""Several teachers: each writes its share, rows name theirs, the account says what each gave."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from generation.card import dataset_card
from generation.cost import account_lines, plan_teacher
from generation.teacher import teacher_rows
from generation.teacher_client import shared_out
from tests.generation.conftest import rows
from tests.generation.test_conversations import USERS
from tests.scripted_server import Reply, Request, ScriptedServer, conforms, fails
from workbench.config import RunConfig, load_config
from workbench.errors import UserErrors
from workbench.inference.endpoint import Teacher
from workbench.persona import Persona
from workbench.records import Example


def teachers_of(server: ScriptedServer, **shares: float) -> list[Teacher]:
    price = {"input": 1000, "output": 1000}
    return [
        Teacher.model_validate(
            {"base_url": server.url, "model": name, "share": share, "price": price, "attempts": 1}
        )
        for name, share in shares.items()
    ]


def script(request: Request) -> Reply:
    """Answer, but for every second of the small teacher's answers."""
    if request.body["model"] == "small" and request.system and request.share < 0.5:
        return fails(500)
    return conforms(request)


def test_each_teacher_writes_its_share_and_is_named_counted_and_paid(
    persona: Persona, seeds: list[Example], tmp_path: Path
) -> None:
    settings = rows(20, conversations=4, turn_fidelity=0)
    with ScriptedServer(script) as server:
        teachers = teachers_of(server, large=3, small=1)
        plan = plan_teacher(persona, seeds, teachers, settings, users=USERS)
        how: dict[str, Any] = {"workdir": tmp_path, "users": USERS}
        taught = teacher_rows(persona, seeds, teachers, settings, **how)
        asked = Counter(r.body["model"] for r in server.requests if r.system and not r.time)
        again = teacher_rows(persona, seeds, teachers, settings, **how)
    large, small = taught.teachers
    assert (large.planned, small.planned) == (30 + 3, 10 + 1)
    by_model = Counter(row.source for row in taught.rows)
    assert by_model == {"large": large.rows, "small": small.rows} and large.rows == 33
    assert asked["large"] > 2 * asked["small"] > 0
    lost = [drop for drop in taught.dropped if drop.reason == "server_error"]
    assert {drop.source for drop in lost} == {"small"}
    assert large.planned + small.planned == taught.planned + 4
    assert {talk.teacher for talk in taught.talks.conversations} == {"large", "small"}
    assert large.tokens > small.tokens > 0
    assert taught.spent == pytest.approx(large.spent + small.spent)
    assert large.spent == pytest.approx(large.tokens * 1000 / 1_000_000)
    # The same seed shares out alike, so that nothing is asked of another teacher.
    assert [row.source for row in again.rows] == [row.source for row in taught.rows]
    lines = account_lines(plan, taught)
    told = f"small: {small.rows} of 11 rows, {small.tokens:,} tokens, {small.spent:.4f} USD"
    assert told in lines
    counts = {
        **{"taught": 44, "spent": taught.spent, "currency": "USD"},
        "teachers": [one._asdict() for one in taught.teachers],
    }
    who = [{"model": one.model, "share": one.share} for one in teachers]
    manifest = {"counts": counts, "settings": {"teacher": who}, "outputs": {}, "seed": 0}
    card = dataset_card(persona, {**manifest, "versions": {"distilabel": "x"}, "started": "now"})
    assert told in card


def test_two_servers_of_one_model_are_counted_apart(
    persona: Persona, seeds: list[Example], tmp_path: Path
) -> None:
    settings = rows(4, conversations=4, turn_fidelity=0)
    with ScriptedServer(conforms) as one, ScriptedServer(conforms) as other:
        teachers = [*teachers_of(one, m=3), *teachers_of(other, m=1)]
        taught = teacher_rows(persona, seeds, teachers, settings, workdir=tmp_path, users=USERS)
    assert [part.planned for part in taught.teachers] == [6 + 3, 2 + 1]
    assert sum(part.rows for part in taught.teachers) == len(taught.rows)


@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_shares_are_met_to_within_a_row_and_drawn_by_the_seed(count: int) -> None:
    teachers = [
        Teacher(base_url="http://t", model=str(share), share=share) for share in (5.0, 3.0, 2.0)
    ]
    places = shared_out(teachers, count, 3, "rows")
    assert len(places) == count and places == shared_out(teachers, count, 3, "rows")
    for place, share in enumerate((0.5, 0.3, 0.2)):
        assert abs(places.count(place) - share * count) < 1
    if count == 100:
        assert places != shared_out(teachers, count, 4, "rows")
        assert places != shared_out(teachers, count, 3, "conversations")


def test_a_list_of_teachers_is_read_and_its_mistakes_have_lines(tmp_path: Path) -> None:
    one = {"base_url": "http://127.0.0.1:1/v1", "model": "a"}
    alone = RunConfig.model_validate({"teacher": one})
    assert [t.model for t in alone.teachers] == ["a"] and alone.teachers[0].share == 1
    several = RunConfig.model_validate({"teacher": [one, {**one, "model": "b", "share": 2}]})
    assert [t.model for t in several.teachers] == ["a", "b"]
    assert several.main_teacher == several.teachers[1]
    assert RunConfig().teachers == () and RunConfig().main_teacher is None
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({"teacher": [one, {"model": "b", "share": 0}]}))
    with pytest.raises(UserErrors) as caught:
        load_config(file)
    lines = [error.line() for error in caught.value.errors]
    assert [line.split(": ", 1)[1].split(":")[0] for line in lines] == [
        "teacher.1.base_url",
        "teacher.1.share",
    ]
    file.write_text(yaml.safe_dump({"teacher": [one, {**one, "share": 2}]}))
    with pytest.raises(UserErrors, match=r"a at http://127.0.0.1:1/v1 stands there twice"):
        load_config(file)
    file.write_text(yaml.safe_dump({"teacher": {"model": "b"}}))
    with pytest.raises(UserErrors, match=r"run.yaml:1: teacher.base_url: is missing"):
        load_config(file)
