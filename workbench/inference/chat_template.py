"""A base's chat template: examined before anything is spent, and bridged in this one place.

In: a tokenizer as it was published. Out: a :class:`TemplateReport` for people, and a template that
training, evaluation, chat and every export share, because ``load_tokenizer`` puts it into the
tokenizer. What is bridged: a system text goes before the first question where there is no system
role; dates are frozen; an answer is asked with the very opening that it is learnt with, which is
the one without thinking; the template's own end of an answer ends generation. What cannot be
bridged is a :class:`~workbench.errors.UserError` of one line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from workbench.errors import UserError
from workbench.store import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BRIDGE = 1
"""Part of every key of answers: raised when another text is written for the same template."""
FROZEN = date(2024, 7, 26)
"""What a template is told when it asks for today's date; Llama 3 falls back to the same day.

One day for all rounds: what was asked yesterday, and in the round before, is asked alike today.
"""
System = Literal["turn", "folded", "refused", "dropped"]
Turns = Sequence[tuple[str, str]]
_S, _Q, _A, _R, _B = "Zsystemtext", "Zfirstquestion", "Zfirstanswer", "Zsecondquestion", "Zlast"
_NOW = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")
_FOLD = (
    "{% if messages | length > 1 and messages[0]['role'] == 'system' and messages[1]['role'] =="
    " 'user' %}{% set messages = [{'role': 'user', 'content': messages[0]['content'] + '\\n\\n' +"
    " messages[1]['content']}] + messages[2:] %}{% endif %}"
)
_QUIET = "{% set enable_thinking = false %}"
_ASKS = "{% set bridge_asks = add_generation_prompt %}{% set add_generation_prompt = false %}"
_CHATS: tuple[Turns, ...] = (
    (("user", _Q),),
    (("system", _S), ("user", _Q)),
    (("user", _Q), ("assistant", _A), ("user", _R)),
    (("system", _S), ("user", _Q), ("assistant", _A), ("user", _R)),
)
"""Beginnings of conversations that a bridged template has to ask as they are learnt."""
_MEND = "mend chat_template.jinja: it has to take messages of the roles user and assistant"
_SYSTEM_WORDS = {
    "turn": "a turn of its own",
    "folded": "the template puts it into a question",
    "refused": "refused by the template; bridged: the text goes before the first question",
    "dropped": "passed over by the template; bridged: the text goes before the first question",
}


@dataclass(frozen=True)
class TemplateReport:
    """What a chat template does, as published, and what it is told to do here.

    Attributes:
        template: The bridged template; the published one where nothing had to be bridged.
        system: What becomes of a system turn.
        default_system: The system text that the template writes where there is none.
        end: Text of the token that ends an answer.
        end_id: The token.
        published_ends: Ids at which generation stops by the base's own files.
        alternates: Whether two questions in a row are refused.
        bos: How often a begin of text leads a chat, and why not twice.
        dates: What of today's date the template asks for.
        asked: How an answer is opened when it is asked for, as published.
        learnt: How it is opened when it is learnt.
        switch: Whether the template has a switch for thinking.
        tied: Whether the output layer is the embeddings; None where the base does not say.
    """

    template: str
    system: System
    default_system: str
    end: str
    end_id: int
    published_ends: tuple[int, ...]
    alternates: bool
    bos: str
    dates: tuple[str, ...]
    asked: str
    learnt: str
    switch: bool
    tied: bool | None = field(default=None)

    @property
    def stops(self) -> bool:
        """Whether generation stops at the end by the base's own files."""
        return self.end_id in self.published_ends

    @property
    def opens_alike(self) -> bool:
        """Whether a learnt answer opens as an asked one, but for white space before the answer."""
        return _alike(self.asked, self.learnt)

    def bridged(self) -> list[str]:
        """Return what is bridged, a line each; none where the template is used as published."""
        lines = []
        if self.system in ("refused", "dropped"):
            lines.append(f"system role {self.system}: its text goes before the first question")
        if not self.stops:
            lines.append(
                f"answers end with {self.end!r}, which the base's files do not stop at: it joins"
            )
        if self.dates:
            lines.append(f"the date is frozen at {FROZEN.isoformat()}")
        if not self.opens_alike:
            lines.append(
                f"an asked answer opens with {self.asked!r}, a learnt one with {self.learnt!r}:"
                " both open as the learnt one"
            )
        return lines

    def table(self) -> dict[str, str]:
        """Return label → what it is, as people read it."""
        joined = "generation stops there" if self.stops else "the base's files do not; joined here"
        thinking = "none"
        if not self.opens_alike:
            thinking = "left out: an answer is asked for with the opening it is learnt with"
        elif self.switch:
            thinking = "a switch, which is off"
        opening = f"yes, {self.learnt!r}"
        if not self.opens_alike:
            opening = f"asked {self.asked!r}, learnt {self.learnt!r}; bridged: both as learnt"
        tied = {None: "not said", True: "yes: LoRA on them is refused", False: "no"}[self.tied]
        return {
            "system role": _SYSTEM_WORDS[self.system],
            "system text of its own": repr(self.default_system) if self.default_system else "none",
            "end of an answer": f"{self.end!r} ({self.end_id}): {joined}",
            "turns": "must alternate" if self.alternates else "need not alternate",
            "begin of text": self.bos,
            "dates": f"{', '.join(self.dates)}: frozen at {FROZEN}" if self.dates else "none",
            "thinking": thinking,
            "learnt opens as asked": opening,
            "answers marked": _MARKED[_marks_answers(self.template)],
            "tied embeddings": tied,
        }


