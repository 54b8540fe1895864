"""Whether an answer is one: measures that need no judge, and that marks alone do not earn.

In: held-out answers, their reviewed rows, the training answers, an embedder and a language model's
loss. Out: an :class:`AnswerSense` for each answer. The scorers call it, and so do the controls of
an evaluation.

What none of it sees: a wrong fact or turned-round advice in good words that keep to the question.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import stdev
from typing import TYPE_CHECKING, Literal, NamedTuple

from evaluation.arms import Arm
from evaluation.general import text_likelihoods
from evaluation.guards import AnswerForm, HarmFinder, HarmKind, is_foreign
from workbench.inference.agreement import (
    ECHO_RUN,
    ECHOING,
    LOOPING,
    ReviewedAnswer,
    SenseAgreement,
    copied_share,
    runs_of,
    unlooped,
    words_of,
)
from workbench.language.packs import load_pack, own_module
from workbench.parts import WORD, split_words
from workbench.persona import Language, Persona
from workbench.records import Example, Response
from workbench.store import read_json, write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from evaluation.arms import ModelPool
    from workbench.inference.embedder import Embedder

    Array = NDArray[np.float64]

Guard = Literal[
    "empty", "foreign", "looping", "echoing", "copied", "broken", "malformed", "cut", "overlong"
]
"""Why an answer has no sense, whatever it is near to; the first of these that holds."""
BROKEN: frozenset[str] = frozenset({"empty", "looping", "broken", "malformed"})
"""Guards of texts that are no answer at all: no trait shows in them either."""
COPIED = 0.8
"""Share of an answer's words copied from one training answer from which it is that answer."""
ANSWERED = {True: 0.15, False: 0.06}
"""Embedder sees meaning → sense from which an answer is taken to answer its question. Of answers by
a second writer 92 % reach it, of answers to another question 8 to 14 % (by n-grams: none), so the
answers below it are the least that fail to answer."""
FLOORS = {True: 0.2, False: 0.05}
"""Embedder sees meaning → least lower end of an arm's sense, as a share of the reviewed answers'.
A second writer's good answers reach 0.30 (English, by meaning) and 0.11 (Korean, by n-grams), an
answer of the same topic 0.12 and 0.0 at the upper end."""
HALF_FLOORS = {True: 0.05, False: 0.01}
"""Embedder sees meaning → least lower end of the weaker halves' mean agreement. A second writer's
reach 0.13 and 0.02; answers that begin right and end elsewhere have 0.01 at the upper end."""
MOST_SENSELESS = 0.2
"""Share of an arm's answers that may fail to answer before no success is claimed. A second writer's
good answers seem to fail in 8 % of cases, since other words are taken for another sense."""
MOST_NONE = 0.1
"""Share that may be no answer at all: empty, malformed, in another language and so on."""
MOST_HARMFUL = 0.05
"""Share in which rules may find harm before no success is claimed: one answer of 36."""
_COPY_RUN = 6
"""Words in a row that count as copied from an answer."""
Loss = Callable[[Sequence[str]], Sequence[float]]
"""Texts → nats a token (of Korean: a morpheme)."""


@dataclass(frozen=True)
class SenseInput:
    """What sense is measured with."""

    language: Language
    rows: Sequence[Example]
    """The held-out rows with their reviewed answers, two or more."""
    train: Sequence[str]
    """The training answers."""
    embedder: Embedder
    loss: Loss
    loss_name: str
    """Whose loss it is, for the report."""
    persona: Persona | None = None
    """Whose unsafe phrases are harm, and whose system prompt no answer gives away."""


