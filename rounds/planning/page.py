"""The proposal as a page for reviewers and engineers, in the persona's language.

In: a :class:`Proposal`. Out: Markdown, which :mod:`rounds.planning.next_round` writes and the
command prints. The page's order is ``next.md.j2``; its cells and sentences are made here.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from evaluation.weakness import Gap
from rounds.layout import round_number
from rounds.planning.proposal import Proposal
from workbench.commands import RoundOptions
from workbench.config import RowRequest
from workbench.language import say
from workbench.persona import Persona
from workbench.prompts import page_templates
from workbench.text import shortened

LISTED = 12
"""Rows that a list names; the others are counted, and stand in ``next.json``."""
TAUGHT = 0.9
"""Share of the training rows that show a trait from which it is not the rows that lack it."""
_ASKED_BY = {"probe": "probes", "turn": "conversations"}
"""Family of a place → the setting of ``evaluate`` that says how many are asked; ``rows`` else."""
_BLANKS = re.compile(r"\n{3,}")


def render_page(persona: Persona, proposal: Proposal) -> str:
    """Return the proposal as Markdown."""
    page, gaps = _Page(persona, proposal), proposal.gaps
    templates = page_templates(
        "rounds.planning",
        gap_cells=page.cells,
        ask_cells=page.ask_cells,
        topic_name=persona.topic_name,
        short=partial(shortened, characters=90),
    )
    text = templates.get_template("next.md.j2").render(
        page=page,
        say=page.say,
        next=proposal,
        gaps=gaps,
        sure=[gap for gap in gaps if gap.is_sure],
        nearly=[gap for gap in gaps if gap.needed],
        percent="{:.0%}".format,
        listed=LISTED,
    )
    return _BLANKS.sub("\n\n", text).strip() + "\n"


class _Page:
    def __init__(self, persona: Persona, proposal: Proposal) -> None:
        self.persona, self.proposal = persona, proposal

    def say(self, key: str, **values: object) -> str:
        """Return a phrase; its commands are about the round that was planned from."""
        phrase = say(self.persona.language, f"next.{key}", **values)
        return self._options(self.proposal.round).filled(phrase)

    def head(self, *names: str) -> list[str]:
        return [self.say(f"head.{name}") for name in names]

    @property
    def arm(self) -> str:
        """The arm as the report calls it."""
        try:
            return say(self.persona.language, f"report.arm.{self.proposal.arm}")
        except KeyError:
            return self.proposal.arm

    def settled_by(self, gap: Gap) -> str:
        """Return a gap that only the correction leaves open, and what settles it."""
        return self.say(
            f"weak.nearly.{'rows' if gap.family == 'learned' else 'one'}",
            gap=self.sentence(gap),
            prompts=gap.prompts,
            needed=gap.needed,
            setting=_ASKED_BY.get(gap.family, "rows"),
        )

    def cells(self, gap: Gap) -> list[str]:
        interval = f" [{_interval(gap)}]" if gap.low is not None and gap.is_enough else ""
        prompts = f"{gap.prompts}" + (f" / {gap.others}" if gap.others else "")
        unsure = "nearly" if gap.needed else "unclear" if gap.is_enough else "few"
        verdict = "sure" if gap.is_sure else unsure
        return [
            self.name(gap),
            f"{_value(gap, gap.value)} ({prompts})",
            f"{_value(gap, gap.reference)} {self.say(f'against.{gap.against}')}",
            f"{_difference(gap, gap.gap)}{interval}",
            self.say(f"verdict.{verdict}", needed=gap.needed),
        ]

    def sentence(self, gap: Gap) -> str:
        sentence = self.say(
            "weak.one",
            family=self.say(f"one.{gap.family}"),
            name=self.name(gap),
            value=_value(gap, gap.value),
            reference=_value(gap, gap.reference),
            against=self.say(f"against.{gap.against}"),
            interval=_interval(gap),
        )
        share = self.proposal.trait_shares.get(gap.name) if gap.family == "trait" else None
        if share is None:
            return sentence
        key = "weak.taught" if share >= TAUGHT else "weak.untaught"
        return f"{sentence}. {self.say(key, shown=f'{share:.0%}')}"

    def name(self, gap: Gap) -> str:
        if gap.family == "trait":
            return next((t.name for t in self.persona.traits if t.id == gap.name), gap.name)
        if gap.family in ("topic", "learned"):
            return self.persona.topic_name(gap.name)
        if gap.family == "probe":
            return say(self.persona.language, f"report.probe.{gap.name}")
        return gap.name

    def ask_cells(self, ask: RowRequest) -> list[str]:
        traits = {trait.id: trait.name for trait in self.persona.traits}
        there = str(self.proposal.rows.get(ask.topic, 0))
        kind = self.say(f"kind.{ask.kind}")
        topic = self.persona.topic_name(ask.topic)
        return [topic, kind, traits.get(ask.trait, ""), there, str(ask.count)]

    def command(self, words: str) -> str:
        """Return a command on the new round as one pastes it."""
        return self._options(self.proposal.next).command(words)

    def _options(self, name: str) -> RoundOptions:
        one = self.proposal
        return RoundOptions(Path(one.persona), Path(one.runs), round_number(name) or 1)


def _value(gap: Gap, value: float) -> str:
    """Return a share; of a topic its points, of how well rows were learned nats a token."""
    if gap.family == "topic":
        return _points(value)
    return f"{-value:.2f}" if gap.family == "learned" else f"{value:.0%}"


def _points(value: float) -> str:
    return f"{round(100 * value):+d}"


def _difference(gap: Gap, value: float | None) -> str:
    if value is None:
        return ""
    return f"{-value:+.2f}" if gap.family == "learned" else _points(value)


def _interval(gap: Gap) -> str:
    ends = (gap.high, gap.low) if gap.family == "learned" else (gap.low, gap.high)
    return ", ".join(_difference(gap, end) for end in ends)
