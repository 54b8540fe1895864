"""What every engine is asked and gives back: chats in, answers out, each as soon as it is there.

Evaluation, the embedded teacher, chat and the export's parity gate ask; an engine is a loaded model
(:mod:`.batched`), llama.cpp's server, or an endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from workbench.inference.completion import Completion
from workbench.inference.reasoning import Separated, opens_reasoning, separate
from workbench.records import Messages, as_messages

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class ChatRequest:
    """One conversation to answer."""

    chat: Messages
    """The conversation; it ends with a user's turn."""
    seed: int = 0
    """Of the draw of its tokens; 0 for the greedy answer."""
    tag: Any = None
    """Whatever the caller knows it by."""
    first: bool = False
    """Whether it goes before others, because more is asked after its answer."""


@dataclass(frozen=True)
class ChatAnswer:
    """One answer."""

    text: str
    """As a user sees it, without reasoning."""
    tokens: int
    """How many were generated."""
    prompt_tokens: int
    """How many its prompt has."""
    ids: tuple[int, ...] = ()
    """The generated tokens, where the engine tells them; some leave out the one that ended the
    answer."""
    logprobs: tuple[float, ...] = ()
    """Natural logarithm of each token's probability, where the engine tells it; NaN for a token
    without one."""
    ended: bool = True
    """Whether it ended by itself, not at the limit."""
    reasoning: int = 0
    """Characters of reasoning that were taken off."""
    completion: Completion | None = None
    """How the request for it ended, where an endpoint answered, or did not."""


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt as text and as token ids."""

    text: str
    ids: tuple[int, ...]


NO_ROOM = "prompt_too_long"
"""Why a prompt that leaves no room for the new tokens has no answer."""


def completion_of(answer: ChatAnswer | None) -> Completion:
    """Return how the request for an answer ended; None stands for a prompt without room."""
    if answer is None:
        return Completion(end="filtered", reason=NO_ROOM)
    return answer.completion or Completion(
        end="ok", text=answer.text, tokens=answer.tokens, reasoning=answer.reasoning
    )


OnAnswer = Callable[[ChatRequest, ChatAnswer | None], Iterable[ChatRequest]]
"""Called once with each answer, as soon as it is there; returns what is to be asked after it.

The answer is None for a prompt that leaves no room for the new tokens.
"""


class Decoding(NamedTuple):
    """How an engine writes answers."""

    max_new_tokens: int
    """Where an answer without an end is cut."""
    temperature: float = 1.0
    """Of answers with a seed, above 0."""


class Engine(Protocol):
    """Something that answers chats."""

    def answer(self, requests: Iterable[ChatRequest], on_answer: OnAnswer, how: Decoding) -> None:
        """Answer ``requests`` and whatever ``on_answer`` returns, such as a next turn."""


class Backend(Engine, Protocol):
    """An engine that also tells how it renders a prompt, and the tokens of its answers."""

    def render(self, chat: Messages) -> RenderedPrompt:
        """Return a prompt as this engine renders and tokenizes it."""


def answer_concurrently(
    requests: Iterable[ChatRequest],
    on_answer: OnAnswer,
    answer_one: Callable[[ChatRequest], ChatAnswer | None],
    workers: int,
) -> None:
    """Answer requests and what follows, so many at once, by a function that answers one.

    ``on_answer`` is called in this thread.
    """
    with ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(answer_one, request): request for request in requests}
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                request = running.pop(future)
                for following in on_answer(request, future.result()):
                    running[pool.submit(answer_one, following)] = following


def greedy_answers(
    engine: Engine,
    chats: Sequence[Messages],
    *,
    max_new_tokens: int,
    advance: Callable[[int], None] = lambda count: None,
) -> list[ChatAnswer | None]:
    """Return the greedy answer to each chat, in order; equal chats are answered once.

    ``advance`` is called with the number of chats answered since the last call.

    Returns:
        One answer a chat; None for a prompt that leaves no room for ``max_new_tokens``.
    """
    counts = dict.fromkeys(chats, 0)
    for chat in chats:
        counts[chat] += 1
    answers: dict[Messages, ChatAnswer | None] = {}

    def on_answer(request: ChatRequest, answer: ChatAnswer | None) -> Iterable[ChatRequest]:
        answers[request.chat] = answer
        advance(counts[request.chat])
        return ()

    requests = [ChatRequest(chat) for chat in counts]
    engine.answer(requests, on_answer, Decoding(max_new_tokens))
    return [answers[chat] for chat in chats]


def prompt_ids(tokenizer: PreTrainedTokenizerBase, chat: Messages) -> list[int]:
    """Return the token ids of a prompt under the model's own chat template."""
    return chat_ids(tokenizer, as_messages(chat), ask=True)


def chat_ids(
    tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, Any]], *, ask: bool
) -> list[int]:
    """Return turns as tokens of the chat template; ``ask`` opens the answer's turn."""
    ids: list[int] = tokenizer.apply_chat_template(
        turns, add_generation_prompt=ask, return_dict=True
    )["input_ids"]
    return ids


def alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two texts have in common at their beginning."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return every token that ends an answer: the model's own and the template's."""
    own = model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [own]
    return sorted({*own, tokenizer.eos_token_id} - {None})


def without_reasoning(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], answer: Sequence[int]
) -> Separated:
    """Return an answer's text and its reasoning apart, by the tokens of both."""
    text = str(tokenizer.decode(answer, skip_special_tokens=True))
    return separate(text, inside=prompt_opens_reasoning(tokenizer, prompt))


def prompt_opens_reasoning(tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int]) -> bool:
    """Return whether a chat template opens reasoning before the answer."""
    return opens_reasoning(str(tokenizer.decode(prompt[-16:])))


def longest_context(model: PreTrainedModel) -> int:
    """Return the tokens that prompt and answer may have together."""
    return getattr(model.config, "max_position_embeddings", None) or 10**9
