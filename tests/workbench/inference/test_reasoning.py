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
    "closed behind code": ("<think>use `x`</think>Champ.", "Champ.", "use `x`"),
    "closed between code": ("<think>use `x`</think>`y`, Champ.", "`y`, Champ.", "use `x`"),
    "an odd backtick": ("<think>a ` b</think>Champ, `y`.", "Champ, `y`.", "a ` b"),
    "quoted within": ("<think>no `</think>` yet</think>Champ.", "Champ.", "no `</think>` yet"),
    "a pair quoted": ("Write ``<think>plan</think>`` before it.", None, ""),
    "a special token": ("<|START_THINKING|>Plan.<|END_THINKING|>Champ.", "Champ.", "Plan."),
    "a response": (
        "<|START_THINKING|>Plan.<|END_THINKING|><|START_RESPONSE|>Champ.<|END_RESPONSE|>",
        "Champ.",
        "Plan.",
    ),
    "a solution": (
        "<|begin_of_thought|>Plan.<|end_of_thought|>\n\n<|begin_of_solution|>Champ."
        "<|end_of_solution|>",
        "Champ.",
        "Plan.",
    ),
    "a solution alone": ("<|begin_of_solution|>Champ.<|end_of_solution|>", "Champ.", ""),
    "a solution ends it": ("<|begin_of_thought|>Plan.<|begin_of_solution|>Up.", "Up.", "Plan."),
    "wrapped": ("<think>Plan.</think>\n<answer>Champ.</answer>", "Champ.", "Plan."),
    "an answer's own mark": ("<answer>Champ.</answer>", None, ""),
    "reflection": ("<reflection>Plan.</reflection>Champ.", "Champ.", "Plan."),
    "a name with a family": ("<longcat_think>Plan.</longcat_think>Champ.", "Champ.", "Plan."),
    "one-sided bars": ("<|channel>thought\nPlan.<channel|>Champ.", "Champ.", "Plan."),
    "inner": ("<|inner_prefix|>Plan.<|inner_suffix|>Champ.", "Champ.", "Plan."),
    "never closed after words": ("Sure. <think>secret", "Sure.", "secret"),
    "never closed after a word": ("Sure <think>secret", "Sure", "secret"),
    "never closed in small letters": ("Okay <think> secret", "Okay", "secret"),
    "never closed after a call": ("Okay, champ, <think> so he asks", "Okay, champ,", "so he asks"),
    "never closed in Korean": ("네 <think> 먼저 생각하면", "네", "먼저 생각하면"),
    "after two words": ("Models write <think> first.", None, ""),
    "after an article": ("The <think> tag opens it.", None, ""),
    "opened again": ("<think>a</think>Champ.<think>\nc", "Champ.", "a\nc"),
    "harmony's mark quoted": ("It writes `<|channel|>` first.", None, ""),
    "at a sentence's end": ("A model opens it with <think>.", None, ""),
    "a comparison": ("Reps <think of 5> and sets < 3 > 2.", None, ""),
    "a word": ("analysis of your squat: deep enough.", None, ""),
}
UNENDED = {
    "open": ("<think>On and on", "On and on"),
    "open after a line": ("\n <think>\nOn and on", "On and on"),
    "harmony": ("<|channel|>analysis<|message|>On and on", "On and on"),
    "harmony without its marks": ("analysisOn and on", "On and on"),
    "closed in a quote alone": ("<think>I close it by `</think>`", "I close it by `</think>`"),
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
