"""Arms answer the held-out prompts: one loaded base model, its adapters switched on and off."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.decoding import Decoded, greedy_answers
from workbench.errors import UserError
from workbench.models import load_model, load_tokenizer
from workbench.progress import track
from workbench.prompts import with_system
from workbench.records import Example, Messages, Response

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Arm:
    """One way to answer: the base, with or without an adapter and a system prompt.

    Attributes:
        name: What responses and scores are filed under, such as ``sft``.
        adapter: Folder of a PEFT adapter made for the base model, or None for the base itself.
        system: System prompt put before every prompt, or None to leave prompts as they are.
    """

    name: str
    adapter: Path | None = None
    system: str | None = None


def answer(
    arm: Arm,
    examples: Sequence[Example],
    model: Path,
    *,
    max_new_tokens: int = 256,
    batch_size: int = 16,
    seed: int = 0,
    dtype: torch.dtype | None = None,
) -> list[Response]:
    """Return one greedy answer of ``arm`` to each example's prompt, in the examples' order."""
    return answer_arms(
        [arm],
        examples,
        model,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        seed=seed,
        dtype=dtype,
    )


def answer_arms(
    arms: Sequence[Arm],
    examples: Sequence[Example],
    model: Path,
    *,
    max_new_tokens: int = 256,
    batch_size: int = 16,
    seed: int = 0,
    dtype: torch.dtype | None = None,
) -> list[Response]:
    """Return every arm's greedy answers, arm by arm, each in the examples' order.

    The base is loaded once, in full precision; adapters are attached to it and switched, never
    merged, so that no arm changes the weights that another one uses.

    Args:
        arms: Who answers; names must differ.
        examples: Whose prompts are asked; their answers are never shown to the model.
        model: Folder of the base model, as :func:`workbench.models.resolve_model` returns it.
        max_new_tokens: Where an answer without an end is cut.
        batch_size: Prompts answered at once.
        seed: Seeds the libraries; greedy decoding itself draws nothing.
        dtype: Type of weights and computation; the device's best by default.

    Raises:
        UserError: No prompt or arm, a name given twice, an adapter that does not fit the base, or
            a prompt that is too long for the model.
    """
    _check(arms, examples)
    from transformers import set_seed

    set_seed(seed)
    speaker = _Speaker(model, arms, dtype)
    responses: list[Response] = []
    with track("answering held-out prompts", len(arms) * len(examples)) as advance:
        for arm in arms:
            with speaker.as_arm(arm):
                answers = greedy_answers(
                    speaker.model,
                    speaker.tokenizer,
                    [_asked(arm, example) for example in examples],
                    max_new_tokens=max_new_tokens,
                    batch_size=batch_size,
                    advance=partial(advance, note=arm.name),
                )
            responses += [
                _response(arm, example, answer, max_new_tokens)
                for example, answer in zip(examples, answers, strict=True)
            ]
    return responses


def _check(arms: Sequence[Arm], examples: Sequence[Example]) -> None:
    names = [arm.name for arm in arms]
    if not names or len(set(names)) < len(names):
        raise UserError(f"arms need different names, got {names}", fix="name each arm once")
    if not examples:
        raise UserError(
            "there is no held-out prompt to answer", fix="split with a test share above 0"
        )
    for arm in arms:
        # Only safetensors: the older .bin is a pickle, which may run code when it is opened.
        files = ("adapter_config.json", "adapter_model.safetensors")
        if arm.adapter and (missing := [n for n in files if not (arm.adapter / n).exists()]):
            raise UserError(
                f"no adapter there for arm '{arm.name}' ({', '.join(missing)} missing)",
                where=str(arm.adapter),
                fix="train it first, or name a folder saved by PEFT as safetensors",
            )


def _response(arm: Arm, example: Example, decoded: Decoded | None, max_new_tokens: int) -> Response:
    if decoded is None:
        raise UserError(
            f"a prompt of arm '{arm.name}' leaves no room for {max_new_tokens} new tokens",
            where=example.source or example.id,
            fix="shorten it or the system prompt, or lower evaluate.max_new_tokens",
        )
    return Response(
        arm=arm.name,
        prompt_id=example.id,
        prompt=example.prompt,
        text=decoded.text,
        topic=example.topic,
        tokens=decoded.tokens,
        parents=(example.id,),
    )


def _asked(arm: Arm, example: Example) -> Messages:
    return with_system(arm.system, example.prompt) if arm.system else example.prompt


class _Speaker:
    """The loaded base, its tokenizer, and every arm's adapter."""

    def __init__(self, folder: Path, arms: Sequence[Arm], dtype: torch.dtype | None) -> None:
        self.tokenizer: Any = load_tokenizer(folder)
        self.model: Any = load_model(folder, dtype=dtype)
        self.names: dict[Path, str] = {}
        for arm in arms:
            if arm.adapter and arm.adapter not in self.names:
                self._attach(arm.name, arm.adapter, folder)
        for weight in self.model.parameters():
            # Adapters compute in the base's type, as they did in training; float32 ones would
            # make every layer convert its input, which doubles the time of a token.
            weight.data = weight.data.to(self.model.dtype)
            # PEFT freezes the base, and for frozen weights torch copies the whole output layer
            # once for each prompt of a batch (bmm in place of mm): seconds, and a GiB.
            weight.requires_grad_(True)
        self.model.eval()

    def _attach(self, arm: str, adapter: Path, folder: Path) -> None:
        from peft import PeftModel

        # PEFT files adapters as torch submodules, whose names cannot hold every character.
        name = self.names[adapter] = f"adapter_{len(self.names)}"
        try:
            if len(self.names) == 1:
                self.model = PeftModel.from_pretrained(self.model, adapter, adapter_name=name)
            else:
                self.model.load_adapter(adapter, adapter_name=name)
            problem = self._differing_weights(adapter, name)
        # What PEFT and torch raise for weights of another shape and for unknown modules.
        except (RuntimeError, ValueError) as error:
            problem = str(error).strip().splitlines()[0]
        if problem:
            raise UserError(
                f"the adapter of arm '{arm}' does not fit the base model {folder.name}: {problem}",
                where=str(adapter),
                fix="use the base model that it was trained on",
            )

    def _differing_weights(self, adapter: Path, name: str) -> str:
        """Return what PEFT passes over in silence: weights that only file or model has."""
        from peft import get_peft_model_state_dict
        from safetensors import safe_open

        with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
            saved = set(file.keys())
        fitted = set(get_peft_model_state_dict(self.model, adapter_name=name))
        differing = sorted(saved ^ fitted)
        return f"{len(differing)} weights differ, such as {differing[0]}" if differing else ""

    def as_arm(self, arm: Arm) -> AbstractContextManager[Any]:
        """Switch to the arm's adapter, or all adapters off while the context lasts."""
        if arm.adapter:
            self.model.set_adapter(self.names[arm.adapter])
            return nullcontext()
        off: AbstractContextManager[Any] = (
            self.model.disable_adapter() if self.names else nullcontext()
        )
        return off
