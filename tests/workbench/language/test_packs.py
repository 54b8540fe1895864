"""A language is a folder: what it must have is held against English, what it lacks is named."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from app.web.page import spoken
from curation.filters.rules import _refusals, refusal
from evaluation.general import load_general
from evaluation.instructions import load_instructions
from evaluation.robustness import load_surfaces
from evaluation.safety import load_refusals
from workbench.errors import UserError
from workbench.language import languages, load_pack, phrases, say
from workbench.language.detection import language_of
from workbench.language.packs import FOLDERS, PAGES, check_pack, own_module, pack_file
from workbench.persona import load_persona
from workbench.records import Example, user_prompt
from workbench.starter import starter, write_persona
from workbench.store import language_file

AMOUNTS = dict.fromkeys(("sets", "reps", "minutes", "hours", "mg", "pills", "kg"), "{number} x")


@pytest.fixture
def pack(tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pack of somebody's own, ``nl``, with just what a pack must have."""
    folder = tmp_path / "packs" / "nl"
    shutil.copytree(repo / "workbench" / "language" / "en", folder)
    (folder / PAGES).unlink()
    (folder / "data").mkdir()
    row = '{"id": "nl-1", "language": "nl", "text": "De rivier buigt waar de grond zacht is."}\n'
    (folder / "data" / "texts.jsonl").write_text(row, encoding="utf-8")
    monkeypatch.setenv(FOLDERS, str(folder.parent))
    return folder


def change(file: Path, **values: object) -> None:
    """Set keys of a YAML file; None takes one away."""
    data = yaml.safe_load(file.read_text(encoding="utf-8")) | values
    data = {key: value for key, value in data.items() if value is not None}
    file.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")


@pytest.mark.parametrize("code", languages())
def test_every_pack_of_ours_is_whole(code: str) -> None:
    check_pack(code)
    assert phrases(code).keys() == phrases("en").keys()
    assert pack_file(code, PAGES).is_file()


@pytest.mark.parametrize("code", languages())
def test_the_second_answers_title_ends_with_its_label(code: str) -> None:
    """By it the labelers' page tells rows with two answers (``labeler.js``)."""
    label = say(code, "review.question.better.b")
    titled = {key for key in phrases(code) if key.startswith("review.field.")}
    ends = {key for key in titled if say(code, key).endswith(f" {label}")}
    assert ends == {"review.field.answer_b"}


def test_a_missing_phrase_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        say("en", "no.such.phrase")


def test_a_folder_of_ones_own_brings_a_language(pack: Path, tmp_path: Path) -> None:
    assert languages()[0] == "en" and "nl" in languages()
    data = starter(
        id="coach",
        language="nl",
        name="Coach",
        role="Traint",
        audience="Iedereen",
        address="kampioen",
        topics=["kracht", "slaap", "eten"],
    )
    write_persona(tmp_path / "coach", data)
    assert load_persona(tmp_path / "coach").language == "nl"


def test_what_a_pack_may_lack_measures_nothing_and_what_it_has_is_used(
    pack: Path, repo: Path
) -> None:
    datasets = repo / "datasets"
    assert load_instructions(datasets / "instructions", "nl").examples == []
    assert load_refusals(datasets / "refusals", "nl") == []
    assert load_surfaces(datasets / "robustness", "nl") == []
    assert [text.id for text in load_general(datasets / "general", "nl")] == ["nl-1"]
    own = pack / "data" / "instructions.jsonl"
    shutil.copy(datasets / "instructions" / "en.jsonl", own)
    assert language_file(datasets / "instructions", "nl") == own
    with pytest.raises(UserError, match=r"packs/nl\.jsonl: there is no such file"):
        language_file(pack.parent, "nl")


def test_code_in_a_pack_of_ones_own_is_not_run(pack: Path) -> None:
    (pack / "checks.py").write_text("raise SystemExit", encoding="utf-8")
    assert own_module("nl") is None


@pytest.mark.parametrize(
    ("file", "values", "line"),
    [
        ("messages.yaml", {"report.title": None}, "messages.yaml: lacks 'report.title'"),
        ("messages.yaml", {"report.title": "Wat?"}, "'report.title' needs {name} to fill"),
        ("conduct.yaml", {"harm": {"medicine": ["x"]}}, "lacks 'harm.through_pain' and"),
        ("starter.yaml", {"traits": None}, "starter.yaml: lacks 'traits'"),
        ("pack.yaml", {"scripts": None}, "scripts: is missing"),
        ("pack.yaml", {"letters": "A-Z"}, "needs a class of letters, such as [A-Za-z]"),
        ("pack.yaml", {"letters": "[z-a]"}, "is no class of letters (bad character range z-a"),
        ("pack.yaml", {"lingua": "DUTSCH"}, "lingua knows no 'DUTSCH' — did you mean 'DUTCH'?"),
    ],
)
def test_a_missing_piece_is_named_in_one_line(
    pack: Path, file: str, values: dict[str, object], line: str
) -> None:
    change(pack / file, **values)
    with pytest.raises(UserError) as error:
        check_pack("nl")
    assert len(error.value.lines()) == 1 and line in error.value.line()


