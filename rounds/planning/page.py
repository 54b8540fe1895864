"""The proposal as a page for reviewers and engineers, in the persona's language.

In: a :class:`Proposal`. Out: Markdown, which :mod:`rounds.planning.next_round` writes and the
command prints.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from shlex import quote

from evaluation.weakness import Gap
from rounds.layout import round_number
from rounds.planning.proposal import Proposal
from rounds.planning.rows_to_review import RowToReview
from workbench.language import say
from workbench.persona import Persona
from workbench.text import shortened

LISTED = 12
"""Rows that a list names; the others are counted, and stand in ``next.json``."""
TAUGHT = 0.9
"""Share of the training rows that show a trait from which it is not the rows that lack it."""
_short = partial(shortened, characters=90)
_HEAD = ("name", "value", "against", "gap", "verdict")
_LABELLED = {True: "label_issues.kept", False: "label_issues.dropped"}
_ASKED_BY = {"probe": "probes", "turn": "conversations"}
"""Family of a place → the setting of ``evaluate`` that says how many are asked; ``rows`` else."""
_FAMILIES = ("trait", "topic", "probe", "turn", "learned")


def render_page(persona: Persona, proposal: Proposal) -> str:
    """Return the proposal as Markdown."""
    page = _Page(persona, proposal)
    parts = (
        page.title(),
        page.weak(),
        page.rows_to_review(),
        page.plan(),
        page.curve(),
        page.run(),
    )
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


class _Page:
    def __init__(self, persona: Persona, proposal: Proposal) -> None:
        self.persona, self.proposal = persona, proposal

    def say(self, key: str, **values: object) -> str:
        return say(self.persona.language, f"next.{key}", **values)

    def title(self) -> list[str]:
        names = {"name": self.persona.name, "round": self.proposal.round}
        names["next"] = self.proposal.next
        return [f"# {self.say('title', **names)}", "", self.say("lead", arm=self.arm, **names)]

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
        if senseless := self.senseless():
            lines += [senseless, ""]
        if sure:
            lines += [self.say("weak.lead", count=len(sure)), ""]
            lines += [f"- {self.sentence(gap)}" for gap in sure]
        lines += self.nearly(any_sure=bool(sure))
        if len(lines) == 2:
            lines += [self.say("weak.none")]
        if any(not gap.is_enough for gap in self.proposal.gaps):
            lines += ["", self.say("weak.few")]
        for family in _FAMILIES:
            gaps = [gap for gap in self.proposal.gaps if gap.family == family]
            if gaps:
                head = [self.say(f"head.{name}") for name in _HEAD]
                lines += ["", f"### {self.say(f'family.{family}')}", ""]
                lines += [self.say(f"note.{family}"), ""]
                lines += _table(head, map(self._cells, gaps))
        return lines

    def nearly(self, *, any_sure: bool) -> list[str]:
        """Return the gaps that only the correction leaves open, and what settles them."""
        nearly = [gap for gap in self.proposal.gaps if gap.needed]
        if not nearly:
            return []
        lead = self.say("weak.nearly" if any_sure else "weak.nearly.alone", count=len(nearly))
        lines = [
            self.say(
                f"weak.nearly.{'rows' if gap.family == 'learned' else 'one'}",
                gap=self.sentence(gap),
                prompts=gap.prompts,
                needed=gap.needed,
                setting=_ASKED_BY.get(gap.family, "rows"),
            )
            for gap in nearly
        ]
        return ["", lead, "", *(f"- {line}" for line in lines)]

    def senseless(self) -> str:
        """Return that the arm makes too little sense; empty where it makes enough, or is old."""
        if self.proposal.outcome not in ("harmful", "partial", "marks", "senseless"):
            return ""
        count, answers = self.proposal.senseless
        return self.say(
            f"outcome.{self.proposal.outcome}", arm=self.arm, count=count, answers=answers
        )

    def _cells(self, gap: Gap) -> list[str]:
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

    def rows_to_review(self) -> list[str]:
        """Return the rows to look at again: disputed, not learned, with a doubtful label."""
        proposal = self.proposal
        lists: dict[str, list[tuple[RowToReview, str]]] = {
            "disputed": [
                (row, f"{self.say(f'outcome.{row.outcome}')} ({'; '.join(row.votes)})")
                for row in proposal.disputed
            ],
            "unlearned": [
                (row, self.say("unlearned.row", tuned=f"{row.tuned:.2f}", base=f"{row.base:.2f}"))
                for row in proposal.unlearned
            ],
            "label_issues": [
                (row, self.say(_LABELLED[row.label], quality=f"{row.quality:.0%}"))
                for row in proposal.label_issues
            ],
        }
        lines = [f"## {self.say('looks')}", "", self.say("looks.lead")]
        for name, rows in lists.items():
            lines += ["", f"### {self.say(name)}", ""]
            if name == "unlearned" and not proposal.losses:
                lines.append(self.say("unlearned.unasked"))
            elif not rows:
                lines.append(self.say("none"))
            else:
                lines += [self.say(f"{name}.lead", count=len(rows)), ""]
                lines += [f"- `{r.id}` {_short(r.question)} — {why}" for r, why in rows[:LISTED]]
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
        forecast = {
            "gain": f"{curve.gain:.1%}",
            "interval": interval,
            "doubled": f"{curve.doubled:.3f}",
        }
        advice = self.say(f"curve.{curve.advice}")
        return [*lines, self.say("curve.forecast", **forecast), "", advice]

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
            money = {"low": f"{cost.low:.2f}", "high": f"{cost.high:.2f}"}
            lines += ["", self.say("plan.cost", currency=cost.currency, **money)]
        elif self.proposal.teacher:
            lines += ["", self.say("plan.cost.unknown")]
        return lines

    def run(self) -> list[str]:
        number = round_number(self.proposal.next)
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
