"""The pipeline of conversations: a simulated user and the teacher in persona, turn by turn.

:func:`talks_pipeline` is to be read from top to bottom; :mod:`generation.teacher` runs it. A row is
one conversation from its first message to its end, and waits for no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from pydantic import InstanceOf

from generation.conversations import (
    ANSWERS,
    CONVERSATION,
    CRITIQUES,
    OFF_PERSONA,
    REPAIRS,
    PlayedTalk,
    Repair,
)
from generation.distilabel.pipeline import RowPipeline, RowsOf
from generation.distilabel.tasks import Columns, EndpointLLM, Row, RowStep, RowTask
from generation.live_rows import LiveRow
from generation.pairs import JudgeAccount
from generation.pipelines.judging import judged
from generation.prompts import render
from generation.teacher_client import TeacherClient
from workbench.dialogue.players import STEP as USER_STEP
from workbench.dialogue.players import move_of, scripted_move, user_request
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint
from workbench.inference.exchange import EndpointRequest
from workbench.persona import Persona
from workbench.prompts import with_system
from workbench.records import Critique, TurnFate, as_messages, user_prompt


@dataclass
class TalkJob:
    """What the steps of all turns share."""

    client: TeacherClient
    persona: Persona
    least: float
    """Share of the traits below which an answer is critiqued."""
    judge: Endpoint | None = None
    user: Endpoint | None = None
    """Plays the users; without one they say their own lines."""
    account: JudgeAccount = field(default_factory=JudgeAccount)

    def llm(self, step: str) -> EndpointLLM:
        """Return the teacher, asked under a step's name."""
        return EndpointLLM(client=self.client, step=step)


def talks_pipeline(
    job: TalkJob, talks: Sequence[PlayedTalk], teachers: Sequence[int]
) -> RowPipeline:
    """Return the pipeline that plays conversations to their ends.

    They begin with their first messages, and are played in place.
    """
    persona, least = job.persona, job.least
    begun = [
        {"talk": talk, "seed": talk.seed, "teacher": teacher}
        for talk, teacher in zip(talks, teachers, strict=True)
    ]
    score = partial(
        judged, persona=persona, client=job.client, judge=job.judge, account=job.account
    )
    with RowPipeline("conversations", flows=True) as pipeline:
        rows: Any = RowsOf(name="first_messages", rows=begun)
        for turn in range(1, max((talk.user.turns for talk in talks), default=0) + 1):
            rows = rows >> ReplyInPersona(name=f"reply_{turn}", llm=job.llm(ANSWERS))
            rows = score(rows, name=f"reply_{turn}")
            critic = Critic(
                name=f"critic_{turn}", llm=job.llm(CRITIQUES), persona=persona, least=least
            )
            mend = Mend(name=f"repair_{turn}", llm=job.llm(REPAIRS), persona=persona)
            rows = score(rows >> critic >> mend, of="mended", name=f"repair_{turn}")
            rows = rows >> EndTurn(name=f"end_{turn}", least=least)
            rows = rows >> _users_part(job, turn) >> ShowEnded(name=f"shown_{turn}", job=job)
    return pipeline


def _users_part(job: TalkJob, turn: int) -> NextMessage | OwnLines:
    if job.user is None:
        return OwnLines(name=f"user_{turn}")
    llm = EndpointLLM(client=job.client, step=USER_STEP, endpoint=job.user)
    return NextMessage(name=f"user_{turn}", llm=llm, persona=job.persona)


class TeacherTurn(RowTask):
    """Something that the teacher says; where it says nothing, the conversation ends."""

    def lost(self, row: Row, completion: Completion) -> Row:
        """End the conversation."""
        fate: TurnFate = "filtered" if completion.end == "filtered" else "failed"
        detail = ", ".join(filter(None, (self.llm.step, completion.about())))
        row["talk"].lose(fate, completion.reason, detail)
        return {"texts": [], "mended": []}


class ReplyInPersona(TeacherTurn):
    """The teacher's next answer, in persona."""

    takes: ClassVar[Columns] = ("talk",)
    gives: ClassVar[Columns] = ("prompt", "texts", "mended")
    """The answer, alone in a list, and what it answers."""

    def wants(self, row: Row) -> bool:
        """Return whether the conversation goes on."""
        return not row["talk"].end

    def format_input(self, input: Row) -> list[dict[str, str]]:
        """Ask in persona."""
        talk: PlayedTalk = input["talk"]
        return as_messages(with_system(talk.system, talk.chat))

    def format_output(self, output: str | None, input: Row) -> Row:
        """Begin the turn with the answer."""
        return {"prompt": input["talk"].chat, "texts": [output], "mended": [], "critique": None}


