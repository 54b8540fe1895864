"""The one judge: what it is asked about a trait, how its replies are read, what is made of votes.

Candidate choice, reviewers' suggestions, GRPO's reward and the evaluation's scores all put the same
question, in the persona's language: :func:`trait_questions`. What they ask beside it, such as which
of two answers is better, goes the same way. A reply that is of no use leaves its question
*unscored*, with the kind of failure, and is never a number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, create_model

from workbench.checks import Judge
from workbench.inference.client import EndpointClient, Put, complete_all
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint
from workbench.inference.exchange import EndpointRequest
from workbench.inference.reply import Schema
from workbench.language import DEFAULT, say
from workbench.persona import Persona
from workbench.prompts import load_template
from workbench.records import Messages, last_user_turn, user_prompt

VALUES = {"yes": 1.0, "no": 0.0}
"""What the judge may say of one answer, and what it counts."""
VOTE_TEMPERATURE = 0.7
"""Of a judge that is asked more than once: at 0 its votes would all be the same one."""
STEP = "judge"
"""Name under which a cache counts what the judge is paid."""
_FAILURES = {
    "timeout": "judge_timeout",
    "connection": "judge_unreachable",
    "refused": "judge_refused",
    "content_filter": "judge_refused",
    "cut_off": "judge_cut_off",
    "out_of_range": "judge_out_of_range",
    "stopped": "judge_stopped",
}


class JudgeAsk(NamedTuple):
    """A prompt, and the words that may come back."""

    prompt: str
    allowed: tuple[str, ...] = tuple(VALUES)

    def request(self, vote: int = 0, votes: int = 1) -> EndpointRequest:
        """Return the request for the vote of that number, of so many."""
        return EndpointRequest(
            user_prompt(self.prompt),
            temperature=VOTE_TEMPERATURE if votes > 1 else 0.0,
            seed=vote,
            schema=reply_schema(self.allowed),
            # The prompt names the form, and servers that know no schema mostly know JSON.
            by_words=True,
        )


@dataclass(frozen=True)
class JudgeQuestion:
    """One thing to ask the judge about one answer."""

    metric: str
    """Name of what is judged."""
    criterion: str
    """A question that is answered by yes or no."""
    asked: str
    """What the user asked."""
    answer: str
    """The answer that is judged."""
    rubric: str = ""
    """What the answer is held to, in the specification's words."""
    reference: str = ""
    """An approved answer to the same question, or nothing."""
    language: str = DEFAULT
    """Of the persona, and so of the prompt."""

    @property
    def ask(self) -> JudgeAsk:
        """What the judge reads."""
        text = load_template("judge", self.language).render(
            criterion=self.criterion.strip(),
            rubric=self.rubric,
            asked=self.asked,
            answer=self.answer,
            reference=self.reference,
        )
        return JudgeAsk(text.strip())


class Vote(NamedTuple):
    """One of the allowed words, or the kind of failure in its place."""

    word: str | None
    failure: str = ""


class JudgeVerdict(NamedTuple):
    """The mean of the judge's votes, or the kind of failure that left the question unscored."""

    value: float | None
    failure: str = ""


def judged_traits(persona: Persona) -> dict[str, str]:
    """Return trait → the question about it, of the traits that only a judge can check."""
    checks = ((trait.id, trait.check) for trait in persona.traits)
    return {trait: check.judge for trait, check in checks if isinstance(check, Judge)}


def meaning_of(trait: str) -> str:
    """Return the name of the measure that asks for the meaning behind a rule trait."""
    return f"{trait}:meaning"


def trait_questions(
    persona: Persona, prompt: Messages, answer: str, *, meanings: bool = False
) -> list[JudgeQuestion]:
    """Return a question for each trait that only a judge can check, in the traits' order.

    The rubric is a trait's and the role's own words; with ``meanings`` rule traits that name one
    are asked about, too.
    """
    asked = transcript(prompt)
    questions = []
    for trait in persona.traits:
        check = trait.check if isinstance(trait.check, Judge) else trait.meaning
        metric = trait.id if check is trait.check else meaning_of(trait.id)
        if check and (meanings or check is trait.check):
            role = say(persona.language, "judge.role", role=persona.role.strip())
            lines = [f"{trait.name}: {trait.about}", check.rubric, role]
            rubric = "\n".join(line for line in lines if line)
            criterion, language = check.judge, persona.language
            questions.append(
                JudgeQuestion(metric, criterion, asked, answer, rubric, language=language)
            )
    return questions


