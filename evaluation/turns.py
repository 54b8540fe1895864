"""What an arm is asked, turn by turn, and how its answer is filed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from evaluation.arms import Arm
from evaluation.probes import PROBES, REFUSAL_SETS
from workbench.dialogue.players import Move, scripted_move
from workbench.dialogue.users import SimulatedUser
from workbench.inference.completion import Completion
from workbench.prompts import with_system
from workbench.records import Example, Message, Messages, ProbePrompt, Response
from workbench.stats.comparison import DRIFT

SILENCE = "…"
"""What stands for an empty answer in the conversation that goes on after it."""
NO_MOVE = Move()
"""What follows where nobody says anything more."""


@dataclass(frozen=True)
class Turn:
    """One answer that is wanted of an arm."""

    arm: Arm
    example: Example
    """Whose prompt is asked; its answer is never shown."""
    seed: int
    """Of sampled decoding; 0 for the greedy answer."""
    number: int
    """From 1 in a conversation of several turns, else 0."""
    prompt: Messages
    """The conversation up to this turn, the arm's own earlier answers included."""

    @property
    def asked(self) -> Messages:
        """The prompt as the model gets it, the arm's system prompt included."""
        return with_system(self.arm.system, self.prompt) if self.arm.system else self.prompt

    @property
    def draw(self) -> int:
        """Seed of this answer's random numbers; 0 for a greedy one. Prompts draw apart."""
        if not self.seed:
            return 0
        text = f"{self.seed}:{self.example.id}:{self.number}"
        return 1 + int(hashlib.sha256(text.encode()).hexdigest()[:12], 16)

    @property
    def _probe(self) -> str:
        """The probe set; a held-out row of such a kind has a topic, and is none of the probes."""
        sets = (*PROBES, *REFUSAL_SETS)
        return self.example.kind if self.example.kind in sets and not self.example.topic else ""

    @property
    def user(self) -> SimulatedUser | None:
        """Who talks, where it is a simulated user."""
        return self.example.user if isinstance(self.example, ProbePrompt) else None

    def answered(self, text: str) -> Messages:
        """Return the conversation with an answer to this turn at its end."""
        return (*self.prompt, Message(role="assistant", content=text or SILENCE))

    def scripted(self, text: str) -> Move:
        """Return what is said after an answer where no model plays a user."""
        if self.user:
            return scripted_move(self.user, self.answered(text))
        if 0 < self.number < len(self.example.prompt):
            return Move(self.example.prompt[self.number].content)
        return Move()

    def after(self, text: str, move: Move) -> Turn | None:
        """Return the turn that follows an answer; None where the conversation ends."""
        if not move.text:
            return None
        prompt = (*self.answered(text), Message(role="user", content=move.text))
        return Turn(self.arm, self.example, self.seed, self.number + 1, prompt)

    def response(self, completion: Completion, move: Move = NO_MOVE) -> Response:
        """Return the record of an answer to this turn, or of why there is none."""
        return Response(
            arm=self.arm.name,
            prompt_id=self.example.id,
            prompt=self.prompt,
            text=completion.text,
            topic=self.example.topic,
            tokens=completion.tokens,
            unanswered=completion.reason,
            reasoning=completion.reasoning,
            probe=self._probe,
            turn=self.number,
            seed=self.seed,
            ended=move.end,
            ended_why=move.reason,
            parents=(self.example.id,),
        )


def first_turn(arm: Arm, example: Example, seed: int) -> Turn:
    """Return the first turn of an example; of a drift conversation only its opening is asked."""
    if example.kind == DRIFT:
        return Turn(arm, example, seed, 1, example.prompt[:1])
    return Turn(arm, example, seed, 0, example.prompt)
