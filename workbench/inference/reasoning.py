"""Reasoning that a model wrote beside its answer, told from the answer.

In: the text of a reply, of an imported row, or of an arm, or its pieces as they come. Out: what a
user is meant to see, and the reasoning apart. Endpoints' replies, engines, chat and import call it;
nothing behind them meets reasoning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_NAMES = "think|thinking|thought|thoughts|reasoning|reason|scratchpad|seed:think"
_OPEN = rf"<(?:{_NAMES})\s*>|\[THINK\]|◁think▷|<\|begin_of_thought\|>"
_CLOSE = rf"</(?:{_NAMES})\s*>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>"
_MARK = re.compile(rf"(?<!`)(?:(?P<open>{_OPEN})|(?P<close>{_CLOSE}))", re.IGNORECASE)
_OPENS = re.compile(rf"(?:{_OPEN})\s*\Z", re.IGNORECASE)
_PART = re.compile(r"(?:<[^<>\s]{0,22}|\[/?[A-Z]{0,5}|◁[^▷]{0,6})\Z")
"""The beginning of what may become a mark, at the end of a text that is still coming."""
_LONGEST_MARK = 24
"""Characters of the longest mark, white space included."""
_CHANNEL = re.compile(
    r"<\|channel\|>\s*(?P<name>\w+)(?:(?!<\|message\|>).)*<\|message\|>(?P<text>.*?)"
    r"(?=<\|(?:end|return|call|start|channel)\|>|\Z)",
    re.DOTALL,
)
# A tokenizer that leaves out special tokens leaves the names of harmony's channels in the text.
_BARE_CHANNELS = re.compile(
    r"\A\s*(?:assistant)?analysis(?=[^\sa-z])(?P<reasoning>.*?)"
    r"(?:assistant\s?final(?P<answer>(?!.*assistant\s?final).*))?\Z",
    re.DOTALL,
)


class Separated(NamedTuple):
    """A text without its reasoning."""

    text: str
    """The answer, without white space around it."""
    reasoning: str = ""
    unended: bool = False
    """Whether the reasoning never ended, as where a reply was cut off in it."""


def separate(text: str, *, inside: bool = False) -> Separated:
    """Return a text's answer and its reasoning apart.

    Reasoning stands between marks such as ``<think>`` and ``</think>``, before a closing mark whose
    opening one stood in the prompt, behind an opening mark at the start of a line that is never
    closed, or in harmony's channels other than ``final``. A mark in backticks is talked about.

    Args:
        text: The whole text.
        inside: Whether the prompt ended with an opening mark, so that reasoning comes first.
    """
    if "<|channel|>" in text:
        return _channels(text)
    if bare := _BARE_CHANNELS.match(text):
        answer = bare["answer"]
        return Separated((answer or "").strip(), bare["reasoning"].strip(), answer is None)
    answer, reasoning, start = "", "", 0
    for mark in _MARK.finditer(text):
        before = text[start : mark.start()]
        if mark["open"] and not inside:
            if (answer + before).strip() and not _begins(text, mark):
                continue
            answer += before
            inside = True
        elif mark["close"]:
            # What stood before a closing mark was reasoning, wherever it was opened.
            reasoning += before if inside else answer + before
            answer = answer if inside else ""
            inside = False
        else:
            continue
        start = mark.end()
    if inside:
        return Separated(answer.strip(), (reasoning + text[start:]).strip(), not answer.strip())
    return Separated((answer + text[start:]).strip(), reasoning.strip())


def _begins(text: str, mark: re.Match[str]) -> bool:
    """Return whether an opening mark opens something: it is closed later, or begins a line."""
    line = text[text.rfind("\n", 0, mark.start()) + 1 : mark.start()]
    if not line.strip():
        return True
    return any(later["close"] for later in _MARK.finditer(text, mark.end()))


def _channels(text: str) -> Separated:
    """Return harmony's final channel, and the other ones as reasoning."""
    final: list[str] = []
    rest: list[str] = []
    for message in _CHANNEL.finditer(text):
        (final if message["name"] == "final" else rest).append(message["text"].strip())
    return Separated("\n\n".join(final).strip(), "\n\n".join(rest).strip(), not final)


def opens_reasoning(prompt: str) -> bool:
    """Return whether a rendered prompt ends with a mark that opens reasoning."""
    return _OPENS.search(prompt) is not None


def without_reasoning(pieces: Iterable[str], *, inside: bool = False) -> Iterator[str]:
    """Yield the pieces of an answer as they come, its reasoning held back.

    Args:
        pieces: Parts of the text, in their order.
        inside: Whether the prompt ended with an opening mark.
    """
    text, shown, held = "", "", inside
    for piece in pieces:
        text += piece
        start = text.lstrip()
        if not shown and not held:
            held = bool(start) and _is_reasoning(start)
            if not start or (not held and _may_begin(start)):
                continue
        if held and separate(text, inside=True).unended:
            continue
        held = False
        # What may become a mark waits until it is one or not.
        answer = separate(_PART.sub("", text), inside=inside).text
        if answer != shown and answer.startswith(shown):
            yield answer[len(shown) :]
            shown = answer
    answer = separate(text, inside=inside).text
    if answer != shown:
        yield answer[len(shown) :] if answer.startswith(shown) else f"\n{answer}"


def _may_begin(start: str) -> bool:
    """Return whether a text that has just begun may still turn out to be reasoning."""
    return len(start) < _LONGEST_MARK and start[0] in "<[◁a"


def _is_reasoning(start: str) -> bool:
    mark = _MARK.match(start)
    return bool((mark and mark["open"]) or _BARE_CHANNELS.match(start) or "<|channel|>" in start)
