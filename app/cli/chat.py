"""``persona chat``: talk to an arm in the terminal, or to two of them side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from app.cli.options import round_options
from rounds.arms import OwnArm
from rounds.context import RoundContext
from rounds.models import known_arm, open_chat
from workbench.errors import UserError
from workbench.records import Message, Messages

if TYPE_CHECKING:
    from workbench.inference.chat_session import ChatSession

_END = {"/quit", "/exit"}


@click.command("chat")
@round_options
@click.option("--arm", help="base, base+prompt, or a trained stage; the last one by default.")
@click.option("--vs", help="A second arm, which answers the same beside it.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=256, show_default=True)
def chat(context: RoundContext, arm: str | None, vs: str | None, max_new_tokens: int) -> None:
    """Talk to an arm; lines are read until an empty one, /quit or Ctrl-D.

    \b
    Examples:
      persona chat
      persona chat --arm dpo --vs base
      echo "My wrist hurts. Bench today?" | persona chat
    """
    from training.device import quiet
    from workbench.inference.hub import hub_offline

    arms = [known_arm(context, arm), *([known_arm(context, vs)] if vs else [])]
    if len(set(arms)) < len(arms):
        raise UserError(f"both arms are '{arms[0].name}'", where="--vs", fix="name another one")
    with hub_offline(), quiet():
        converse(context, open_chat(context, arms), arms, max_new_tokens)


def converse(
    context: RoundContext, session: ChatSession, arms: list[OwnArm], max_new_tokens: int
) -> None:
    """Answer line by line until the input ends; each arm keeps its own history."""
    from workbench.prompts import system_prompt

    system = (Message(role="system", content=system_prompt(context.persona)),)
    histories: dict[str, Messages] = {arm.name: system if arm.prompted else () for arm in arms}
    for line in _lines():
        streams = {}
        for arm in arms:
            histories[arm.name] += (Message(role="user", content=line),)
            streams[arm.name] = session.stream(arm.stage, histories[arm.name], max_new_tokens)
        texts = _side_by_side(streams) if len(arms) > 1 else _one(streams)
        for name, text in texts.items():
            histories[name] += (Message(role="assistant", content=text or "…"),)


def _lines() -> Iterator[str]:
    import sys

    asked = sys.stdin.isatty()
    while True:
        if asked:
            click.echo("> ", nl=False)
        line = sys.stdin.readline()
        text = line.strip()
        if not line or text in _END or (asked and not text):
            return
        if text:
            yield text


def _one(streams: Mapping[str, Iterator[str]]) -> dict[str, str]:
    arm, pieces = next(iter(streams.items()))
    text = ""
    for piece in pieces:
        text += piece
        click.echo(piece, nl=False)
    click.echo("\n")
    return {arm: text.strip()}


def _side_by_side(streams: Mapping[str, Iterator[str]]) -> dict[str, str]:
    """Show answers one after the other, in columns beside each other in a terminal."""
    from rich.console import Console
    from rich.live import Live

    screen = Console(highlight=False)
    texts = dict.fromkeys(streams, "")
    if not screen.is_terminal:
        for arm, pieces in streams.items():
            texts[arm] = "".join(pieces)
            click.echo(f"[{arm}] {texts[arm].strip()}\n")
        return {arm: text.strip() for arm, text in texts.items()}
    with Live(console=screen, auto_refresh=False) as live:
        for arm, pieces in streams.items():
            for piece in pieces:
                texts[arm] += piece
                live.update(_columns(texts), refresh=True)
    return {arm: text.strip() for arm, text in texts.items()}


def _columns(texts: dict[str, str]) -> Any:
    from rich.table import Table

    table = Table(*texts, expand=True)
    table.add_row(*texts.values())
    return table
