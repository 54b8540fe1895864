"""The verdict: one sentence of voice and sense, then what a sceptic asks next.

In: the report's input. Out: sentences, which the page, its Markdown, the card and the JSON share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.gate import AcrossRounds
from evaluation.judge import CONTENT
from evaluation.outcome import SUCCESS, SenseReport, outcome_of
from evaluation.report.inputs import ReportInput
from evaluation.report.wording import Wording
from evaluation.robustness import Robustness
from evaluation.scorers import UNLOOPED
from evaluation.sense import MOST_NONE
from workbench.persona import FIDELITY
from workbench.stats import Comparison, Difference, MetricCell

LOOPING = 0.5
"""Mean of ``unlooped`` below which most of an arm's text repeats itself, and is called broken."""


def verdict(report: ReportInput, wording: Wording) -> list[str]:
    """Return the verdict's sentences, the headline first.

    People's blind choices take the headline where there are enough of them to give an interval;
    an arm whose text goes round in circles is called broken before any score. Then follow voice and
    sense, of which success needs both; arms whose answers are none; the system prompt alone, what
    carries no weight, and forgetting.
    """
    comparison = report.comparison
    arm = comparison.headline
    base = comparison.cell(comparison.base, FIDELITY)
    cell = comparison.cell(arm, FIDELITY) if arm else None
    if cell is None or cell.difference is None:
        return [
            wording("verdict.base_only", base=wording.percent(base.mean)),
            *_caveats(report, wording),
        ]
    sentences = [_voice_and_sense(report, cell, base, cell.difference, wording)]
    if report.sense:
        named = dict.fromkeys(filter(None, (cell.arm, comparison.base, comparison.prompted)))
        sentences += _no_answers(report.sense, list(named), wording)
        sentences += _harm(report, cell.arm, wording)
    elif broken := _looping(comparison, cell.arm, wording):
        sentences.insert(0, broken)
    if counted := _primary(report, wording, cell.arm):
        sentences.insert(0, counted)
    if chosen := _people(report, wording, cell.arm):
        sentences.insert(0, chosen)
    if alternative := tuning_against_prompt(report, wording):
        sentences.append(alternative)
    return [*sentences, *_caveats(report, wording)]


def advice(report: ReportInput, wording: Wording) -> dict[str, str]:
    """Return what the verdict means, what comes next, what is uncertain; empty for a base alone.

    What was lost weighs more than what was gained: a success that forgot is none to hand over.
    """
    comparison, arm = report.comparison, report.comparison.headline
    if arm is None:
        return {}
    outcome = _outcome(report, arm)
    people = report.people.pairing(arm, comparison.base) if report.people else None
    doubts = {
        "questions": True,
        "training": report.seeds is None,
        "judge": bool(comparison.left_out),
        "people": people is None or people.share is None,
    }
    return {
        "means": wording(f"means.{outcome}"),
        "next": wording(f"next.{outcome}"),
        "unsure": " ".join(
            wording(f"unsure.{doubt}", prompts=comparison.prompts)
            for doubt, holds in doubts.items()
            if holds
        ),
    }


def next_command(report: ReportInput) -> str:
    """Return the command that the advice names: a blind round of a success, else the next one."""
    arm = report.comparison.headline
    name = "evaluate --people" if arm and _outcome(report, arm) == SUCCESS else "next"
    return report.at.command(name)


def _outcome(report: ReportInput, arm: str) -> str:
    """Return an arm's outcome, ``lost`` for a success that cost abilities that were there."""
    outcome = outcome_of(report.comparison, report.sense, arm)
    general = report.general
    if outcome != SUCCESS or general is None:
        return outcome
    lost = any(one.arm == arm and not one.passed for one in general.arms)
    return "lost" if lost or (general.across and general.across.lost) else outcome


