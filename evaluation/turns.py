"""What an arm is asked, turn by turn, and how its answer is filed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from evaluation.arms import Arm
from evaluation.probes import DRIFT, PROBES, REFUSAL_SETS
from workbench.inference.completion import Completion
from workbench.prompts import with_system
from workbench.records import Example, Message, Messages, Response

SILENCE = "…"
"""What stands for an empty answer in the conversation that goes on after it."""


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
    def place(self) -> tuple[str, str, int, int]:
        """What tells it from every other turn of an evaluation."""
        return self.arm.name, self.example.id, self.seed, self.number

    def after(self, text: str) -> Turn | None:
        """Return the turn that follows an answer; None where the conversation ends."""
        if not 0 < self.number < len(self.example.prompt):
            return None
        answer = Message(role="assistant", content=text or SILENCE)
        prompt = (*self.prompt, answer, self.example.prompt[self.number])
        return Turn(self.arm, self.example, self.seed, self.number + 1, prompt)

    def response(self, completion: Completion) -> Response:
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
            parents=(self.example.id,),
        )


def first_turn(arm: Arm, example: Example, seed: int) -> Turn:
    """Return the first turn of an example; of a drift conversation only its opening is asked."""
    if example.kind == DRIFT:
        return Turn(arm, example, seed, 1, example.prompt[:1])
    return Turn(arm, example, seed, 0, example.prompt)
