"""Everything that the models of a round answer for its evaluation, from one pool of them.

In: the round's configuration, its adapters and what is to be asked. Out: :class:`ArmAnswers`. The
stage of evaluation calls. Answers are kept in ``scratch`` as they come, so that a kill or another
setting loses none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from evaluation.answer import GREEDY, PromptSet, answer_sets, max_new_tokens_for
from evaluation.arms import Arm, ModelPool
from evaluation.gate import GateReport, check_forgetting
from evaluation.general import General, load_general, measure_general, texts_file
from evaluation.instructions import Instructions, follow_instructions, load_instructions
from evaluation.optimised_prompt import STEP as REFLECT_STEP
from evaluation.prices import TIMED, Prices, SearchedPrompt, price_arms, with_money
from evaluation.probes import REFUSAL_SETS
from evaluation.sense import Loss, language_loss
from rounds.arms import named_arms, own_arms
from rounds.context import RoundContext
from rounds.dial import DialAnswers, full_arm, scaled_arms, scaled_name
from rounds.judging import ReadStates
from rounds.layout import adapter
from rounds.prompt_arms import PromptSearch, left_out, prompt_arms
from rounds.robustness import RobustnessCheck
from rounds.runner import Work
from rounds.safety import SafetyCheck
from workbench.arm_names import OPTIMISED
from workbench.dialogue.players import STEP as USER_STEP
from workbench.dialogue.players import ModelPlayer
from workbench.inference.answer_cache import CACHE, paid_by
from workbench.inference.base_models import load_tokenizer, resolve_model
from workbench.inference.endpoint import Endpoint
from workbench.inference.judge import STEP as JUDGE_STEP
from workbench.inference.reward_model import answer_states
from workbench.prompts import system_prompt
from workbench.records import Example, ProbePrompt, Response
from workbench.store import file_hash, write_json

if TYPE_CHECKING:
    from workbench.inference.reward_model import States


class ArmAnswers(NamedTuple):
    """What the arms answered and what their weights can still do."""

    responses: list[Response]
    instructions: Sequence[Example]
    """The instructions that were asked."""
    instructed: list[Response]
    """Answers to instructions, of the arms whose weights are here."""
    safety: list[Response]
    """Of the base and the arm that would be shipped, to the prompts of the safety check."""
    crossed: list[Response]
    """Answers to held-out questions on other surfaces, of the arm that the verdict is about."""
    dial: DialAnswers | None
    """Of the arm that the verdict is about at other strengths of its adapter, where asked for."""
    prices: Prices
    """What every arm's answers take, and the prompts that were searched for."""
    gate: GateReport
    max_new_tokens: int
    """Where answers were cut."""
    loss: tuple[Loss, str]
    """Of texts, and whose it is: tells fluent text from other."""
    states: ReadStates
    """What the base, without a system prompt, makes of answers."""

    @property
    def answered(self) -> list[Response]:
        """The responses that are answers."""
        return [response for response in self.responses if not response.unanswered]


