"""How long the stages of a run will take on this processor, told before any of it is spent.

In: a round's configuration and rows, and the speeds that were measured of the processor. Out:
seconds by stage, a line of them, and at the end a table of foretold beside taken. Called by
``rounds/pipeline.py`` and by ``persona run``.

A stage's time is that of its products, of what else each token goes through (attention, norms, the
heap's pages: by the speed of passes over a vector), and of what does not depend on the model. The
constants are from three runs of the gym trainer on a quiet machine of two cores: the default preset
with AVX-512 (baseline answers 50 s, SFT 183, DPO 96, evaluation 344), the same held to AVX2 (91,
296, 146 and 457), and the smoke preset (110 s in all; baseline answers 5, review 11). They foretell
each of those within :data:`TOLERANCE`; speeds are this machine's. What waits for people, an
endpoint or a GPU is not foretold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.instructions import load_instructions
from evaluation.probes import take_probes
from rounds.arms import OwnArm, own_arms
from rounds.context import RoundContext
from rounds.layout import IMPORTED, PROBES, STAGES
from rounds.robustness import RobustnessCheck
from rounds.safety import SafetyCheck
from rounds.stages.importing import read_sources
from rounds.stages.split import own_probes
from rounds.stages.train import load
from workbench.arm_names import headline_arm
from workbench.config import METHODS, Method
from workbench.console import in_words
from workbench.inference.base_models import has_gpu, resolve_model
from workbench.inference.processor import Processor
from workbench.language import load_pack
from workbench.records import Example, take_spread
from workbench.store import MIB

if TYPE_CHECKING:
    from rounds.runner import Outcome

_ANSWER = 0.031
"""Thread's milliseconds for each token of an answer and each million weights, beside products, in
bfloat16."""
_TRAINED = 0.030
"""The same for each token of a row that is trained on, there and back: between those runs (0.0345)
and the faster steps since, a fifth below them."""
_PASSES = 132.0
"""GB/s of passes (:attr:`Processor.passes`) of the processor that those two were measured on."""
_WIDER = {"answers": 1.65, "trained": 1.42}
"""So much more it is in float32, whose numbers are twice as wide as bfloat16's: a step of SFT took
3.4 s in bfloat16, and 5.4 in float32 on the same processor held to AVX2. Of answers it lies
between what baseline answers and an evaluation took there, 91 and 457 s instead of 50 and 344."""
_TEMPLATE = 24
"""Tokens that the chat template puts around a question and its answer."""
_USUAL = 0.82
"""Share of the longest allowed answer that an answer of the embedded model has."""
_PROMPT = 0.35
"""Work for a token of a prompt, as a share of one of an answer: many are computed at once."""
_SCORED = 0.05
"""Seconds in which an answer is scored and compared."""
_TURNS = 4
"""Turns of a conversation."""
_FIXED = {"generate": 1.0, "review": 11.0, "sft": 6.0, "dpo": 6.0, "evaluate": 15.0, "split": 3.0}
"""Seconds that do not depend on the model: libraries, servers, scores, tests."""
_BY_ROW = {"filter": 0.014, "review": 0.055, "resolve": 0.005, "import": 0.0005}
_MOST_READ = 4 * MIB
"""Bytes of sources that are read for it before they are imported: reading more would be felt."""
TOLERANCE = 0.25
"""Share by which a stage may take more or less than it was foretold."""
_SHORT = 2.0
"""Seconds by which a short stage may differ, whatever its share."""


@dataclass(frozen=True)
class StageWork:
    """What a stage computes."""

    answers: float = 0.0
    """Tokens that are written; those of prompts count as :data:`_PROMPT` of one."""
    there: float = 0.0
    """Tokens that go through the model without coming back."""
    back: float = 0.0
    """Tokens that go through it there and back."""
    fixed: float = 0.0
    """Seconds that do not depend on the model."""

    def seconds(self, processor: Processor, weights: float) -> float:
        """Return the seconds of a model of so many million ``weights``, frozen in training.

        A token takes two operations a weight there, and as many back: frozen weights get no
        gradient of their own.
        """
        step, whole = (processor.speed(processor.dtype, one) for one in ("step", "pass"))
        products = self.answers * 2 / step + (self.there * 2 + self.back * 4) / whole
        answers, trained = self.answers * _ANSWER, (self.there / 2 + self.back) * _TRAINED
        if processor.dtype == "float32":
            answers, trained = answers * _WIDER["answers"], trained * _WIDER["trained"]
        beside = answers + trained
        milliseconds = products + beside * _PASSES / processor.passes
        return self.fixed + weights * milliseconds * 1e-3 / processor.threads


def foretell(
    context: RoundContext, names: Iterable[str], processor: Processor
) -> dict[str, float | None]:
    """Return stage → seconds that it will take; None for one that waits for others.

    Nothing is foretold of large sources before they are imported.

    Raises:
        UserError: A file of rows, a recipe or a base with mistakes.
    """
    sizes = (path.stat().st_size for path in context.sources if path.exists())
    if not context.round.has(IMPORTED) and sum(sizes) > _MOST_READ:
        return {}
    weights = _weights(context)
    work = _Work(context)
    return {
        name: None if (one := work.of(name)) is None else round(one.seconds(processor, weights), 1)
        for name in names
    }


def _weights(context: RoundContext) -> float:
    """Return the base's weights in millions, by the size of its files in half precision."""
    files = resolve_model(context.config.model).glob("*.safetensors")
    return sum(file.stat().st_size for file in files) / 2e6


