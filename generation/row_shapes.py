"""The shapes in which rows go round, read into our own terms.

In: one row as its file has it, and which column is which where somebody said so. Out: a
:class:`ParsedRow`, or :class:`BadRow` with all that is wrong. :mod:`generation.importing` calls it.
Shapes: Alpaca and its relatives, ShareGPT, OpenAI's and TRL's chats, preferences of TRL in their
explicit and implicit form and of UltraFeedback, KTO's labelled answers, transcripts as one text,
and the records of our own rounds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from generation.row_columns import (
    COLUMNS,
    EMPTY,
    FIELDS,
    LABELS,
    OWN,
    ROLES,
    BadRow,
    Columns,
    as_list,
    listed,
    refuse_tools,
    spoken_turns,
    unwrapped,
)
from workbench.errors import nearest
from workbench.records import Message, Messages, Role, user_prompt
from workbench.text import normalize

_PARTNERS = {"prompt": "completion", "question": "answer", "query": "response"}
_HALVES, _RAW_BYTES = re.compile("[\ud800-\udfff]"), re.compile("[\udc80-\udcff]")
"""Half Unicode characters, and those that stand for bytes which are no UTF-8."""
LONGEST_NAME = 40
"""Characters of a column's name beyond which it is a row, and the names are missing."""
SHAPES = "{instruction, output}, {prompt, completion}, {messages} or {prompt, chosen, rejected}"
Shape = Literal["question and answer", "chat", "preference", "labelled answer", "transcript"]


class ParsedRow(NamedTuple):
    """One row in our own terms."""

    shape: Shape
    prompt: Messages
    answer: str
    rejected: str | None
    """None where it is no preference."""
    label: bool | None = None
    """Whether the answer is desirable, where the row says so."""
    topic: str = ""
    kind: str = ""
    parents: tuple[str, ...] = ()
    images: tuple[Any, ...] = ()
    """Pictures as the row names them: a path, or its bytes."""
    own: str = ""
    """The id that it had in a round of ours."""


def parse_row(data: Mapping[str, object], columns: Columns | None = None) -> ParsedRow:
    """Return one row of any known shape.

    ``columns`` takes up the columns that were seen, and changes of texts.

    Raises:
        BadRow: All mistakes of the row, in one phrase.
    """
    columns = columns or Columns()
    data = data if columns.mapping else unwrapped(data)
    row = _RowParser(columns, columns.named(data), data)
    try:
        parsed = row.parse()
    finally:
        columns.used |= row.used
    columns.leave(row.cells, row.used)
    if isinstance(one := data.get("id"), str) and OWN.fullmatch(one):
        if not isinstance(parents := data.get("parents") or [], list):
            raise BadRow("'parents' is not a list of names")
        own = tuple(p for p in parents if isinstance(p, str) and OWN.fullmatch(p))
        kind = normalize(str(data.get("kind") or ""))
        return parsed._replace(parents=own, kind=kind, own=one)
    return parsed


class _Turn(NamedTuple):
    role: Role
    content: str
    counts: bool
    """False for an answer of weight 0, which is never learnt."""


