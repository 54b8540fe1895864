"""The blind round: pairs of arms' answers for people, and what their choices amount to.

In: responses of two arms or more, later the reviews of their pairs. Out: :class:`Blind`, what is
put before people, and :class:`People`, what they chose. Called by the stage ``people``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from hashlib import sha256

from workbench.records import Example, Response, Review
from workbench.stats.significance import holm_within, share_interval, sign_test
from workbench.values import Frozen

_VOTES = {"candidate": 1, "alternative": -1, "tie": 0, "both_bad": 0}


class BlindPair(Frozen):
    """Two arms' answers to one prompt, and which of them is shown as the candidate."""

    record: str
    """Id of the example that stands for the pair in the review tool."""
    prompt_id: str
    arm: str
    """The arm that the question is about."""
    against: str
    candidate: str
    """Which of the two is the candidate: a coin, so that its place and length say nothing."""


class Blind(Frozen):
    """What is put before people."""

    examples: tuple[Example, ...]
    """The candidates' answers as rows; nothing in them names an arm."""
    alternatives: dict[str, str]
    """Example id → the other arm's answer."""
    pairs: tuple[BlindPair, ...]
    """The key to it, which reviewers never see."""
    same: dict[str, int]
    """Arm compared with → prompts on which both answers are one text: ties, not shown."""


class Pairing(Frozen):
    """One arm against another by people's choices; a prompt counts once."""

    arm: str
    against: str
    wins: int
    """Prompts on which more people chose the arm."""
    losses: int
    ties: int
    """As many for either, called equal or both bad, or the same text."""
    votes: int
    open: int
    """Pairs that nobody has answered yet."""
    share: float | None
    """Wins among the decided prompts."""
    low: float | None
    """Ends of its 95 % Wilson interval."""
    high: float | None
    p: float | None
    """Two-sided p of the exact sign test."""
    p_adjusted: float | None = None
    """The same after Holm's correction over the pairings."""

    @property
    def excludes_chance(self) -> bool:
        """Whether the interval lies wholly on one side of one half."""
        return (
            self.low is not None and self.high is not None and (self.low > 0.5 or self.high < 0.5)
        )


class People(Frozen):
    """The blind round's outcome: ``people.json``."""

    pairings: tuple[Pairing, ...]
    reviewers: int
    votes: int

    def pairing(self, arm: str, against: str) -> Pairing | None:
        """Return the pairing of two arms that has a share, or None."""
        for one in self.pairings:
            if (one.arm, one.against) == (arm, against) and one.share is not None:
                return one
        return None


def blind(
    responses: Sequence[Response],
    arm: str,
    against: Iterable[str],
    *,
    empty: str = "–",
    seed: int = 0,
) -> Blind:
    """Return the pairs of ``arm`` and each arm of ``against`` on the held-out prompts.

    Responses to probes are left out, and of several seeds the first is taken. ``seed`` decides
    which of the two is the candidate; ``empty`` is shown for an answer without words.
    """
    answers: dict[str, dict[str, Response]] = defaultdict(dict)
    for response in responses:
        if not response.probe and not response.unanswered:
            answers[response.arm].setdefault(response.prompt_id, response)
    examples: list[Example] = []
    alternatives: dict[str, str] = {}
    pairs: list[BlindPair] = []
    same = dict.fromkeys(against, 0)
    for other in same:
        for prompt_id, own in answers[arm].items():
            theirs = answers[other].get(prompt_id)
            if theirs is None:
                continue
            if own.text.strip() == theirs.text.strip():
                same[other] += 1
                continue
            coin = sha256(f"{seed}\0{own.id}\0{theirs.id}".encode()).digest()
            first, second = (own, theirs) if coin[0] & 1 else (theirs, own)
            # One answer can stand in two pairs, which are two rows all the same.
            example = _as_row(first, (own.id, theirs.id), f"blind-{coin.hex()[:16]}", empty)
            examples.append(example)
            alternatives[example.id] = second.text.strip() or empty
            pairs.append(
                BlindPair(
                    record=example.id,
                    prompt_id=prompt_id,
                    arm=arm,
                    against=other,
                    candidate=first.arm,
                )
            )
    return Blind(examples=tuple(examples), alternatives=alternatives, pairs=tuple(pairs), same=same)


def _as_row(response: Response, parents: tuple[str, str], kind: str, empty: str) -> Example:
    return Example(
        prompt=response.prompt,
        answer=response.text.strip() or empty,
        topic=response.topic,
        kind=kind,
        origin="imported",  # reviewers see it: it must not name an arm, not even in part
        parents=parents,
    )


def count(shown: Blind, reviews: Iterable[Review]) -> People:
    """Return what people chose so far.

    A prompt is won by the arm that more of its reviewers chose. Reviewers of one prompt depend on
    each other, so the interval is over prompts: Wilson 1927, "Probable inference", JASA 22. Reviews
    whose ``better`` is not candidate, alternative, tie or both_bad are passed over.
    """
    pairs = {pair.record: pair for pair in shown.pairs}
    votes: dict[str, list[int]] = defaultdict(list)
    reviewers = set()
    for review in reviews:
        vote = _VOTES.get(review.answers.get("better") or "")
        if review.status != "submitted" or vote is None or review.record not in pairs:
            continue
        pair = pairs[review.record]
        votes[review.record].append(vote if pair.candidate == pair.arm else -vote)
        reviewers.add(review.reviewer)
    pairings = [_pairing(shown, other, votes) for other in shown.same]
    adjusted = holm_within({one.against: one.p for one in pairings})
    return People(
        pairings=tuple(
            one.model_copy(update={"p_adjusted": adjusted.get(one.against)}) for one in pairings
        ),
        reviewers=len(reviewers),
        votes=sum(map(len, votes.values())),
    )


def _pairing(shown: Blind, against: str, votes: dict[str, list[int]]) -> Pairing:
    pairs = [pair for pair in shown.pairs if pair.against == against]
    sums = [sum(votes[pair.record]) for pair in pairs if votes.get(pair.record)]
    wins, losses = sum(s > 0 for s in sums), sum(s < 0 for s in sums)
    decided = wins + losses
    low, high = share_interval(wins, decided) if decided else (None, None)
    return Pairing(
        arm=pairs[0].arm if pairs else "",
        against=against,
        wins=wins,
        losses=losses,
        ties=len(sums) - decided + shown.same[against],
        votes=sum(len(votes.get(pair.record, ())) for pair in pairs),
        open=len(pairs) - len(sums),
        share=wins / decided if decided else None,
        low=low,
        high=high,
        p=sign_test(wins, losses),
    )
