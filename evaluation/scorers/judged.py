"""Scorer: what a judge says of the traits, of the content, and of how a probe was met."""

from __future__ import annotations

from evaluation.judge import CONTENT, HANDLED, by_ragas, content_question, probe_question
from evaluation.scorers.registry import NO_JUDGE, Job, score_of, scorer
from workbench.console import track
from workbench.inference.judge import JudgeQuestion, ask_judge, trait_questions, transcript
from workbench.records import Response, Score


@scorer("judge")
def judged(job: Job) -> list[Score]:
    """Score what needs a judge; unscored where none is configured or it failed.

    Held-out questions are judged by the spec's traits and by their content, probes by whether
    they were met as the spec wants.
    """
    asked = [(response, question) for response in job.responses for question in _of(job, response)]
    asked.sort(key=lambda pair: _order(job, pair[1].metric))
    if job.judge is None:
        return [score_of(r, question.metric, unscored=NO_JUDGE) for r, question in asked]
    questions = [question for _, question in asked]
    with track("asking the judge", len(questions) * job.votes) as advance:
        verdicts = ask_judge(
            job.judge, questions, advance, votes=job.votes, cache=job.cache, put=by_ragas
        )
    return [
        score_of(response, question.metric, verdict.value, verdict.failure)
        for (response, question), verdict in zip(asked, verdicts, strict=True)
    ]


def _of(job: Job, response: Response) -> list[JudgeQuestion]:
    """Return what is asked about one response."""
    asked = transcript(response.prompt)
    reference = job.references.get(response.prompt_id, "")
    if response.probe:
        question = probe_question(job.persona, response.probe, asked, response.text, reference)
        return [question] if question else []
    traits = trait_questions(job.persona, response.prompt, response.text)
    return [*traits, content_question(job.persona, asked, response.text, reference)]


def _order(job: Job, metric: str) -> int:
    """Return the place of a metric: the traits in the spec's order, then content, then probes."""
    names = [*(trait.id for trait in job.persona.traits), CONTENT, HANDLED]
    return names.index(metric)
