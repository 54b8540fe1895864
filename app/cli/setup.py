"""The commands before a round: a new persona, endpoints that answer, a bundle for elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from app.airgap.collect import check_bundle, collect
from app.airgap.contents import contents_of_checkout
from app.cli.options import personas_option, round_options
from rounds.context import RoundContext
from training.device import quiet
from workbench.commands import RoundOptions
from workbench.errors import UserError, UserErrors, every_mistake
from workbench.inference.base_models import examine_model, resolve_model
from workbench.inference.endpoint import Endpoint
from workbench.inference.probe import probe
from workbench.language import languages
from workbench.persona import persona_file
from workbench.starter import check_answer, split_topics, starter, write_persona
from workbench.text import counted

PROMPTS = {
    "id": "Identifier, also the folder's name (lower case, a-z 0-9 -)",
    "language": "Language of the persona",
    "name": "Name of the persona",
    "role": "Who is it? One or two sentences",
    "audience": "Whom does it talk to?",
    "address": "What does it call the person who asks?",
    "topics": "What is it asked about? At least three topics, with commas between",
}
"""What a terminal asks for where an option is missing."""
LOG_WIDTH = 160
ROLES = ("student", "judge", "simulated_user")
_LANGUAGES = click.Choice(languages())


@click.command("new")
@click.option("--id", "id_", help="Identifier and name of the folder.")
@click.option("--language", type=_LANGUAGES, help="What it speaks.")
@click.option("--name", help="What it is called.")
@click.option("--role", help="Who it is.")
@click.option("--audience", help="Whom it talks to.")
@click.option("--address", help="How it calls the person who asks.")
@click.option("--topics", help="What it is asked about, with commas between.")
@click.option("--register", help="How it speaks; a plain manner by default.")
@personas_option
def new(folder: Path, register: str | None, id_: str | None, **options: str | None) -> None:
    """Write a new persona: a valid specification with checks that can be scored offline.

    What no option says is asked for in a terminal, and asked again where an answer will not do.

    \b
    Example:
      persona new --id wine-friend --language en --name Sam --address friend \\
        --role "A wine merchant who makes wine easy" --audience "Beginners" \\
        --topics "red wine, white wine, food, budget"
    """
    answers = {key: value for key, value in {"id": id_, **options}.items() if value}
    every_mistake(
        partial(_check, folder, key, answer, f"--{key}") for key, answer in answers.items()
    )
    missing = [key for key in PROMPTS if key not in answers]
    if missing and not sys.stdin.isatty():
        raise UserError(
            f"not given: {', '.join(f'--{key}' for key in missing)}",
            fix="give them, or run it in a terminal, where it asks",
        )
    for key in missing:
        if key == "language":
            answers[key] = click.prompt(PROMPTS[key], type=_LANGUAGES)
        else:
            answers[key] = click.prompt(PROMPTS[key], value_proc=partial(_answer, folder, key))
    if missing and register is None:
        question = "How does it speak? (Enter for a plain manner)"
        register = click.prompt(question, default="", show_default=False)
    topics = split_topics(answers.pop("topics"))
    data = starter(topics=topics, register=register or "", **answers)
    target = folder / answers["id"]
    persona = write_persona(target, data)
    rules = len(persona.rule_traits)
    click.echo(f"{target / 'persona.yaml'}: {len(persona.traits)} traits, {rules} with a rule")
    at = RoundOptions(target)
    click.echo("next, rows: with a teacher's endpoint in run.yaml,")
    click.echo(f"`{at.command('generate --config run.yaml')}`;")
    click.echo(f"without, `{at.command('prompt')}` for any chat, then")
    click.echo(f"`{at.command('import rows.jsonl')}`")


def _check(folder: Path, key: str, answer: str, where: str = "") -> None:
    """Refuse an answer at once: one that makes no persona, or an id that is taken."""
    try:
        check_answer(key, answer)
        if key == "id" and persona_file(folder / answer).exists():
            raise UserError(f"there is a persona '{answer}' already", fix="choose another id")
    except UserError as error:
        raise UserError(error.what, where=where, fix=error.fix) from None


def _answer(folder: Path, key: str, answer: str) -> str:
    """Return what was typed, or have the question asked again: the other answers stay."""
    try:
        _check(folder, key, answer.strip())
    except UserError as error:
        raise click.UsageError(error.line()) from None
    return answer.strip()


@click.command("doctor")
@round_options
def doctor(context: RoundContext) -> None:
    """Examine the base's chat template, ask every configured endpoint a few short things, and tell.

    Teacher, student, judge and served arms are asked. The table says whether each takes a system
    message, a seed, a temperature, a limit and a JSON schema, whether it reasons aloud, counts
    tokens and tells its limits. docs/endpoints.md says what jobs do about each, and how to
    configure the common servers. Exit code 2 if one of them gives no word, or if the base's
    template cannot be bridged (`persona model` tells all of it).

    \b
    Example:
      persona doctor --config run.yaml
    """
    endpoints: dict[str, Endpoint | None] = {"teacher": context.config.main_teacher}
    if context.config.teachers[1:]:
        endpoints = {f"teacher {n}": one for n, one in enumerate(context.config.teachers, start=1)}
    endpoints |= {role: getattr(context.config, role) for role in ROLES}
    more = context.config.evaluate.more
    endpoints |= {f"arm {name}": one for name, one in more.items() if isinstance(one, Endpoint)}
    configured = {role: endpoint for role, endpoint in endpoints.items() if endpoint}
    errors = list[UserError]()
    try:
        for line in _base_lines(context.config.model):
            click.echo(line)
    except UserError as error:
        errors.append(error)
    if configured:
        _print_endpoints(configured, errors)
    else:
        click.echo("no endpoint is configured; teacher, student and judge are optional")
    if errors:
        raise UserErrors(errors)


def _base_lines(name: str) -> list[str]:
    """Return what is bridged of the base's chat template, a line each."""
    with quiet():
        lines = examine_model(resolve_model(name, weights=False)).bridged()
    return [f"base {name}: {line}" for line in lines or ["its chat template is used as it is"]]


