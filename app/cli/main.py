"""The command ``persona``: a list of commands, each imported only when it is used.

A file here is a group of commands: it reads options and prints. What a command computes lies in
:mod:`rounds`, where a notebook and the pages call it too.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import click

from app.cli import ListedGroup
from workbench.errors import EXIT_USER_ERROR, UserError

COMMANDS = {
    "new": ("setup", "new", "A new persona from a few answers."),
    "doctor": ("setup", "doctor", "Do the endpoints answer, and how well?"),
    "model": ("models", "model", "Get a base model ready and say where it lies."),
    "run": ("loop", "run", "The whole loop: every stage in order, done ones skipped."),
    "watch": ("loop", "watch", "A running round in the terminal."),
    "ui": ("ui", "ui", "Personas and rounds as pages, on this machine."),
    "prompt": ("data", "prompt", "Print a prompt that brings rows from any chat."),
    "import": ("data", "import_", "Read files of rows into the round, in any format."),
    "generate": ("data", "generate", "Teacher's rows, and the baseline answers."),
    "filter": ("data", "filter_", "Drop faulty rows, each with its reason."),
    "review": ("review", "review", "Argilla: its server, rows, what people said."),
    "resolve": ("data", "resolve", "Turn reviews into a decision per row."),
    "split": ("data", "split", "Train, validation, test by group; --check leaks."),
    "train": ("models", "train", "Train one stage: sft, dpo, grpo, kto or sdft."),
    "sweep": ("sweep", "sweep", "Other values of a recipe; validation decides."),
    "bakeoff": ("sweep", "bakeoff", "The same rows on several bases."),
    "evaluate": ("models", "evaluate", "Answer held-out prompts and score them."),
    "report": ("models", "report", "Write the report as one HTML file."),
    "eject": ("export", "eject", "A stage's training as one plain script."),
    "chat": ("models", "chat", "Talk to an arm, or to two side by side."),
    "compare": ("loop", "compare", "What changed from one round to another."),
    "next": ("loop", "next_", "Open the next round from the last one's report."),
    "trace": ("lineage", "trace", "Where a record came from, and what it touched."),
    "document": ("lineage", "document", "A datasheet and a Croissant file of the rows."),
    "forget": ("lineage", "forget", "What has to go with a person's or source's rows."),
    "export": ("export", "export", "Adapter, merged, GGUF, Ollama, vLLM, the Hub."),
    "serve": ("models", "serve", "Serve the base or an adapter on loopback."),
    "push-dataset": ("data", "push_dataset", "Send rows to the Hub."),
    "bundle": ("setup", "bundle", "All that a machine without a network needs."),
}
"""Name → module of this folder, function, help, in the order in which they are used; the help is
here so that --help imports nothing."""

TRACEBACK = "PERSONA_TRACEBACK"
"""Variable of the environment: where it is set, a fault of ours is raised as Python shows it."""
_BARS = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS", "TQDM_DISABLE")
EXIT_FAULT = 1
"""Exit code of a command that stops on a fault of ours."""
SLOW = {
    *("argilla", "datasets", "distilabel", "pandas", "ragas", "scipy", "sklearn"),
    *("torch", "transformers"),
}
"""Libraries that take a second or more to be imported."""


class _SaysWhatLoads(MetaPathFinder):
    """Says, the first time that a slow library is about to be imported, what is waited for.

    It finds nothing itself. So each command's first line comes before the seconds that a library
    takes, whichever module imports it, in a terminal and in a log.
    """

    announced = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in SLOW and not self.announced:
            self.announced = True
            click.echo(f"loading {fullname}: a few seconds", err=True)
        return None


class LazyGroup(ListedGroup):
    """A group that knows its commands by name and imports one when it is called."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            raise click.exceptions.NoSuchCommand(cmd_name, possibilities=COMMANDS, ctx=ctx)
        module, name, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"app.cli.{module}"), name)
        return command


@click.group(
    cls=LazyGroup,
    lines={name: line for name, (_, _, line) in COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="persona-workbench")
def cli() -> None:
    """Fine-tune a persona: generate, review, train, evaluate, report.

    \b
    Example:
      persona run --persona datasets/gym-trainer
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; a user's mistake is one line and exit code 2, a fault of ours 1."""
    if not sys.stderr.isatty():
        # A log gets our own lines; the libraries' bars would fill it. Read when they are imported.
        os.environ.update(dict.fromkeys(_BARS, "1"))
    if arguments is None:  # started as a program; a caller's process has its own words
        sys.meta_path.insert(0, _SaysWhatLoads())
    try:
        return cli.main(arguments, standalone_mode=False) or 0
    except UserError as error:
        for line in error.lines():
            click.echo(f"persona: {line}", err=True)
        return EXIT_USER_ERROR
    except click.exceptions.NoArgsIsHelpError as error:  # a group alone: its help is the answer
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        click.echo(f"persona: {' '.join(error.format_message().split())}", err=True)
        return EXIT_USER_ERROR
    except (click.Abort, KeyboardInterrupt):
        click.echo("persona: stopped; the same command goes on from the last stage", err=True)
        return 130
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        return _stopped(error)


def _stopped(error: Exception) -> int:
    """Tell in one line what no command foresaw, and return the exit code."""
    from workbench.store import refused

    if isinstance(error, OSError) and (mistake := refused(error)):
        click.echo(f"persona: {mistake.line()}", err=True)
        return EXIT_USER_ERROR
    what = " ".join(f"{type(error).__name__}: {error}".split())
    if len(what) > 300:
        what = f"{what[:300]}…"
    click.echo(f"persona: a fault of ours: {what} — {_write_report()}", err=True)
    return EXIT_FAULT


def _write_report() -> str:
    """Write the traceback where only its owner reads it, and return where it can be seen."""
    import tempfile
    import traceback

    again = f"set {TRACEBACK}=1 and run the same command again to see where"
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            encoding="utf-8",
            errors="backslashreplace",
            prefix="persona-",
            suffix=".txt",
            delete=False,
        ) as file:
            file.write(traceback.format_exc())
    except OSError:
        return again
    return f"the whole report is in {file.name}; {again}"


if __name__ == "__main__":
    sys.exit(main())
