"""A Modelfile for Ollama, with the chat template put into Ollama's own template language.

A template of transformers is read as what it writes before and after each role's text, and the
result is proved on the evaluation's prompts: a template that does more is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workbench.errors import UserError
from workbench.records import Message, Messages, as_messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_S, _U, _A, _V = "SYSTEM␟TEXT", "FIRST␟QUESTION", "SOME␟ANSWER", "SECOND␟QUESTION"


@dataclass(frozen=True)
class ChatTemplate:
    """What a template writes around texts."""

    preamble: str
    """Before the first turn where there is no system turn."""
    before: dict[str, str]
    """Role → text before it."""
    after: dict[str, str]
    """Role → text after it."""
    generation: str
    """What begins the answer."""

    def render(self, chat: Messages) -> str:
        """Return a chat rendered by this template."""
        has_system = any(message.role == "system" for message in chat)
        text = "" if has_system else self.preamble
        for message in chat:
            text += self.before[message.role] + message.content + self.after[message.role]
        return text + self.generation

    def without(self, bos: str) -> ChatTemplate:
        """Return the template without the begin of text, for a file that adds it by itself."""
        before = {role: text.removeprefix(bos) for role, text in self.before.items()}
        return replace(self, preamble=self.preamble.removeprefix(bos), before=before)

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


def read_template(tokenizer: PreTrainedTokenizerBase, chats: Sequence[Messages]) -> ChatTemplate:
    """Return a tokenizer's template, proved on ``chats`` and on longer ones.

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
    template = ChatTemplate(
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
        if template.render(chat) != whole or "{{" in whole or '"""' in template.go_template():
            raise UserError(
                "the chat template does more than Ollama's template language can be shown to do",
                fix="persona export gguf, and let Ollama read the template from the file",
            )
    return template


def _common_end(texts: Sequence[str]) -> str:
    shortest = min(texts, key=len)
    ends = (shortest[at:] for at in range(len(shortest) + 1))
    return next(end for end in ends if all(text.endswith(end) for text in texts))


def _between(text: str, start: str, end: str) -> str:
    rest = text.partition(start)[2] if start else text
    return rest.partition(end)[0] if end else rest


def modelfile(
    weights: str,
    template: ChatTemplate,
    stops: Sequence[str],
    *,
    context: int,
    adapter: str = "",
    system: str = "",
    licence: str = "",
) -> str:
    """Return the text of a Modelfile that answers as the evaluation did.

    Ollama's own defaults would sample at temperature 0.8 and punish repeated words.

    Args:
        weights: File name of the GGUF, relative to the Modelfile.
        template: The chat template.
        stops: Texts of the tokens that end an answer.
        context: Tokens of prompt and answer together.
        adapter: File name of a GGUF adapter, or empty.
        system: System prompt, or empty.
        licence: One line on the base's licence, or empty.

    Raises:
        UserError: A text with three quotes, which a Modelfile cannot hold.
    """
    for text in (system, licence):
        if '"""' in text:
            raise UserError('a Modelfile cannot hold """', fix="change the prompt's text")
    lines = [f"FROM ./{weights}"]
    lines += [f"ADAPTER ./{adapter}"] if adapter else []
    lines += [f'TEMPLATE """{template.go_template()}"""']
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    settings: dict[str, float] = {"temperature": 0, "repeat_penalty": 1.0, "num_ctx": context}
    lines += [f"PARAMETER {name} {value}" for name, value in settings.items()]
    lines += [f'SYSTEM """{system}"""'] if system else []
    lines += [f'LICENSE """{licence}"""'] if licence else []
    return "\n".join(lines) + "\n"
