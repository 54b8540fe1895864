"""The report in all its forms: the page, the same as Markdown, a card's section, and numbers.

In: a :class:`ReportInput`. Out: the text of each file, by its name. Called by the stage of the
report. Every number comes from the input; parts that a round does not have are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING

from markupsafe import Markup
from pydantic import BaseModel

from evaluation.conversations import BREAK_BELOW, ConversationMeasure, measure_conversations
from evaluation.outcome import outcome_of
from evaluation.prices import SearchedPrompt
from evaluation.report import answers, figures, results, rows
from evaluation.report.dial import dial_parts
from evaluation.report.inputs import ReportInput, StageRun
from evaluation.report.safety import safety_rows, safety_sentences, safety_todo
from evaluation.report.sweep import sweep_parts
from evaluation.report.verdict import (
    across_lines,
    advice,
    next_command,
    surface_lines,
    trainings,
    tuning_against_prompt,
    verdict,
)
from evaluation.report.wording import Wording
from evaluation.safety_case import FEWEST
from workbench.config import METHODS
from workbench.persona import FIDELITY
from workbench.prompts import page_templates
from workbench.stats.comparison import FEWEST_PAIRS

if TYPE_CHECKING:
    from jinja2 import Environment

PAGE = "report.html"
SAFETY_PAGE = "safety.html"
VERSION = 2
"""Of ``report.json``; goes up when a key changes its meaning or goes away."""
_BLANKS = re.compile(r"\n{3,}")
_CURVES = {
    "loss": ("loss", "eval_loss"),
    "accuracy": ("mean_token_accuracy", "eval_mean_token_accuracy"),
    "margin": ("rewards/margins", "eval_rewards/margins"),
    "preferred": ("rewards/accuracies", "eval_rewards/accuracies"),
}
"""Panel → its keys in a curve file: of the training split, then of the validation split."""


def build_reports(report: ReportInput) -> dict[str, str]:
    """Return every form of the report by its file's name: page, Markdown, card and numbers."""
    wording = Wording(report.persona, report.at)
    # What the templates show, by the name that they use.
    variables = {
        **_results(report, wording),
        **_answers(report, wording),
        **_data(report, wording),
        "safety_rows": safety_rows(report, wording),
        "safety_todo": safety_todo(report, wording),
        "fewest": FEWEST,
        "safety_sentences": safety_sentences(report.safety, wording) if report.safety else [],
    }
    html = _templates(wording, escape=True)
    pages = {PAGE: "page.html.j2", **({SAFETY_PAGE: "safety.html.j2"} if report.safety else {})}
    return {
        **{name: html.get_template(file).render(**variables) for name, file in pages.items()},
        **{
            name: _markdown(_templates(wording, escape=False), template, variables)
            for name, template in (("report.md", "report.md.j2"), ("model-card.md", "card.md.j2"))
        },
        "report.json": json.dumps(summary(report), ensure_ascii=False, indent=2) + "\n",
    }


def _templates(wording: Wording, *, escape: bool) -> Environment:
    return page_templates(
        "evaluation.report",
        escape=escape,
        arm_name=wording.arm,
        metric_name=wording.metric,
        reason_name=wording.reason,
        topic_name=wording.persona.topic_name,
    )


def _markdown(templates: Environment, template: str, variables: Mapping[str, object]) -> str:
    tables = templates.get_template("tables.md.j2").make_module(dict(variables))
    text = templates.get_template(template).render(**variables, md=tables)
    return _BLANKS.sub("\n\n", text).strip() + "\n"