def answer_all(
    context: RoundContext,
    work: Work,
    train: list[Example],
    validation: list[Example],
    questions: list[Example],
    safety: SafetyCheck,
    robustness: RobustnessCheck,
    scratch: Path,
) -> ArmAnswers:
    """Have every arm answer, and measure what its weights can still do.

    ``train`` and ``validation`` are all that the prompts are made of.
    """
    settings = context.config.evaluate
    arms = _arms(context, work, train)
    folder = resolve_model(context.config.model)
    tokenizer = load_tokenizer(folder)
    limit = settings.max_new_tokens or max_new_tokens_for(tokenizer, (row.answer for row in train))
    language, seeds = context.persona.language, settings.seeds or GREEDY
    instructions = load_instructions(settings.instructions, language, settings.instructed)
    # What weights can do shows without a prompt, and is measured where the weights are.
    bare = [arm for arm in arms if not (arm.endpoint or arm.system)]
    with scaled_arms(arms, settings.strengths) as scaled:
        pool = ModelPool(folder, [*arms, *scaled])
        prompts = PromptSearch(context, pool, train, validation, limit, scratch).all()
        texts = {one.arm: one.text for one in prompts}
        arms = [replace(arm, system=texts.get(arm.name, arm.system)) for arm in arms]
        asking = _Asking(context, pool, scratch, instructions, limit)
        asked = asking.asked
        responses, talks, safe, crossed, instructed = asking.answers(
            [
                asked(arms, questions, seeds=seeds),
                asked(safety.conversation_arms(arms), safety.conversations, seeds=seeds),
                asked(safety.arms(arms), safety.prompts, seeds=seeds),
                asked(robustness.arms(arms), robustness.examples, seeds=seeds[:1]),
                asking.rules(bare),
            ]
        )
        gate = asking.gate(bare, instructed)
        dial = asking.dial(arms, scaled, questions, safety.prompts, instructed, seeds)
        prices = asking.prices(arms, questions, responses, prompts)
        loss = language_loss(language, pool, scratch / "loss")
        pool.leave_out(scaled)  # where no answer was missing the base is loaded later
    responses, crossed = [*responses, *talks], robustness.crossed(crossed)
    rows = instructions.examples
    states = partial(_states, pool)
    return ArmAnswers(
        *(responses, rows, instructed, safe, crossed, dial, prices, gate, limit, loss, states)
    )


def _states(pool: ModelPool, responses: Sequence[Response]) -> States:
    """Return what the base makes of each response to what was asked, (n, d)."""
    chats = (tuple(m for m in one.prompt if m.role != "system") for one in responses)
    pairs = [(chat, one.text) for chat, one in zip(chats, responses, strict=True)]
    return answer_states(*pool.use(Arm("base")), pairs)


@dataclass(frozen=True)
class _Asking:
    """What every question to the round's own models shares."""

    context: RoundContext
    pool: ModelPool
    scratch: Path
    instructions: Instructions
    limit: int
    """New tokens that an answer may have."""

    def asked(self, arms: Sequence[Arm], examples: Sequence[Example], **more: Any) -> PromptSet:
        """Return what arms are asked, as everything is; ``more`` are other fields of the set."""
        player = _player(self.context, self.scratch)
        own = {"max_new_tokens": self.limit, "player": player, **more}
        return PromptSet(
            arms, examples, temperature=self.context.config.evaluate.temperature, **own
        )

    def answers(self, sets: Sequence[PromptSet]) -> list[list[Response]]:
        """Return the answers to each set."""
        size = self.context.config.evaluate.batch_size
        return answer_sets(sets, self.pool, batch_size=size, cache=self.scratch / CACHE)

    def rules(self, arms: Sequence[Arm]) -> PromptSet:
        """Return the instructions as they are asked of arms."""
        rows, most = self.instructions.examples, self.context.config.evaluate.max_new_tokens
        if most is None:
            tokenizer = load_tokenizer(self.pool.folder(Arm("base")))
            most = max_new_tokens_for(tokenizer, (one.answer for one in rows))
        return self.asked(arms, rows, max_new_tokens=most)

    def gate(self, arms: list[Arm], instructed: Sequence[Response]) -> GateReport:
        """Return what the weights of arms have forgotten; the base is among them."""
        settings, language = self.context.config.evaluate, self.context.persona.language
        names = {arm.name for arm in arms}
        return check_forgetting(
            _general(settings.general, language, arms, self.pool, self.scratch / "general"),
            follow_instructions(self.instructions, [r for r in instructed if r.arm in names]),
            settings.gate,
            seed=self.context.config.seed,
        )

    def prices(
        self,
        arms: Sequence[Arm],
        questions: Sequence[Example],
        responses: Sequence[Response],
        prompts: Sequence[SearchedPrompt],
    ) -> Prices:
        """Return what the arms' answers to held-out questions take; timed where prompts compete."""
        plain = [one for one in questions if not isinstance(one, ProbePrompt)]
        timed = bool(self.context.config.evaluate.prompt_arms)
        priced = price_arms(arms, plain, responses, self.pool, self.limit, timed=timed)
        return Prices(
            arms=tuple(with_money(priced, arms, self.scratch / CACHE)),
            timed=min(TIMED, len(plain)) if timed else 0,
            prompts=tuple(prompts),
            left_out=left_out(self.context),
        )

    def dial(
        self,
        arms: Sequence[Arm],
        scaled: Sequence[Arm],
        questions: Sequence[Example],
        requests: Sequence[ProbePrompt],
        instructed: Sequence[Response],
        seeds: Sequence[int],
    ) -> DialAnswers | None:
        """Return what the scaled arms answer; None without any."""
        full = full_arm(arms)
        if not scaled or full is None:
            return None
        plain = [one for one in questions if not isinstance(one, ProbePrompt)]
        refused = [one for one in requests if one.kind in REFUSAL_SETS]
        answers, safe, rules = self.answers(
            [
                self.asked(scaled, plain, seeds=seeds),
                self.asked(scaled, refused, seeds=seeds[:1]),
                self.rules(scaled),
            ]
        )
        held = [*(arm for arm in arms if arm.name in ("base", full.name)), *scaled]
        strengths = self.context.config.evaluate.strengths
        by_name = {scaled_name(full.name, one): one for one in strengths if one != 1}
        gate = self.gate(held, [*instructed, *rules])
        return DialAnswers(by_name, answers, safe, rules, gate)


