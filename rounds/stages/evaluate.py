"""The stage of evaluation: every arm answers, the answers are scored and compared."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rounds.arms import named_arms, own_arms
from rounds.carry_over import read_carry_over
from rounds.context import RoundContext
from rounds.layout import BASELINE, CARRIED_REVIEWS, FILTERED, PROBES, REVIEWS, TEST, TRAIN, adapter
from rounds.runner import StageSpec, Work
from rounds.stages.evaluate_rounds import across_rounds, prompts_of, record_files
from workbench.config import dumped
from workbench.errors import UserError
from workbench.inference.answer_cache import CACHE
from workbench.inference.endpoint import Endpoint, check_reachable
from workbench.records import Example, Response, Score
from workbench.store import file_hash, write_json, write_records

if TYPE_CHECKING:
    from evaluation.arms import Arm, ModelPool
    from evaluation.calibration import Calibration
    from evaluation.gate import GateReport

STAGE = "evaluate"


def evaluate_stage(context: RoundContext) -> StageSpec:
    """Held-out prompts and probes answered by every arm, scored, and compared with the base."""
    trained = dict.fromkeys(adapter(arm.stage) for arm in own_arms(context) if arm.stage)
    more = named_arms(context, "")
    general = context.config.evaluate.general
    return StageSpec(
        STAGE,
        partial(_evaluate, context),
        inputs=(
            TEST,
            TRAIN,
            PROBES,
            BASELINE,
            FILTERED,
            REVIEWS,
            *trained,
        ),
        optional=(CARRIED_REVIEWS,),
        files={
            "persona.yaml": context.persona_folder / "persona.yaml",
            **{f"general/{file.name}": file for file in _general_files(general)},
            **{f"arm {arm.name}": arm.adapter for arm in more if arm.adapter},
        },
        earlier=record_files(context),
        settings={
            "model": context.config.model,
            "judge": dumped(context.config.judge),
            **context.config.evaluate.model_dump(mode="json"),
        },
        packages=("peft", "ragas", "scipy", "torch", "transformers"),
        resumable=True,
    )


def _general_files(folder: Path) -> list[Path]:
    from evaluation.general import QUESTIONS, TEXTS, general_folder

    return [general_folder(folder) / name for name in (TEXTS, QUESTIONS)]


def _evaluate(context: RoundContext, work: Work) -> None:
    from evaluation.answer import GREEDY, answer_arms, cut_shares, max_new_tokens_for
    from evaluation.arms import ModelPool
    from evaluation.probes import take_probes
    from evaluation.scorers import score_responses
    from evaluation.style import train_style
    from evaluation.text_measures import diversity_by_arm
    from workbench.inference.base_models import load_tokenizer, resolve_model
    from workbench.stats import compare

    settings, judge = context.config.evaluate, context.config.judge
    train = work.read(TRAIN)
    test = work.read(TEST)
    prompts = prompts_of(context, test)
    if not prompts:
        raise UserError(
            "there is no held-out prompt to answer",
            where=str(work.path(TEST)),
            fix="split with a test share above 0",
        )
    probes = work.read(PROBES)
    probes = take_probes(probes, settings.probes, settings.conversations)
    if judge:
        check_reachable(judge)  # before the hours, not after them
    arms = _arms(context, work, train)
    folder = resolve_model(context.config.model)
    most = settings.max_new_tokens or max_new_tokens_for(
        load_tokenizer(folder), (row.answer for row in train)
    )
    pool = ModelPool(folder, arms)
    # Beside the stage's folder: an answer that was given outlives a change of the settings.
    kept = work.round.folder / ".evaluate.scratch"
    responses = answer_arms(
        arms,
        [*prompts, *probes],
        pool,
        max_new_tokens=most,
        batch_size=settings.batch_size,
        seeds=settings.seeds or GREEDY,
        temperature=settings.temperature,
        cache=kept / CACHE,
    )
    gate = _general(context, arms, pool, kept)
    del pool
    style = train_style(train, work.read(BASELINE), seed=context.config.seed)
    asking: dict[str, Any] = {"votes": settings.votes, "cache": kept / CACHE}
    scores = score_responses(
        context.persona,
        responses,
        judge=judge,
        style=style,
        references={prompt.id: prompt.answer for prompt in (*prompts, *probes)},
        **asking,
    )
    calibration = _calibrate(context, work, asking)
    counted, left_out = calibration.weights(context.persona)
    gate = across_rounds(context, gate, responses, scores, counted)
    comparison = compare(
        scores, "base", context.config.seed, responses=responses, traits=counted, left_out=left_out
    )
    write_records(work.out / "responses.jsonl", responses)
    write_records(work.out / "scores.jsonl", scores)
    write_json(work.out / "comparison.json", comparison.model_dump(mode="json"))
    write_json(work.out / "calibration.json", calibration.model_dump(mode="json"))
    write_json(work.out / "general.json", gate.model_dump(mode="json"))
    write_json(work.out / "style.json", style.report.model_dump(mode="json"))
    spread = {arm: own.model_dump(mode="json") for arm, own in diversity_by_arm(responses).items()}
    write_json(work.out / "diversity.json", spread)
    _pairs(context, work, responses, asking)
    work.counts.update(
        _bill(judge, kept / CACHE),
        prompts=len(prompts),
        probes=len(probes),
        responses=len(responses),
        tokens=sum(response.tokens for response in responses),
        max_new_tokens=most,
        cut=cut_shares(responses, most),
        unscored=sum(score.value is None for score in scores),
        failures=[*gate.failures, *_unscored(scores, settings.max_unscored)],
    )


def _arms(context: RoundContext, work: Work, train: list[Example]) -> list[Arm]:
    from evaluation.arms import Arm
    from workbench.prompts import system_prompt

    wanted = [f"seeds.jsonl:{line}" for line in context.persona.few_shot]
    # Only rows of the training split: an example must not give a held-out answer away.
    few_shot = sorted(
        (row for row in train if row.source in wanted), key=lambda row: wanted.index(row.source)
    )
    system = system_prompt(context.persona, few_shot[: context.config.evaluate.few_shot])
    own = [
        Arm(
            arm.name,
            work.path(adapter(arm.stage)) if arm.stage else None,
            system if arm.name.endswith("+prompt") else None,
        )
        for arm in own_arms(context)
    ]
    return [*own, *named_arms(context, system)]


def _general(context: RoundContext, arms: list[Arm], pool: ModelPool, kept: Path) -> GateReport:
    """Return what each arm's weights can still do; prompted arms share them with others."""
    from evaluation.gate import check_forgetting
    from evaluation.general import General, general_folder, load_general, measure_general

    folder = context.config.evaluate.general
    data = load_general(folder, context.persona.language)
    asked = file_hash(general_folder(folder))
    found: dict[str, General] = {}
    for arm in arms:
        if arm.endpoint or arm.system:
            continue
        name = "-".join(pool.fingerprint(arm))
        memo = kept / "general" / f"{_digest(asked + name + context.persona.language)}.json"
        if memo.exists():
            found[arm.name] = General.model_validate_json(memo.read_text("utf-8"))
            continue
        found[arm.name] = measure_general(*pool.use(arm), data)
        write_json(memo, found[arm.name].model_dump(mode="json"))
    return check_forgetting(found, context.config.evaluate.gate)


