"""The stage of people: rows go to Argilla, reviews come back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rounds.context import RoundContext
from rounds.layout import CARRIED_EXAMPLES, FILTERED, FILTERED_PREFERENCES
from rounds.runner import StageSpec, Work
from rounds.stages.review_rows import ReviewRows, review_rows
from workbench.console import console
from workbench.errors import UserError
from workbench.records import Example, Review
from workbench.store import write_records

if TYPE_CHECKING:
    from curation.argilla.client import Connection
    from curation.argilla.pull import Progress
    from curation.argilla.server import Server, ServerHome


def server_home(context: RoundContext) -> ServerHome:
    """Return the folder of the Argilla server that serves all rounds of ``job.runs``."""
    from curation.argilla.server_home import HOME_VARIABLE, ServerHome

    if os.environ.get(HOME_VARIABLE):
        return ServerHome.default()
    return ServerHome((context.runs / ".argilla").absolute())


def keep_mark(context: RoundContext) -> Path:
    """Return the file that says that the server was started to stay, by ``persona review up``."""
    return server_home(context).path / "stays-up"


def server_pids(context: RoundContext) -> Iterable[int]:
    """Return the process id of the running server, for the meter."""
    from curation.argilla.server import status

    pid = status(server_home(context)).pid
    return (pid,) if pid else ()


def review_stage(context: RoundContext, *, wait: bool = True) -> StageSpec:
    """Reviews of the filtered rows, pulled from Argilla.

    People's where the job waits for them or none are recorded; else the persona's recorded ones,
    submitted by the reviewers' own accounts. Without ``wait`` people's are pulled as they are.
    """
    people = by_people(context)
    names = ("gold.jsonl",) if people else ("reviews.jsonl", "gold.jsonl", "gold-reviews.jsonl")
    return StageSpec(
        "review",
        partial(_review, context, people, wait),
        inputs=(
            FILTERED,
            FILTERED_PREFERENCES,
            *((CARRIED_EXAMPLES,) if context.source_rounds else ()),
        ),
        files=persona_files(context, *names),
        settings={
            "reviewers": list(context.config.review.reviewers),
            "per_record": context.config.review.per_record,
            "people": people,
        },
        packages=("argilla",),
    )


def by_people(context: RoundContext) -> bool:
    """Return whether people review: asked for, or no reviews are recorded."""
    return context.config.review.people or not (context.persona_folder / "reviews.jsonl").exists()


def persona_files(context: RoundContext, *names: str) -> dict[str, Path]:
    """Return those of the named files that the persona's folder holds."""
    paths = {name: context.persona_folder / name for name in names}
    return {name: path for name, path in paths.items() if path.exists()}


def with_overlap(context: RoundContext, per_record: int | None) -> RoundContext:
    """Return the same job with so many reviewers for each record; None changes nothing.

    Raises:
        UserError: There are fewer reviewers than that.
    """
    review = context.config.review
    wanted = per_record or review.per_record
    if wanted > len(review.reviewers):
        raise UserError(
            f"{wanted} reviewers for each record, but there are only {len(review.reviewers)}",
            where="--reviewers-per-record" if per_record else "review.per_record",
            fix="name more of them in review.reviewers of the configuration",
        )
    changed = review.model_copy(update={"per_record": wanted})
    return replace(context, config=context.config.model_copy(update={"review": changed}))


def up(
    context: RoundContext, *, port: int | None = None, host: str = "127.0.0.1", quiet: bool = False
) -> Server:
    """Return the running server, started if it was not; ``quiet`` tells no steps of it."""
    from curation.argilla.server import start

    return start(
        server_home(context),
        context.config.review.reviewers,
        port=port,
        host=host,
        reuse=True,
        progress=None if quiet else lambda said: console.print(f"  Argilla: {said}"),
    )


def owner(server: Server) -> Connection:
    """Return the owner's connection to the embedded server."""
    from curation.argilla.client import Connection

    return Connection(server.url, server.owner_api_key)


def running(context: RoundContext) -> Server:
    """Return the server that runs already.

    Raises:
        UserError: None runs.
    """
    from curation.argilla.server import status

    if not status(server_home(context)).running:
        raise UserError("the Argilla server is not running", fix="run `persona review up` first")
    return up(context, quiet=True)