def _results(report: ReportInput, wording: Wording) -> dict[str, object]:
    """Return the verdict, and everything that the comparison holds."""
    comparison = report.comparison
    arms = list(comparison.arms)
    traits, others = results.by_kind(results.metric_rows(comparison), report.persona)
    after = comparison.headline
    headline = comparison.primary_change(after) if after else None
    primary = [cell for cell in comparison.cells if cell.metric == comparison.primary]
    bars = [comparison.cell(arm, FIDELITY) for arm in arms]
    scored = {cell.metric for cell in comparison.cells if cell.scored}
    return {
        "t": wording,
        "report": report,
        "persona": report.persona,
        "comparison": comparison,
        "base": comparison.base,
        "arms": arms,
        "columns": results.columns(comparison),
        "scored": sum(trait.id in scored for trait in report.persona.traits),
        "after": after,
        "detectable": headline.detectable if headline else None,
        "verdict": verdict(report, wording),
        "advice": advice(report, wording),
        "command": next_command(report),
        "bars": bars,
        "senses": {one.arm: one for one in report.sense.arms} if report.sense else {},
        "controls": _controls(report, wording),
        "embedder": _embedder(report, wording),
        "judge_lead": _judge_lead(report, wording),
        "trainings": trainings(report, wording),
        "table": traits,
        "others": [row for row in others if any(cell.mean is not None for cell in row[1])],
        "unasked": [name for name, cells in others if all(cell.mean is None for cell in cells)],
        "tests": [cell for cell in primary if cell.difference or cell.against_prompt],
        "forest": _forest(traits, wording, arms),
        "probes": results.probe_rows(comparison),
        **_conversations(report, wording),
        "regressions": results.regressions(comparison),
        "compared": results.compared(comparison),
        "instruction_shares": report.general.instruction_shares if report.general else {},
        "surface_lines": surface_lines(report.robustness, wording),
        "tuning": tuning_against_prompt(report, wording),
        "searched": partial(_searched, wording),
        **sweep_parts(wording),
        **dial_parts(report.dial, wording),
        "across": across_lines(report.general.across if report.general else None, wording),
        "marker": lambda arm: figures.svg(
            14, 14, wording.arm(arm), [figures.marker(arms.index(arm), 7, 7)], "key"
        ),
    }


def _searched(wording: Wording, prompt: SearchedPrompt) -> str:
    """Return in a line how a prompt was searched for, and what it brought on validation rows."""
    how: dict[str, object] = {
        "arm": wording.arm(prompt.arm),
        "trials": prompt.trials,
        "seconds": wording.seconds(prompt.seconds),
    }
    if prompt.score is None:
        before, after = (wording.number(one or 0) for one in (prompt.plain_loss, prompt.loss))
        rows = len(prompt.rows)
        return wording("prices.searched", rows=rows, before=before, after=after, **how)
    before, after = (wording.percent(one) for one in (prompt.plain_score, prompt.score))
    how |= {"answers": prompt.answers, "reflections": prompt.reflections}
    return wording("prices.written", before=before, after=after, **how)


def _judge_lead(report: ReportInput, wording: Wording) -> str:
    """Return on which traits the judge's word counts; empty without a calibration."""
    calibration = report.calibration
    if calibration is None:
        return ""
    counted = [name for name in calibration.trusted if name in calibration.traits]
    if counted:
        names = ", ".join(map(wording.metric, counted))
        if report.reward:
            return wording("judge.reward", traits=names)
        return wording("judge.trusted", judge=calibration.judge, traits=names)
    reasons = dict.fromkeys(gate.reason for gate in calibration.gates.values())
    why = ", ".join(map(wording.reason, filter(None, [calibration.reason, *reasons])))
    return wording("judge.untrusted", reason=why)


def _embedder(report: ReportInput, wording: Wording) -> str:
    """Return what tells whether answers are near: a model by its name, n-grams in words."""
    if report.sense is None or report.sense.by_meaning:
        return report.sense.embedder if report.sense else ""
    return wording("embedder.ngrams")


def _controls(report: ReportInput, wording: Wording) -> str:
    """Return what gaming the scores gets: each control's voice and sense."""
    controls = report.sense.controls if report.sense else {}
    return "; ".join(
        f"{wording(f'control.{name}')} {wording.percent(one.voice)} / {wording.percent(one.sense)}"
        for name, one in controls.items()
    )


def _answers(report: ReportInput, wording: Wording) -> dict[str, object]:
    """Return the answers, and the scores behind every number."""
    cards = answers.answer_cards(report, wording)
    return {
        "cards": cards[: answers.SHOWN],
        "changes": answers.changes(cards),
        "more_cards": cards[answers.SHOWN :],
        "carded": {card.prompt_id for card in cards},
        "worst": answers.worst(cards),
        "probe_answers": answers.probe_answers(report, wording),
        "score_rows": answers.score_rows(report, wording),
    }


