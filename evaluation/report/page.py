"""The page: what the template is given, and the file that comes out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from evaluation.report import costs, figures, ledger, losses, probes, results, rows
from evaluation.report.across import across_lines
from evaluation.report.machine import summary
from evaluation.report.source import Source, read_round
from evaluation.report.verdict import verdict
from evaluation.report.words import Words
from workbench.config import METHODS
from workbench.persona import FIDELITY, Persona
from workbench.stats import Cell

if TYPE_CHECKING:
    from jinja2 import Environment

PAGE = "report.html"
_BLANKS = re.compile(r"\n{3,}")
_CURVES = {
    "loss": ("loss", "eval_loss"),
    "accuracy": ("mean_token_accuracy", "eval_mean_token_accuracy"),
    "margin": ("rewards/margins", "eval_rewards/margins"),
    "preferred": ("rewards/accuracies", "eval_rewards/accuracies"),
}
"""Panel → its keys in a curve file: training side, then validation side."""


def build_report(round_dir: Path, persona: Persona, persona_dir: Path) -> str:
    """Return the round's report: one HTML page that needs nothing but itself.

    Every number comes from the round's files; parts whose files are missing are left out.

    Args:
        round_dir: Folder of the round, ``evaluate/`` finished.
        persona: Whose language and trait names the page uses.
        persona_dir: Folder of the persona; ``faults.jsonl`` in it names the planted faults.

    Raises:
        UserError: The round has not been evaluated, or a file of it is broken.
    """
    return build_reports(round_dir, persona, persona_dir)[PAGE]


def build_reports(round_dir: Path, persona: Persona, persona_dir: Path) -> dict[str, str]:
    """Return every form of the report by its file's name; see :func:`build_report`.

    The page, the same as Markdown, its numbers as JSON, and a section for a model's card.
    """
    source, words = read_round(round_dir, persona, persona_dir), Words(persona)
    shown = content(source, words)
    return {
        PAGE: _environment(words, escape=True).get_template("page.html.j2").render(**shown),
        **{
            name: _markdown(_environment(words, escape=False), template, shown)
            for name, template in (("report.md", "report.md.j2"), ("model-card.md", "card.md.j2"))
        },
        "report.json": json.dumps(summary(source, words), ensure_ascii=False, indent=2) + "\n",
    }


def _environment(words: Words, *, escape: bool) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("evaluation.report", ""),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "arm_name": words.arm,
        "metric_name": words.metric,
        "reason_name": words.reason,
        "topic_name": words.persona.topic_name,
    }
    return environment


def _markdown(environment: Environment, template: str, shown: dict[str, Any]) -> str:
    tables = environment.get_template("tables.md.j2").make_module(shown)
    text = environment.get_template(template).render(**shown, md=tables)
    return _BLANKS.sub("\n\n", text).strip() + "\n"


def content(source: Source, words: Words) -> dict[str, Any]:
    """Return everything that the template shows."""
    comparison = source.comparison
    arms = list(comparison.arms)
    cards = results.cards(source, words)
    traits, others = results.by_kind(results.table_rows(comparison), source.persona)
    after = results.headline_arm(comparison)
    headline = comparison.cell(after, FIDELITY).difference if after else None
    took = costs.costs(source.manifests)
    return {
        "t": words,
        "style": Markup(files("evaluation.report").joinpath("style.css").read_text("utf-8")),
        "persona": source.persona,
        "round": source.folder.name,
        "date": next((m["started"][:10] for m in _newest_first(source)), ""),
        "comparison": comparison,
        "base": comparison.base,
        "scored": _scored_traits(source),
        "after": after,
        "detectable": headline.detectable if headline else None,
        "verdict": verdict(source, words),
        "bars": [comparison.cell(arm, FIDELITY) for arm in arms],
        "table": traits,
        "others": [row for row in others if any(cell.mean is not None for cell in row[1])],
        "unasked": [name for name, cells in others if all(cell.mean is None for cell in cells)],
        "tests": [
            cell
            for cell in (comparison.cell(arm, FIDELITY) for arm in arms)
            if cell.difference or cell.against_prompt
        ],
        "forest": _forest(traits, words, arms),
        "probes": probes.table(source),
        "probe_answers": probes.answers(source, words),
        "drift": _drift(source, words, arms),
        "losses": losses.losses(source),
        "looked_at": losses.looked_at(source),
        "worst": losses.worst(cards),
        "carded": {card.prompt_id for card in cards},
        "drift_change": comparison.drift_change,
        "ledger": ledger.ledger(source, words),
        "calibration": source.calibration,
        "people": source.people,
        "general": source.general,
        "across": across_lines(source, words),
        "style_report": source.json("evaluate/style.json"),
        "win_rates": source.win_rates,
        "arms": arms,
        "marker": lambda arm: figures.svg(
            14, 14, words.arm(arm), [figures.marker(arms.index(arm), 7, 7)], "key"
        ),
        "cards": cards[: results.SHOWN],
        "more_cards": cards[results.SHOWN :],
        "charts": charts(source, words),
        "flow": rows.flow(source),
        "edited": rows.edited(source),
        "topics": rows.topics(source),
        "dropped": rows.dropped(source),
        "faults": rows.faults(source),
        "agreement": rows.agreement(source),
        "agreement_records": source.json("resolve/agreement.json").get("overlapping"),
        "manifests": source.manifests,
        "took": took,
        "evaluated": source.manifests.get("evaluate", {}).get("counts", {}),
        "money": costs.money(took),
        "config": source.text("config.yaml"),
        "settings": _settings(source),
        "versions": _versions(source),
    }


def _scored_traits(source: Source) -> int:
    """Return the number of traits that any answer was scored on."""
    scored = {cell.metric for cell in source.comparison.cells if cell.scored}
    return sum(trait.id in scored for trait in source.persona.traits)


def _newest_first(source: Source) -> list[dict[str, Any]]:
    dated = [manifest for manifest in source.manifests.values() if manifest.get("started")]
    return sorted(dated, key=lambda manifest: str(manifest["started"]), reverse=True)


def _forest(
    table: Sequence[tuple[str, list[Cell]]], words: Words, arms: Sequence[str]
) -> Markup | None:
    groups = []
    for metric, cells in table:
        estimates = [
            figures.Estimate(
                words.arm(cell.arm),
                arms.index(cell.arm),
                cell.difference,
                f"{words.points(cell.difference.mean)} ({words.interval(cell.difference)})",
            )
            for cell in cells
            if cell.difference
        ]
        if estimates:
            groups.append((words.metric(metric), estimates))
    if not groups:
        return None
    return figures.forest(groups, words("forest.title"), words("forest.axis"))


def _drift(source: Source, words: Words, arms: Sequence[str]) -> Markup | None:
    lines = [
        figures.Line(
            words.arm(arm),
            f"arm-{arms.index(arm) % figures.ARMS}",
            [(float(turn), 100 * mean) for turn, mean in points],
            arms.index(arm),
        )
        for arm, points in probes.drift(source).items()
    ]
    if not lines:
        return None
    return figures.curves(lines, words("drift.title"), words("drift.turn"), legend=False, first=1)


def charts(source: Source, words: Words) -> list[tuple[str, str, Markup]]:
    """Return (stage, panel, figure) for every curve that the round's training logged."""
    found: list[tuple[str, str, Markup]] = []
    for stage in METHODS:
        log = source.rows(f"{stage}/curve.jsonl")
        for panel, keys in _CURVES.items():
            lines = [
                figures.Line(words(f"curve.{side}"), side, points)
                for side, key in zip(("train", "validation"), keys, strict=True)
                if (points := [(e["step"], e[key]) for e in log if e.get(key) is not None])
            ]
            if lines:
                title = f"{words.known('stage', stage)}: {words(f'panel.{panel}')}"
                figure = figures.curves(lines, title, words("curve.step"))
                found.append((stage, panel, figure))
    return found


def _settings(source: Source) -> dict[str, Any]:
    """Return model and seed as the manifests have them; empty and None where none does."""
    found: dict[str, Any] = {"model": "", "seed": None}
    for manifest in source.manifests.values():
        if model := manifest.get("settings", {}).get("model"):
            found["model"] = model
        if "seed" in manifest:
            found["seed"] = manifest["seed"]
    return found


def _versions(source: Source) -> dict[str, str]:
    versions: dict[str, str] = {}
    for manifest in source.manifests.values():
        versions |= manifest.get("versions", {})
    return dict(sorted(versions.items()))