def _print_endpoints(endpoints: Mapping[str, Endpoint], errors: list[UserError]) -> None:
    """Print what was learnt of each endpoint; those that give no word join the errors."""
    columns = []
    for endpoint in endpoints.values():
        facts = {"answers": "no"}
        try:
            result = probe(endpoint)
            facts = result.facts()
            result.check(endpoint)
        except UserError as error:
            errors.append(error)
        columns.append(facts)
    table = Table("", *endpoints, show_lines=False)
    table.add_row("model", *(endpoint.model for endpoint in endpoints.values()))
    table.add_row("address", *(endpoint.base_url for endpoint in endpoints.values()))
    for name in max(columns, key=len):
        table.add_row(name, *(column.get(name, "—") for column in columns))
    # Where there is no terminal, as in a log, addresses shall stay whole.
    Console(width=None if sys.stdout.isatty() else LOG_WIDTH).print(table)


@click.command("bundle")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Only hold a bundle against its manifest.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="Also take this base model along (hub id or folder); may be given again.",
)
def bundle(folder: Path, check: bool, models: tuple[str, ...]) -> None:
    """Collect into FOLDER what a machine without a network needs to install and run all this.

    Stopped halfway, the same command goes on. The bundle is for machines with this Python version
    and platform; it says how to install it in its README.md.

    \b
    Examples:
      persona bundle persona-bundle
      persona bundle persona-bundle --model org/name
      persona bundle persona-bundle --check
    """
    if check:
        click.echo(f"{folder}: whole ({counted(check_bundle(folder), 'file')})")
        return
    began = time.monotonic()
    manifest = collect(contents_of_checkout(models), folder)
    size = sum(file["bytes"] for file in manifest["files"].values())
    click.echo(
        f"{folder}: {size / 1e6:.0f} MB, {len(manifest['packages'])} packages, commit"
        f" {manifest['commit'][:12]}, for Python {manifest['python']} on {manifest['platform']};"
        f" {time.monotonic() - began:.0f} s"
    )
