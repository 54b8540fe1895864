"""`persona import`: cases of the world's files, each through the real command."""

from __future__ import annotations

import base64
import csv
import gzip
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.cli.main import main
from tests.import_command import Imports
from workbench.store import read_json

CASES = Path(__file__).resolve().parents[2] / "cases"
ONE = '{"instruction": "How deep?", "output": "To the chair, champ."}'
TWO = '{"instruction": "Why so tired?", "output": "Lights out, champ."}'


def test_files_put_together_with_their_byte_order_marks(imports: Imports) -> None:
    assert imports(CASES / "01-bom-mid-file.jsonl") == 0
    assert (len(imports.rows), imports.drops) == (3, [])


def test_sharegpt_keeps_all_turns(imports: Imports) -> None:
    assert imports(CASES / "03-sharegpt.jsonl") == 0
    roles = [[turn.role for turn in row.prompt] for row in imports.rows]
    assert roles == [["user"], ["system", "user", "assistant", "user"], ["user"]]


def test_openai_chats_are_read_or_told_by_line(imports: Imports) -> None:
    path = CASES / "04-openai-chat.jsonl"
    assert imports(path) == 2
    first, second = (line for line in imports.err.splitlines() if ".jsonl:" in line)
    assert "04-openai-chat.jsonl:4: messages turn 2 is a tool call 'clock'" in first
    assert "04-openai-chat.jsonl:5: messages do not end with a user turn" in second
    assert not imports.stage.exists()
    assert imports(path, "--skip-bad") == 0
    assert [line for line, _ in imports.drops] == [f"{path.name}:4", f"{path.name}:5"]
    assert [reason for _, reason in imports.drops] == ["tool_call", "unanswered"]
    assert all(row.answer != "Hey." for row in imports.rows)
    counts = read_json(imports.stage / "manifest.json")["counts"]
    assert counts["read"] == counts["kept"] + counts["dropped"] == 5


def test_nan_is_an_empty_cell(imports: Imports) -> None:
    assert imports(CASES / "06-nan.jsonl") == 0
    assert imports.questions == ["Is yoga training?", "Is sauna training?"]
    assert imports(imports.write("x.jsonl", '{"instruction": "a", "output": NaN}\n' + ONE)) == 2
    assert "x.jsonl:1: 'output' is empty" in imports.err


def test_one_row_has_one_id_whatever_file_it_came_in(imports: Imports) -> None:
    ids = []
    for charset in ("cp949", "utf16"):
        assert imports(CASES / f"07-rows-{charset}.csv", "--force") == 0
        ids.append([row.id for row in imports.rows])
    text = '{"instruction": "한글 질문입니다", "output": "회원님 안녕하세요"}'
    for name, content in (("a.jsonl", text.encode()), ("b.jsonl.gz", gzip.compress(text.encode()))):
        assert imports(imports.write(name, content)) == 0
        ids.append([row.id for row in imports.rows])
    assert len({tuple(one) for one in ids}) == 1
    assert imports(CASES / "07-rows.csv") == 0
    assert imports.questions[1] == 'He said "no pain", is he right?\nSecond line.'


def test_decomposed_hangul_is_composed_and_its_repetition_dropped(imports: Imports) -> None:
    assert imports(CASES / "09-nfd-korean.jsonl", "--map", "topic=") == 0
    assert imports.drops == [("09-nfd-korean.jsonl:2", "exact_duplicate")]
    assert "texts composed (NFC)" in imports.err


def test_a_check_of_splits_finds_a_decomposed_leak(imports: Imports) -> None:
    files = [str(CASES / f"09-{name}.jsonl") for name in ("train", "test")]
    assert main(["split", "--check", *files]) == 1


def test_markup_stays_letter_by_letter(imports: Imports) -> None:
    path = CASES / "37-markdown-switch.jsonl"
    assert imports(path) == 0
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(row.question, row.answer) for row in imports.rows] == [
        (row["instruction"], row["output"]) for row in rows
    ]


@pytest.mark.parametrize("name", ["40-one-row", "40-all-the-same", "40-one-topic"])
def test_too_few_topics_are_told_before_anybody_reviews(imports: Imports, name: str) -> None:
    assert imports(CASES / f"{name}.jsonl") == 0
    runs = ["--runs", str(imports.folder / "runs"), "--persona", "datasets/gym-trainer"]
    assert main(["filter", *runs]) == 0
    imports.capsys.readouterr()
    assert main(["review", "push", *runs]) == 2
    error = imports.capsys.readouterr().err
    assert "at least three topics" in error
    assert "split: {topics: spread}" in error


