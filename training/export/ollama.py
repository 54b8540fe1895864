"""A Modelfile for Ollama: weights, template, stop tokens, parameters, system prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from training.export.turns import Turns
from workbench.errors import UserError


def modelfile(
    weights: str,
    turns: Turns,
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
        turns: The chat template.
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
            raise UserError('a Modelfile cannot hold """', fix="change the persona's text")
    lines = [f"FROM ./{weights}"]
    lines += [f"ADAPTER ./{adapter}"] if adapter else []
    lines += [f'TEMPLATE """{turns.go_template()}"""']
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    settings: dict[str, Any] = {"temperature": 0, "repeat_penalty": 1.0, "num_ctx": context}
    lines += [f"PARAMETER {name} {value}" for name, value in settings.items()]
    lines += [f'SYSTEM """{system}"""'] if system else []
    lines += [f'LICENSE """{licence}"""'] if licence else []
    return "\n".join(lines) + "\n"