class Critic(TeacherTurn):
    """What is wrong with an answer that shows too few traits."""

    persona: Persona
    least: float

    takes: ClassVar[Columns] = ("talk", "texts", "texts_scores")
    """The answer and its scores."""
    gives: ClassVar[Columns] = ("critique",)
    """The critique."""

    def wants(self, row: Row) -> bool:
        """Return whether there is an answer that shows too little."""
        return any(scores.share < self.least for scores in row["texts_scores"])

    def format_input(self, input: Row) -> list[dict[str, str]]:
        """Ask what exactly to change."""
        (answer,), (scores,) = input["texts"], input["texts_scores"]
        missing = [trait.about for trait in self.persona.traits if trait.id in scores.missing]
        chat = input["talk"].chat
        text = render("critique", self.persona, chat=chat, answer=answer, missing=missing)
        return as_messages(user_prompt(text))

    def format_output(self, output: str | None, input: Row) -> Row:
        """Keep the critique with the conversation."""
        talk: PlayedTalk = input["talk"]
        critique = Critique(
            prompt=talk.chat,
            answer=input["texts"][0],
            missing=input["texts_scores"][0].missing,
            text=output or "",
            parents=talk.parents,
        )
        talk.critiques.append(critique)
        return {"critique": critique}


class Mend(TeacherTurn):
    """The same answer in character."""

    persona: Persona

    takes: ClassVar[Columns] = ("talk", "texts", "critique")
    gives: ClassVar[Columns] = ("mended",)
    """The repaired answer, alone in a list."""

    def wants(self, row: Row) -> bool:
        """Return whether the turn's answer was critiqued."""
        return bool(row["texts"]) and row["critique"] is not None

    def format_input(self, input: Row) -> list[dict[str, str]]:
        """Ask for the answer anew, in the conversation."""
        talk: PlayedTalk = input["talk"]
        (answer,), question = input["texts"], talk.chat[-1].content
        critique = input["critique"].text
        text = render("repair", self.persona, question=question, answer=answer, critique=critique)
        return as_messages(with_system(talk.system, (*talk.chat[:-1], *user_prompt(text))))

    def format_output(self, output: str | None, input: Row) -> Row:
        """Return the repaired answer."""
        return {"mended": [output]}


class EndTurn(RowStep):
    """Takes the answer, or its repair, into the conversation where it shows enough."""

    label: str = "conversations"
    least: float

    takes: ClassVar[Columns] = ("talk", "texts", "texts_scores", "mended", "mended_scores")
    """Answer and repair with their scores."""

    def change(self, row: Row) -> Row:
        """End the turn."""
        talk: PlayedTalk = row["talk"]
        texts, mended = row["texts"], row["mended"]
        if texts and not mended:
            talk.take(texts[0], row["texts_scores"][0], "kept")
        elif mended:
            (before,), (after,) = row["texts_scores"], row["mended_scores"]
            if after.share < self.least:
                talk.lose("filtered", OFF_PERSONA, f"lacks {', '.join(after.missing)}")
            else:
                scores = before, after
                repair = Repair(talk.chat, texts[0], mended[0], scores, row["critique"])
                talk.repairs.append(repair)
                talk.take(mended[0], after, "repaired")
        return {"texts": [], "mended": [], "critique": None}


class NextMessage(RowTask):
    """The user's next message by a model, with the roles swapped; it never sees the persona."""

    persona: Persona
    """Gives the language."""

    takes: ClassVar[Columns] = ("talk",)

    def wants(self, row: Row) -> bool:
        """Return whether the conversation goes on."""
        return not row["talk"].end

    def request(self, row: Row) -> EndpointRequest:
        """Ask as a user model is asked anywhere."""
        talk: PlayedTalk = row["talk"]
        return user_request(talk.user, talk.chat, self.persona.language, talk.seed)

    def take(self, row: Row, parts: Any, completions: Sequence[Completion]) -> Row:
        """Go on, or end."""
        talk: PlayedTalk = row["talk"]
        talk.move(move_of(talk.user, talk.chat, completions[0]))
        return {}


class OwnLines(RowStep):
    """The user's next message by their own lines."""

    takes: ClassVar[Columns] = ("talk",)

    def change(self, row: Row) -> Row:
        """Go on, or end."""
        talk: PlayedTalk = row["talk"]
        if not talk.end:
            talk.move(scripted_move(talk.user, talk.chat))
        return {}


class ShowEnded(RowStep):
    """Shows a conversation once it has ended."""

    job: InstanceOf[TalkJob]

    takes: ClassVar[Columns] = ("talk",)
    gives: ClassVar[Columns] = ("shown",)
    """Whether it was shown."""

    def change(self, row: Row) -> Row:
        """Show the last answer with all that went before, or why there is none."""
        talk: PlayedTalk = row["talk"]
        if not talk.end or row.get("shown"):
            return {}
        live = LiveRow(
            kind=CONVERSATION,
            topic=talk.user.topic,
            teacher=talk.teacher,
            prompt=talk.answered[:-1],
            answer=talk.answered[-1].content if talk.answered else "",
            dropped="" if talk.answered else talk.why,
        )
        self.job.client.live.add(live)
        return {"shown": True}
