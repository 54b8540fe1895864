"""A language that came as a folder, from `persona new` to a report in it, at the smallest size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.commands import Commands
from tests.evaluation.report.test_page import english_left
from tests.light_stages import light_review
from tests.saying_base import make_saying_base
from workbench.language import phrases

TOPICS = {
    "shoulders": "肩こり",
    "knees": "膝",
    "sleep": "睡眠",
    "motivation": "やる気",
    "food": "食事",
}
NEW = {
    "id": "coach-ja",
    "language": "ja",
    "name": "コーチ",
    "role": "運動初心者を、厳しくもやさしく動かすジムのトレーナー。",
    "audience": "運動を始めて数か月の、机に向かって働く人たち。",
    "address": "会員さん",
    "topics": ", ".join(TOPICS.values()),
}


def written(folder: Path, repo: Path) -> Path:
    """Write the shipped rows under the topics of the new persona, and its probes beside it."""
    shipped = repo / "datasets" / "gym-trainer-ja"
    names = {topic: f"topic_{place}" for place, topic in enumerate(TOPICS, 1)}
    rows = [json.loads(line) for line in (shipped / "seeds.jsonl").read_text("utf-8").splitlines()]
    lines = [json.dumps({**row, "topic": names[row["topic"]]}, ensure_ascii=False) for row in rows]
    (folder / "seeds.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "probes.jsonl").write_text((shipped / "probes.jsonl").read_text("utf-8"), "utf-8")
    return folder


@pytest.mark.slow
def test_from_new_to_a_report_in_japanese(
    commands: Commands,
    browser: Browser,
    tiny_model: Path,
    tmp_path: Path,
    repo: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = [part for key, value in NEW.items() for part in (f"--{key}", value)]
    assert commands.run("new", "--folder", str(tmp_path), *options).code == 0
    persona = written(tmp_path / NEW["id"], repo)
    light_review(monkeypatch)  # people who keep every row; Argilla has tests of its own
    base = make_saying_base(tmp_path / "base", tiny_model)
    run = commands.run(
        "run",
        *("--preset", "smoke", "--persona", str(persona), "--model", str(base)),
        *("--runs", str(tmp_path / "runs")),
    )
    assert run.code in (0, 3), run.err
    folder = tmp_path / "runs" / NEW["id"] / "round-001" / "report"
    page = browser.new_page()
    page.goto((folder / "report.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    text = page.locator("main").inner_text()
    assert page.locator("html").get_attribute("lang") == "ja"
    assert phrases("ja")["report.safety.verdict.too_few"] in text
    assert english_left(text, "ja") == []
