"""A blind round: people choose between two arms' answers on the Argilla server.

In: an evaluated round. Out: the stage ``people``: the key, the choices, and win-rates.
``persona evaluate --people`` calls it.
"""

from __future__ import annotations

from functools import partial

from curation.argilla.push import push
from evaluation.people import Blind, People, count
from rounds.context import RoundContext
from rounds.human_reviews import pull_merged
from rounds.layout import BLIND_KEY, BLIND_PAIRS, BLIND_REVIEWS, COMPARISON, PEOPLE, RESPONSES
from rounds.pipeline import run_spec
from rounds.review_server import ReviewServer
from rounds.runner import StageSpec, Work
from workbench.console import console
from workbench.errors import UserError
from workbench.language import say


def run_blind_round(context: RoundContext) -> People:
    """Push the blind pairs of an evaluated round, and count what people chose so far.

    The same call again adds nothing twice and counts anew. The server stays up for the reviewers,
    until ``persona review down``.

    Raises:
        UserError: The round was not evaluated, or only one arm answered, or Argilla refuses.
    """
    spec = StageSpec(
        PEOPLE.stage,
        partial(_blind_round, context),
        inputs=(RESPONSES, COMPARISON),
        settings={"per_record": context.config.review.per_record},
        packages=("argilla", "scipy"),
    )
    run_spec(context, spec)
    return context.round.read(PEOPLE)


def _blind_round(context: RoundContext, work: Work) -> None:
    blind = blind_pairs(context, work)
    name = f"{context.round.name}-{PEOPLE.stage}"
    server = ReviewServer.of(context)
    connection = server.connect(start=True)
    server.stay()
    pushed = push(
        connection,
        context.persona,
        name,
        blind.examples,
        reviewers_per_record=context.config.review.per_record,
        alternatives=blind.alternatives,
        reviewers=server.admitted,
    )
    console.print(f"  {pushed.line('pair')}")
    before = context.round.read_if_there(BLIND_REVIEWS)
    reviews = pull_merged(context, connection, name, before).reviews
    people = count(blind, reviews)
    open_pairs = sum(pairing.open for pairing in people.pairings)
    if open_pairs:
        server.print_logins()
        console.print("  run the same command again to count what they chose")
    work.counts.update(pairs=len(blind.pairs), open=open_pairs, votes=people.votes)
    work.write(BLIND_KEY, blind.model_dump(mode="json", exclude={"examples"}))
    work.write(BLIND_PAIRS, blind.examples)
    work.write(BLIND_REVIEWS, reviews)
    work.write(PEOPLE, people)


def blind_pairs(context: RoundContext, work: Work) -> Blind:
    """Return the pairs of the headline's arm with the base and with the base plus prompt.

    Raises:
        UserError: Only one arm answered.
    """
    from evaluation.people import blind

    comparison = work.read(COMPARISON)
    arm = comparison.headline
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
