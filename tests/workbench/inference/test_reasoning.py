"""Reasoning is told from the answer, in whole texts and as they come."""

from __future__ import annotations

import pytest

from workbench.inference.reasoning import opens_reasoning, separate, without_reasoning

TEXTS = {
    "none": ("Champ, stand up.", "Champ, stand up.", ""),
    "closed": ("<think>\nPlan.\n</think>\n\nChamp.", "Champ.", "Plan."),
    "empty": ("<think>\n\n</think>\n\nChamp.", "Champ.", ""),
    "not opened": ("Plan.\n</think>\nChamp.", "Champ.", "Plan."),
    "twice": ("<think>a</think>x\n<think>b</think>Champ.", "x\nChamp.", "ab"),
    "named in itself": ("<think>a <think> b</think>Champ.", "Champ.", "a <think> b"),
    "another name": ("<thinking>Plan.</thinking>Champ.", "Champ.", "Plan."),
    "capitals": ("<THINK>Plan.</THINK>Champ.", "Champ.", "Plan."),
    "a model of bytes": ("<seed:think>Plan.</seed:think>Champ.", "Champ.", "Plan."),
    "square": ("[THINK]Plan.[/THINK]Champ.", "Champ.", "Plan."),
    "triangles": ("◁think▷Plan.◁/think▷Champ.", "Champ.", "Plan."),
    "Korean": ("<think>\n생각.\n</think>\n\n회원님.", "회원님.", "생각."),
    "harmony": (
        "<|channel|>analysis<|message|>Plan.<|end|><|start|>assistant<|channel|>final"
        "<|message|>Champ.<|return|>",
        "Champ.",
        "Plan.",
    ),
    "harmony with a constraint": (
        "<|channel|>analysis<|message|>Plan.<|end|><|start|>assistant<|channel|>final"
        " <|constrain|>json<|message|>{}",
        "{}",
        "Plan.",
    ),
    "harmony without its marks": ("analysisPlan it.assistantfinalChamp.", "Champ.", "Plan it."),
    "talked about": ("The mark `<think>` opens it, `</think>` closes.", None, ""),
    "one in a sentence": ("They call it <think> in the docs.", None, ""),
    "a word": ("analysis of your squat: deep enough.", None, ""),
}
UNENDED = {
    "open": ("<think>On and on", "On and on"),
    "open after a line": ("\n <think>\nOn and on", "On and on"),
    "harmony": ("<|channel|>analysis<|message|>On and on", "On and on"),
    "harmony without its marks": ("analysisOn and on", "On and on"),
    "unclosed behind closed": ("<think>a</think><think>b", "ab"),
}


@pytest.mark.parametrize(("text", "answer", "reasoning"), TEXTS.values(), ids=TEXTS)
def test_answer_and_reasoning_are_told_apart(text: str, answer: str | None, reasoning: str) -> None:
    apart = separate(text)
    assert (apart.text, apart.reasoning) == (text if answer is None else answer, reasoning)
    assert not apart.unended
    assert separate(apart.text).text == apart.text


@pytest.mark.parametrize(("text", "reasoning"), UNENDED.values(), ids=UNENDED)
def test_reasoning_that_never_ends_leaves_no_answer(text: str, reasoning: str) -> None:
    assert separate(text) == ("", reasoning, True)


@pytest.mark.parametrize("size", [1, 3, 200])
@pytest.mark.parametrize("name", [*TEXTS, *UNENDED])
def test_pieces_bring_the_same_answer(name: str, size: int) -> None:
    text = (UNENDED | TEXTS)[name][0]
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    streamed = "".join(without_reasoning(pieces))
    if name in ("not opened", "twice") and size < 200:
        # What was shown before its end came cannot be taken back; the answer follows whole.
        assert streamed.endswith("Champ.")
    else:
        assert streamed == separate(text).text


def test_a_prompt_may_open_the_reasoning() -> None:
    assert opens_reasoning("<|im_start|>assistant\n<think>\n")
    assert not opens_reasoning("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert separate("Plan.</think>Champ.", inside=True) == ("Champ.", "Plan.", False)
    assert separate("Plan and no end", inside=True) == ("", "Plan and no end", True)
    assert "".join(without_reasoning(["Pl", "an.</th", "ink>Ch", "amp."], inside=True)) == "Champ."


def test_pieces_of_a_plain_answer_are_not_held_back() -> None:
    assert next(iter(without_reasoning(["Champ, ", "up."]))).strip() == "Champ,"
