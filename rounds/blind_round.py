"""``persona evaluate --people``: a blind round of two answers each, on the Argilla server."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rounds.context import RoundContext
from rounds.layout import COMPARISON, RESPONSES
from rounds.review_server import ReviewServer
from rounds.runner import StageSpec, Work
from workbench.console import console
from workbench.errors import UserError
from workbench.store import write_json, write_records

if TYPE_CHECKING:
    from evaluation.people import Blind, People

STAGE = "people"


def people(context: RoundContext) -> People:
    """Push the blind pairs of an evaluated round, and count what people chose so far.

    The same command again adds nothing twice and counts anew. The server is left running for the
    reviewers; ``persona review down`` stops it.

    Raises:
        UserError: The round was not evaluated, or only one arm answered, or Argilla refuses.
    """
    from evaluation.people import People
    from rounds.pipeline import run_spec

    run_spec(context, people_stage(context))
    text = (context.round.stage(STAGE) / "people.json").read_text("utf-8")
    return People.model_validate_json(text)


def people_stage(context: RoundContext) -> StageSpec:
    """The blind round: pairs shown, choices pulled, win-rates counted."""
    return StageSpec(
        STAGE,
        partial(_people, context),
        inputs=(RESPONSES, COMPARISON),
        settings={"per_record": context.config.review.per_record},
        packages=("argilla", "scipy"),
    )


def _people(context: RoundContext, work: Work) -> None:
    from curation.argilla.pull import pull
    from curation.argilla.push import push
    from evaluation.people import count

    shown = blind_pairs(context, work)
    name = f"{context.round.name}-{STAGE}"
    server = ReviewServer.of(context)
    connection = server.connect(start=True)
    server.stay()
    pushed = push(
        connection,
        context.persona,
        name,
        shown.examples,
        reviewers_per_record=context.config.review.per_record,
        alternatives=shown.alternatives,
    )
    console.print(f"  {pushed.dataset}: {pushed.new} pairs pushed, {pushed.already} were there")
    reviews = pull(connection, context.persona, name)
    found = count(shown, reviews)
    open_pairs = sum(pairing.open for pairing in found.pairings)
    if open_pairs:
        server.print_logins()
        console.print("  run the same command again to count what they chose")
    work.counts.update(pairs=len(shown.pairs), open=open_pairs, votes=found.votes)
    write_json(work.out / "key.json", shown.model_dump(mode="json", exclude={"examples"}))
    write_records(work.out / "pairs.jsonl", shown.examples)
    write_records(work.out / "reviews.jsonl", reviews)
    write_json(work.out / "people.json", found.model_dump(mode="json"))


def blind_pairs(context: RoundContext, work: Work) -> Blind:
    """Return the pairs of the headline's arm with the base and with the base plus prompt.

    Raises:
        UserError: Only one arm answered.
    """
    from evaluation.people import blind
    from evaluation.report.results import headline_arm
    from workbench.language import say

    comparison = work.read(COMPARISON)
    arm = headline_arm(comparison)
    if arm is None:
        raise UserError(
            "only one arm answered, so there is nothing to compare",
            where=str(context.round.folder),
            fix="train first, then `persona evaluate`",
        )
    references = [name for name in (comparison.base, comparison.prompted) if name and name != arm]
    return blind(
        work.read(RESPONSES),
        arm,
        references,
        empty=say(context.persona.language, "report.empty"),
        seed=context.config.seed,
    )
