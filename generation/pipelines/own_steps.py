"""Steps of a user's own, by the names that the configuration gives them.

In: ``my_steps:Shorten``, a :class:`distilabel.steps.Step` or a
:class:`distilabel.steps.tasks.Task`; a task is given the job's teacher as its LLM. Out: the step in
its place after the answers, before anybody judges them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from distilabel.pipeline import Pipeline
from distilabel.steps import GeneratorStep, Step
from distilabel.steps.tasks import Task
from pydantic import InstanceOf, ValidationError

from generation.distilabel.pipeline import RowsOf
from generation.distilabel.tasks import AllRows, Columns, EndpointLLM, Row, Rows
from generation.teacher_client import OWN_STEP, TeacherClient
from workbench.errors import UserError, nearest
from workbench.records import as_messages

COLUMNS = ("key", "question", "answer", "topic", "kind", "messages")
"""What a step of one's own is shown: ``messages`` are the conversation, the question its last turn,
``key`` and ``answer`` have to come out again. A row that does not is dropped."""
_WHERE = "generate.steps"


def load_step(name: str) -> type[Step]:
    """Return the class that a configuration names.

    Raises:
        UserError: It cannot be imported, is no step, or wants a column that there is none of.
    """
    module, _, attribute = name.partition(":")
    where = f"{_WHERE}: {name}"
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        imported = importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - whatever a module of a user's own does when it is imported
        what = f"cannot be imported ({type(error).__name__}: {error})"
        raise UserError(what, where=where, fix=f"put {module}.py into {here}") from None
    finally:
        sys.path.remove(here)
    if not hasattr(imported, attribute):
        fix = nearest(attribute, dir(imported)) or "check the name after the colon"
        raise UserError(f"{module} has no {attribute}", where=where, fix=fix)
    kind = getattr(imported, attribute)
    if not (isinstance(kind, type) and issubclass(kind, Step)) or issubclass(kind, GeneratorStep):
        fix = "make it a subclass of distilabel.steps.Step or of distilabel.steps.tasks.Task"
        raise UserError("is no step of distilabel", where=where, fix=fix)
    return kind


def own_steps(rows: Any, names: Sequence[str], client: TeacherClient, place: str) -> Any:
    """Return the last of a user's own steps, in their place after a step.

    A pipeline may have several places for them, told apart by ``place``.

    Raises:
        UserError: One cannot be imported, or lacks a column.
    """
    for number, name in enumerate(names):
        kind = load_step(name)
        llm = EndpointLLM(client=client, step=kind.__name__)
        # A pipeline of its own: its columns are those of an answer, not those of the job.
        fields = {
            "pipeline": Pipeline(name="own"),
            **({"llm": llm} if issubclass(kind, Task) else {}),
        }
        try:
            inner = kind(**fields)
        except ValidationError as error:
            what = f"cannot be made without arguments ({error.errors()[0]['msg']})"
            fix = "give its fields defaults"
            raise UserError(what, where=f"{_WHERE}: {name}", fix=fix) from None
        except TypeError as error:  # a method that distilabel wants is not there
            what, fix = f"cannot be made ({error})", "write what its class wants"
            raise UserError(what, where=f"{_WHERE}: {name}", fix=fix) from None
        needed = [one for one, required in inner.get_inputs().items() if required]
        if lacking := [one for one in needed if one not in COLUMNS]:
            what = f"lacks the column '{lacking[0]}'"
            fix = nearest(lacking[0], COLUMNS) or f"there are {', '.join(COLUMNS)}"
            raise UserError(what, where=f"{_WHERE}: {name}", fix=fix)
        rows = rows >> OwnStep(
            name=f"own_{number}_{place}", step=inner, client=client, called=name, number=number
        )
    return rows


def check_steps(names: Sequence[str]) -> tuple[str, ...]:
    """Look at every step that a configuration names, before anything is asked.

    Returns:
        Those that ask the teacher, by the name under which that is counted.

    Raises:
        UserError: One cannot be imported, or lacks a column.
    """
    with Pipeline(name="check"):
        own_steps(RowsOf(name="first", rows=[]), names, TeacherClient([], Path()), "check")
    kinds = [load_step(name) for name in names]
    return tuple(kind.__name__ for kind in kinds if issubclass(kind, Task))


class OwnStep(AllRows):
    """Takes answers through a user's step, each once, and notes which of them it dropped."""

    step: InstanceOf[Step]
    client: InstanceOf[TeacherClient]
    called: str
    """Name of the step in the configuration."""
    number: int
    """Place of that name there."""

    takes: ClassVar[Columns] = ("prompt", "question", "texts")
    """The conversation and its answers."""
    gives: ClassVar[Columns] = ("texts", "dropped_by", "own")
    """The answers as they are now, and where they were dropped by which step."""

    def change_all(self, rows: Rows) -> Rows:
        """Pass on what went through already, and what has no answer."""
        new = [row for row in rows if row["texts"] and row.get("own", 0) <= self.number]
        shown = [
            self._shown(row, f"{number}.{place}", text)
            for number, row in enumerate(new)
            for place, text in enumerate(row["texts"])
        ]
        changed = self._changed(shown) if shown else {}
        for number, row in enumerate(new):
            keys = [f"{number}.{place}" for place in range(len(row["texts"]))]
            row["texts"] = list(dict.fromkeys(changed[key] for key in keys if key in changed))
            row["own"] = self.number + 1
            if not row["texts"]:
                row["dropped_by"] = self.called
                self.client.show(row, prompt=row["prompt"], dropped=OWN_STEP)
        return rows

    @staticmethod
    def _shown(row: Row, key: str, text: str) -> Row:
        cell = row["cell"]
        return {
            "key": key,
            "question": row["question"],
            "answer": text,
            "topic": cell.topic,
            "kind": cell.kind,
            "messages": as_messages(row["prompt"]),
        }

    def _changed(self, rows: Rows) -> dict[str, str]:
        """Return key → answer of the rows that come out of the step."""
        where = f"{_WHERE}: {self.called}"
        try:
            self.step.load()
            out = [row for batch in self.step.process_applying_mappings(rows) for row in batch]
            self.step.unload()
        except UserError:
            raise
        except Exception as error:
            what = f"failed ({type(error).__name__}: {error})"
            raise UserError(what, where=where, fix="mend the step; answers are kept") from error
        for row in out:
            if not {"key", "answer"} <= row.keys():
                lost = "key" if "key" not in row else "answer"
                raise UserError(f"loses the column '{lost}'", where=where, fix="keep it")
            if not isinstance(row["answer"], str | None):
                what = f"makes an answer of the type {type(row['answer']).__name__}"
                raise UserError(what, where=where, fix="let it be text, or None to drop the row")
        return {row["key"]: row["answer"] for row in out if (row["answer"] or "").strip()}
