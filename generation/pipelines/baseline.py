"""The pipeline of the base model's own answers: prompts in, a completion each out.

:mod:`generation.baseline` runs it, for a model in a folder or one that is served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from generation.distilabel.pipeline import RowPipeline, RowsOf
from generation.distilabel.tasks import AllRows, Columns, EndpointLLM, Row, Rows, RowTask
from generation.teacher_client import TeacherClient
from workbench.config import GenerateSettings
from workbench.console import track
from workbench.errors import UserError
from workbench.inference.completion import Completion
from workbench.inference.exchange import EndpointRequest
from workbench.records import Messages, as_messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from workbench.inference.engines.chats import ChatAnswer

LABEL = "the base model answers"


def baseline_pipeline(
    prompts: Sequence[Messages],
    *,
    folder: Path | None,
    client: TeacherClient | None,
    step: str,
    settings: GenerateSettings,
    seed: int,
) -> RowPipeline:
    """Return the pipeline; its rows have a ``completion``, in the order of the prompts.

    The client asks a model that is served, counted under ``step``; else it lies in ``folder``.
    """
    with RowPipeline(name=step) as pipeline:
        asked = RowsOf(name="prompts", rows=[{"prompt": one, "seed": seed} for one in prompts])
        if client is None:
            asked >> LocalAnswers(folder=folder, settings=settings)
        else:
            llm = EndpointLLM(client=client, step=step)
            asked >> ServedAnswer(llm=llm, max_new_tokens=settings.max_new_tokens)
    return pipeline


class ServedAnswer(RowTask):
    """The greedy answer of a model that is served."""

    label: str = LABEL
    temperature: float = 0.0
    max_new_tokens: int
    """Where an answer without an end is cut."""

    takes: ClassVar[Columns] = ("prompt",)
    """The conversation."""
    gives: ClassVar[Columns] = ("completion",)
    """How the request ended."""

    def format_input(self, input: Row) -> list[dict[str, str]]:
        """Ask the conversation as it is, without the persona."""
        return as_messages(input["prompt"])

    def request(self, row: Row) -> EndpointRequest:
        """Take an answer that is cut off, too."""
        request = super().request(row)
        return replace(request, max_tokens=self.max_new_tokens, accept_cut=True)

    def take(self, row: Row, parts: Rows, completions: Sequence[Completion]) -> Row:
        """Keep the completion, whatever it is."""
        return {"completion": completions[0]}


class LocalAnswers(AllRows):
    """Greedy answers of a model in a folder, in batches; equal chats are answered once.

    Distilabel's ``TransformersLLM`` answers one prompt after another; in batches, in the device's
    best type, a small model on a CPU is some ten times faster.
    """

    folder: Path
    settings: GenerateSettings

    takes: ClassVar[Columns] = ("prompt", "seed")
    """The conversation, and the seed of the libraries."""
    gives: ClassVar[Columns] = ("completion",)
    """How it was answered."""

    def change_all(self, rows: Rows) -> Rows:
        """Load the model, answer all rows, and let go of it."""
        import torch

        from workbench.inference.base_models import load_model, load_tokenizer
        from workbench.inference.engines.batched import BatchedEngine
        from workbench.inference.engines.chats import greedy_answers, longest_context

        try:
            tokenizer, model = load_tokenizer(self.folder), load_model(self.folder).eval()
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            # Whatever transformers finds in a folder that somebody made.
            why = " ".join(f"{error}".split())[:300] or type(error).__name__
            what, fix = f"the base model cannot be loaded ({why})", "use another base model"
            raise UserError(what, where=str(self.folder), fix=fix) from error
        chats, most = [row["prompt"] for row in rows], self.settings.max_new_tokens
        torch.manual_seed(rows[0]["seed"])
        engine = BatchedEngine(model, tokenizer, self.settings.batch_size)
        with track(LABEL, len(chats)) as advance:
            answers = greedy_answers(engine, chats, max_new_tokens=most, advance=advance)
        longest = longest_context(model)
        return [
            {
                **row,
                "completion": _completion(answer)
                if answer
                else _too_long(tokenizer, row, most, longest),
            }
            for row, answer in zip(rows, answers, strict=True)
        ]


def _too_long(tokenizer: PreTrainedTokenizerBase, row: Row, most: int, longest: int) -> Completion:
    from workbench.inference.engines.chats import prompt_ids

    asked = len(prompt_ids(tokenizer, row["prompt"]))
    detail = f"{asked} tokens and {most} new ones, of at most {longest}"
    return Completion(end="failed", reason="prompt_too_long", detail=detail)


def _completion(answer: ChatAnswer) -> Completion:
    cut = bool(answer.reasoning and not answer.ended)
    return Completion(
        end="ok" if answer.text else "cut_off" if cut else "filtered",
        reason="" if answer.text else "cut_off" if cut else "empty_answer",
        reasoning=answer.reasoning,
        text=answer.text,
        attempts=1,
        input_tokens=answer.prompt_tokens,
        output_tokens=answer.tokens,
        tokens=answer.tokens,
    )
