"""Arms: the ways to answer that are compared, and the models that local arms answer with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import UserError
from workbench.inference.adapters import AdaptedModel, read_adapter
from workbench.inference.answer_cache import model_fingerprint
from workbench.inference.base_models import load_tokenizer
from workbench.inference.endpoint import Endpoint
from workbench.inference.engines.batched import BatchedEngine
from workbench.inference.engines.chats import Engine, prompt_ids
from workbench.inference.engines.served import ServedEngine
from workbench.records import Messages

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Arm:
    """One way to answer: a model, with or without an adapter and a system prompt."""

    name: str
    """What responses and scores are filed under, such as ``sft``."""
    adapter: Path | None = None
    """Folder of a PEFT adapter made for the model, or None for the model itself."""
    system: str | None = None
    """System prompt put before every prompt, or None to leave prompts as they are."""
    model: Path | None = None
    """Folder of a model in place of the round's base."""
    endpoint: Endpoint | None = None
    """Where it is served instead; then there is no adapter and no folder."""


def check_arms(arms: Sequence[Arm]) -> None:
    """Check names and adapters' files, before any model is loaded.

    Raises:
        UserError: No arm, a name given twice, or a folder without an adapter.
    """
    names = [arm.name for arm in arms]
    if not names or len(set(names)) < len(names):
        raise UserError(f"arms need different names, got {names}", fix="name each arm once")
    for arm in arms:
        if arm.adapter:
            read_adapter(arm.adapter)


class ModelPool:
    """The models of local arms, loaded when they are first needed, one base at a time.

    ``arms`` at endpoints are passed over; ``dtype`` is the device's best by default.
    """

    def __init__(self, base: Path, arms: Sequence[Arm], dtype: torch.dtype | None = None) -> None:
        self._base, self._dtype = base, dtype
        self._arms = [arm for arm in arms if arm.endpoint is None]
        self._tokenizers: dict[Path, PreTrainedTokenizerBase] = {}
        self._folder: Path | None = None
        self._model: AdaptedModel | None = None

    def leave_out(self, arms: Sequence[Arm]) -> None:
        """Load no adapter of these arms from now on, such as of files that are about to go."""
        self._arms = [arm for arm in self._arms if arm not in arms]

    def folder(self, arm: Arm) -> Path:
        """Return the folder of the model that an arm answers with."""
        return arm.model or self._base

    def fingerprint(self, arm: Arm) -> list[str]:
        """Return what tells an arm's weights from others: the endpoint, or model and adapter."""
        if arm.endpoint:
            return arm.endpoint.fingerprint
        return model_fingerprint(self.folder(arm), arm.adapter)

    def rendered(self, arm: Arm, chat: Messages) -> list[int]:
        """Return a chat as the arm's model reads it; nothing where an endpoint renders it."""
        if arm.endpoint:
            return []
        folder = self.folder(arm)
        if folder not in self._tokenizers:
            self._tokenizers[folder] = load_tokenizer(folder)
        return prompt_ids(self._tokenizers[folder], chat)

    def engine(self, arm: Arm, batch_size: int) -> Engine:
        """Return who answers for an arm, until the next call.

        Raises:
            UserError: An adapter does not fit the model.
        """
        if arm.endpoint:
            return ServedEngine(arm.endpoint, arm.name)
        return BatchedEngine(*self.use(arm), batch_size)

    def use(self, arm: Arm) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Return the arm's model and tokenizer; the model is this arm's until the next call.

        Raises:
            UserError: An adapter does not fit the model.
        """
        folder = self.folder(arm)
        if self._model is None or self._folder != folder:
            self._model = None  # so that two models are never held at once
            adapters = [a.adapter for a in self._arms if a.adapter and self.folder(a) == folder]
            self._folder, self._model = folder, AdaptedModel(folder, adapters, dtype=self._dtype)
        return self._model.use(arm.adapter), self._model.tokenizer