def push_rows(context: RoundContext, connection: Connection, shown: ReviewRows) -> None:
    """Put the rows into the round's dataset; those already there stay as they are."""
    from curation.argilla.push import push
    from rounds.stages.review_suggestions import judge_opinions

    pushed = push(
        connection,
        context.persona,
        context.round.name,
        shown.pushed(context.round.name),
        reviewers_per_record=context.config.review.per_record,
        exemplars=exemplars(context, [*shown.decided, *shown.rows]),
        alternatives=shown.alternatives,
        judged=judge_opinions(context, [*shown.rows, *shown.gold.examples]),
    )
    console.print(f"  {pushed.dataset}: {pushed.new} rows pushed, {pushed.already} were there")


def exemplars(context: RoundContext, rows: Sequence[Example]) -> list[Example]:
    """Return the rows that the persona names as right answers, for the guidelines."""
    sources = {f"seeds.jsonl:{line}" for line in context.persona.exemplars}
    return [row for row in rows if row.source in sources]


def _review(context: RoundContext, people: bool, wait: bool, work: Work) -> None:
    shown = review_rows(context, people=people)
    given: list[Review] = []
    final: list[Review] = []
    done = True
    if shown.candidates:  # a round that only takes rows over needs no server
        given, final, done = _asked(context, shown, people, wait, work)
    # Reviews of gold rows say how reliable a reviewer is; nothing is decided by them.
    on_gold = [review for review in given if review.record in shown.gold.outcomes]
    reviews = [review for review in given if review.record not in shown.gold.outcomes]
    work.counts.update(
        reviews=len(reviews),
        reviewers=len({review.reviewer for review in reviews}),
        gold_reviews=len(on_gold),
        adjudications=len(final),
        complete=done,
        **({"carry_over": len(shown.decided)} if shown.decided else {}),
    )
    write_records(work.out / "reviews.jsonl", reviews)
    write_records(work.out / "gold-reviews.jsonl", on_gold)
    write_records(work.out / "adjudications.jsonl", final)
    write_records(work.out / "pairs.jsonl", shown.pairs)
    # As rows of the round they name the persona, so that their chain back is whole.
    gold = [row.evolve(parents=(context.persona.record_id,)) for row in shown.gold.examples]
    write_records(work.out / "gold.jsonl", gold)


def _asked(
    context: RoundContext, shown: ReviewRows, people: bool, wait: bool, work: Work
) -> tuple[list[Review], list[Review], bool]:
    """Return what reviewers and adjudicators said on the server, and whether that is all of it."""
    from curation.argilla.pull import complete, pull
    from curation.argilla.push import pull_queue
    from curation.argilla.server import stop
    from rounds.stages.resolve import Given
    from rounds.stages.review_waiting import wait_for_adjudicator, wait_for_reviewers

    server = up(context)
    at = owner(server), context.persona, context.round.name
    try:
        push_rows(context, owner(server), shown)
        if not people:
            _submit(context, server, shown, work)
        elif wait:
            wait_for_reviewers(context, owner(server))
        given, final = pull(*at), pull_queue(*at)
        if people and wait:
            so_far = Given(shown.candidates, given, final)
            wait_for_adjudicator(context, owner(server), so_far, shown.alternatives)
            final = pull_queue(*at)
        # Nobody is waited for in an unattended round: what has no recorded review gets none.
        return given, final, not people or complete(*at)
    finally:
        # An unattended run leaves nothing behind, also when it goes on after a kill.
        if not people and not keep_mark(context).exists():
            stop(server_home(context))


def _submit(context: RoundContext, server: Server, shown: ReviewRows, work: Work) -> None:
    """Submit the persona's recorded reviews, each by its reviewer's own account."""
    from curation.argilla.client import Connection
    from curation.argilla.recorded import submit_recorded

    submitted = submit_recorded(
        context.persona_folder,
        context.persona,
        context.round.name,
        shown.pushed(context.round.name),
        {
            name: Connection(server.url, server.login(name).api_key)
            for name in context.config.review.reviewers
        },
    )
    # What was submitted before a kill counts too, so that the manifest does not depend on kills.
    work.counts.update(submitted=submitted.new + submitted.already, left_out=submitted.left_out)


def tell_logins(context: RoundContext, progress: Progress | None = None) -> None:
    """Print the address and the reviewers' logins: asked for, and the one place to show them."""
    from curation.argilla.server import show_logins, status

    url = progress.url if progress else status(server_home(context)).url
    console.print(f"  Review at {url or '(not running)'}")
    for login in show_logins(server_home(context)):
        if login.username in context.config.review.reviewers:
            console.print(f"    user {login.username}   password {login.password}")
