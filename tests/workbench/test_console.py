"""Times as people say them, and no estimate before there is a pace."""

from __future__ import annotations

import pytest

from workbench.console import in_words, time_left, track


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (33, "33 s"),
        (89, "89 s"),
        (90, "2 min"),
        (250, "4 min"),
        (3599, "1 h"),
        (4800, "1 h 20 min"),
        (7200, "2 h"),
        (45_000, "12 h"),
        (200_000, "2 days 8 h"),
    ],
)
def test_times_are_told_as_people_say_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@pytest.mark.parametrize(("done", "total", "left"), [(0, 9, None), (9, 9, None), (3, None, None)])
def test_nothing_is_foretold_without_a_pace(
    done: int, total: int | None, left: float | None
) -> None:
    assert time_left(60, done, total) is left
    assert time_left(60, 3, 9) == 120


def test_a_log_says_how_much_is_left_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("workbench.console.LOG_EVERY", 0.0)
    clock = iter([0.0, 1.0, 240.0, 480.0, 720.0])
    monkeypatch.setattr("workbench.console.time.monotonic", lambda: next(clock))
    with track("asking", 3) as advance:
        for count in (0, 1, 1, 1):
            advance(count)
    lines = capsys.readouterr().err.splitlines()
    assert [line.strip() for line in lines] == [
        "asking: 0/3 (1 s)",
        "asking: 1/3 (4 min)",  # most of it is getting ready: no pace yet
        "asking: 2/3 (8 min, about 4 min left)",
        "asking: 3/3 (12 min)",
    ]
