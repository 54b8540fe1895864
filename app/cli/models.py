"""The commands of models: train, evaluate, report, talk to them, and serve them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.options import (
    dial_option,
    force_option,
    prompts_option,
    robustness_option,
    round_options,
    run_one,
    safety_option,
    stage_command,
)
from rounds.context import RoundContext
from rounds.layout import Manifest
from workbench.config import METHODS, TRACKERS, Method
from workbench.errors import UserError

if TYPE_CHECKING:
    from rounds.round import Chat

EXIT_FAILED = 3
"""Exit code of an evaluation that is whole, and says that too much was forgotten or unscored."""
HOST = "127.0.0.1"
_END = {"/quit", "/exit"}
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_LEAST_MEMORY = 1 << 20
"""Bytes below which nobody can mean a device."""


def _print_recipes(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if not asked:
        return
    from rich.console import Console

    from training.plan.recipes import dry_runs, table

    Console(highlight=False).print(table(dry_runs()))
    context.exit()


@click.command("train")
@click.option(
    "--recipes",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_recipes,
    help="List every shipped recipe with its dry run.",
)
@click.argument("method", type=click.Choice(METHODS))
@click.option("--tracker", type=click.Choice(TRACKERS), help="Where the curves are shown live.")
@click.option("--plan", is_flag=True, help="Say what it will cost, and train nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --plan: as JSON.")
@click.option("--device-memory", help="With --plan: for a GPU that is not here, 16GiB.")
@click.option("--recipe", help="With --plan: another recipe, its name or file.")
@click.option(
    "--show-tokens",
    is_flag=False,
    flag_value=4,
    type=click.IntRange(min=1),
    metavar="[ROWS]",
    help="Show rows with their trained tokens (4 by default), and train nothing.",
)
@round_options
@force_option
def train(
    context: RoundContext,
    method: Method,
    tracker: str | None,
    plan: bool,
    as_json: bool,
    device_memory: str | None,
    recipe: str | None,
    show_tokens: int | None,
    force: bool,
) -> None:
    """Train one stage with QLoRA: sft or sdft, or dpo, grpo or kto from sft's adapter.

    \b
    Examples:
      persona train sft && persona train dpo
      persona train grpo --tracker tensorboard
      persona train sft --plan --device-memory 16GiB
      persona train sft --show-tokens
      persona train --recipes
    """
    if show_tokens:
        _print_tokens(context, method, show_tokens)
        return
    if plan:
        memory = parse_memory(device_memory) if device_memory else None
        _print_plan(context, method, recipe, memory, as_json)
        return
    for option, value in (
        ("--recipe", recipe),
        ("--device-memory", device_memory),
        ("--json", as_json),
    ):
        if value:  # training would not heed it
            fix = f"add --plan; to train with a recipe write train: {{{method}: …}} in --config"
            raise UserError("is for --plan alone", where=option, fix=fix)
    run_one(context.with_settings("train", tracker=tracker), method, force)


def _print_tokens(context: RoundContext, method: Method, count: int) -> None:
    """Print rows, their trained tokens in colour; in brackets where there is no colour."""
    from rich.console import Console
    from rich.text import Text

    from rounds.estimates import show_tokens

    screen = Console(highlight=False, soft_wrap=True)
    view = show_tokens(context, method, count)
    start, end = ("", "") if screen.color_system else ("[", "]")
    for name, (read, trained) in view.texts.items():
        screen.print(name, style="bold", markup=False)
        screen.print(Text(read, "dim").append(f"{start}{trained}{end}", "not dim green"))
    share = f"{view.trained / view.tokens:.0%}" if view.tokens else "none"
    screen.print(f"trained: {view.trained} of {view.tokens} tokens, {share}")
    for note in view.notes:
        screen.print(note, markup=False)


def parse_memory(text: str) -> int:
    """Return ``16GiB``, ``24g`` or ``512 MiB`` in bytes; every unit is a power of 1024.

    Raises:
        UserError: It is no size, or none of a device: a number without its unit counts bytes.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:iB|B)?\s*", text, re.IGNORECASE)
    size = int(float(match[1]) * 2 ** _UNITS[match[2].upper()]) if match else 0
    if size < _LEAST_MEMORY:
        what = f"is {size} bytes" if match else "is no size"
        raise UserError(f"'{text}' {what}", where="--device-memory", fix="such as 16GiB")
    return size