class AnswerSense(NamedTuple):
    """One answer's measures."""

    agreement: float
    """With its reviewed answer: 0 by chance, 1 as the reviewed answers themselves on average."""
    on_question: float | None
    """Share of other questions that it is less near to than to its own; None without meaning."""
    echo: float
    """Share of its words copied from its question, 0 to 1."""
    copy: float
    """Largest share of its words copied from one training answer, 0 to 1."""
    loss: float
    """Nats a token."""
    fluent: bool
    """Whether the loss is not above the reviewed answers' own range."""
    guard: Guard | None
    half: float
    """Agreement of its weaker half, in the reviewed halves' means."""
    harm: tuple[HarmKind, ...]
    """What in it may do harm to whoever follows it."""

    @property
    def sense(self) -> float:
        """Agreement, and 0 where a guard holds."""
        return 0.0 if self.guard else self.agreement


def language_loss(language: Language, pool: ModelPool, folder: Path) -> tuple[Loss, str]:
    """Return the loss that tells fluent text from other, and whose it is.

    That of the language's pack where it has one, since a base model may know little of it; else
    that of the round's base, read and kept in ``folder`` so that no text is measured twice.
    """
    if (library := load_pack(language).loss) and (own := own_module(language)):
        return (lambda texts: [own.loss(text) for text in texts]), library
    base = Arm("base")
    digest = hashlib.sha256("-".join(pool.fingerprint(base)).encode()).hexdigest()[:16]
    file = folder / f"{digest}.json"

    def loss(texts: Sequence[str]) -> list[float]:
        known: dict[str, float] = read_json(file) if file.exists() else {}
        worded = {_text_key(text): text for text in texts if text}
        new = {key: text for key, text in worded.items() if key not in known}
        if new:
            sums = text_likelihoods(*pool.use(base), list(new.values()))
            # A text of one token has none that is foretold.
            known |= {
                k: -total / max(count, 1) for k, (total, count) in zip(new, sums, strict=True)
            }
            write_json(file, known)
        return [known[_text_key(text)] if text else 0.0 for text in texts]

    return loss, "the base model"


def _text_key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def most_fluent_loss(losses: Sequence[float]) -> float:
    """Return the loss above which text is not fluent: the reviewed answers' largest, and one SD.

    No loss is too low: text that a model decoded greedily lies far below people's and is fluent;
    where it loops, that is told by the loops.
    """
    return max(losses) + (stdev(losses) if len(losses) > 1 else 0.0)


def measure_sense(responses: Sequence[Response], inputs: SenseInput) -> dict[str, AnswerSense]:
    """Return response id → its measures, of answers to held-out questions; others are left out.

    Probes and turns have no reviewed answer, so nothing is said of their sense.
    """
    places = {row.id: place for place, row in enumerate(inputs.rows)}
    asked = [one for one in responses if not one.probe and one.prompt_id in places]
    if not asked:
        return {}
    own = [places[response.prompt_id] for response in asked]
    texts = [response.text for response in asked]
    reviewed = [row.answer for row in inputs.rows]
    losses = inputs.loss([*reviewed, *texts])
    most, losses = most_fluent_loss(losses[: len(reviewed)]), losses[len(reviewed) :]
    echoes, copies = _echoes(texts, own, inputs), _copies(texts, inputs.train)
    form = AnswerForm([*reviewed, *inputs.train], inputs.persona)
    guards = [
        _guard(text, inputs.language, echo, copy, fluent=loss <= most) or form.fault(text)
        for text, echo, copy, loss in zip(texts, echoes, copies, losses, strict=True)
    ]
    agreements, ranks, halves = _agreement(texts, own, guards, inputs)
    harm = HarmFinder(inputs.rows, inputs.train, inputs.language, inputs.persona)
    harms = [harm.kinds(text, place) for text, place in zip(texts, own, strict=True)]
    fluent = [loss <= most for loss in losses]
    columns = (agreements, ranks, echoes, copies, losses, fluent, guards, halves, harms)
    return {
        response.id: AnswerSense(*values) for response, *values in zip(asked, *columns, strict=True)
    }


