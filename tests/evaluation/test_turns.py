from __future__ import annotations

import pytest

from evaluation.arms import Arm
from evaluation.turns import first_turn
from workbench.inference.completion import Completion
from workbench.records import Example, user_prompt


@pytest.mark.parametrize(("topic", "probe"), [("", "out_of_scope"), ("savings", "")])
def test_a_held_out_row_of_a_probes_kind_stays_among_the_held_out_rows(
    topic: str, probe: str
) -> None:
    row = Example(
        prompt=user_prompt("Which fund?"), answer="Not mine.", topic=topic, kind="out_of_scope"
    )

    assert (
        first_turn(Arm("base"), row, 0).response(Completion(end="ok", text="No.", tokens=1)).probe
        == probe
    )
