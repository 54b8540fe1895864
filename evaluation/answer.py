"""Arms answer the held-out prompts: one loaded base model, its adapters switched on and off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.models import load_model, load_tokenizer
from workbench.progress import track
from workbench.prompts import with_system
from workbench.records import Example, Message, Response, as_messages

if TYPE_CHECKING:
    import torch

Chat = tuple[Message, ...]


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
        UserError: No prompt or arm, a name given twice, or an adapter that does not fit the base.
    """
    _check(arms, examples)
    from transformers import set_seed

    set_seed(seed)
    speaker = _Speaker(model, arms, dtype)
    responses: list[Response] = []
    with track("answering held-out prompts", len(arms) * len(examples)) as advance:
        for arm in arms:
            with speaker.as_arm(arm):
                answers = _in_batches(
                    speaker,
                    [_asked(arm, example) for example in examples],
                    max_new_tokens,
                    batch_size,
                    partial(advance, note=arm.name),
                )
            responses += [
                Response(
                    arm=arm.name,
                    prompt_id=example.id,
                    prompt=example.prompt,
                    text=text,
                    topic=example.topic,
                    tokens=tokens,
                    parents=(example.id,),
                )
                for example, (text, tokens) in zip(examples, answers, strict=True)
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


def _asked(arm: Arm, example: Example) -> Chat:
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
        # What PEFT and torch raise for weights of another shape and for unknown modules.
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"the adapter of arm '{arm}' does not fit the base model {folder.name}: {reason}",
                where=str(adapter),
                fix="use the base model that it was trained on",
            ) from None

    def as_arm(self, arm: Arm) -> AbstractContextManager[Any]:
        """Switch to the arm's adapter, or all adapters off while the context lasts."""
        if arm.adapter:
            self.model.set_adapter(self.names[arm.adapter])
            return nullcontext()
        off: AbstractContextManager[Any] = (
            self.model.disable_adapter() if self.names else nullcontext()
        )
        return off

    def length(self, chat: Chat) -> int:
        """Return the number of tokens of a prompt under the chat template."""
        return len(self._encode([chat])["input_ids"][0])

    def _encode(self, chats: Sequence[Chat], **options: Any) -> Any:
        return self.tokenizer.apply_chat_template(
            [as_messages(chat) for chat in chats],
            add_generation_prompt=True,
            return_dict=True,
            **options,
        )

    def speak(self, chats: Sequence[Chat], max_new_tokens: int) -> Iterator[tuple[str, int]]:
        """Yield the text and number of new tokens of the greedy answer to each chat."""
        import torch

        inputs = self._encode(chats, padding=True, return_tensors="pt").to(self.model.device)
        ends = self._ends()
        with torch.inference_mode():
            output = self.model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                # Sampling fields of the model's own generation config mean nothing here.
                temperature=None,
                top_p=None,
                top_k=None,
                eos_token_id=ends,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        for row in output[:, inputs["input_ids"].shape[1] :].tolist():
            stop = next((i + 1 for i, token in enumerate(row) if token in ends), len(row))
            text = self.tokenizer.decode(row[:stop], skip_special_tokens=True)
            yield text.strip(), stop

    def _ends(self) -> list[int]:
        """Return every token that ends an answer: the model's own and the template's."""
        own = self.model.generation_config.eos_token_id
        own = own if isinstance(own, list) else [own]
        return sorted({*own, self.tokenizer.eos_token_id} - {None})


def _in_batches(
    speaker: _Speaker,
    chats: Sequence[Chat],
    max_new_tokens: int,
    batch_size: int,
    advance: Callable[[int], None],
) -> list[tuple[str, int]]:
    """Answer ``chats`` longest first: little padding, and too little memory shows early."""
    order = sorted(range(len(chats)), key=lambda i: speaker.length(chats[i]), reverse=True)
    answers: dict[int, tuple[str, int]] = {}
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        spoken = speaker.speak([chats[i] for i in batch], max_new_tokens)
        answers |= dict(zip(batch, spoken, strict=True))
        advance(len(batch))
    return [answers[i] for i in range(len(chats))]