def _print_plan(
    context: RoundContext, method: Method, recipe: str | None, memory: int | None, as_json: bool
) -> None:
    from rounds.estimates import estimate_training

    plan = estimate_training(context, method, recipe=recipe, gpu_memory=memory)
    if as_json:
        click.echo(plan.model_dump_json(indent=2))
        return
    from rich.console import Console

    from training.plan.plan import fit_line, table

    Console(highlight=False).print(table(plan))
    click.echo(fit_line(plan))


@click.command("evaluate")
@round_options
@force_option
@click.option("--people", is_flag=True, help="A blind round in Argilla, counted so far.")
@click.option("--arm", "arms", multiple=True, metavar="NAME=WHAT", help="Add an arm.")
@robustness_option
@safety_option
@dial_option
@prompts_option
def evaluate(
    context: RoundContext,
    arms: tuple[str, ...],
    people: bool,
    robustness: bool,
    safety: bool,
    dial: bool,
    prompts: bool,
    force: bool,
) -> None:
    """Answer the held-out prompts and probes with every arm and compare each with the base.

    An arm is added by its name and what it is: an earlier round's adapter, the folder of an adapter
    or a model, a hub id, or the configured teacher or student. With +prompt at the end of its name
    it gets the persona's system prompt. The exit code is 3 where general ability, sense or a line
    of the safety case fell, or scores are missing, by more than evaluate.gate and
    evaluate.max_unscored allow.

    No answer is asked for twice, nor a judge's score: they stay in .evaluate.scratch of the round.
    --force scores anew and asks a judge for what it failed on; delete that folder to have every
    answer anew.

    \b
    Examples:
      persona evaluate
      persona evaluate --round 2 --arm first=round-001/sft
      persona evaluate --arm teacher+prompt=teacher
      persona evaluate --people
      persona evaluate --robustness --safety --dial
      persona evaluate --prompts
    """
    if people:
        from rounds.blind_round import run_blind_round

        for pairing in run_blind_round(context).pairings:
            share = "open" if pairing.share is None else f"{pairing.share:.0%}"
            click.echo(f"{pairing.arm} preferred to {pairing.against}: {share}")
        return
    from rounds.arms import parse_arms
    from rounds.pipeline import run_stages

    context = context.evaluating(
        parse_arms(arms), robustness=robustness, safety=safety, dial=dial, prompts=prompts
    )
    (outcome,) = run_stages(context, ["evaluate"], force=["evaluate"] if force else [])
    click.echo(context.round.stage("evaluate"))
    exit_on_failures(context, outcome.manifest)


def exit_on_failures(context: RoundContext, manifest: Manifest) -> None:
    """Say what an evaluation fails by, one line each, and exit with :data:`EXIT_FAILED`."""
    failures = manifest.counts.get("failures", ())
    for line in failures:
        click.echo(f"persona: evaluation failed: {context.options.filled(line)}", err=True)
    if failures:
        click.get_current_context().exit(EXIT_FAILED)


report = stage_command("report", "Write the round's report as one HTML file.")


@click.command("model")
@click.argument("name")
def model(name: str) -> None:
    """Tell what the chat template of the base model NAME does, get it ready, and print its folder.

    What the template does otherwise than training and answering need is bridged, and told as such;
    a template that cannot be bridged is refused before any weights are fetched.

    \b
    Examples:
      persona model smollm2-135m
      persona model org/name
    """
    from training.device import quiet
    from workbench.inference.base_models import examine_model, resolve_model

    with quiet():
        report = examine_model(resolve_model(name, weights=False))
    for label, text in report.table().items():
        click.echo(f"{label}: {text}")
    click.echo(resolve_model(name))