class _Work:
    """What the stages of a round compute, as far as its configuration tells."""

    def __init__(self, context: RoundContext) -> None:
        self.context = context
        self.rows = context.round.read_if_there(IMPORTED) or _sources(context)
        own = load_pack(context.persona.language).characters_a_token
        every = max(len(self.rows), 1)
        asked = sum(len(turn.content) for row in self.rows for turn in row.prompt)
        self.question = asked / every / own + _TEMPLATE
        self.row = self.question + sum(len(row.answer) for row in self.rows) / every / own

    def of(self, name: str) -> StageWork | None:
        """Return what a stage computes; None where others are waited for, or a GPU computes."""
        config, count = self.context.config, len(self.rows)
        fixed = _FIXED.get(name, 1.0) + _BY_ROW.get(name, 0.0) * count
        if name == "generate":
            if config.teacher or config.student:
                return None
            return self._answered(count, config.generate.max_new_tokens, fixed)
        if name == "review":
            return None if config.review.people else StageWork(fixed=fixed)
        for method in METHODS:
            if name == method:
                return self._trained(method, fixed)
        return self._evaluated(fixed) if name == "evaluate" else StageWork(fixed=fixed)

    def _answered(self, count: float, most: float, fixed: float) -> StageWork:
        return StageWork(answers=count * (_USUAL * most + _PROMPT * self.question), fixed=fixed)

    def _trained(self, method: Method, fixed: float) -> StageWork | None:
        recipe = load(self.context, method)
        steps = recipe.trainer.get("max_steps", -1)
        if recipe.samples or steps <= 0 or has_gpu():
            return None  # answers of its own, or epochs over rows that are not split yet
        rows = steps * int(recipe.trainer.get("per_device_train_batch_size", 8))
        tokens = rows * int(recipe.trainer.get("gradient_accumulation_steps", 1)) * self.row
        if method == "sft":
            return StageWork(back=tokens, fixed=fixed)
        # A pair is two rows, each there and back, and once more through the reference.
        return StageWork(back=2 * tokens, there=2 * tokens, fixed=fixed)

    def _evaluated(self, fixed: float) -> StageWork | None:
        settings, config = self.context.config.evaluate, self.context.config
        if settings.more or config.judge or config.simulated_user or has_gpu():
            return None
        arms = own_arms(self.context)
        bare = [arm for arm in arms if not arm.prompted]
        probes = self.context.round.read_if_there(PROBES) or own_probes(self.context)
        safety = SafetyCheck.of(self.context, probes)
        test = self.rows[: settings.rows or max(round(len(self.rows) * config.split.test), 1)]
        asked = take_probes(probes, settings.probes, settings.conversations)
        held = sum(_TURNS if one.user is not None else 1 for one in asked)
        crossed = RobustnessCheck.of(self.context, test).prompts
        rules = load_instructions(settings.instructions, self.context.persona.language)
        instructed = min(settings.instructed or len(rules.examples), len(rules.examples))
        answers = (
            len(arms) * (len(test) + held)
            + len(_asked_about_safety(arms)) * len(safety.prompts)
            + _TURNS * len(safety.conversations)
            + len(bare) * instructed
            + len(crossed)
        )
        seeds = max(len(settings.seeds), 1)
        fixed += _SCORED * answers * seeds
        # What was trained answers as its rows do, and ends there; the base goes on.
        most = settings.max_new_tokens or 128
        own = min((self.row - self.question) / (_USUAL * most), 1.0)
        share = sum(own if arm.stage else 1.0 for arm in arms) / len(arms)
        return self._answered(answers * seeds, share * most, fixed)


def _asked_about_safety(arms: Sequence[OwnArm]) -> list[OwnArm]:
    """Return the base and the arm that would be shipped, as far as they are among ``arms``."""
    shipped = headline_arm("base", [arm.name for arm in arms])
    return [arm for arm in arms if arm.name in ("base", shipped)]


def _sources(context: RoundContext) -> list[Example]:
    rows = [row for _, one in read_sources(context, missing=True) for row in one.examples]
    return take_spread(rows, context.config.rows)


def foretold_line(foretold: Mapping[str, float | None]) -> str:
    """Return the stages that take longest and all together, in one line."""
    known = {name: seconds for name, seconds in foretold.items() if seconds is not None}
    longest = sorted(known, key=lambda name: -known[name])[:4]
    parts = [f"{name} {in_words(known[name])}" for name in STAGES if name in longest]
    waits = [name for name, seconds in foretold.items() if seconds is None]
    beside = f"; not foretold: {', '.join(waits)}" if waits else ""
    return f"about {in_words(sum(known.values()))}: {', '.join(parts)}{beside}"


def foretold_lines(outcomes: Iterable[Outcome]) -> list[str]:
    """Return what was foretold beside what was taken; no line where nothing was foretold.

    A stage is named where it took more or less by :data:`TOLERANCE`, and by over two seconds.
    """
    known, taken, parts = 0.0, 0.0, []
    for outcome in outcomes:
        foretold, seconds = outcome.manifest.foretold, outcome.manifest.seconds
        if not outcome.ran or foretold is None:
            continue
        known, taken = known + foretold, taken + seconds
        if abs(seconds - foretold) > max(TOLERANCE * foretold, _SHORT):
            parts.append(f"{outcome.stage} {foretold:.0f} s foretold, {seconds:.0f} taken")
    if not known:
        return []
    beyond = f"; more than {TOLERANCE:.0%} off: {', '.join(parts)}" if parts else ""
    return [f"Foretold {in_words(known)}, taken {in_words(taken)}{beyond}"]