_MARKED = {
    True: "yes, by {% generation %}",
    False: "no: with assistant_only_loss each answer is learnt behind its history, as where it is",
}


def _marks_answers(template: str) -> bool:
    """Return whether a template says which of its text is an answer."""
    return re.search(r"\{%-?\s*generation\s*-?%\}", template) is not None


def _alike(asked: str, learnt: str) -> bool:
    return learnt.startswith(asked) and not learnt.removeprefix(asked).strip()


def examine(tokenizer: PreTrainedTokenizerBase, folder: Path) -> TemplateReport:
    """Return what the chat template of a tokenizer does, and the template that bridges it.

    The tokenizer stays as published; the folder's ``generation_config.json`` and ``config.json``
    are read.

    Raises:
        UserError: The template cannot be bridged; the line says why and what helps.
    """
    return _Examination(tokenizer, folder).report()


def bridge(tokenizer: PreTrainedTokenizerBase, folder: Path) -> TemplateReport:
    """Give a tokenizer the bridged template, and the template's end as its end token.

    Raises:
        UserError: As :func:`examine`.
    """
    report = examine(tokenizer, folder)
    tokenizer.chat_template = report.template
    tokenizer.eos_token = report.end
    return report


def published_ends(folder: Path) -> tuple[int, ...]:
    """Return the ids that end generation by a model folder's own files, without the tokenizer's.

    Raises:
        UserError: One of the files is broken, or names no tokens.
    """
    for name in ("generation_config.json", "config.json"):
        file = folder / name
        config = read_json(file) if file.exists() else {}
        ids = config.get("eos_token_id", (config.get("text_config") or {}).get("eos_token_id"))
        if ids is not None:
            ids = ids if isinstance(ids, list) else [ids]
            if not all(isinstance(one, int) for one in ids):
                fix = "give the numbers of its end tokens"
                raise UserError(f"'eos_token_id' is {ids[0]!r}", where=str(file), fix=fix)
            return tuple(ids)
    return ()


def ends(tokenizer: PreTrainedTokenizerBase, folder: Path) -> list[int]:
    """Return every token that ends an answer: the bridged template's, and the base's own."""
    return sorted({*published_ends(folder), *_ids(tokenizer.eos_token_id)})


def writes_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the tokenizer's template begins a chat with its begin of text."""
    chat = [{"role": "user", "content": _Q}]
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return bool(tokenizer.bos_token) and str(text).startswith(str(tokenizer.bos_token))