class _RowParser:
    """One row on its way: its cells by our names, and the mistakes in it so far."""

    def __init__(
        self, columns: Columns, cells: dict[str, tuple[str, object]], data: Mapping[str, object]
    ) -> None:
        self.columns, self.cells, self.data = columns, cells, data
        self.used: dict[str, str] = {}
        self.problems: list[str] = []
        self.images: list[Any] = []

    def parse(self) -> ParsedRow:
        """Return the row in the shape that its columns speak of."""
        readers: tuple[tuple[tuple[str, ...], Callable[[], ParsedRow]], ...] = (
            (("chosen", "rejected"), self._preference),
            (("completions",), self._ranked),
            (("turns",), self._chat),
            (("question", "answer", "context"), self._pair),
            (("text",), self._transcript),
        )
        # Tables have a cell for every column: a shape is told by what is there, and not by names.
        for has in (self._full, self._has):
            read = next((one for parts, one in readers if any(map(has, parts))), None)
            if read is not None:
                break
        else:
            raise self._shapeless()
        parsed = read()
        if self._full("images"):
            value = self._take("images")
            self.images = (as_list(value, text=False) or [value]) + self.images
        topic = self._optional("topic")
        self._raise()
        return parsed._replace(topic=topic, images=tuple(self.images))

    def _has(self, part: str) -> bool:
        return any(name in self.cells for name in FIELDS[part])

    def _full(self, part: str) -> bool:
        cells = (self.cells.get(name) for name in FIELDS[part])
        return any(cell is not None and cell[1] not in EMPTY for cell in cells)

    def _name(self, part: str) -> str:
        """Return the one column of a part that holds something; two that do are a mistake."""
        names = [name for name in FIELDS[part] if name in self.cells]
        full = [name for name in names if self.cells[name][1] not in EMPTY]
        mapped = [name for name in full if name in self.columns.mapping]
        full = mapped or full
        if len(full) > 1:
            what = f"both '{full[0]}' and '{full[1]}' may be the {part}"
            raise BadRow(what, f"say which with --map {full[0]}={full[0]}", "ambiguous")
        return (full or names or [""])[0]

    def _take(self, part: str) -> Any:
        if not (name := self._name(part)):
            return None
        theirs, value = self.cells[name]
        self.used[theirs] = name
        return value

    def _problem(self, what: str) -> str:
        self.problems.append(what)
        return ""

    def _raise(self) -> None:
        if self.problems:
            empty = all(problem.endswith("is empty") for problem in self.problems)
            raise BadRow("; ".join(self.problems), reason="empty" if empty else "not_text")

    def _text(self, value: object, name: str) -> str:
        """Return a text normalized; problems are noted."""
        if value is None:
            return self._problem(f"'{name}' is empty")
        if isinstance(value, bytes):  # Parquet of writers that do not say what is text
            with suppress(UnicodeDecodeError):
                value = value.decode()
        if not isinstance(value, str):
            return self._problem(f"'{name}' is not text but {type(value).__name__}")
        if _HALVES.search(value):
            raw = _RAW_BYTES.search(value)
            what = "holds bytes that are no UTF-8" if raw else "holds half a Unicode character"
            return self._problem(f"'{name}' {what}")
        text = normalize(value, self.columns.changes).strip()
        return text or self._problem(f"'{name}' is empty")

    def _optional(self, part: str) -> str:
        value = self._take(part)
        if value is None or (isinstance(value, str) and not normalize(value).strip()):
            return ""
        return self._text(value, self._name(part))

    def _pair(self) -> ParsedRow:
        """Return a question and an answer, each a text or turns."""
        question = self._name("question") or self._name("context")
        if not self._has("question") and self._has("context"):
            # {input, output}: the input is what is asked.
            theirs, value = self.cells.pop(question)
            self.cells["instruction"] = theirs, value
            question = "instruction"
        answer = self._name("answer")
        if not question or not answer:
            missing = _PARTNERS.get(question, "output") if question else "instruction"
            raise self._missing(missing)
        prompt = self._prompt()
        turns = self._answer(self._take("answer"), answer)
        label = self._label()
        self._raise()
        shape: Shape = "question and answer" if label is None else "labelled answer"
        return ParsedRow(shape, prompt, turns, None, label)

    def _label(self) -> bool | None:
        """Return KTO's label; another column of that name is none."""
        if not (name := self._name("label")):
            return None
        theirs, value = self.cells[name]
        label = LABELS.get(str(value).strip().casefold()) if value is not None else None
        if label is None or not (isinstance(value, bool) or name in self.columns.mapping):
            trl = {"prompt", "completion"} <= set(self.cells) or isinstance(value, bool)
            if label is None or not trl:
                self.columns.unknown.setdefault(theirs)
                return None
        self.used[theirs] = name
        return label

    def _prompt(self) -> Messages:
        """Return system text, earlier turns and the question."""
        name, value = self._name("question"), self._take("question")
        context = self._optional("context")
        if (turns := as_list(value)) is not None:
            messages = [_message(turn) for turn in self._turns(turns, name)]
            if messages and messages[-1].role != "user":
                self._problem(f"'{name}' does not end with a user turn")
        elif text := self._text(value, name):
            messages = list(user_prompt(text, context))
        else:
            messages = []
        history = [_message(turn) for turn in self._history()]
        system = self._optional("system")
        lead = [Message(role="system", content=system)] if system else []
        if not messages and not self.problems:
            self._problem(f"'{name}' is empty")
        return (*lead, *history, *messages)

    def _history(self) -> list[_Turn]:
        """Return earlier turns: pairs of question and answer, or turns."""
        turns: list[Any] = []
        for item in self._list("history"):
            if isinstance(item, list | tuple) and len(item) == 2:
                roles = ("user", "assistant")
                turns += [{"role": r, "content": t} for r, t in zip(roles, item, strict=True)]
            else:
                turns.append(item)
        return self._turns(turns, "history")

    def _answer(self, value: object, name: str) -> str:
        """Return an answer: a text, or one turn of the assistant."""
        if isinstance(value, dict):
            value = [value]
        if (turns := as_list(value)) is None:
            return self._text(value, name)
        parsed = self._turns(turns, name)
        if len(parsed) != 1 or parsed[0].role != "assistant":
            self._raise()
            raise BadRow(f"'{name}' is not one turn of the assistant")
        return parsed[0].content

    def _chat(self) -> ParsedRow:
        name = self._name("turns")
        turns = self._conversation("turns")
        system = self._optional("system")
        label = self._label()
        self._raise()
        if system and not (turns and turns[0].role == "system"):
            turns = [_Turn("system", system, True), *turns]
        if turns and turns[-1].role == "user" and self._full("answer"):  # a prompt, its reference
            answer = self._answer(self._take("answer"), self._name("answer"))
            self._raise()
            return ParsedRow("chat", tuple(map(_message, turns)), answer, None, label)
        if len(turns) < 2 or [turn.role for turn in turns[-2:]] != ["user", "assistant"]:
            what = f"{name} do not end with a user turn and the assistant's answer"
            raise BadRow(what, reason="unanswered")
        # An answer of weight 0 is never learnt; the last one that counts is the row's.
        ends = [
            place
            for place in range(1, len(turns))
            if turns[place].role == "assistant" and turns[place].counts
            if turns[place - 1].role == "user"
        ]
        if not ends:
            raise BadRow(f"{name}: every answer has weight 0", reason="unanswered")
        prompt = tuple(_message(turn) for turn in turns[: ends[-1]])
        return ParsedRow("chat", prompt, turns[ends[-1]].content, None, label)

    def _conversation(self, part: str) -> list[_Turn]:
        return self._turns(self._list(part), self._name(part))

    def _list(self, part: str, of: str = "turns") -> list[Any]:
        """Return what a column of lists holds; anything else than a list is noted."""
        name, value = self._name(part), self._take(part)
        items = as_list(value, text=False)
        blank = part == "history" and (value is None or not str(value).strip())
        if items is None and not blank:
            self._problem(f"'{name}' is not a list of {of}")
        return items or []

    def _turns(self, turns: list[object], name: str) -> list[_Turn]:
        """Return turns of OpenAI's and of ShareGPT's kind."""
        parsed = []
        for number, turn in enumerate(turns, start=1):
            place = f"{name}.{number}"
            if not isinstance(turn, dict):
                self._problem(f"'{place}' is not a turn {{role, content}}")
                continue
            role = str(turn.get("role") or turn.get("from") or "").casefold()
            refuse_tools(turn, role, name, number)
            if role not in ROLES:
                self._problem(f"'{place}.role' is '{role}', not 'system', 'user' or 'assistant'")
                continue
            content = next((turn[key] for key in ("content", "value", "text") if key in turn), None)
            if isinstance(content, str) and not content.strip(" \t\r\n"):
                self._problem(f"'{name}' turn {number} is blank")
                continue
            text = self._text(self._parts(content, place), place)
            counts = turn.get("weight") not in (0, "0") or isinstance(turn.get("weight"), bool)
            if text:
                parsed.append(_Turn(ROLES[role], text, counts))
        return parsed

    def _parts(self, content: object, place: str) -> Any:
        """Return the text of a turn that comes in parts, and note its pictures."""
        if not isinstance(content, list):
            return content
        texts = []
        for part in content:
            kind = part.get("type", "text") if isinstance(part, dict) else "text"
            if isinstance(part, str):
                texts.append(part)
            elif isinstance(part, dict) and kind in ("text", "input_text", "output_text"):
                texts.append(str(part.get("text") or ""))
            elif isinstance(part, dict) and kind in ("image", "image_url", "input_image"):
                keys = ("image_url", "image", "path", "url")
                value = next((part[key] for key in keys if key in part), "")
                self.images.append(value.get("url", value) if isinstance(value, dict) else value)
            elif kind not in ("thinking", "reasoning", "redacted_thinking"):
                raise BadRow(f"'{place}' holds a part of type '{kind}'", reason="unknown_part")
        return "\n".join(text for text in texts if text)

    def _preference(self) -> ParsedRow:
        """Return a pair in the explicit form (prompt beside it) or the implicit one (inside)."""
        for part in ("chosen", "rejected"):
            if not self._has(part):
                raise self._missing(part)
        sides = [self._side(part) for part in ("chosen", "rejected")]
        self._raise()
        if self._full("question"):
            prompt = self._prompt()
        elif self._full("turns"):
            prompt = tuple(_message(turn) for turn in self._conversation("turns"))
            if sides[0][:-1] and sides[0][-1] == (prompt or sides[0])[-1]:
                prompt = ()  # UltraFeedback's messages are the chosen conversation once more
        else:
            prompt = ()
        self._raise()
        prompt = prompt or sides[0][:-1]
        if not prompt:
            raise self._missing("prompt")
        if prompt[-1].role != "user":
            raise BadRow("prompt does not end with a user turn", reason="unanswered")
        for part, turns in zip(("chosen", "rejected"), sides, strict=True):
            before = tuple(turn for turn in turns[:-1] if turn.role != "system")
            if before and before != tuple(turn for turn in prompt if turn.role != "system"):
                raise BadRow(f"{part} does not follow the prompt")
            if turns[-1].role != "assistant":
                raise BadRow(f"{part} is not an assistant turn")
        chosen, rejected = sides[0][-1].content, sides[1][-1].content
        return _preferred(prompt, chosen, rejected)

    def _side(self, part: str) -> Messages:
        value = self._take(part)
        turns = [value] if isinstance(value, dict) else as_list(value)
        if turns is not None:
            messages = tuple(_message(turn) for turn in self._turns(turns, part))
            return messages or (Message(role="user", content="?"),)
        text = self._text(value, part)
        if text and not self._has("question") and not self._has("turns"):
            spoken = spoken_turns(text)
            if len(spoken) > 1:
                return spoken
        return (Message(role="assistant", content=text or "?"),)

    def _ranked(self) -> ParsedRow:
        """Return the best and the worst of UltraFeedback's scored completions."""
        prompt, scored = self._prompt(), []
        for place, one in enumerate(self._list("completions", "scored answers"), start=1):
            if not isinstance(one, dict):
                raise BadRow(f"'completions.{place}' is not {{response, overall_score}}")
            score = one.get("overall_score", one.get("fine-grained_score", one.get("score")))
            if not isinstance(score, int | float) or isinstance(score, bool):
                raise BadRow(f"'completions.{place}' has no overall_score")
            scored.append((score, self._text(one.get("response"), f"completions.{place}.response")))
        self._raise()
        if len(scored) < 2 or min(scored)[0] == max(scored)[0]:
            raise BadRow("no completion is scored above another", reason="no_preference")
        scored.sort(key=lambda pair: -pair[0])
        return _preferred(prompt, scored[0][1], scored[-1][1])

    def _transcript(self) -> ParsedRow:
        """Return a conversation that is written as one text, with marks of who speaks."""
        text = self._text(self._take("text"), "text")
        self._raise()
        turns = spoken_turns(text)
        if not turns:
            fix = "give the question in a column of its own, or marks such as '### Human:'"
            raise BadRow("text without a question and an answer", fix, "raw_text")
        if len(turns) < 2 or (turns[-2].role, turns[-1].role) != ("user", "assistant"):
            raise BadRow("text does not end with an answer to a question", reason="unanswered")
        return ParsedRow("transcript", turns[:-1], turns[-1].content, None)

    def _missing(self, name: str) -> BadRow:
        """Return the mistake of a row that lacks a column, with the slip that may be behind it."""
        rest = [key for key in map(str, self.data) if key.casefold() not in COLUMNS]
        for key in rest:
            if hint := nearest(key.casefold(), [name, *FIELDS[COLUMNS[name]]]):
                what = f"'{name}' is missing; unknown key '{key}'"
                return BadRow(what, hint, "missing_column")
        fix = f"or say which column it is: --map {name}={rest[0]}" if rest else ""
        return BadRow(f"'{name}' is missing", fix, "missing_column")

    def _shapeless(self) -> BadRow:
        keys = [str(key) for key in self.data]
        hint = next((hint for key in keys if (hint := nearest(key.casefold(), COLUMNS))), "")
        if any(len(key) > LONGEST_NAME or key.endswith((".", "?", "!")) for key in keys):
            hint = "the first line has to name the columns, such as instruction,output"
        if not hint and len(keys) > 1:
            hint = f"say which is which: --map instruction={keys[0]} --map output={keys[1]}"
            hint += f", and --map topic={keys[2]} if it names the topic" if len(keys) == 3 else ""
        what = f"has none of the known shapes, only {listed(keys)}"
        return BadRow(what, hint or f"give {SHAPES}", "no_known_shape")


def _preferred(prompt: Messages, chosen: str, rejected: str) -> ParsedRow:
    if chosen == rejected:
        raise BadRow("chosen and rejected are the same text", reason="no_preference")
    return ParsedRow("preference", prompt, chosen, rejected)


def _message(turn: _Turn) -> Message:
    return Message(role=turn.role, content=turn.content)