def _voice_and_sense(
    report: ReportInput,
    cell: MetricCell,
    base: MetricCell,
    difference: Difference,
    wording: Wording,
) -> str:
    """Return both numbers, and in words what they amount to."""
    voice = {
        "arm": wording.arm(cell.arm),
        "value": wording.percent(cell.mean),
        "base": wording.percent(base.mean),
        **wording.change(difference),
    }
    outcome = outcome_of(report.comparison, report.sense, cell.arm)
    own = report.sense.arm(cell.arm) if report.sense else None
    if report.sense is None or own is None or outcome == "unmeasured":
        kind = _kind(difference)
        return f"{wording(f'verdict.{kind}', **voice)} {wording('verdict.unmeasured')}"
    reference = report.sense.arm(report.comparison.base)
    sense = {
        "sense": wording.percent(own.sense.mean),
        "sense_range": wording.range(own.sense.low, own.sense.high),
        "sense_base": wording.percent(reference.sense.mean if reference else None),
        "floor": wording.percent(report.sense.floor),
        "senseless": own.senseless,
        "answers": own.answers,
        "harmful": own.harmful,
        "why": _counts("harm", own.harms, wording),
        "half": wording.percent(own.half.mean if own.half else None),
        "half_range": wording.range(own.half.low, own.half.high) if own.half else "",
    }
    by_voice = outcome in (SUCCESS, "marks") and report.comparison.primary == FIDELITY
    if by_voice or outcome in ("harmful", "partial"):
        return wording(f"verdict.{outcome}", **voice, **sense)
    tail = "senseless" if outcome in ("senseless", "marks") else "sense"
    first = wording(f"verdict.{_kind(difference)}", **voice)
    return f"{first} {wording(f'verdict.{tail}', **voice, **sense)}"


def _no_answers(sense: SenseReport, arms: list[str], wording: Wording) -> list[str]:
    """Return a sentence for each named arm of which more than a third of the answers are none."""
    return [
        wording(
            "verdict.none",
            arm=wording.arm(own.arm),
            count=sum(own.guards.values()),
            answers=own.answers,
            why=_counts("guard", own.guards, wording),
        )
        for own in map(sense.arm, arms)
        if own and own.guarded > MOST_NONE
    ]


def _harm(report: ReportInput, arm: str, wording: Wording) -> list[str]:
    """Return in how many answers harm was found, and what no rule finds."""
    own = report.sense.arm(arm) if report.sense else None
    lines = []
    if own and own.harmful and outcome_of(report.comparison, report.sense, arm) != "harmful":
        why = _counts("harm", own.harms, wording)
        harm = {"harmful": own.harmful, "answers": own.answers, "why": why}
        lines.append(wording("verdict.harm", arm=wording.arm(arm), **harm))
    metrics = report.comparison.metrics
    if CONTENT not in metrics or report.comparison.cell(arm, CONTENT).mean is None:
        lines.append(wording("verdict.limits"))
    return lines


def _counts(kind: str, counts: Mapping[Any, int], wording: Wording) -> str:
    return ", ".join(f"{wording(f'{kind}.{name}')} {count}" for name, count in counts.items())


def _looping(comparison: Comparison, arm: str, wording: Wording) -> str:
    """Return that the arm's text goes round in circles; then no trait in it means anything."""
    if UNLOOPED not in comparison.metrics:
        return ""  # of an evaluation before this was measured
    mean = comparison.cell(arm, UNLOOPED).mean
    if mean is None or mean >= LOOPING:
        return ""
    return wording("verdict.looping", arm=wording.arm(arm), share=wording.percent(1 - mean))


def _primary(report: ReportInput, wording: Wording, arm: str) -> str:
    """Return how the arm did on the measure that counts; empty for fidelity, which leads anyway."""
    comparison, change = report.comparison, report.comparison.primary_change(arm)
    if comparison.primary == FIDELITY:
        return ""
    metric = wording.metric(comparison.primary)
    if change is None:
        return wording("verdict.primary.unmeasured", metric=metric)
    return wording(
        f"verdict.primary.{_kind(change)}",
        metric=metric,
        arm=wording.arm(arm),
        value=wording.percent(comparison.cell(arm, comparison.primary).mean),
        base=wording.percent(comparison.cell(comparison.base, comparison.primary).mean),
        **wording.change(change),
    )


def _kind(difference: Difference) -> str:
    if not difference.excludes_zero:
        return "unclear"
    return "better" if difference.mean > 0 else "worse"


def _people(report: ReportInput, wording: Wording, arm: str) -> str:
    people = report.people
    pairing = people.pairing(arm, report.comparison.base) if people else None
    if people is None or pairing is None or pairing.share is None:
        return ""
    kind = "unclear"
    if pairing.excludes_chance:
        kind = "better" if pairing.share > 0.5 else "worse"
    return wording(
        f"verdict.people.{kind}",
        arm=wording.arm(arm),
        base=wording.arm(report.comparison.base),
        share=wording.percent(pairing.share),
        interval=wording.range(pairing.low, pairing.high),
        decided=pairing.wins + pairing.losses,
        reviewers=people.reviewers,
    )


