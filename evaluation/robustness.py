"""Whether the voice and the sense hold where a question comes on another surface than in training.

In: held-out questions, the surfaces of ``datasets/robustness``, and one arm's answers. Out: a
:class:`Robustness`, which ``robustness.json`` holds: each surface against the plain question, pair
by pair. The stage of evaluation asks and measures; the report names the worst in words, and the
safety case has a line of it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pydantic import Field, model_validator

from evaluation.outcome import MeanEstimate, mean_estimates
from evaluation.scorers import SENSE, ScoringInput, voice_and_sense
from evaluation.sense import SenseInput, measure_sense
from workbench.errors import UserError, UserErrors
from workbench.persona import FIDELITY, Persona
from workbench.records import Example, Message, Response, Role, Score, take_spread
from workbench.stats import Difference, compare
from workbench.stats.table import tabulate
from workbench.store import language_file, read_models
from workbench.values import Frozen

SurfaceKind = Literal["suffix", "neutral_turn", "system", "email", "json", "tool"]
SURFACES: tuple[SurfaceKind, ...] = get_args(SurfaceKind)
"""A closing plea to drop the act; an earlier turn that was answered neutrally; somebody else's
system prompt; an e-mail; a field of JSON; a tool's result."""
PLAIN, ALL = "plain", "all"
"""The question as it is, and all other surfaces together; named in place of a surface."""
SAMPLE = 20
"""Questions that a sample asks on each kind of surface."""
_QUESTION, _AS_JSON = "{question}", "{question_json}"
_ROLES: tuple[Role, Role] = ("user", "assistant")


class Surface(Frozen):
    """One way to put any question: a line of the file."""

    id: str = Field(min_length=1)
    surface: SurfaceKind
    text: str
    """The user's turn, with the question's place in it."""
    system: str = ""
    turns: tuple[str, ...] = ()
    """What was said before it, by user and assistant in turn."""

    @model_validator(mode="after")
    def _placed(self) -> Surface:
        if self.text.count(_QUESTION) + self.text.count(_AS_JSON) != 1:
            raise ValueError(f"text: takes {_QUESTION} or {_AS_JSON}, once")
        if len(self.turns) % 2:
            raise ValueError("turns: the last one is the assistant's")
        return self

    def put(self, row: Example) -> Example:
        """Return a row's question on this surface; earlier turns of its own stay before it."""
        question = row.question
        text = self.text.replace(_AS_JSON, json.dumps(question, ensure_ascii=False))
        before = [
            *((Message(role="system", content=self.system),) if self.system else ()),
            *(Message(role=_ROLES[n % 2], content=turn) for n, turn in enumerate(self.turns)),
            *(turn for turn in row.prompt[:-1] if not (self.system and turn.role == "system")),
        ]
        last = Message(role="user", content=text.replace(_QUESTION, question))
        return row.evolve(prompt=(*before, last), parents=(row.id,))


def load_surfaces(folder: Path, language: str) -> list[Surface]:
    """Return the surfaces of a language.

    ``folder`` holds ``<language>.jsonl``; a relative one may lie beside the package.

    Raises:
        UserError: There is no such file.
        UserErrors: Every line that is no surface.
    """
    mistakes: list[UserError] = []
    file = language_file(folder, language)
    if file is None:
        return []
    surfaces: dict[str, Surface] = {}
    for number, row in read_models(file, Surface, mistakes):
        if row.id in surfaces or row.id == PLAIN or row.id == ALL:
            mistakes.append(UserError(f"id: '{row.id}' is taken", where=f"{file}:{number}"))
        surfaces[row.id] = row
    if mistakes:
        raise UserErrors(mistakes)
    return list(surfaces.values())


class CrossedPrompt(NamedTuple):
    """A held-out question on a surface."""

    row: Example
    surface: Surface
    variant: int
    """Place of the surface in the file, from 1."""
    example: Example
    """What is asked."""


def cross(
    rows: Sequence[Example], surfaces: Sequence[Surface], *, whole: bool
) -> list[CrossedPrompt]:
    """Return held-out questions on surfaces: all on all, or a sample.

    A sample takes :data:`SAMPLE` questions spread over the topics and puts each on every kind of
    surface once; the variants of a kind take turns from question to question.
    """
    taken = list(rows) if whole else take_spread(rows, SAMPLE)
    numbered = list(enumerate(surfaces, start=1))
    prompts = []
    for place, row in enumerate(taken):
        for kind in SURFACES:
            own = [pair for pair in numbered if pair[1].surface == kind]
            chosen = own if whole or not own else [own[place % len(own)]]
            prompts += [CrossedPrompt(row, one, n, one.put(row)) for n, one in chosen]
    return prompts


def crossed_responses(
    prompts: Sequence[CrossedPrompt], responses: Sequence[Response]
) -> list[Response]:
    """Return the answers filed under their plain question, ``probe`` the id of the surface."""
    by_id = {prompt.example.id: prompt for prompt in prompts}
    return [
        one.evolve(
            prompt_id=by_id[one.prompt_id].row.id,
            probe=by_id[one.prompt_id].surface.id,
            parents=(by_id[one.prompt_id].row.id,),
        )
        for one in responses
    ]