@pytest.mark.parametrize(
    "lead", ["\ufeff", "Row 2: ", "**2.** ", "> ", "`", "\u200b", "2) ", "• ", "\ufeff> - `"]
)
def test_a_row_is_no_prose_whatever_stands_before_it(imports: Imports, lead: str) -> None:
    end = "`" if lead.endswith("`") else ""
    assert imports(imports.write("reply.txt", f"{ONE}\n{lead}{TWO}{end}\n")) == 0
    assert imports.questions == ["How deep?", "Why so tired?"]


def test_a_table_beside_a_plain_row_is_read(imports: Imports) -> None:
    text = f'{ONE}\ninstruction,output\nHow far?,"To the door, champ."\n{TWO}\nHow long?,Minutes.\n'
    assert imports(imports.write("mixed.txt", text)) == 0
    assert imports.questions == ["How deep?", "How far?", "Why so tired?", "How long?"]


def _parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([json.loads(ONE), json.loads(TWO)]), path)


def _excel(path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.create_sheet("rows", 0)
    sheet.append(["instruction", "output"])
    for row in (ONE, TWO):
        sheet.append(list(json.loads(row).values()))
    book.save(path)


def _saved(path: Path) -> None:
    import datasets

    datasets.Dataset.from_list([json.loads(ONE), json.loads(TWO)]).save_to_disk(path)


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "README.md").write_text("A card.", encoding="utf-8")
    (path / "a.jsonl").write_text(ONE, encoding="utf-8")
    (path / "b.csv").write_text('instruction,output\nWhy so tired?,"Lights out, champ."\n')


FILES: dict[str, Callable[[Path], object]] = {
    "rows.parquet": _parquet,
    "rows.xlsx": _excel,
    "saved": _saved,
    "folder": _folder,
    "array.json": lambda path: path.write_text(f"[{ONE},\n{TWO}]"),
    "wrapped.json": lambda path: path.write_text(f'{{"rows": [{ONE},\n{TWO}]}}'),
    "rows.tsv": lambda path: path.write_text(
        "instruction\toutput\nHow deep?\tTo the chair, champ.\nWhy so tired?\tLights out, champ.\n"
    ),
    "table.md": lambda path: path.write_text(
        "# Rows\n\n| instruction | output |\n|---|---|\n| How deep? | To the chair, champ. |\n"
        "| Why so tired? | Lights out, champ. |\n\nThat was all.\n"
    ),
}


@pytest.mark.parametrize("name", list(FILES))
def test_every_format_gives_the_same_rows(imports: Imports, name: str) -> None:
    path = imports.folder / name
    FILES[name](path)
    assert imports(path) == 0
    found = [row.id for row in imports.rows]
    assert imports(imports.write("plain.jsonl", f"{ONE}\n{TWO}")) == 0
    assert found == [row.id for row in imports.rows]


TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
WORSE = [TURNS[0], {"role": "assistant", "content": "b"}]


def _nested(path: Path) -> None:
    turns = [
        [
            {"role": "user", "content": row["instruction"]},
            {"role": "assistant", "content": row["output"]},
        ]
        for row in map(json.loads, (ONE, TWO))
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["messages"])
        # As JSON, and as pandas writes a list into a cell.
        writer.writerows([[json.dumps(turns[0])], [str(turns[1])]])


def _structs(path: Path) -> None:
    rows = [json.loads(ONE), json.loads(TWO)]
    pq.write_table(pa.table({"row_idx": [0, 1], "row": rows}), path)


def _two_sheets(path: Path) -> None:
    book = openpyxl.Workbook()
    for number, row in enumerate((ONE, TWO)):
        sheet = book.create_sheet(f"sheet {number}", number)
        sheet.append(["instruction", "output"])
        sheet.append(list(json.loads(row).values()))
        sheet.append([None, None])
    book.save(path)


def _dict_on_disk(path: Path) -> None:
    import datasets

    parts = {"train": json.loads(ONE), "test": json.loads(TWO)}
    splits = {name: datasets.Dataset.from_list([row]) for name, row in parts.items()}
    datasets.DatasetDict(splits).save_to_disk(path)


NEIGHBOURS: dict[str, Callable[[Path], object]] = {
    "nested.csv": _nested,
    "structs.parquet": _structs,
    "sheets.xlsx": _two_sheets,
    "splits": _dict_on_disk,
    "semicolons.csv": lambda path: path.write_text(
        "instruction;output\nHow deep?;To the chair, champ.\nWhy so tired?;Lights out, champ.\n"
    ),
    "guarded.txt": lambda path: path.write_text(f"Sure!\n\nRow 1: {ONE}\n\nRow 2: {TWO}\n\nDone."),
}