def comparison(persona: Persona, prompt: Messages, first: str, second: str) -> JudgeAsk:
    """Return the question which of two answers is better; ``first``, ``second`` or ``tie``."""
    template = load_template("compare", persona.language)
    text = template.render(
        role=persona.role.strip(),
        register=persona.voice.register_.strip(),
        must=[rule.strip() for rule in persona.must],
        asked=transcript(prompt),
        first=first,
        second=second,
    )
    return JudgeAsk(text.strip(), ("first", "second", "tie"))


def transcript(prompt: Messages) -> str:
    """Return what the user asked; of a conversation every turn with its speaker."""
    turns = [message for message in prompt if message.role != "system"]
    if len(turns) < 2:
        return last_user_turn(prompt)
    return "\n".join(f"[{message.role}] {message.content}" for message in turns)


@lru_cache(maxsize=8)
def reply_schema(allowed: tuple[str, ...]) -> Schema:
    """Return what a reply must hold: one of the words as ``value``, and perhaps a reason."""
    # A value made at run time cannot stand in a type that mypy reads.
    word: Any = Annotated[Literal[allowed], BeforeValidator(_folded)]
    fields: Any = {"reason": (str, ""), "value": (word, ...)}
    schema: Schema = create_model("JudgeReply", __base__=BaseModel, **fields)
    return schema


def _folded(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def vote_of(completion: Completion, allowed: tuple[str, ...] = tuple(VALUES)) -> Vote:
    """Return what the judge said, or the kind of failure."""
    if completion.ok:
        reply: Any = reply_schema(allowed).model_validate_json(completion.text)
        return Vote(str(reply.value))
    if (failure := _FAILURES.get(completion.reason)) is not None:
        return Vote(None, failure)
    status = completion.http
    return Vote(None, f"judge_http_{status}" if status and status != 200 else "judge_malformed")


def verdict_of(votes: Sequence[Vote], values: Mapping[str, float] = VALUES) -> JudgeVerdict:
    """Return the mean of the votes; a failure where half of them or more were not given."""
    numbers = [values[vote.word] for vote in votes if vote.word is not None]
    if 2 * len(numbers) > len(votes):
        return JudgeVerdict(sum(numbers) / len(numbers))
    failures = Counter(vote.failure for vote in votes if vote.word is None)
    return JudgeVerdict(None, failures.most_common(1)[0][0])


def ask_all(
    endpoint: Endpoint,
    asks: Sequence[JudgeAsk],
    advance: Callable[[], object] = lambda: None,
    *,
    votes: int = 1,
    cache: Path | None = None,
    put: Put = EndpointClient.complete,
) -> list[list[Vote]]:
    """Return ``votes`` answers to each prompt, in the prompts' order.

    Asking more than once needs a temperature. ``advance`` is called for every vote that is done
    with, kept ones too; ``put`` puts a request to the client, such as through a metric of ragas.

    Raises:
        UserError: Nothing answers there, or the endpoint refuses the key or the model.
    """
    wanted = [(ask, vote) for ask in asks for vote in range(votes)]
    requests = [ask.request(vote, votes) for ask, vote in wanted]
    completions = complete_all(endpoint, requests, cache=cache, step=STEP, advance=advance, put=put)
    pairs = zip(wanted, completions, strict=True)
    heard = [vote_of(completion, ask.allowed) for (ask, _), completion in pairs]
    return [heard[start : start + votes] for start in range(0, len(heard), votes)]


def ask_judge(
    endpoint: Endpoint,
    questions: Sequence[JudgeQuestion],
    advance: Callable[[], object] = lambda: None,
    *,
    votes: int = 1,
    cache: Path | None = None,
    put: Put = EndpointClient.complete,
) -> list[JudgeVerdict]:
    """Return one verdict for each question, in their order; see :func:`ask_all`.

    Every failure stays with its question: nothing is dropped, nothing becomes a number.
    """
    asks = [question.ask for question in questions]
    return [
        verdict_of(each)
        for each in ask_all(endpoint, asks, advance, votes=votes, cache=cache, put=put)
    ]


async def trait_share(
    client: EndpointClient, persona: Persona, prompt: Messages, answer: str
) -> float | None:
    """Return the share of the judge's traits that an answer shows; None where none was scored."""
    from asyncio import gather

    questions = trait_questions(persona, prompt, answer)
    completions = await gather(*(client.complete(q.ask.request()) for q in questions))
    values = [
        value for one in completions if (value := verdict_of([vote_of(one)]).value) is not None
    ]
    return sum(values) / len(values) if values else None