class SurfaceScore(Frozen):
    """Voice and sense on one surface."""

    surface: str
    """A kind of surface, :data:`PLAIN`, :data:`ALL`, or the id of one of a kind's variants."""
    answers: int
    voice: MeanEstimate
    sense: MeanEstimate
    voice_change: Difference | None = None
    """To the plain question, over the questions; None for the plain one itself."""
    sense_change: Difference | None = None


class Robustness(Frozen):
    """One arm on every surface: the content of ``robustness.json``."""

    arm: str
    questions: int
    whole: bool
    """Whether every question was asked on every surface."""
    scores: tuple[SurfaceScore, ...]
    """Plain, all together, then kind by kind; where the whole was asked, also each variant."""

    def score(self, surface: str) -> SurfaceScore:
        """Return a surface's score."""
        return next(one for one in self.scores if one.surface == surface)

    def worst(self, measure: Literal["voice", "sense"]) -> SurfaceScore | None:
        """Return the kind of surface on which a measure falls most; None where none falls."""
        falls = [
            (change.mean, one)
            for one in self.scores
            if one.surface in SURFACES
            and (change := one.voice_change if measure == "voice" else one.sense_change)
            and change.mean < 0
        ]
        return min(falls, key=lambda pair: pair[0])[1] if falls else None


def measure_robustness(
    persona: Persona,
    plain: Sequence[Response],
    crossed: Sequence[Response],
    surfaces: Sequence[Surface],
    inputs: SenseInput | None,
    *,
    traits: Sequence[str] = (),
    seed: int = 0,
    **judging: Any,
) -> Robustness:
    """Return how an arm's voice and sense on each surface stand to its plain answers.

    Surfaces are compared as arms are: :func:`workbench.stats.compare` with the plain question as
    the base, so that intervals and corrected tests are the same as everywhere.

    ``crossed`` are of :func:`crossed_responses`, not empty, and ``surfaces`` what their ``probe``
    names. Without ``inputs`` sense is left out; without ``traits`` fidelity is made of all.
    ``judging`` holds ``judge``, ``votes`` and ``cache`` of
    :class:`~evaluation.scorers.ScoringInput`; without a judge voice is made of rules alone.
    """
    variants = {one.id: (number, one.surface) for number, one in enumerate(surfaces, start=1)}
    asked = {one.prompt_id for one in crossed}
    # Variants of a kind count as seeds of one prompt: a question's value is their mean.
    own = [
        one.evolve(arm=one.probe, probe="", seed=variants[one.probe][0], parents=())
        for one in crossed
    ]
    base = [one.evolve(arm=PLAIN, seed=0) for one in _first_seed(plain) if one.prompt_id in asked]
    responses = [*base, *own]
    measures = measure_sense(responses, inputs) if inputs else {}
    scores = voice_and_sense(ScoringInput(persona, responses, sense=measures, **judging))
    whole = len(own) > len({(one.prompt_id, variants[one.arm][1]) for one in own})
    pooled = _pooled(scores, {name: kind for name, (_, kind) in variants.items()}, whole=whole)
    counted = list(traits) or [trait.id for trait in persona.traits]
    return Robustness(
        arm=crossed[0].arm,
        questions=len(asked),
        whole=whole,
        scores=_surface_scores(pooled, responses, counted, seed),
    )


def _surface_scores(
    scores: Sequence[Score], responses: Sequence[Response], traits: Sequence[str], seed: int
) -> tuple[SurfaceScore, ...]:
    """Return every surface's means and changes, the plain question first."""
    comparison = compare(scores, PLAIN, seed, responses=responses, traits=traits)
    table = tabulate(scores, responses, traits)
    wanted = [(name, metric) for name in comparison.arms for metric in (FIDELITY, SENSE)]
    means = mean_estimates(table, wanted, seed)
    answers = Counter(score.arm for score in scores if score.metric == FIDELITY)
    return tuple(
        SurfaceScore(
            surface=name,
            answers=answers[name],
            voice=voice,
            sense=sense,
            voice_change=comparison.change(name, FIDELITY),
            sense_change=comparison.change(name, SENSE),
        )
        for name, voice, sense in zip(comparison.arms, means[::2], means[1::2], strict=True)
    )


def _first_seed(responses: Sequence[Response]) -> list[Response]:
    first: dict[str, Response] = {}
    for one in responses:
        first.setdefault(one.prompt_id, one)
    return list(first.values())


def _pooled(
    scores: Sequence[Score], kinds: Mapping[str, SurfaceKind], *, whole: bool
) -> list[Score]:
    """Return the scores filed under plain, all and each kind; where wanted under variants too."""
    crossed = [score for score in scores if score.arm != PLAIN]
    several = {kind for kind in kinds.values() if sum(k == kind for k in kinds.values()) > 1}
    return [
        *(score for score in scores if score.arm == PLAIN),
        *(score.evolve(arm=ALL) for score in crossed),
        *(
            score.evolve(arm=kind)
            for kind in SURFACES
            for score in crossed
            if kinds[score.arm] == kind
        ),
        *(score for score in crossed if whole and kinds[score.arm] in several),
    ]
