"""A conversation with arms of a round: answers token by token, from one base in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.inference.base_models import load_model, load_tokenizer
from workbench.inference.engines.chats import end_tokens, prompt_ids
from workbench.records import Messages


class Talker:
    """The base and any number of adapters on it.

    Args:
        base: Folder of the base model.
        base_name: The base as its user names it.
        adapters: Stage → folder of its adapter; every other name stands for the base.

    Raises:
        UserError: An adapter that was made for another base.
    """

    def __init__(self, base: Path, base_name: str, adapters: Mapping[str, Path]) -> None:
        from peft import PeftModel

        self.tokenizer: Any = load_tokenizer(base)
        self.model: Any = load_model(base)
        self._names: dict[str, str] = {}
        for arm, folder in adapters.items():
            name = f"adapter_{len(self._names)}"
            try:
                if self._names:
                    self.model.load_adapter(folder, adapter_name=name)
                else:
                    self.model = PeftModel.from_pretrained(self.model, folder, adapter_name=name)
            # What PEFT and torch raise for weights of another shape and for unknown modules.
            except (RuntimeError, ValueError) as error:
                raise UserError(
                    f"the adapter of '{arm}' does not fit {base_name}:"
                    f" {str(error).strip().splitlines()[0]}",
                    where=str(folder),
                    fix="use the base that it was trained on",
                ) from None
            self._names[arm] = name
        for weight in self.model.parameters():
            if weight.is_floating_point():  # packed 4-bit weights stay as they are
                weight.data = weight.data.to(self.model.dtype)
        self.model.eval()

    def stream(self, arm: str, chat: Messages, max_new_tokens: int) -> Iterator[str]:
        """Yield the greedy answer of an arm piece by piece; arms may take turns token by token.

        Raises:
            UserError: The conversation leaves no room for an answer.
        """
        import torch

        ids = prompt_ids(self.tokenizer, chat)
        room = getattr(self.model.config, "max_position_embeddings", None) or 10**9
        if len(ids) + max_new_tokens > room:
            raise UserError(
                f"the conversation leaves no room for {max_new_tokens} new tokens",
                fix="start a new one",
            )
        ends, cache, told = end_tokens(self.model, self.tokenizer), None, ""
        new: list[int] = []
        inputs = torch.tensor([ids], device=self.model.device)
        while len(new) < max_new_tokens:
            with torch.inference_mode():
                self._switch(arm)
                output = self.model(input_ids=inputs, past_key_values=cache, use_cache=True)
            cache, token = output.past_key_values, int(output.logits[0, -1].argmax())
            if token in ends:
                break
            new.append(token)
            inputs = torch.tensor([[token]], device=self.model.device)
            text = self.tokenizer.decode(new, skip_special_tokens=True)
            # A character may take several tokens; until it is whole it decodes to a mark.
            if not text.endswith("\ufffd"):
                yield text[len(told) :]
                told = text

    def _switch(self, arm: str) -> None:
        if not self._names:
            return
        if arm in self._names:
            self.model.base_model.enable_adapter_layers()
            self.model.set_adapter(self._names[arm])
        else:
            self.model.base_model.disable_adapter_layers()
