"""The wording of a report: numbers and names as a reader sees them, in the persona's language.

Every part of the report and its templates (there as ``t``) put things by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from workbench.commands import RoundOptions
from workbench.inference.judge import meaning_of
from workbench.language import phrases, say
from workbench.persona import FIDELITY, Persona
from workbench.stats import Difference
from workbench.stats.agreement import RaterAgreement

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Wording:
    """The report's phrases in one language."""

    persona: Persona
    at: RoundOptions | None = None
    """What names the round in the commands of phrases."""

    @property
    def language(self) -> str:
        """Code of the language, as HTML's ``lang`` takes it."""
        return self.persona.language

    def __call__(self, key: str, **values: object) -> str:
        """Return the phrase ``report.<key>`` with ``values`` filled in, its commands to paste."""
        phrase = say(self.language, f"report.{key}", **values)
        return self.at.filled(phrase, marks="") if self.at else phrase

    def known(self, group: str, name: str) -> str:
        """Return the phrase ``report.<group>.<name>``, or the name itself where there is none."""
        phrase = phrases(self.language).get(f"report.{group}.{name}")
        return phrase or name.replace("_", " ")

    def arm(self, name: str) -> str:
        """Return an arm's name; one that is put together of known parts is named by them."""
        known = phrases(self.language)
        parts = [known.get(f"report.arm.{part}") for part in name.split("+")]
        return (
            known.get(f"report.arm.{name}")
            or " + ".join(p for p in parts if p and all(parts))
            or name
        )

    def arm_about(self, name: str) -> str:
        """Return in a sentence what an arm is; empty for one that was added by name."""
        known = phrases(self.language)
        phrase = known.get(f"report.arm_about.{name}")
        if phrase or not name.endswith("+prompt"):
            return phrase or ""
        trained = name.removesuffix("+prompt")
        return self("arm_about.prompted", arm=self.arm(trained))

    def metric(self, name: str) -> str:
        """Return the name of a trait or another metric."""
        if name == FIDELITY:
            return self("fidelity")
        traits = {trait.id: trait.name for trait in self.persona.traits}
        meanings = {
            meaning_of(trait): self("meaning.of", trait=own) for trait, own in traits.items()
        }
        return traits.get(name) or meanings.get(name) or self.known("metric", name)

    def metric_about(self, name: str) -> str:
        """Return in a sentence what a metric says; empty where the phrases do not know it."""
        return phrases(self.language).get(f"report.metric_about.{name}", "")

    def surface(self, name: str) -> str:
        """Return what a question was put on: a kind of surface, or a kind's variant by its id."""
        known = phrases(self.language)
        kind, _, number = name.rpartition("-")
        variant = f"{known.get(f'report.surface.{kind}', kind)} ({number})"
        return known.get(f"report.surface.{name}") or (variant if kind else name)

    def reason(self, name: str) -> str:
        """Return why a row was dropped or a score is missing."""
        if name.startswith("judge_http_"):
            return self("unscored.judge_http", status=name.removeprefix("judge_http_"))
        problems = self.persona.problems
        return problems.get(name) or self.known("reason", name)

    def question(self, name: str) -> str:
        """Return the name of what reviewers were asked; ``problem:<id>`` is one problem."""
        if name.startswith("problem:"):
            return self.reason(name.removeprefix("problem:"))
        return self.known("question", name)

    def percent(self, value: float | None) -> str:
        """Return a share as whole percent, or a dash where there is none."""
        return "–" if value is None else f"{round(value * 100) or 0}%".replace("-", MINUS)

    def share(self, value: float) -> str:
        """Return a share as percent, one decimal, so that a small one does not read as none."""
        return f"{value * 100:.1f}%"

    def points(self, value: float) -> str:
        """Return a difference of shares in signed percentage points, one decimal."""
        return _signed(value * 100, 1)

    def interval(self, difference: Difference) -> str:
        """Return the interval of a difference in percentage points; a dash where there is none."""
        if difference.method == "percentile" and difference.low == difference.high:
            # Resampling values that are all alike says nothing of what else could have come.
            return self("interval.same")
        return self.point_range(difference.low, difference.high)

    def change(self, difference: Difference | None) -> dict[str, object]:
        """Return a difference in the parts that phrases name; dashes where there is none."""
        if difference is None:
            return {"points": "–", "interval": "–"}
        points, interval = self.points(difference.mean), self.interval(difference)
        return {"points": points, "interval": interval, "pairs": difference.pairs}

    def point_range(self, low: float | None, high: float | None) -> str:
        """Return the interval of a difference in percentage points; a dash where there is none."""
        return self._ends(self.points, low, high)

    def range(self, low: float | None, high: float | None) -> str:
        """Return the interval of a share in whole percent; a dash where there is none."""
        return self._ends(self.percent, low, high)

    def between(self, low: float | None, high: float | None) -> str:
        """Return the interval of a plain number; a dash where there is none."""
        return self._ends(self.number, low, high)

    def _ends(self, word: Callable[[float], str], low: float | None, high: float | None) -> str:
        if low is None or high is None:
            return "–"
        return self("interval", low=word(low), high=word(high))

    def kappa(self, agreement: RaterAgreement) -> str:
        """Return an agreement with its interval, or why there is none."""
        if agreement.value is None:
            return self.reason(agreement.unscored)
        ends = self.between(agreement.low, agreement.high)
        return f"{self.number(agreement.value)} ({ends})"

    def p(self, value: float | None) -> str:
        """Return a p-value with three decimals; a dash where there is none."""
        if value is None:
            return "–"
        return "< 0.001" if value < 0.001 else f"{value:.3f}"

    def seconds(self, value: float) -> str:
        """Return a duration: seconds below two minutes, then minutes and seconds."""
        if value < 120:
            return self("seconds", seconds=f"{value:.1f}" if value < 10 else f"{value:.0f}")
        return self("minutes", minutes=int(value // 60), seconds=f"{int(value % 60):02d}")

    def number(self, value: float) -> str:
        """Return a plain number with two decimals."""
        return _signed(value, 2).removeprefix("+")

    def signed(self, value: float, digits: int) -> str:
        """Return a change with its sign."""
        return _signed(value, digits)

    def characters(self, value: float | None) -> str:
        """Return a signed number of characters; a dash where there is none."""
        return "–" if value is None else self("characters", count=_signed(value, 0))

    def value(self, value: float) -> str:
        """Return a score: a whole one plain, any other with two decimals."""
        return f"{value:.0f}" if value in (0.0, 1.0) else f"{value:.2f}"

    def count(self, value: int) -> str:
        """Return a whole number with its thousands set apart."""
        return f"{value:,}"

    def money(self, value: float, currency: str) -> str:
        """Return an amount of money, small ones with three digits that say something."""
        return f"{value:,.2f} {currency}" if value >= 1 else f"{value:.3g} {currency}"

    def mib(self, value: float) -> str:
        """Return an amount of memory in MiB, or GiB from 1024 MiB on."""
        return f"{value / 1024:.1f} GiB" if value >= 1024 else f"{value:.0f} MiB"


def _signed(value: float, digits: int) -> str:
    text = f"{abs(value):.{digits}f}"
    if not float(text):
        return text
    return (MINUS if value < 0 else "+") + text
