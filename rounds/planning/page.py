"""The proposal as a page for reviewers and engineers, in the persona's language."""

from __future__ import annotations

from collections.abc import Iterable
from shlex import quote
from typing import TYPE_CHECKING

from workbench.language import say
from workbench.persona import Persona

if TYPE_CHECKING:
    from evaluation.weakness import Gap
    from rounds.planning.disputed_rows import Disputed
    from rounds.planning.proposal import Proposal
    from rounds.planning.second_looks import Look

LISTED = 12
"""Rows that a list shows; the others are counted, and stand in ``next.json``."""
TAUGHT = 0.9
"""Share of the training rows that show a trait from which it is not the rows that lack it."""
_CHARACTERS = 90
_FAMILIES = ("trait", "topic", "probe", "turn", "learned")


def page(persona: Persona, proposal: Proposal) -> str:
    """Return the proposal as Markdown."""
    writer = _Writer(persona, proposal)
    parts = (
        writer.title(),
        writer.weak(),
        writer.looks(),
        writer.plan(),
        writer.curve(),
        writer.run(),
    )
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
        if any(not gap.is_enough for gap in self.proposal.gaps):
            lines += ["", self.say("weak.few")]
        for family in _FAMILIES:
            gaps = [gap for gap in self.proposal.gaps if gap.family == family]
            if gaps:
                head = [self.say(f"head.{n}") for n in ("name", "value", "against", "gap", "said")]
                lines += ["", f"### {self.say(f'family.{family}')}", ""]
                lines += [self.say(f"note.{family}"), ""]
                lines += _table(head, map(self._cells, gaps))
        return lines

    def _cells(self, gap: Gap) -> list[str]:
        interval = f" [{_interval(gap)}]" if gap.low is not None and gap.is_enough else ""
        prompts = f"{gap.prompts}" + (f" / {gap.others}" if gap.others else "")
        said = "sure" if gap.is_sure else "unclear" if gap.is_enough else "few"
        return [
            self.name(gap),
            f"{_value(gap, gap.value)} ({prompts})",
            f"{_value(gap, gap.reference)} {self.say(f'against.{gap.against}')}",
            f"{_difference(gap, gap.gap)}{interval}",
            self.say(f"said.{said}"),
        ]

    def sentence(self, gap: Gap) -> str:
        told = self.say(
            "weak.one",
            family=self.say(f"one.{gap.family}"),
            name=self.name(gap),
            value=_value(gap, gap.value),
            reference=_value(gap, gap.reference),
            against=self.say(f"against.{gap.against}"),
            interval=_interval(gap),
        )
        shown = self.proposal.shown.get(gap.name) if gap.family == "trait" else None
        if shown is None:
            return told
        key = "weak.taught" if shown >= TAUGHT else "weak.untaught"
        return f"{told}. {self.say(key, shown=f'{shown:.0%}')}"

    def name(self, gap: Gap) -> str:
        if gap.family == "trait":
            return next((t.name for t in self.persona.traits if t.id == gap.name), gap.name)
        if gap.family in ("topic", "learned"):
            return self.persona.topic_name(gap.name)
        if gap.family == "probe":
            return say(self.persona.language, f"report.probe.{gap.name}")
        return gap.name

    def looks(self) -> list[str]:
        """Return the rows to look at again: disputed, not learned, doubtful."""
        found = self.proposal
        lists: dict[str, list[tuple[Disputed | Look, str]]] = {
            "disputed": [
                (row, f"{self.say(f'outcome.{row.outcome}')} ({'; '.join(row.votes)})")
                for row in found.disputed
            ],
            "unlearned": [
                (row, self.say("unlearned.row", tuned=f"{row.tuned:.2f}", base=f"{row.base:.2f}"))
                for row in found.unlearned
            ],
            "doubtful": [
                (
                    row,
                    self.say(
                        "doubtful.kept" if row.kept else "doubtful.dropped",
                        quality=f"{row.quality:.0%}",
                    ),
                )
                for row in found.doubtful
            ],
        }
        lines = [f"## {self.say('looks')}", "", self.say("looks.lead")]
        for name, rows in lists.items():
            lines += ["", f"### {self.say(name)}", ""]
            if name == "unlearned" and not found.losses:
                lines.append(self.say("unlearned.unasked"))
            elif not rows:
                lines.append(self.say("none"))
            else:
                lines += [self.say(f"{name}.lead", count=len(rows)), ""]
                lines += [f"- `{r.id}` {_short(r.question)} — {told}" for r, told in rows[:LISTED]]
                if len(rows) > LISTED:
                    lines.append(self.say("more", count=len(rows) - LISTED))
        return lines

    def curve(self) -> list[str]:
        """Return whether more rows still help, in plain words."""
        curve = self.proposal.curve
        lines = [f"## {self.say('curve')}", ""]
        if curve is None:
            return [*lines, self.say("curve.none")]
        lines += [
            self.say(f"curve.{curve.measure}", scored=curve.scored),
            "",
            *_table(
                [self.say("curve.rows"), self.say("curve.mean")],
                [[str(n), f"{m:.3f}"] for n, m in zip(curve.sizes, curve.means, strict=True)],
            ),
            "",
        ]
        interval = "–" if curve.low is None else f"{curve.low:.1%} … {curve.high:.1%}"
        told = {
            "gain": f"{curve.gain:.1%}",
            "interval": interval,
            "doubled": f"{curve.doubled:.3f}",
        }
        return [*lines, self.say("curve.told", **told), "", self.say(f"curve.{curve.advice}")]

    def plan(self) -> list[str]:
        asks, held = self.proposal.plan, self.proposal.held_out_topics
        total = sum(ask.count for ask in asks)
        lines = [f"## {self.say('plan')}", ""]
        lines += [self.say("plan.teacher" if self.proposal.teacher else "plan.people", count=total)]
        if held:
            names = ", ".join(map(self.persona.topic_name, held))
            lines += ["", self.say("plan.held_out", topics=names)]
        if rowless := self.proposal.rowless_topics:
            names = ", ".join(map(self.persona.topic_name, rowless))
            lines += ["", self.say("plan.rowless", topics=names)]
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
        if cost := self.proposal.cost:
            told = {"low": f"{cost.low:.2f}", "high": f"{cost.high:.2f}", "currency": cost.currency}
            lines += ["", self.say("plan.cost", **told)]
        elif self.proposal.teacher:
            lines += ["", self.say("plan.cost.unknown")]
        return lines

    def run(self) -> list[str]:
        number = int(self.proposal.next.removeprefix("round-"))
        runs = "" if self.proposal.runs == "runs" else f" --runs {quote(self.proposal.runs)}"
        return [
            f"## {self.say('run')}",
            "",
            self.say("run.lead"),
            "",
            f"    persona run --persona {quote(self.proposal.persona)} --round {number}{runs}",
        ]


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


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    lines = [[*head]]
    lines += [["---"] * len(lines[0]), *([*row] for row in rows)]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]


def _short(text: str) -> str:
    folded = " ".join(text.split())
    return folded if len(folded) <= _CHARACTERS else f"{folded[: _CHARACTERS - 1]}…"
