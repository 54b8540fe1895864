"""What ``persona review`` prints: tables of progress, agreement, decisions, and when to stop."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from curation.argilla.pull import Progress
from curation.review.agreement import Agreement
from curation.review.sessions import TOO_FAST, Movement, ReviewPace
from curation.review.stopping import FEWEST_BOTH, FEWEST_SAMPLED, TOLERATED, StopAdvice
from rounds.reviewing import DecisionCount
from workbench.persona import Persona
from workbench.stats.agreement import RaterAgreement, ShareEstimate
from workbench.text import counted

_CELLS = ": alpha, and its 95% interval"
"""What the cells of a table hold."""


def progress_table(progress: Progress, done: str) -> Table:
    """Return how far the reviewers are, in all and one by one; ``done`` says with what."""
    title = f"{progress.dataset}: {progress.completed} of {progress.total} {done}"
    table = table_of(title, "reviewer", "submitted", "discarded", "drafts", "left")
    if progress.needed < sum(one.left for one in progress.reviewers.values()):
        # What one reviewer does, others need not do: their numbers are no sum of work.
        table.caption = f"{counted(progress.needed, 'review')} needed in all, whoever gives them"
    for name, one in progress.reviewers.items():
        table.add_row(name, *map(str, (one.submitted, one.discarded, one.drafts, one.left)))
    return table


def agreement_tables(measured: Agreement, persona: Persona, width: float) -> list[Table]:
    """Return how far reviewers agree by question, topic, pair and reviewer, and on gold rows."""
    topics = {persona.topic_name(name): part for name, part in measured.topics.items()}
    gold = any(one.gold_seen for one in measured.reviewers.values())
    return [
        _by_question(measured, width),
        _by_part("topic", topics),
        _by_part("pair of reviewers", measured.pairs),
        _by_reviewer(measured),
        *([_on_gold(measured)] if gold else []),
    ]


def _by_question(measured: Agreement, width: float) -> Table:
    title = f"Agreement by question; more needed: records for an interval of {width:g}"
    table = table_of(title, "question", "alpha", "95% interval", "records", "more needed")
    same = {name for name, one in measured.questions.items() if one.value is None}
    for name, one in measured.questions.items():
        if name in same:
            continue
        needed = one.rows_needed(width)
        more = "–" if needed is None else str(needed - one.rows)
        table.add_row(name, *_value_and_interval(one), str(one.rows), more)
    if same:
        # Without a single difference there is nothing that chance could be told from.
        table.caption = f"No alpha where all gave the same answer: {', '.join(sorted(same))}"
    return table


def _by_part(what: str, parts: Mapping[str, Mapping[str, RaterAgreement]]) -> Table:
    columns = ("fidelity", "decision", "better")
    names = [name for name in columns if any(name in questions for questions in parts.values())]
    table = table_of(f"Agreement by {what}{_CELLS}", what, *names, "records")
    for part, questions in parts.items():
        cells = [_one_cell(questions.get(name)) for name in names]
        table.add_row(part, *cells, str(questions["fidelity"].rows))
    return table


def _by_reviewer(measured: Agreement) -> Table:
    table = table_of(f"Reviewers{_CELLS}", "reviewer", "reviews", "with the others", "reliability")
    for name, one in measured.reviewers.items():
        reliability = "–" if one.reliability is None else f"{one.reliability:.2f}"
        table.add_row(name, str(one.reviews), _one_cell(one.consensus), reliability)
    return table


def _on_gold(measured: Agreement) -> Table:
    title = f"Reviewers on the gold rows{_CELLS}"
    table = table_of(title, "reviewer", "with the known outcomes", "right")
    for name, one in measured.reviewers.items():
        table.add_row(name, _one_cell(one.gold), f"{one.gold_right} of {one.gold_seen}")
    return table


def table_of(title: str, first: str, *others: str, wrap: bool = False) -> Table:
    """Return a table without rows; with ``wrap``, headings take two lines where it is narrow."""
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=not wrap)
    return table


def _value_and_interval(one: RaterAgreement) -> tuple[str, str]:
    """Return alpha and its interval as text; a dash where there is none."""
    value = "–" if one.value is None else f"{one.value:.2f}"
    if one.low is None or one.high is None:
        return value, "–"
    return value, f"{one.low:.2f} to {one.high:.2f}"


def _one_cell(one: RaterAgreement | None) -> str:
    """Return alpha and its interval in one cell, which is alpha alone where there is none."""
    if one is None or one.value is None:
        return "–"
    if one.low is None or one.high is None:
        return f"{one.value:.2f}"
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def decisions_table(counts: list[DecisionCount]) -> Table:
    """Return the decisions of a round by their reason."""
    table = Table(title="Decisions", title_justify="left")
    for name in ("decision", "reason", "rows", "share", "such as"):
        table.add_column(name, justify="right" if name in ("rows", "share") else "left")
    for one in counts:
        share = "" if one.share is None else f"{one.share:.0%}"
        table.add_row(one.decision, one.reason, str(one.rows), share, one.example)
    table.add_section()
    total = sum(one.rows for one in counts if one.share is not None)
    table.add_row("all", "", str(total), "", "")
    return table


def outlook_lines(advice: StopAdvice) -> list[str]:
    """Return whether more reviews would change decisions, agreement or the curve, and what next."""
    lines = [
        f"Would more reviews change decisions? {advice.decisions}: {_hidden(advice)}",
        f"Would they change what agreement is worth? {advice.agreement}",
        f"Would more rows help, by the learning curve? {advice.curve}"
        + ("; none was measured (`persona next --curve`)" if advice.curve == "unknown" else ""),
    ]
    left_out = f"{counted(advice.rest, 'row')} that are not reviewed would be left out"
    if advice.advice == "all_reviewed":
        return [*lines, "Every row is reviewed"]
    if advice.advice == "may_stop":
        return [*lines, f"You may stop; {left_out}"]
    if advice.advice == "too_early":
        waits = []
        if advice.decisions == "unknown":
            waits.append(
                f"{FEWEST_SAMPLED} rows of the queue's random half ({advice.sampled} are reviewed)"
            )
        if advice.agreement == "unknown":
            waits.append(f"{FEWEST_BOTH} rows that two people reviewed")
        return [*lines, f"Too early to say: it takes {' and '.join(waits)}"]
    return [*lines, f"Some {advice.more} rows more; if you stop now, {left_out}"]


def _hidden(advice: StopAdvice) -> str:
    one = advice.changed
    if one.value is None or one.low is None or one.high is None:
        return "no row that stands for all is reviewed"
    sample = f"of {advice.sampled} that stand for all were changed {_share(one)}"
    if advice.hidden is None:
        return sample
    low, high = advice.hidden
    return (
        f"{low} to {high} of the {advice.rest} that are not reviewed would be, and"
        f" {int(TOLERATED * advice.rows)} may be; {sample}"
    )


def pace_table(paces: Mapping[str, ReviewPace]) -> Table:
    """Return how fast each reviewer works, for the owner: seconds a row, and rows not read."""
    lengths = ("short", "middle", "long")
    table = table_of(
        "Pace: median seconds a row", "reviewer", "rows", "all", *lengths, "too fast to read"
    )
    table.caption = f"short to long: thirds of the rows; too fast: {TOO_FAST:g} times reading speed"
    for name, one in paces.items():
        cells = (one.by_length.get(length) for length in lengths)
        seconds = ("–" if cell is None else f"{cell:.0f}" for cell in cells)
        table.add_row(name, str(one.rows), f"{one.median:.0f}", *seconds, _share(one.too_fast))
    return table


def _share(one: ShareEstimate) -> str:
    if one.value is None or one.low is None or one.high is None:
        return "–"
    return f"{one.value:.0%} [{one.low:.0%}, {one.high:.0%}]"


def movement_table(movements: Mapping[str, Mapping[str, Movement]]) -> Table:
    """Return how votes move from the first half of a session to the second, by reviewer."""
    names = {"rating": "rating", "kept": "kept", "problems": "problems", "right": "gold right"}
    table = table_of("Over a session", "reviewer", "", "first half", "second half", "difference")
    table.caption = "* moved: the 95% interval lies off zero"
    for reviewer, own in movements.items():
        for what, one in own.items():
            ends = f"{one.difference:+.2f} [{one.low:.2f}, {one.high:.2f}]"
            mark = " *" if one.moved else ""
            cells = (f"{one.before:.2f}", f"{one.after:.2f}", ends + mark)
            table.add_row(reviewer, names[what], *cells)
    return table