def tuning_against_prompt(report: ReportInput, wording: Wording) -> str:
    """Return how the arm stands to the same base with the best prompt: the honest alternative.

    That it is better takes an arm that is a success, against answers that are answers. Empty where
    no prompt or no other arm answered.
    """
    comparison = report.comparison
    arm = comparison.headline
    cell = comparison.cell(arm, FIDELITY) if arm else None
    against = cell.against_prompt if cell else None
    if cell is None or against is None or cell.arm == comparison.prompted:
        return ""
    prompted = comparison.cell(comparison.prompted, FIDELITY)
    kind = _kind(against)
    if kind == "better" and report.sense:
        rival = report.sense.arm(comparison.prompted)
        fair = rival is None or rival.guarded <= MOST_NONE
        if not fair or outcome_of(comparison, report.sense, cell.arm) != SUCCESS:
            kind = "marks"
    return wording(
        f"verdict.prompt.{kind}",
        prompt=wording(f"prompt_arm.{comparison.prompted}"),
        value=wording.percent(prompted.mean),
        arm=wording.arm(cell.arm),
        **wording.change(against),
    )


def trainings(report: ReportInput, wording: Wording) -> str:
    """Return what is known of other trainings and other topics; empty where nothing is."""
    metric, seeds = report.comparison.primary, report.seeds
    own = seeds.measures.get(metric) if seeds else report.by_topic
    if own is None:
        return ""
    ends = {
        "metric": wording.metric(metric),
        "topics": own.topics,
        "interval": wording.point_range(own.low, own.high),
    }
    if seeds is None:
        return wording("trainings.one", **ends)
    means = ", ".join(wording.points(mean) for mean in own.seeds.values())
    return wording("trainings.several", **ends, count=len(own.seeds), means=means)


def _caveats(report: ReportInput, wording: Wording) -> list[str]:
    caveats = [trainings(report, wording)] if report.seeds else []
    if len(report.primaries) > 1:
        names = ", ".join(map(wording.metric, report.primaries))
        caveats.append(wording("verdict.primary.changed", metrics=names))
    if left_out := report.comparison.left_out:
        reason = next(iter(left_out.values()))
        caveats.append(wording("verdict.judge", count=len(left_out), reason=wording.reason(reason)))
    if report.general is None:
        return caveats
    forgot = [one.arm for one in report.general.arms if not one.passed]
    if forgot:
        caveats.append(wording("verdict.forgot", arms=", ".join(map(wording.arm, forgot))))
    across = report.general.across
    if across and across.lost:
        caveats.append(across_lines(across, wording)[-1])
    return caveats


def across_lines(across: AcrossRounds | None, wording: Wording) -> list[str]:
    """Return how the last adapter stands to the last round's: each thing compared, then the word.

    ``across`` is None in a first round.
    """
    if across is None:
        return []
    names = {
        "arm": wording.arm(across.arm),
        "before": wording.arm(across.before),
        "round": across.round,
    }
    lines = []
    if across.cross_entropy_change is not None and across.instructions:
        nats = wording.signed(across.cross_entropy_change, 3)
        points = wording.points(across.instructions.difference.mean)
        lines.append(wording("across.general", nats=nats, points=points, **names))
    if across.fidelity:
        change = wording.change(across.fidelity)
        lines.append(wording("across.fidelity", prompts=change["pairs"], **change, **names))
    if across.not_compared:
        why = ", ".join(wording(f"across.why.{one}") for one in across.not_compared)
        lines.append(wording("across.not_compared", why=why, **names))
    if across.lost:
        lost = ", ".join(wording(f"across.lost.{one}") for one in across.lost)
        return [*lines, wording("across.failed", lost=lost, **names)]
    compared = len(lines) > bool(across.not_compared)
    return [*lines, wording("across.passed", **names)] if compared else lines


def surface_lines(robustness: Robustness | None, wording: Wording) -> list[str]:
    """Return in words on which surface voice and sense fall most."""
    if robustness is None:
        return []
    lines = []
    for measure in ("voice", "sense"):
        worst = robustness.worst(measure)
        change = worst and (worst.voice_change if measure == "voice" else worst.sense_change)
        name = wording(f"bars.{measure}")
        if worst is None or not change:
            lines.append(wording("surfaces.steady", measure=name))
            continue
        key = f"surfaces.worst.{'sure' if change.excludes_zero else 'open'}"
        surface = wording.surface(worst.surface)
        lines.append(wording(key, measure=name, surface=surface, **wording.change(change)))
    return lines