@pytest.mark.parametrize("name", list(NEIGHBOURS))
def test_tables_of_other_tools_give_the_same_rows(imports: Imports, name: str) -> None:
    path = imports.folder / name
    NEIGHBOURS[name](path)
    assert imports(path) == 0
    ids = [row.id for row in imports.rows]
    assert imports(imports.write("plain.jsonl", f"{ONE}\n{TWO}")) == 0
    assert ids == [row.id for row in imports.rows]
    if path.is_file():
        packed = imports.write(f"{name}.gz", gzip.compress(path.read_bytes()))
        assert imports(packed) == 0
        assert ids == [row.id for row in imports.rows]


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("latin-1", "Wie tief, Jörg? Größe egal"),
        ("cp949", "무릎이 아파요"),
        ("utf-16-le", "무릎이 아파요"),
        ("utf-16-be", "Wie tief, Jörg?"),
        ("utf-32", "무릎이 아파요"),
    ],
)
def test_an_encoding_is_told_and_the_id_is_that_of_the_text(
    imports: Imports, charset: str, text: str
) -> None:
    row = json.dumps({"instruction": text, "output": "Schön, Champ."}, ensure_ascii=False)
    if charset == "cp949":
        row = row.replace("Schön", "좋아요")
    assert imports(imports.write("plain.jsonl", row)) == 0
    (plain,) = imports.rows
    assert imports(imports.write("coded.jsonl", row.encode(charset))) == 0
    assert [one.id for one in imports.rows] == [plain.id]
    assert "coded.jsonl: read as" in imports.err


def test_a_decomposed_name_of_a_column_is_that_column(imports: Imports) -> None:
    text = "질문,답변\n무릎이 아파요,회원님 쉬세요\n"
    path = imports.write("mac.csv", unicodedata.normalize("NFD", text))
    assert imports(path, "--map", "instruction=질문", "output=답변") == 0
    other = imports.write("plain.csv", text)
    ids = [row.id for row in imports.rows]
    names = [unicodedata.normalize("NFD", name) for name in ("instruction=질문", "output=답변")]
    assert imports(other, "--map", *names) == 0
    assert [row.id for row in imports.rows] == ids


def test_a_tool_amid_a_sharegpt_chat_is_told_and_the_rest_is_taken(imports: Imports) -> None:
    turns = [("system", "s"), ("human", "q"), ("gpt", "a")]
    good = {"conversations": [{"from": who, "value": text} for who, text in turns]}
    bad = {"conversations": [*good["conversations"], {"from": "tool", "value": "42"}]}
    path = imports.write("chat.jsonl", f"{json.dumps(bad)}\n{json.dumps(good)}")
    assert imports(path) == 2
    assert "chat.jsonl:1: conversations turn 4 is a tool call" in imports.err
    assert imports(path, "--skip-bad") == 0
    assert (imports.questions, imports.drops) == (["q"], [("chat.jsonl:1", "tool_call")])