def _data(report: ReportInput, wording: Wording) -> dict[str, object]:
    """Return what the model learned from, how training went, and what it took."""
    agreement, rare = rows.agreement(report)
    started = [one.started for one in report.stages if one.started]
    last = report.stages[-1] if report.stages else None
    return {
        "style": Markup(files("evaluation.report").joinpath("style.css").read_text("utf-8")),
        "date": max(started, default="")[:10],
        "charts": charts(report.curves, wording),
        "edited": rows.edited(report),
        "topics": rows.topics(report),
        "drops": rows.drop_groups(report),
        "faults": rows.fault_fates(report),
        "agreement": agreement,
        "rules_lead": _rules_lead(report, wording),
        "agreement_on_problems": rare,
        "model": next((one.model for one in reversed(report.stages) if one.model), ""),
        "seed": last.seed if last else None,
    }


def _rules_lead(report: ReportInput, wording: Wording) -> str:
    """Return which rules disagree with the reviewers' own labels."""
    rules = report.agreement.rules if report.agreement else {}
    doubted = [wording.metric(name) for name, one in rules.items() if one.disagrees]
    if not doubted:
        return wording("rules.none")
    return wording("rules.some", traits=", ".join(doubted))


def _forest(
    table: Sequence[results.MetricRow], wording: Wording, arms: Sequence[str]
) -> Markup | None:
    groups = []
    for metric, cells in table:
        estimates = [
            figures.Estimate(
                wording.arm(cell.arm),
                arms.index(cell.arm),
                cell.difference,
                f"{wording.points(cell.difference.mean)} ({wording.interval(cell.difference)})",
            )
            for cell in cells
            if cell.difference
        ]
        if estimates:
            groups.append((wording.metric(metric), estimates))
    if not groups:
        return None
    return figures.forest(groups, wording("forest.title"), wording("forest.axis"))


def _measured(report: ReportInput) -> list[ConversationMeasure]:
    comparison = report.comparison
    return measure_conversations(
        report.responses, report.scores, comparison.traits, comparison.seed
    )


def _conversations(report: ReportInput, wording: Wording) -> dict[str, object]:
    """Return the voice turn by turn and the share that holds, as numbers and as figures."""
    measures = _measured(report)
    voice = {
        m.arm: [(p.turn, p.fidelity.mean, p.fidelity.low, p.fidelity.high) for p in m.turns]
        for m in measures
    }
    held = {m.arm: [(p.turn, p.share, p.low, p.high) for p in m.survival] for m in measures}
    few = {m.arm for m in measures if m.conversations < FEWEST_PAIRS}
    return {
        "conversations": measures,
        "conversation_turns": sorted({p.turn for m in measures for p in m.turns}),
        "conversation_words": _in_words(report, measures, wording),
        "few_conversations": FEWEST_PAIRS if few else 0,
        "break_below": BREAK_BELOW,
        "drift": _by_turn(report, voice, few, wording, "drift.title"),
        "survival": _by_turn(report, held, few, wording, "survival.title"),
    }


_TurnShare = tuple[int, float | None, float | None, float | None]
"""A turn, a share in it, and the ends of its interval."""


def _by_turn(
    report: ReportInput,
    shares: Mapping[str, Sequence[_TurnShare]],
    few: Collection[str],
    wording: Wording,
    title: str,
) -> Markup | None:
    """Return arms' shares over the turns; those of few conversations are dashed, no interval."""
    arms = list(report.comparison.arms)
    lines = [
        figures.Line(
            wording.arm(arm),
            f"arm-{arms.index(arm) % figures.ARMS}",
            [(float(turn), 100 * (share or 0.0)) for turn, share, _, _ in own],
            arms.index(arm),
            [
                (float(turn), 100 * low, 100 * high)
                for turn, _, low, high in own
                if arm not in few and low is not None and high is not None
            ],
            faint=arm in few,
        )
        for arm, own in shares.items()
        if own
    ]
    if not lines:
        return None
    return figures.curves(lines, wording(title), wording("drift.turn"), legend=False, first=1)