class _Examination:
    """One look at one template; the steps of :func:`examine`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        self.tokenizer, self.folder = tokenizer, folder
        self.stumble = ""
        """What the template stumbled over last, in its own words."""
        template = tokenizer.chat_template
        if isinstance(template, dict):
            template = template.get("default")
        if not template:
            raise self._refused(
                "the base model has no chat template",
                "use an instruct model, or add chat_template.jinja to the folder",
            )
        self.published: str = template

    def report(self) -> TemplateReport:
        """Return the report; the published template is looked at first, then the bridged one."""
        published, tokenizer = self.published, self.tokenizer
        bare = self._render(published, _CHATS[0])
        if bare is None or _Q not in bare:
            why = f" ({self.stumble})" if self.stumble else ""
            raise self._refused(f"the chat template cannot render a question{why}", _MEND)
        system = self._system(published)
        template = _frozen(published)
        template = _FOLD + template if system in ("refused", "dropped") else template
        asked, learnt = self._openings(template)
        switch = "enable_thinking" in published
        quiet = _QUIET if switch and _QUIET not in published else ""
        template = self._opening_alike(quiet + template)
        end = self._end(template)
        return TemplateReport(
            template=template,
            system=system,
            default_system=self._default_system(_frozen(published)),
            end=str(tokenizer.convert_ids_to_tokens(end)),
            end_id=end,
            published_ends=published_ends(self.folder) or _ids(tokenizer.eos_token_id),
            alternates=self._render(published, (("user", _Q), ("user", _R))) is None,
            bos=self._bos(template),
            dates=_dates(published),
            asked=asked,
            learnt=learnt,
            switch=switch,
            tied=tied_embeddings(self.folder),
        )

    def _refused(self, what: str, fix: str) -> UserError:
        return UserError(what, where=str(self.folder), fix=fix)

    def _render(self, template: str, turns: Turns, ask: bool = False) -> str | None:
        """Return a chat rendered by a template; None where the template refuses it."""
        from jinja2 import TemplateError

        messages = [{"role": role, "content": text} for role, text in turns]
        try:
            text: str = self.tokenizer.apply_chat_template(
                messages, chat_template=template, add_generation_prompt=ask, tokenize=False
            )
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            # Whatever a template's own code stumbles over.
            self.stumble = " ".join(str(error).split())[:120]
            return None
        return text

    def _system(self, template: str) -> System:
        text = self._render(template, _CHATS[1])
        if text is None:
            return "refused"
        if _S not in text or _Q not in text:
            return "dropped"
        between = _between(text, _S, _Q)
        after_question = _between(self._render(template, _CHATS[0]) or "", _Q, "")
        # A turn of its own is closed and another one opened before the question.
        marked = any(token in between for token in self._marks()) or bool(between.strip())
        return "turn" if marked and after_question != between else "folded"

    def _marks(self) -> list[str]:
        return [token.content for token in self.tokenizer.added_tokens_decoder.values()]

    def _openings(self, template: str) -> tuple[str, str]:
        """Return what opens an answer that is asked for, and one that is learnt."""
        bare = self._render(template, _CHATS[0])
        asked = self._render(template, _CHATS[0], ask=True)
        learnt = self._render(template, (("user", _Q), ("assistant", _A)))
        if bare is None or asked is None or learnt is None or _A not in learnt:
            raise self._refused("the chat template does not write an answer", _MEND)
        asked, learnt = asked.rpartition(_Q)[2], learnt.partition(_A)[0].rpartition(_Q)[2]
        before = bare.rpartition(_Q)[2]  # the end of the question's turn
        if asked.startswith(before) and learnt.startswith(before):
            return asked.removeprefix(before), learnt.removeprefix(before)
        return asked, learnt

    def _opening_alike(self, template: str) -> str:
        """Return a template whose asked answers open as learnt ones do, token by token."""
        asked, learnt = self._openings(template)
        problem = self._parting(template)
        if _alike(asked, learnt) and not problem:
            return template
        # White space may melt into one token with what follows: then the answer begins with it.
        for opening in (learnt, learnt.rstrip()):
            text = json.dumps(opening, ensure_ascii=False)
            body = template.removesuffix("\n")
            bridged = f"{_ASKS}{body}{{% if bridge_asks %}}{{{{ {text} }}}}{{% endif %}}"
            problem = self._parting(bridged)
            if not problem:
                return bridged
        raise self._refused(problem, "mend chat_template.jinja so that both open alike")

    def _parting(self, template: str) -> str:
        """Return where what is asked is not how what is learnt begins; empty where it always is."""
        for turns in _CHATS:
            roles = ", ".join(role for role, _ in turns)
            asked = self._render(template, turns, ask=True)
            learnt = self._render(template, (*turns, ("assistant", _B)))
            if asked is None or learnt is None:
                return f"the chat template refuses a conversation of {roles}"
            if any(text not in asked for _, text in turns):
                return f"the chat template leaves out a turn of a conversation of {roles}"
            ids, whole = self._ids(asked), self._ids(learnt)
            if whole[: len(ids)] != ids:
                last = turns[-1][1]
                asked, learnt = (text.rpartition(last)[2] for text in (asked, learnt))
                return (
                    f"an asked answer opens with {asked!r}, a learnt one with"
                    f" {learnt.partition(_B)[0]!r}, and the template cannot be told to write one"
                )
        return ""

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _end(self, template: str) -> int:
        """Return the token that ends a learnt answer."""
        learnt = self._render(template, (("user", _Q), ("assistant", _A))) or ""
        tail = learnt.rpartition(_A)[2]
        ids = self._ids(tail)
        known = {*self.tokenizer.added_tokens_decoder, *self.tokenizer.all_special_ids}
        first = next((token for token in ids if self.tokenizer.decode([token]).strip()), None)
        if first is None or first not in known:
            what = f"ends an answer with {tail!r}, which is no token" if tail.strip() else ""
            raise self._refused(
                f"the chat template {what or 'writes no end after an answer'}, so a model that"
                " learns by it never stops",
                "mend chat_template.jinja: it has to close an answer with the base's end token",
            )
        return int(first)

    def _default_system(self, template: str) -> str:
        """Return the text that the template writes before a question without a system turn."""
        bare, full = (self._render(template, turns) or "" for turns in _CHATS[:2])
        before = bare.partition(_Q)[0].removeprefix(str(self.tokenizer.bos_token or ""))
        own = before
        if _S in full:
            turn = _between(full, _S, _Q)
            while turn and not own.endswith(turn):
                turn = turn[1:]
            own = own.removesuffix(turn)
        else:
            own = ""
        plain = own
        for mark in self._marks():
            plain = plain.replace(mark, "\n")
        words = [line.strip() for line in plain.splitlines()]
        return " ".join(w for w in words if w and w not in ("system", "user", "developer"))

    def _bos(self, template: str) -> str:
        bos, adds = self.tokenizer.bos_token, adds_bos(self.tokenizer)
        text = self._render(template, _CHATS[0], ask=True) or ""
        written = bool(bos) and text.startswith(str(bos))
        if written and adds:
            return "once: the template writes it; that the tokenizer adds one, too, is left out"
        if written:
            return "once: the template writes it"
        return "none: what the tokenizer adds is left out" if adds else "none"


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a tokenizer puts its begin of text before every text by itself."""
    ids = tokenizer("a")["input_ids"]
    return bool(tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id])