@pytest.mark.parametrize(
    ("row", "question", "answer"),
    [
        ({"prompt": "q", "completion": "a"}, "q", "a"),
        ({"question": "q", "answer": "a", "context": "c"}, "q\n\nc", "a"),
        ({"system_prompt": "s", "query": "q", "response": "a"}, "q", "a"),
        ({"instruction": "q", "output": "a", "history": [["x", "y"]], "system": "s"}, "q", "a"),
        ({"prompt": [TURNS[0]], "completion": [TURNS[1]]}, "q", "a"),
        ({"messages": [*TURNS, TURNS[0], {**TURNS[1], "weight": 0}]}, "q", "a"),
        ({"text": "### Human: q\n### Assistant: a"}, "q", "a"),
        ({"text": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>"}, "q", "a"),
        ({"prompt": "q", "completion": "a", "label": True}, "q", "a"),
    ],
)
def test_shapes_of_question_and_answer(
    imports: Imports, row: dict[str, object], question: str, answer: str
) -> None:
    assert imports(imports.write("row.jsonl", json.dumps(row))) == 0
    (example,) = imports.rows
    assert (example.question, example.answer) == (question, answer)


@pytest.mark.parametrize(
    "rows",
    [
        [{"prompt": "q", "chosen": "a", "rejected": "b"}],
        [{"chosen": TURNS, "rejected": WORSE}],
        [{"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}],
        [{"prompt": "q", "chosen": TURNS, "rejected": WORSE, "messages": TURNS}],
        [
            {
                "instruction": "q",
                "completions": [
                    {"response": "b", "overall_score": 2.0},
                    {"response": "a", "overall_score": 7.5},
                ],
            }
        ],
        [
            {"prompt": "q", "completion": "b", "label": False},
            {"prompt": "q", "completion": "a", "label": True},
        ],
        [{"conversations": [{"from": "human", "value": "q"}], "chosen": TURNS[1], "rejected": "b"}],
    ],
    ids=["explicit", "implicit", "texts", "binarized", "ultrafeedback", "kto", "sharegpt"],
)
def test_shapes_of_preferences(imports: Imports, rows: list[dict[str, object]]) -> None:
    assert imports(imports.write("rows.jsonl", "\n".join(map(json.dumps, rows)))) == 0
    (pair,) = imports.pairs
    assert (pair.question, pair.chosen, pair.rejected) == ("q", "a", "b")


def test_an_answer_turned_down_with_no_liked_one_beside_it_is_dropped(imports: Imports) -> None:
    row = {"prompt": "q", "completion": "b", "label": False}
    assert imports(imports.write("kto.jsonl", f"{ONE}\n{json.dumps(row)}")) == 0
    assert imports.drops == [("kto.jsonl:2", "unpaired_rejected")]


def test_columns_are_mapped_passed_over_and_kept_with_the_round(imports: Imports) -> None:
    path = imports.write("k.csv", "질문,답변,메모\n무릎이 아파요,회원님 쉬세요,x\n".encode("cp949"))
    assert imports(path) == 2
    which = "--map instruction=질문 --map output=답변, and --map topic=메모 if it names the topic"
    assert f"say which is which: {which}" in imports.err
    assert imports(path, "--map", "instruction=질문", "output=답변") == 0
    assert imports.questions == ["무릎이 아파요"]
    assert "k.csv: read as CP949" in imports.err
    assert "k.csv: columns passed over: '메모'" in imports.err
    assert imports(path, "--map", "instruction=질문,output=답변") == 0
    assert "already done" in imports.err
    assert imports(path, "--map", "instruction=질믄 output=답변") == 2
    assert "--map instruction=질믄: there is no such column" in imports.err
    assert imports(path, "--map", "instrction=질문") == 2
    assert "did you mean 'instruction'" in imports.err


def test_a_slip_in_a_column_is_told_and_other_columns_once(imports: Imports) -> None:
    assert imports(imports.write("a.jsonl", '{"instruction": "a", "ouput": "b"}')) == 2
    assert "unknown key 'ouput' — did you mean 'output'?" in imports.err
    rows = [{**json.loads(ONE), "score": 1, "n": n, "instruction": f"q{n}"} for n in range(3)]
    assert imports(imports.write("b.jsonl", "\n".join(map(json.dumps, rows)))) == 0
    assert imports.err.count("columns passed over: 'score', 'n'") == 1


def test_a_dry_run_shows_three_rows_and_writes_nothing(imports: Imports) -> None:
    lines = "".join(f"q{n},a{n},\n" for n in range(5))
    path = imports.write("rows.csv", "question,answer,x\n" + lines)
    assert imports("--dry-run", path) == 0
    for text in ("CSV", "5 question and answer", "question → question", "'x'", '"a2"'):
        assert text in imports.out
    assert '"a3"' not in imports.out
    assert not (imports.folder / "runs").exists()


def test_two_sources_of_one_name_both_count(imports: Imports) -> None:
    paths = [imports.write(f"{name}/rows.jsonl", row) for name, row in (("a", ONE), ("b", TWO))]
    assert imports(*paths) == 0
    assert [row.source for row in imports.rows] == ["a/rows.jsonl:1", "b/rows.jsonl:1"]
    assert imports(*paths[:1]) == 0
    assert imports.questions == ["How deep?"]


def test_the_files_of_our_own_stages_are_read(imports: Imports) -> None:
    assert imports(imports.write("rows.jsonl", f"{ONE}\n{TWO}")) == 0
    ids = [row.id for row in imports.rows]
    own = imports.write("train.jsonl", (imports.stage / "examples.jsonl").read_bytes())
    assert imports(own) == 0
    assert [row.id for row in imports.rows] == ids


def test_a_picture_goes_with_its_row_by_its_content(imports: Imports, repo: Path) -> None:
    from PIL import Image

    Image.new("RGB", (4, 4)).save(imports.folder / "me.png")
    row = {"instruction": "Is it right?", "output": "Yes, champ.", "image": "me.png"}
    assert imports(imports.write("rows.jsonl", json.dumps(row))) == 0
    (name,) = imports.rows[0].images
    assert (imports.stage / name).read_bytes() == (imports.folder / "me.png").read_bytes()
    content = base64.b64encode((imports.folder / "me.png").read_bytes()).decode()
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{content}"}}
    parts = [picture, {"type": "text", "text": "Is it right?"}]
    chat = [{"role": "user", "content": parts}, {"role": "assistant", "content": "Yes, champ."}]
    assert imports(imports.write("chat.jsonl", json.dumps({"messages": chat}))) == 0
    assert imports.rows[0].images == (name,), "the picture inside of the text is the same one"
    assert imports(imports.write("bad.jsonl", json.dumps({**row, "image": "no.png"}))) == 2
    assert "there is no picture 'no.png'" in imports.err