def _in_words(
    report: ReportInput, measures: Sequence[ConversationMeasure], wording: Wording
) -> str:
    """Return what the conversations say of the arm that would be shipped."""
    arm = report.comparison.headline
    own = next((one for one in measures if one.arm == arm), None)
    change = report.comparison.drift_change.get(arm or "")
    if own is None or change is None:
        return ""
    counts = {"arm": wording.arm(own.arm), "n": own.conversations, "broken": own.broken}
    change_words = f"{wording.points(change.mean)} ({wording.interval(change)})"
    kind = "open"
    if own.conversations < FEWEST_PAIRS:
        kind = "few"
    elif change.low is not None and change.high is not None and change.low * change.high > 0:
        kind = "falls" if change.mean < 0 else "rises"
    return wording(f"drift.words.{kind}", change=change_words, **counts)


def charts(
    curves: Mapping[str, Sequence[Mapping[str, float]]], wording: Wording
) -> list[tuple[str, str, Markup]]:
    """Return (stage, panel, figure) for every curve that was logged.

    ``curves`` is training method → what each logged step held, by TRL's names.
    """
    every: list[tuple[str, str, Markup]] = []
    for stage in METHODS:
        steps = curves.get(stage, ())
        for panel, keys in _CURVES.items():
            lines = [
                figures.Line(wording(f"curve.{split}"), split, points)
                for split, key in zip(("train", "validation"), keys, strict=True)
                if (points := [(s["step"], s[key]) for s in steps if s.get(key) is not None])
            ]
            if lines:
                title = f"{wording.known('stage', stage)}: {wording(f'panel.{panel}')}"
                every.append((stage, panel, figures.curves(lines, title, wording("curve.step"))))
    return every


def summary(report: ReportInput) -> dict[str, object]:
    """Return the round in numbers; shares are 0 to 1, times are seconds.

    The comparison itself, cell by cell, is in ``evaluate/comparison.json``.
    """
    comparison = report.comparison
    arm = comparison.headline
    general = report.general
    return {
        "version": VERSION,
        "persona": report.persona.id,
        "persona_record": report.persona.record_id,
        "round": report.round,
        "verdict": verdict(report, Wording(report.persona, report.at)),
        "headline": _plain(comparison.cell(arm, FIDELITY)) if arm else None,
        "primary": comparison.primary,
        "primary_change": _plain(comparison.primary_change(arm)) if arm else None,
        "primaries": list(report.primaries),
        "seeds": _plain(report.seeds),
        "by_topic": _plain(report.by_topic),
        "base": comparison.base,
        "outcome": outcome_of(comparison, report.sense, arm) if arm else None,
        "sense": _plain(report.sense),
        "safety": _plain(report.safety),
        "prompts": comparison.prompts,
        "level": comparison.level,
        "fidelity": {name: comparison.cell(name, FIDELITY).mean for name in comparison.arms},
        "traits_left_out": comparison.left_out,
        "unscored_share": comparison.unscored_share,
        "regressions": [_plain(one.cell) for one in results.regressions(comparison) if one.sure],
        "probes": [_plain(cell) for cell in comparison.probes if cell.metric == FIDELITY],
        "drift_change": {name: _plain(one) for name, one in comparison.drift_change.items()},
        "conversations": [_plain(one) for one in _measured(report)],
        "judge": _plain(report.calibration),
        "reward_model": {trait: _plain(one) for trait, one in report.reward.curves.items()}
        if report.reward
        else None,
        "people": _plain(report.people),
        "robustness": _plain(report.robustness),
        "dial": _plain(report.dial),
        "prices": _plain(report.prices),
        "sweeps": [_plain(one) for one in report.sweeps],
        "general": [_plain(one) for one in general.arms] if general else None,
        "across": _plain(general.across) if general else None,
        "stages": {one.stage: _stage(one) for one in report.stages},
    }


def _plain(value: BaseModel | None) -> dict[str, object] | None:
    return value.model_dump(mode="json") if value else None


def _stage(one: StageRun) -> dict[str, object]:
    return {
        "seconds": one.seconds,
        "peak_mib": one.peak_mib,
        "tokens": one.tokens,
        "paid": one.paid._asdict(),
        "spent": one.spent,
        "currency": one.currency,
        **({"teachers": [part._asdict() for part in one.teachers]} if one.teachers else {}),
    }
