"""Reasoning that a model wrote beside its answer, told from the answer.

In: the text of a reply, of an imported row, or of an arm, or its pieces as they come. Out: what a
user is meant to see, and the reasoning apart. Endpoints' replies, engines, chat and import call it;
nothing behind them meets reasoning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_NAMES = (
    r"(?:\w{1,10}[:_-])?(?:think|thinking|thought)|thoughts|reasoning|reason|reflection|scratchpad"
    r"|antthinking|thought_process|chain_of_thought|inner_monologue"
)
_TOKENS = r"(?:of_)?(?:think|thinking|thought|reasoning)\|>"
_OPEN = (
    rf"<(?:{_NAMES})\s*>|\[THINK\]|◁think▷|<\|(?:begin|start)_{_TOKENS}|<\|think(?:ing)?\|>"
    r"|<\|inner_prefix\|>|(?:<\|channel>|<unused94>)(?:thought)?"
)
_CLOSE = (
    rf"</(?:{_NAMES})\s*>|\[/THINK\]|◁/think▷|<\|end_{_TOKENS}|<\|/think(?:ing)?\|>"
    r"|<\|inner_suffix\|>|<channel\|>|<unused95>"
)
_ANSWER = r"<\|begin_of_solution\|>|<\|START_RESPONSE\|>"
_ANSWERED = r"<\|end_of_solution\|>|<\|END_RESPONSE\|>"
_MARK = re.compile(
    rf"(?P<open>{_OPEN})|(?P<close>{_CLOSE})|(?P<answer>{_ANSWER})|(?P<answered>{_ANSWERED})",
    re.IGNORECASE,
)
_OPENS = re.compile(rf"(?:{_OPEN})\s*\Z", re.IGNORECASE)
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
"""A span of code within a line."""
_QUOTE = re.compile(
    rf"\s*(?:(?:{_OPEN})(?:.*(?:{_CLOSE}))?|{_CLOSE}|{_ANSWER}|{_ANSWERED})\s*", re.IGNORECASE
)
"""What a span of code holds that quotes a mark, or a pair with something between."""
_WRAPPED = re.compile(
    r"\s*<(?P<name>answer|response|output|solution)>(?P<text>.*?)(?:</(?P=name)>\s*)?",
    re.DOTALL | re.IGNORECASE,
)
"""An answer that some models put between marks of its own, behind their reasoning."""
_IN_A_SENTENCE = re.compile(r"(?:[\w,]\s+|[\"'(“‘「`])\Z")
_NAMES_IT = re.compile(
    r"\b(?:an?|the|th[ei]se?|that|those|your|its|no|and|or|in|of|with|by|as|is|are|after|before"
    r"|between|(?:use|write|type|put|add|open|emit|print|output|call|say|see|insert|begin|start)s?"
    r"|tags?|marks?|tokens?)\b",
    re.IGNORECASE,
)
"""A word that makes of a mark behind it the name of a thing, where few stand before it."""
_SENTENCE_GOES_ON = re.compile(r"\Z|[,.;:!?)\"'”’」`]|[ \t]+[^\sA-Z]")
_PART = re.compile(
    rf"(?:<[^<>\s]{{0,30}}|\[/?[A-Z]{{0,5}}|◁[^▷]{{0,6}}|(?:{_OPEN})|`+)\Z", re.IGNORECASE
)
"""What is or may become a mark or its quote, at the end of a text that is still coming."""
_LONGEST_MARK = 32
"""Characters of the longest mark, white space included."""
_HARMONY = re.compile(r"<\|channel\|>(?!`)")
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
    opening one stood in the prompt, behind an opening mark that is never closed, or in harmony's
    channels other than ``final``. A mark that is quoted as code is talked about, and so is one that
    is never closed in the middle of a sentence. ``inside`` says that the prompt ended with an
    opening mark, so that reasoning comes first.
    """
    if _HARMONY.search(text):
        return _channels(text)
    if bare := _BARE_CHANNELS.match(text):
        answer = bare["answer"]
        return Separated((answer or "").strip(), bare["reasoning"].strip(), answer is None)
    marks = _marks(text)
    last = max((mark.start() for mark in marks if mark["close"]), default=-1)
    answer, reasoning, start, reasoned = "", "", 0, inside
    for mark in marks:
        before = text[start : mark.start()]
        if mark["close"] or (mark["answer"] and inside):
            # What stood before a closing mark was reasoning, wherever it was opened.
            reasoning += before if inside else answer + before
            answer, inside, reasoned = answer if inside else "", False, True
        elif inside:
            continue
        elif mark["open"]:
            if mark.start() > last and _is_mention(text, mark):
                continue
            answer, inside, reasoned = answer + before, True, True
        else:
            answer += before
        start = mark.end()
    if inside:
        reasoning, rest = reasoning + text[start:], ""
    else:
        rest = text[start:]
    answer = (answer + rest).strip()
    if reasoned and (wrapped := _WRAPPED.fullmatch(answer)):
        answer = wrapped["text"].strip()
    return Separated(answer, reasoning.strip(), inside and not answer)


def _marks(text: str) -> list[re.Match[str]]:
    """Return the marks of a text that nobody quotes, in their order."""
    marks = list(_MARK.finditer(text))
    if not marks or "`" not in text:
        return marks
    quoted = {
        mark.start()
        for span in _SPAN.finditer(text)
        if _QUOTE.fullmatch(span[2])
        for mark in _MARK.finditer(text, *span.span())
    }
    return [mark for mark in marks if mark.start() not in quoted]


def _is_mention(text: str, mark: re.Match[str]) -> bool:
    """Return whether an opening mark that is never closed is a word of a sentence."""
    line = text[text.rfind("\n", 0, mark.start()) + 1 : mark.start()]
    if not _IN_A_SENTENCE.search(line[-8:]) or not _SENTENCE_GOES_ON.match(text, mark.end()):
        return False
    # "Okay, champ" is no sentence yet that a mark could be a word of.
    return len(line.split()) > 2 or _NAMES_IT.search(line) is not None


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
    """Yield the pieces of an answer as they come, its reasoning held back."""
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