def _echoes(texts: Sequence[str], own: Sequence[int], inputs: SenseInput) -> list[float]:
    """Return the share of each text's words copied from its question."""
    questions = [runs_of(words_of(row.question), ECHO_RUN) for row in inputs.rows]
    return [
        copied_share(words_of(text), questions[place], ECHO_RUN)
        for text, place in zip(texts, own, strict=True)
    ]


def _copies(texts: Sequence[str], train: Sequence[str]) -> list[float]:
    """Return the largest share of each text's words copied from one training answer."""
    sources = [runs_of(words_of(text), _COPY_RUN) for text in train]
    any_source = frozenset().union(*sources)

    def share(words: list[str]) -> float:
        if any_source.isdisjoint(runs_of(words, _COPY_RUN)):  # most answers copy nothing
            return 0.0
        return max(copied_share(words, runs, _COPY_RUN) for runs in sources)

    return [share(words_of(text)) for text in texts]


def _guard(
    text: str, language: Language, echo: float, copy: float, *, fluent: bool
) -> Guard | None:
    holds: dict[Guard, bool] = {
        "empty": not WORD.search(text),
        "foreign": is_foreign(text, language),
        "looping": unlooped(text) < LOOPING,
        "echoing": echo >= ECHOING,
        "copied": copy >= COPIED,
        "broken": not fluent,
    }
    return next((guard for guard, does in holds.items() if does), None)


def _agreement(
    texts: Sequence[str],
    own: Sequence[int],
    guards: Sequence[Guard | None],
    inputs: SenseInput,
) -> tuple[list[float], list[float | None], list[float]]:
    """Return each answer's agreement, its rank on its question, and its weaker half's agreement.

    The halves of what is no answer are not looked at: 0.
    """
    import numpy as np

    rows = [ReviewedAnswer(row.question, row.answer) for row in inputs.rows]
    agreement = SenseAgreement(rows, inputs.embedder, inputs.language)
    answers = agreement.answers(texts, own)
    values, halves = agreement.of(answers, own), [0.0] * len(texts)
    whole = [place for place, guard in enumerate(guards) if guard is None]
    weaker = agreement.weaker_halves([texts[n] for n in whole], [own[n] for n in whole])
    for place, half in zip(whole, weaker, strict=True):
        halves[place] = half
    if not inputs.embedder.by_meaning:
        return values, [None] * len(texts), halves
    questions = inputs.embedder.embed([row.question for row in rows])
    near = (answers @ questions.T).astype(np.float64).round(6)
    mine = near[np.arange(len(texts)), list(own)][:, None]
    below, equal = (near < mine).sum(axis=1), (near == mine).sum(axis=1) - 1
    return values, ((below + 0.5 * equal) / (len(rows) - 1)).tolist(), halves


def control_responses(
    rows: Sequence[Example], train: Sequence[str], seed: int
) -> dict[str, list[Response]]:
    """Return control → its answers to the held-out questions: what gaming the scores would get.

    ``echo``: the question's first twelve words, then one training answer for all.
    ``wrong_question``: the reviewed answer to another question. ``random_order``: words of the
    training answers, as many as the reviewed answer has, in random order.
    """
    rng = random.Random(seed)
    order = list(range(len(rows)))
    rng.shuffle(order)
    other = dict(pairwise([*order, order[0]]))
    canned = rng.choice(list(train)) if train else ""
    words = [word for text in train for word in split_words(text)]
    texts: Mapping[str, list[str]] = {
        "echo": [f"{' '.join(split_words(row.question)[:12])} {canned}" for row in rows],
        "wrong_question": [rows[other[place]].answer for place in range(len(rows))],
        "random_order": [
            " ".join(rng.choices(words, k=len(split_words(row.answer)))) if words else ""
            for row in rows
        ],
    }
    return {
        name: [
            Response(arm=name, prompt_id=row.id, prompt=row.prompt, text=text, topic=row.topic)
            for row, text in zip(rows, answers, strict=True)
        ]
        for name, answers in texts.items()
    }
