"""The proposal as a page for reviewers and engineers, in the persona's language."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from workbench.language import say
from workbench.persona import Persona

if TYPE_CHECKING:
    from evaluation.weakness import Gap
    from workbench.cli.next_round import Proposal

LISTED = 12
"""Rows that a list shows; the others are counted, and stand in ``next.json``."""
_CHARACTERS = 90
_FAMILIES = ("trait", "topic", "probe", "turn")


def page(persona: Persona, proposal: Proposal) -> str:
    """Return the proposal as Markdown."""
    writer = _Writer(persona, proposal)
    parts = (writer.title(), writer.weak(), writer.disputed(), writer.plan(), writer.run())
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


class _Writer:
    def __init__(self, persona: Persona, proposal: Proposal) -> None:
        self.persona, self.proposal = persona, proposal

    def say(self, key: str, **values: object) -> str:
        return say(self.persona.language, f"next.{key}", **values)

    def title(self) -> list[str]:
        told = {"name": self.persona.name, "round": self.proposal.round, "next": self.proposal.next}
        return [f"# {self.say('title', **told)}", "", self.say("lead", arm=self.arm, **told)]

    @property
    def arm(self) -> str:
        """The arm as the report calls it."""
        try:
            return say(self.persona.language, f"report.arm.{self.proposal.arm}")
        except KeyError:
            return self.proposal.arm

    def weak(self) -> list[str]:
        sure = [gap for gap in self.proposal.gaps if gap.is_sure]
        lines = [f"## {self.say('weak')}", ""]
        if sure:
            lines += [self.say("weak.lead", count=len(sure)), ""]
            lines += [f"- {self.sentence(gap)}" for gap in sure]
        else:
            lines += [self.say("weak.none")]
        for family in _FAMILIES:
            gaps = [gap for gap in self.proposal.gaps if gap.family == family]
            if gaps:
                head = [self.say(f"head.{n}") for n in ("name", "value", "against", "gap", "said")]
                lines += ["", f"### {self.say(f'family.{family}')}", ""]
                lines += _table(head, map(self._cells, gaps))
        return lines

    def _cells(self, gap: Gap) -> list[str]:
        interval = "" if gap.low is None else f" [{_points(gap.low)}, {_points(gap.high)}]"
        prompts = f"{gap.prompts}" + (f" / {gap.others}" if gap.others else "")
        said = "sure" if gap.is_sure else "unclear" if gap.is_enough else "few"
        return [
            self.name(gap),
            f"{gap.value:.0%} ({prompts})",
            f"{gap.reference:.0%} {self.say(f'against.{gap.against}')}",
            f"{_points(gap.gap)}{interval}",
            self.say(f"said.{said}"),
        ]

    def sentence(self, gap: Gap) -> str:
        return self.say(
            "weak.one",
            family=self.say(f"one.{gap.family}"),
            name=self.name(gap),
            value=f"{gap.value:.0%}",
            reference=f"{gap.reference:.0%}",
            against=self.say(f"against.{gap.against}"),
            interval=f"{_points(gap.low)}, {_points(gap.high)}",
        )

    def name(self, gap: Gap) -> str:
        if gap.family == "trait":
            return next((t.name for t in self.persona.traits if t.id == gap.name), gap.name)
        if gap.family == "topic":
            return self.persona.topic_name(gap.name)
        if gap.family == "probe":
            return say(self.persona.language, f"report.probe.{gap.name}")
        return gap.name

    def disputed(self) -> list[str]:
        rows = self.proposal.disputed
        lines = [f"## {self.say('disputed')}", ""]
        if not rows:
            return [*lines, self.say("disputed.none")]
        lines += [self.say("disputed.lead", count=len(rows)), ""]
        lines += [
            f"- `{row.id}` {_short(row.question)} — {self.say(f'outcome.{row.outcome}')}"
            f" ({'; '.join(row.votes)})"
            for row in rows[:LISTED]
        ]
        return lines + self._more(len(rows))

    def _more(self, count: int) -> list[str]:
        return [self.say("more", count=count - LISTED)] if count > LISTED else []

    def plan(self) -> list[str]:
        asks, held = self.proposal.plan, self.proposal.held_out_topics
        total = sum(ask.count for ask in asks)
        lines = [f"## {self.say('plan')}", ""]
        lines += [self.say("plan.teacher" if self.proposal.teacher else "plan.people", count=total)]
        if held:
            names = ", ".join(map(self.persona.topic_name, held))
            lines += ["", self.say("plan.held_out", topics=names)]
        traits = {trait.id: trait.name for trait in self.persona.traits}
        head = [self.say(f"head.{name}") for name in ("topic", "kind", "trait", "there", "new")]
        lines += ["", *_table(head, (
            [
                self.persona.topic_name(ask.topic),
                self.say(f"kind.{ask.kind}"),
                traits.get(ask.trait, ""),
                str(self.proposal.rows.get(ask.topic, 0)),
                str(ask.count),
            ]
            for ask in asks
        ))]  # fmt: skip
        if self.proposal.requests:
            lines += ["", *(f"- {line}" for line in self.proposal.requests)]
        return lines

    def run(self) -> list[str]:
        number = int(self.proposal.next.removeprefix("round-"))
        return [
            f"## {self.say('run')}",
            "",
            self.say("run.lead"),
            "",
            f"    persona run --persona {self.proposal.persona} --round {number}",
        ]


def _points(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.0f}"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    lines = [[*head]]
    lines += [["---"] * len(lines[0]), *([*row] for row in rows)]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]


def _short(text: str) -> str:
    folded = " ".join(text.split())
    return folded if len(folded) <= _CHARACTERS else f"{folded[: _CHARACTERS - 1]}…"