def _digest(text: str) -> str:
    from hashlib import sha256

    return sha256(text.encode()).hexdigest()[:16]


def _calibrate(context: RoundContext, work: Work, asking: dict[str, Any]) -> Calibration:
    """Hold the judge against the reviewers, on the rows as they saw them."""
    from evaluation.calibration import calibrate, reviewed_responses
    from evaluation.scorers import score_responses

    judge, bar, seed = context.config.judge, context.config.evaluate.judge_bar, context.config.seed
    examples = work.read(FILTERED)
    reviews = work.read(REVIEWS)
    reviews += read_carry_over(work).reviews
    if judge is None:
        return calibrate(context.persona, [], reviews, bar=bar, seed=seed)
    rows = reviewed_responses(examples, reviews)
    scores = score_responses(context.persona, rows, judge=judge, **asking)
    return calibrate(context.persona, scores, reviews, judge=judge.model, bar=bar, seed=seed)


def _pairs(
    context: RoundContext, work: Work, responses: list[Response], asking: dict[str, Any]
) -> None:
    """Have a judge compare arms in pairs, where there is one and it is wanted."""
    from evaluation.pairs import compare_pairs

    if context.config.judge is None or not context.config.evaluate.pairwise:
        return
    duels, rates = compare_pairs(
        context.persona, responses, context.config.judge, seed=context.config.seed, **asking
    )
    data = {
        "rates": [rate.model_dump(mode="json") for rate in rates],
        "duels": [duel.model_dump(mode="json") for duel in duels],
    }
    write_json(work.out / "pairs.json", data)


def _bill(judge: Endpoint | None, kept: Path) -> dict[str, Any]:
    """Return what the judge took for this round over all runs; kept verdicts cost nothing again."""
    from workbench.inference.judge import judge_paid

    if judge is None:
        return {}
    paid, price = judge_paid(kept, judge), judge.price
    return {
        "paid": {"judge": paid._asdict()},
        "spent": round(paid.cost(price), 6),
        "currency": price.currency if price else None,
    }


def _unscored(scores: list[Score], bound: float) -> list[str]:
    from evaluation.gate import check_unscored

    return [
        f"{found.metric}: {found.share:.0%} of the scores are missing (bound {bound:.0%};"
        f" {', '.join(f'{why} {count}' for why, count in found.reasons.items())})"
        for found in check_unscored(scores, bound)
    ]