def _frozen(template: str) -> str:
    """Return a template that asks for no date any more."""

    def day(match: re.Match[str]) -> str:
        return json.dumps(FROZEN.strftime(match[2]))

    frozen = _NOW.sub(day, template)
    line = f"{{% set date_string = {json.dumps(FROZEN.strftime('%d %b %Y'))} %}}"
    lines = line if "date_string" in template and line not in template else ""
    if re.search(r"strftime_now\s*\(", frozen):  # with a format that is computed
        lines += f"{{% macro strftime_now(format) %}}{FROZEN.isoformat()}{{% endmacro %}}"
    return lines + frozen


def _dates(template: str) -> tuple[str, ...]:
    names = [f"strftime_now({match[2]})" for match in _NOW.finditer(template)]
    if not names and "strftime_now" in template:
        names.append("strftime_now")
    if "date_string" in template:
        names.append("date_string")
    return tuple(dict.fromkeys(names))


def _between(text: str, start: str, end: str) -> str:
    rest = text.partition(start)[2]
    return rest.partition(end)[0] if end else rest


def _ids(token: int | None) -> tuple[int, ...]:
    return () if token is None else (token,)


def tied_embeddings(folder: Path) -> bool | None:
    """Return whether a base's output layer is its embeddings; None where its files do not say."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError):  # no configuration, or one of an unknown kind
        return None
    tied = getattr(config.get_text_config(), "tie_word_embeddings", None)
    return None if tied is None else bool(tied)