def bill(context: RoundContext, judge: Endpoint | None, cache: Path) -> dict[str, object]:
    """Return what endpoints took over all runs, whose answers ``cache`` keeps, as counts.

    Empty where none is asked; kept answers cost nothing again.
    """
    steps = {f"arm {a.name}": a.endpoint for a in named_arms(context, "") if a.endpoint}
    steps |= {JUDGE_STEP: judge} if judge else {}
    steps |= {USER_STEP: user} if (user := context.config.simulated_user) else {}
    if (teacher := context.config.main_teacher) and OPTIMISED in prompt_arms(context):
        steps[REFLECT_STEP] = teacher
    if not steps:
        return {}
    rates = {step: endpoint.rate for step, endpoint in steps.items()}
    paid = paid_by(cache, steps)
    return {
        "paid": {step: took._asdict() for step, took in paid.items()},
        "spent": round(sum(took.cost(rates[step]) for step, took in paid.items()), 6),
        "currency": next((rate.currency for rate in rates.values() if rate), None),
    }


def _player(context: RoundContext, scratch: Path) -> ModelPlayer | None:
    """Return the model that plays simulated users, where one is configured."""
    user = context.config.simulated_user
    return ModelPlayer(user, context.persona.language, scratch / CACHE) if user else None


def _arms(context: RoundContext, work: Work, train: list[Example]) -> list[Arm]:
    # Only rows of the training split: an example must not give a held-out answer away.
    few_shot = context.few_shot_examples(train)[: context.config.evaluate.few_shot]
    system = system_prompt(context.persona, few_shot)
    own = [
        Arm(
            arm.name,
            work.path(adapter(arm.stage)) if arm.stage else None,
            system if arm.prompted else None,
        )
        for arm in own_arms(context)
    ]
    return [*own, *named_arms(context, system)]


def _general(
    folder: Path, language: str, arms: list[Arm], pool: ModelPool, memo: Path
) -> dict[str, General]:
    """Return what each arm's weights make of general text.

    Arms are local ones without a system prompt; ``memo`` is the folder that keeps the measurements.
    """
    data = load_general(folder, language)
    measured_with = file_hash(texts_file(folder, language))
    abilities: dict[str, General] = {}
    for arm in arms:
        weights = "-".join(pool.fingerprint(arm))
        digest = hashlib.sha256((measured_with + weights + language).encode()).hexdigest()[:16]
        file = memo / f"{digest}.json"
        if file.exists():
            abilities[arm.name] = General.model_validate_json(file.read_text("utf-8"))
            continue
        abilities[arm.name] = measure_general(*pool.use(arm), data)
        write_json(file, abilities[arm.name].model_dump(mode="json"))
    return abilities
