from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from generation import events


@pytest.fixture
def told() -> Iterator[list[dict[str, Any]]]:
    """What this process tells, taken by a carrier as on a cluster."""
    news: list[dict[str, Any]] = []
    events.send_by(news.append)
    yield news
    events._carrier = None


def test_a_tally_tells_seldom_and_loses_nothing(told: list[dict[str, Any]]) -> None:
    tally = events.Tally()
    for number in range(1000):
        tally.add(done=1, failed=number % 2, paid=0.5)
    tally.tell()
    tally.tell()
    assert len(told) < 100
    assert {name: sum(news[name] for news in told) for name in told[0]} == {
        "done": 1000,
        "failed": 500,
        "paid": 500.0,
    }


def test_news_goes_down_the_pipe_one_json_line_each() -> None:
    out, into = os.pipe()
    events.send_to(into)
    try:
        events.tell(done=1)
        events.tell(error="no", mendable=True)
        lines = os.read(out, 4096).decode().splitlines()
    finally:
        events._pipe = None
        os.close(into)
        os.close(out)
    assert [json.loads(line) for line in lines] == [{"done": 1}, {"error": "no", "mendable": True}]
