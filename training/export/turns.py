"""A chat template read as turns: what stands before and after each role's text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import UserError
from workbench.records import Message, Messages, as_messages

_S, _U, _A, _V = "SYSTEM␟TEXT", "FIRST␟QUESTION", "SOME␟ANSWER", "SECOND␟QUESTION"


@dataclass(frozen=True)
class Turns:
    """What a template writes around texts.

    Attributes:
        preamble: Before the first turn where there is no system turn.
        before: Role → text before it.
        after: Role → text after it.
        generation: What begins the answer.
    """

    preamble: str
    before: dict[str, str]
    after: dict[str, str]
    generation: str

    def render(self, chat: Messages) -> str:
        """Return a chat rendered by these turns."""
        has_system = any(message.role == "system" for message in chat)
        text = "" if has_system else self.preamble
        for message in chat:
            text += self.before[message.role] + message.content + self.after[message.role]
        return text + self.generation

    def go_template(self) -> str:
        """Return the same as a template of Go, with the names that Ollama gives it.

        https://github.com/ollama/ollama/blob/main/docs/template.md
        """
        turns = "{{ else }}".join(
            f'{{{{ if eq .Role "{role}" }}}}{self.before[role]}{{{{ .Content }}}}{self.after[role]}'
            for role in ("system", "user", "assistant")
        ).replace("{{ else }}{{ if", "{{ else if")
        preamble = f"{{{{ if not .System }}}}{self.preamble}{{{{ end }}}}" if self.preamble else ""
        body = f"{{{{ range .Messages }}}}{turns}{{{{ end }}}}{{{{ end }}}}"
        return f"{preamble}{body}{self.generation}"


def read_turns(tokenizer: Any, chats: Sequence[Messages]) -> Turns:
    """Return the turns of a tokenizer's template, proved on ``chats`` and on longer ones.

    Raises:
        UserError: The template does more than to write something around each text.
    """

    def render(*turns: tuple[str, str], ask: bool = False) -> str:
        messages = [{"role": role, "content": text} for role, text in turns]
        text: str = tokenizer.apply_chat_template(
            messages, add_generation_prompt=ask, tokenize=False
        )
        return text

    system, user, answer, second = ("system", _S), ("user", _U), ("assistant", _A), ("user", _V)
    bare, asked = render(user), render(user, ask=True)
    full, long = render(system, user), render(user, answer, second)
    generation = asked.removeprefix(bare)
    contexts = [_between(bare, "", _U), _between(full, _S, _U), _between(long, _A, _V)]
    # Any split that fits all three writes the same.
    before_user = _common_end(contexts)
    after_user = _between(bare, _U, "")
    turns = Turns(
        preamble=contexts[0].removesuffix(before_user),
        before={
            "system": _between(full, "", _S),
            "user": before_user,
            "assistant": _between(long, _U, _A).removeprefix(after_user),
        },
        after={
            "system": contexts[1].removesuffix(before_user),
            "user": after_user,
            "assistant": contexts[2].removesuffix(before_user),
        },
        generation=generation,
    )
    more = tuple(Message(role=role, content=text) for role, text in (system, user, answer, second))
    for chat in (*chats, more, more[1:]):
        whole = tokenizer.apply_chat_template(
            as_messages(chat), add_generation_prompt=True, tokenize=False
        )
        if turns.render(chat) != whole or "{{" in whole or '"""' in turns.go_template():
            raise UserError(
                "the chat template does more than Ollama's template language can be shown to do",
                fix="persona export gguf, and let Ollama read the template from the file",
            )
    return turns


def _common_end(texts: Sequence[str]) -> str:
    shortest = min(texts, key=len)
    ends = (shortest[at:] for at in range(len(shortest) + 1))
    return next(end for end in ends if all(text.endswith(end) for text in texts))


def _between(text: str, start: str, end: str) -> str:
    rest = text.partition(start)[2] if start else text
    return rest.partition(end)[0] if end else rest