@click.command("chat")
@round_options
@click.option("--arm", help="base, base+prompt, a searched one, or a stage; the last by default.")
@click.option("--vs", help="A second arm, which answers the same beside it.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=256, show_default=True)
def chat(context: RoundContext, arm: str | None, vs: str | None, max_new_tokens: int) -> None:
    """Talk to an arm; lines are read until an empty one, /quit or Ctrl-D.

    /good and /bad rate the last answer, /mend TEXT keeps it as it should have been: `persona next`
    takes it along as a candidate row and a pair. /branch N goes on from the N-th answer. With --vs
    the arm stands first: /mend sft TEXT.

    \b
    Examples:
      persona chat
      persona chat --arm dpo --vs base
      echo "My wrist hurts. Bench today?" | persona chat
    """
    from rounds.round import open_chats
    from rounds.talks import chat_word

    with open_chats(context, (arm, vs) if vs else (arm,), max_new_tokens) as chats:
        for line in _lines():
            try:
                note = chat_word(context, chats, line)
            except UserError as error:
                if not sys.stdin.isatty():
                    raise
                note = error.line()
            if note is not None:
                click.echo(f"{note}\n")
            elif len(chats) > 1:
                _print_beside(chats, line)
            else:
                for piece in next(iter(chats.values())).stream(line):
                    click.echo(piece, nl=False)
                click.echo("\n")


def _lines() -> Iterator[str]:
    is_terminal = sys.stdin.isatty()
    while True:
        if is_terminal:
            click.echo("> ", nl=False)
        line = sys.stdin.readline()
        text = line.strip()
        if not line or text in _END or (is_terminal and not text):
            return
        if text:
            yield text


def _print_beside(chats: Mapping[str, Chat], line: str) -> None:
    """Print answers one after the other, in columns beside each other in a terminal."""
    from rich.console import Console
    from rich.live import Live

    screen = Console(highlight=False)
    if not screen.is_terminal:
        for name, chat in chats.items():
            click.echo(f"[{name}] {chat.ask(line)}\n")
        return
    texts = dict.fromkeys(chats, "")
    with Live(console=screen, auto_refresh=False) as live:
        for name, chat in chats.items():
            for piece in chat.stream(line):
                texts[name] += piece
                live.update(_columns(texts), refresh=True)


def _columns(texts: dict[str, str]) -> Any:
    from rich.table import Table

    table = Table(*texts, expand=True)
    table.add_row(*texts.values())
    return table


@click.command("serve")
@round_options
@click.option("--adapter", type=click.Choice(METHODS), help="Of the round; none by default.")
@click.option("--arm", help="With its prompt, such as base+optimised, in place of an adapter.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8001, show_default=True, help="On loopback."
)
def serve(context: RoundContext, adapter: Method | None, arm: str | None, port: int) -> None:
    """Serve the base model, or an adapter of the round merged into it, until Ctrl-C.

    An arm's system prompt leads every chat that brings none of its own. The server is `transformers
    serve` with OpenAI's own manners. It listens on loopback alone, ignores JSON schemas, and knows
    one model, whose name is printed with its address.

    \b
    Examples:
      persona serve
      persona serve --adapter dpo --port 8002
      persona serve --arm base+optimised
    """
    if adapter and arm:
        raise UserError("is given, and --adapter too", where="--arm", fix="leave one of them out")
    from importlib.util import find_spec

    if not all(map(find_spec, ("uvicorn", "fastapi"))):
        raise UserError("the server's libraries are not installed", fix="make setup")
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise UserError(f"port {port} is taken", where="--port", fix="choose another one")
    from rounds.models import linked_model

    model = linked_model(context, arm or adapter)
    # The server calls a model by the path that it was given, so it gets one that is a name.
    command = [sys.executable, "-P", "-m", "training.export.openai_server", model.name]
    command += ["--host", HOST, "--port", str(port)]
    click.echo(f"{{base_url: 'http://{HOST}:{port}/v1', model: {model.name}}}")
    paths = (str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH"))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    # Whoever ends this process, as a service manager does, ends the server with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = subprocess.Popen(command, env=environment, cwd=model.parent)
    try:
        code = server.wait()
    except KeyboardInterrupt:
        server.terminate()
        server.wait()
        return
    if code:
        raise UserError(f"the server ended with code {code}", fix="its own words above say why")
