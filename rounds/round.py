"""The public interface: a round that can be made, run, read, compared and talked to from Python.

In: a persona's folder, or a round on disk. Out: what the commands give, as values. Import it as
``from rounds import Round``; a notebook needs no more than

>>> from rounds import TRAIN, Round
>>> one = Round.create("datasets/gym-trainer", preset="smoke")
>>> one.run(until="split")
>>> one.table(TRAIN)[["topic", "answer"]]
>>> one.run()
>>> with one.chat("sft") as chat:
...     print(chat.ask("My wrist hurts. Bench today?"))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rounds.artifacts import R, Records
from rounds.comparison import RoundComparison, compare_rounds
from rounds.context import RoundContext, open_context
from rounds.layout import CONFIG, RoundFolder, adapter
from rounds.models import known_arm
from rounds.pipeline import stages_until
from rounds.prompt_arms import arm_prompt
from rounds.runner import Outcome
from rounds.training_seeds import run_with_seeds
from training.device import quiet
from workbench.errors import UserError
from workbench.inference.base_models import resolve_model
from workbench.inference.chat_session import ChatSession
from workbench.inference.hub import hub_offline
from workbench.meter import give_memory_back
from workbench.records import Message, Messages

if TYPE_CHECKING:
    import datasets
    import pandas as pd


class Round(RoundFolder):
    """One round of one persona: its files, and all that can be done with them.

    Everything lies in :attr:`folder`, so that a notebook and the command line may take turns on one
    round. Mistakes are :class:`workbench.errors.UserError`,
    whose text is the line that a command would print.
    """

    @classmethod
    def create(
        cls,
        persona: str | Path,
        *,
        runs: str | Path = "runs",
        number: int = 1,
        preset: str | None = None,
        config: str | Path | None = None,
        **changes: object,
    ) -> Self:
        """Make a round, or change the configuration of one that is there; no stage is run.

        Args:
            persona: Its folder, such as ``datasets/gym-trainer``.
            runs: Folder of all rounds; the new one is ``runs/<persona's id>/round-<number>``.
            number: The round's number, from 1.
            preset: Name of a configuration that comes along, such as ``smoke``.
            config: A configuration file (YAML) instead. Without either the round's own is taken
                where it has one, else the preset ``default``.
            changes: Keys of the configuration (:class:`workbench.config.RunConfig`) on top, such
                as ``seed=7``, ``model="…"`` or ``generate={"per_topic": 2}``; of a section only
                what is named in it changes.

        Raises:
            UserError: A broken configuration or persona, every mistake of it; or another command
                is at work on the round.
        """
        context = open_context(
            config=Path(config) if config else None,
            preset=preset,
            runs=Path(runs),
            round_number=number,
            persona=Path(persona),
            **changes,
        )
        with context.round.locked():
            context.remember()
        return cls(context.round.folder)

    @cached_property
    def context(self) -> RoundContext:
        """The round's configuration and persona, as they were when they were first asked for.

        Raises:
            UserError: The round was not made yet, or its configuration or persona is broken.
        """
        file = self.folder / CONFIG
        if not file.exists():
            raise UserError(
                "there is no such round",
                where=str(self.folder),
                fix="Round.create(persona) makes it, as `persona run` does",
            )
        runs = self.folder.parent.parent
        return open_context(config=file, runs=runs, round_number=self.number)

    def run(
        self, *stages: str, until: str | None = None, force: bool | Sequence[str] = False
    ) -> list[Outcome]:
        """Run stages; what is done already and has not changed is not done again.

        Args:
            stages: Their names, such as ``"sft"``, in the order to run them; all by default.
            until: The last stage to run, where none are named.
            force: Do all of the stages again, or those that are named.

        Returns:
            How each stage ended: whether it ran, and its manifest with counts, seconds and MiB.

        Raises:
            UserError: A mistake in the configuration, found before anything runs, or what a stage
                says; stages before it stay done, and the same call goes on from there.
        """
        names = stages or stages_until(until, self.context.config.train.methods)
        again = [*names] if force is True else [*(force or ())]
        return run_with_seeds(self.context, names, force=again)

    def dataset(self, artifact: Records[R]) -> datasets.Dataset:
        """Return an artifact's records as a dataset in memory, a column a field.

        ``prompt`` is a list of ``{"role", "content"}``, as TRL's trainers and chat templates take
        it. Nothing is written into the cache of the library.

        Raises:
            UserError: As :meth:`read`.
        """
        from datasets import Dataset

        rows = self._rows(artifact)
        if not rows:
            return Dataset.from_dict({name: [] for name in artifact.model.model_fields})
        return Dataset.from_list(rows)

    def table(self, artifact: Records[R]) -> pd.DataFrame:
        """Return an artifact's records as a table, a row a record and a column a field.

        Raises:
            UserError: As :meth:`read`.
        """
        import pandas as pd

        return pd.DataFrame(self._rows(artifact), columns=list(artifact.model.model_fields))

    def _rows(self, artifact: Records[R]) -> list[dict[str, object]]:
        return [record.model_dump(mode="json") for record in self.read(artifact)]

    def compare(self, other: RoundFolder, arms: tuple[str, str] | None = None) -> RoundComparison:
        """Return what differs in another round: rows, recipes, and scores paired by prompt.

        Args:
            other: The later one; differences of scores are its values minus this round's, with a
                95 % interval over the prompts that both asked.
            arms: An arm of this round and one of the other, such as ``("base", "sft")``; the other
                may be this round itself.

        Raises:
            UserError: One of them is not split yet, or lacks an arm.
        """
        return compare_rounds(self, other, self.context.config.seed, arms)

    @contextmanager
    def chat(self, arm: str | None = None, *, max_new_tokens: int = 256) -> Iterator[Chat]:
        """Load an arm and talk to it; its memory is given back at the end of the ``with``.

        Args:
            arm: ``base``, ``base+prompt``, or a trained stage such as ``sft`` or ``dpo+prompt``;
                the last trained one by default.
            max_new_tokens: Most tokens of an answer.

        Raises:
            UserError: There is no such arm, or it was not trained, or does not fit the base.
        """
        with open_chats(self.context, (arm,), max_new_tokens) as chats:
            yield next(iter(chats.values()))


@contextmanager
def open_chats(
    context: RoundContext, arms: Sequence[str | None], max_new_tokens: int
) -> Iterator[dict[str, Chat]]:
    """Load arms and talk to each; they share one base, so one answers at a time.

    ``arms`` are as in :meth:`Round.chat`.

    Raises:
        UserError: There is no such arm, or it was not trained, or does not fit the base; or the
            same arm twice.
    """
    own = [known_arm(context, arm) for arm in arms]
    if len(set(own)) < len(own):
        raise UserError(f"both arms are '{own[0].name}'", where="--vs", fix="name another one")
    with hub_offline(), quiet():
        adapters = {arm.stage: context.round.path(adapter(arm.stage)) for arm in own if arm.stage}
        session = ChatSession(resolve_model(context.config.model), adapters)
        try:
            yield {
                arm.name: Chat(session, arm.stage, arm_prompt(context, arm.name), max_new_tokens)
                for arm in own
            }
        finally:
            del session
            give_memory_back()


class Chat:
    """A conversation with one arm, which remembers its messages.

    The adapter of ``stage`` answers, or the base where it is empty; an empty ``system`` is none.
    """

    def __init__(self, session: ChatSession, stage: str, system: str, max_new_tokens: int) -> None:
        self._session, self._stage, self._most = session, stage, max_new_tokens
        self.messages: Messages = (Message(role="system", content=system),) if system else ()
        """All messages so far, the system prompt first."""

    def ask(self, text: str) -> str:
        """Return the arm's greedy answer to the next message.

        Raises:
            UserError: The conversation leaves no room for an answer.
        """
        return "".join(self.stream(text)).strip()

    def stream(self, text: str) -> Iterator[str]:
        """Yield the answer piece by piece, as it comes."""
        asked = (*self.messages, Message(role="user", content=text))
        pieces = []
        for piece in self._session.stream(self._stage, asked, self._most):
            pieces.append(piece)
            yield piece
        answer = "".join(pieces).strip() or "…"  # an empty turn breaks most chat templates
        self.messages = (*asked, Message(role="assistant", content=answer))
