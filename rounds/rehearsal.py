"""Rows that keep abilities: general instructions with what the round's own base answers to them.

In: prompts whose form a rule can check (``train.rehearsal``) and the base. Out: rows of the origin
``rehearsal``, which a training stage and a sweep put beside the persona's. They are in no split, so
that nobody reviews them and no evaluation asks them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from evaluation.answer import PromptSet, answer_sets
from evaluation.arms import Arm, ModelPool
from evaluation.instruction_checks import failed
from evaluation.instructions import load_instructions
from rounds.context import RoundContext
from rounds.layout import trained_rows, write
from training.run import RehearsalSettings
from workbench.console import console
from workbench.inference.agreement import is_broken
from workbench.inference.answer_cache import CACHE
from workbench.inference.base_models import resolve_model
from workbench.records import Example, Response
from workbench.store import language_file, read_records

ORIGIN = "rehearsal"


def rehearsal_file(context: RoundContext) -> Path | None:
    """Return the file of the prompts in the persona's language; None where it has none."""
    return language_file(context.config.train.rehearsal, context.persona.language)


def rehearsal_rows(
    context: RoundContext, settings: RehearsalSettings, scratch: Path
) -> list[Example]:
    """Return the base's greedy answers that keep to all that was asked, at most ``settings.rows``.

    It is asked two batches of prompts at a time, since a small model is answered by more than one
    thread, spread over the kinds of their constraints, until enough are right; where fewer are, as
    of a language without such prompts, a line says so. An answer that did not end, is empty or
    loops is never right. Answers are kept in ``scratch``.

    Raises:
        UserError: See :func:`evaluation.instructions.load_instructions`.
    """
    folder, language = context.config.train.rehearsal, context.persona.language
    instructions = load_instructions(folder, language)
    arm, size = Arm("base"), context.config.evaluate.batch_size
    pool = ModelPool(resolve_model(context.config.model), [arm])  # one base for all batches
    prompts = _in_turn(instructions.examples)
    rows: list[Example] = []
    for start in range(0, len(prompts), 2 * size):
        asked = prompts[start : start + 2 * size]
        names = {one.id: one for one in asked}
        batch = PromptSet([arm], asked, settings.max_new_tokens)
        answers = answer_sets([batch], pool, batch_size=size, cache=scratch / CACHE)[0]
        for answer in answers:
            one = names[answer.prompt_id]
            if _right(answer, settings) and not failed(answer.text, instructions.checks[one.id]):
                rows.append(
                    one.evolve(answer=answer.text.strip(), origin=ORIGIN, kind=ORIGIN, parents=())
                )
        if len(rows) >= settings.rows:
            break
    if len(rows) < settings.rows:
        of = f"of {len(prompts)} instructions the base keeps to no more"
        console.print(f"  rehearsal: {len(rows)} of {settings.rows} rows, {of}")
    return rows[: settings.rows]


def with_rehearsal(
    context: RoundContext, settings: RehearsalSettings, train: Path, out: Path, scratch: Path
) -> tuple[Path, int]:
    """Write the rows of ``train`` and those to rehearse into ``out``; return the file and how many.

    Without any ``train`` is returned as it is.
    """
    if not settings.rows:
        return train, 0
    rehearsed = rehearsal_rows(context, settings, scratch)
    if not rehearsed:
        return train, 0
    artifact = trained_rows("sft")
    rows = [*read_records(train, artifact.model), *rehearsed]
    return write(out, artifact, rows), len(rehearsed)


def _in_turn(examples: Sequence[Example]) -> list[Example]:
    """Return examples with one of each kind before a second of any."""
    counts: Counter[str] = Counter()
    turns = []
    for one in examples:
        turns.append(counts[one.topic])
        counts[one.topic] += 1
    return [one for _, one in sorted(zip(turns, examples, strict=True), key=lambda pair: pair[0])]


def _right(answer: Response, settings: RehearsalSettings) -> bool:
    ended = not answer.unanswered and answer.tokens < settings.max_new_tokens
    return ended and not is_broken(answer.text)
