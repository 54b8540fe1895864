"""YAML that Python cannot hold is told in one line with its place, and no file is a bomb."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.errors import UserError
from workbench.yamlfile import read_yaml

BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("2024-13-45", "'2024-13-45' is no valid timestamp"),
        ("0x_", "'0x_' is no valid int"),
        ("!!int foo", "'foo' is no valid int"),
        ("!!int ''", "'' is no valid int"),
        ("!!float foo", "'foo' is no valid float"),
        ("!!bool foo", "'foo' is no valid bool"),
        ("!!timestamp foo", "'foo' is no valid timestamp"),
        ("!!binary é", "failed to convert base64 data into ascii"),
        ("9" * 5000, "is no valid int"),
        ("0x" + "f" * 5000, "a number of more than 64 bits"),
        (".nan", "'.nan' is no finite number"),
        ("-.inf", "'-.inf' is no finite number"),
        ("1.0e+999", "'1.0e+999' is no finite number"),
        ('"a\\0b"', "a text that holds a NUL character"),
        ("&a [*a]", "nested too deep"),
        ("&a {b: *a}", "nested too deep"),
        ("[" * 3000, "nested too deep"),
        ("[" * 150 + "]" * 150, "nested too deep"),
    ],
)
def test_a_value_that_cannot_be_is_told_with_its_line(
    tmp_path: Path, value: str, problem: str
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"rows: 3\nseed: {value}\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_yaml(file)
    (line,) = caught.value.lines()
    assert line.startswith(f"{file}:2: broken YAML: ")
    assert problem in line
    assert len(line) < 300 + len(str(file)), "a value is not repeated at full length"


def test_aliases_that_stand_for_a_huge_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(BOMB, encoding="utf-8")
    with pytest.raises(UserError, match="too many aliases"):
        read_yaml(file)


def test_aliases_and_merges_of_people_are_read(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("a: &a {x: 1, y: [1, 2]}\nb: {<<: *a, x: 2}\nc: [*a, *a]\n", encoding="utf-8")
    data, lines = read_yaml(file)
    a = {"x": 1, "y": [1, 2]}
    assert data == {"a": a, "b": {**a, "x": 2}, "c": [a, a]}
    assert (lines["a",], lines["b", "x"], lines["c",]) == (1, 2, 3)