@pytest.mark.parametrize(
    ("values", "line_holds", "lines"),
    [
        (
            {"help": ["doctor", "(help"], "sign": "[z-a]"},
            "- (help",
            [
                "help.1: bad pattern '(help': missing ), unterminated subpattern at position 0",
                "sign: bad pattern '[z-a]': bad character range z-a at position 1",
            ],
        ),
        # It stands in many others, and is told once.
        (
            {"medicine": "pill("},
            "medicine: ",
            ["medicine: bad pattern 'pill(': missing ), unterminated"],
        ),
        ({"dropped": ["*"]}, "- '*'", ["dropped.0: bad pattern '*': nothing to repeat"]),
        ({"help": "doctor"}, "help: doctor", ["help: Input should be a valid tuple"]),
        ({"helps": ["doctor"]}, "helps:", ["helps: unknown key — did you mean 'help'?"]),
        (
            {"numbers": {"een": "veel"}},
            "een: veel",
            ["numbers.een: Input should be a valid number"],
        ),
        ({"amounts": AMOUNTS | {"kg": "kilo"}}, "kg: kilo", ["amounts.kg: has no {number} in it"]),
    ],
)
def test_mistakes_of_the_rules_of_conduct_are_named_with_their_lines(
    pack: Path, values: dict[str, object], line_holds: str, lines: list[str]
) -> None:
    file = pack / "conduct.yaml"
    change(file, **values)
    with pytest.raises(UserError) as error:
        check_pack("nl")
    messages = error.value.lines()
    assert len(messages) == len(lines)
    for line, what in zip(messages, lines, strict=True):
        assert re.match(rf"{re.escape(str(file))}:\d+: {re.escape(what)}", line), line
    written = file.read_text(encoding="utf-8").splitlines()
    # The line is the value's own: a list's item stands on one of its own.
    at = int(messages[0].removeprefix(f"{file}:").partition(":")[0])
    assert line_holds in written[at - 1]


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("conduct.yaml", b"help: [a\nb: c\n", "conduct.yaml:2: broken YAML: "),
        ("messages.yaml", b"a: 'b\n", "messages.yaml:2: broken YAML: "),
        ("conduct.yaml", "help: Ärzte\n".encode("latin-1"), "is not UTF-8 (byte 6)"),
        ("starter.yaml", b"- a\n", "starter.yaml: is no mapping of words"),
    ],
)
def test_a_broken_file_is_named_with_its_line(
    pack: Path, file: str, content: bytes, line: str
) -> None:
    (pack / file).write_bytes(content)
    with pytest.raises(UserError) as error:
        check_pack("nl")
    assert len(error.value.lines()) == 1 and line in error.value.line()


def test_a_phrase_that_is_no_text_is_named_with_its_line(pack: Path) -> None:
    change(pack / "messages.yaml", **{"report.title": 3})
    with pytest.raises(UserError, match=r"messages\.yaml:\d+: 'report\.title' needs a text"):
        check_pack("nl")


@pytest.mark.parametrize("file", ["prompts/judge.j2", "conduct.yaml", "data/texts.jsonl"])
def test_a_missing_file_is_named(pack: Path, file: str) -> None:
    (pack / file).unlink()
    with pytest.raises(UserError, match=f"lacks the file {file}"):
        check_pack("nl")


@pytest.mark.parametrize("file", ["messages.yaml", "pack.yaml", "conduct.yaml"])
@pytest.mark.parametrize("content", ["a: b", "a: [", "dropped: ['(']", "dropped: x"])
def test_a_pack_that_is_not_whole_keeps_nobody_from_another_language(
    pack: Path, repo: Path, file: str, content: str
) -> None:
    (pack / file).write_text(content, encoding="utf-8")
    shutil.copy(pack_file("en", PAGES), pack / PAGES)
    persona = load_persona(repo / "datasets" / "gym-trainer")
    assert persona.language == "en" and language_of(["I walk home."]) == "en"
    _refusals.cache_clear()
    refused = Example(prompt=user_prompt("So?"), answer="I'm sorry, but I can't help with that.")
    assert refusal(persona)(refused) is not None
    assert list(spoken()) == ["en", "ja", "ko"]


def test_a_language_without_a_pack_is_refused_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserError, match="there is no language 'xx' — one of en, "):
        load_pack("xx")
    monkeypatch.setenv(FOLDERS, "/no/such/folder")
    with pytest.raises(UserError, match="there is no such folder"):
        languages()
