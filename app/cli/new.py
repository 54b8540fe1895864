"""``persona new``: a persona's folder from a few answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import click

from workbench.errors import UserError
from workbench.persona import Language

ASKED = {
    "id": "Identifier, also the folder's name (lower case, a-z 0-9 -)",
    "language": "Language of the persona",
    "name": "Name of the persona",
    "role": "Who is it? One or two sentences",
    "audience": "Whom does it talk to?",
    "address": "What does it call the person who asks?",
    "topics": "What is it asked about? At least three topics, with commas between",
}
_LANGUAGES = click.Choice(get_args(Language))
_FEWEST_TOPICS = 3


@click.command()
@click.option("--id", "id_", help="Identifier and name of the folder.")
@click.option("--language", type=_LANGUAGES, help="What it speaks.")
@click.option("--name", help="What it is called.")
@click.option("--role", help="Who it is.")
@click.option("--audience", help="Whom it talks to.")
@click.option("--address", help="How it calls the asker.")
@click.option("--topics", help="What it is asked about, with commas between.")
@click.option("--register", help="How it speaks; a plain manner by default.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("datasets"),
    show_default=True,
    help="Where personas are kept.",
)
def new(folder: Path, register: str | None, id_: str | None, **given: str | None) -> None:
    """Write a new persona: a valid specification with checks that can be scored offline.

    What is not given as an option is asked for in a terminal.

    \b
    Example:
      persona new --id wine-friend --language en --name Sam --address friend \\
        --role "A wine merchant who makes wine easy" --audience "Beginners" \\
        --topics "red wine, white wine, food, budget"
    """
    from workbench.starter import starter, write_persona

    answers = {key: value for key, value in {"id": id_, **given}.items() if value}
    missing = [key for key in ASKED if key not in answers]
    if missing and not sys.stdin.isatty():
        raise UserError(
            f"not given: {', '.join(f'--{key}' for key in missing)}",
            fix="give them, or run it in a terminal, where it asks",
        )
    for key in missing:
        answers[key] = click.prompt(ASKED[key], type=_LANGUAGES if key == "language" else str)
    if missing and register is None:
        told = "How does it speak? (Enter for a plain manner)"
        register = click.prompt(told, default="", show_default=False)
    named = (topic.strip() for topic in answers.pop("topics").split(","))
    topics = list(dict.fromkeys(filter(None, named)))
    if len(topics) < _FEWEST_TOPICS:
        raise UserError(
            f"{len(topics)} topics are too few for splits that keep topics apart",
            where="--topics",
            fix=f"name at least {_FEWEST_TOPICS}, with commas between",
        )
    target = folder / answers["id"]
    persona = write_persona(target, starter(topics=topics, register=register or "", **answers))  # type: ignore[arg-type]
    rules = len(persona.rule_traits)
    click.echo(f"{target / 'persona.yaml'}: {len(persona.traits)} traits, {rules} with a rule")
    click.echo("next, rows: with a teacher's endpoint in a configuration, `persona generate`;")
    click.echo(f"without, `persona prompt --persona {target}` for any chat, then `persona import`")
