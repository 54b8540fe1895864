"""A round's answers and scores as logs of Inspect, which ``inspect view`` opens.

In: an evaluated round. Out: a JSON file an arm, in Inspect's log format, version 2
(https://inspect.aisi.org.uk/eval-logs.html). ``persona export inspect`` calls it. Inspect itself is
no dependency: its pins and ours do not resolve together, and the format needs none of its code.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rounds.context import RoundContext
from rounds.layout import COMPARISON, PROBES, RESPONSES, SCORES, TEST, Manifest
from workbench.errors import UserError
from workbench.records import Response, Score
from workbench.stats import Comparison, MetricCell
from workbench.store import replace_folder, write_json

FOLDER = "inspect"
VERSION = 2
Json = dict[str, Any]


def write_inspect_logs(context: RoundContext, out: Path | None = None) -> list[Path]:
    """Write one log for each arm and return their paths; a folder of earlier logs is replaced.

    A sample is an answer: its conversation, the reviewed answer as target, and every score that it
    got. What could not be scored stands in the sample's metadata with the reason, never as a 0.

    Raises:
        UserError: The round is not evaluated, or ``out`` holds something else.
    """
    round_ = context.round
    manifest = round_.manifest(RESPONSES.stage)
    if manifest is None:
        what = f"{round_.name} is not evaluated"
        raise UserError(what, where=str(round_.folder), fix="persona evaluate")
    folder = out or round_.folder / FOLDER
    if folder.exists() and any(path.suffix != ".json" for path in folder.iterdir()):
        what = "holds something else than logs"
        raise UserError(what, where=str(folder), fix="name a folder that is new")
    responses, comparison = round_.read(RESPONSES), round_.read(COMPARISON)
    scores: dict[str, list[Score]] = defaultdict(list)
    for score in round_.read(SCORES):
        scores[score.response].append(score)
    targets = {row.id: row.answer for row in (*round_.read(TEST), *round_.read(PROBES))}
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    names = []
    for arm in comparison.arms:
        own = [one for one in responses if one.arm == arm]
        samples = _samples(own, scores, targets, manifest.counts.get("max_new_tokens", 0))
        log = _log(context, manifest, comparison, arm, samples)
        names.append(_name(log["eval"]))
        write_json(partial / names[-1], log)
    replace_folder(partial, folder)
    return [folder / name for name in names]


def _samples(
    responses: Sequence[Response],
    scores: Mapping[str, Sequence[Score]],
    targets: Mapping[str, str],
    max_new_tokens: int,
) -> list[Json]:
    """Return the samples of one arm; several seeds of a question are its epochs."""
    epochs = {seed: n for n, seed in enumerate(sorted({one.seed for one in responses}), start=1)}
    samples = []
    for one in responses:
        turn = f"/{one.turn}" if one.turn else ""
        messages = [_message(message.role, message.content) for message in one.prompt]
        answer = _message("assistant", one.text) | {"source": "generate"}
        cut = bool(max_new_tokens) and one.tokens >= max_new_tokens
        stop = "content_filter" if one.unanswered else "max_tokens" if cut else "stop"
        usage = {"input_tokens": 0, "output_tokens": one.tokens, "total_tokens": one.tokens}
        samples.append(
            {
                "id": f"{one.probe or 'held-out'}/{one.prompt_id}{turn}",
                "epoch": epochs[one.seed],
                "input": messages,
                "target": targets.get(one.prompt_id, ""),
                "messages": [*messages, answer],
                "output": {
                    "model": one.arm,
                    "choices": [{"message": answer, "stop_reason": stop}],
                    "completion": one.text,
                    "usage": usage,
                },
                "scores": {
                    # The table of samples takes its answers from the first score.
                    score.metric: {"value": score.value, "answer": one.text if n == 0 else None}
                    for n, score in enumerate(s for s in scores[one.id] if s.value is not None)
                },
                "metadata": {
                    "response": one.id,
                    "topic": one.topic,
                    "probe": one.probe,
                    "seed": one.seed,
                    "unscored": {s.metric: s.unscored for s in scores[one.id] if s.unscored},
                },
            }
        )
    return samples


def _message(role: str, content: str) -> Json:
    return {"role": role, "content": content}


def _log(
    context: RoundContext,
    manifest: Manifest,
    comparison: Comparison,
    arm: str,
    samples: list[Json],
) -> Json:
    """Return the log of one arm; its results are the means over the held-out questions."""
    persona, round_ = context.persona, context.round
    task, mark = f"{persona.id}-{round_.name}", _mark(round_.name, arm, manifest.key)
    cells = [cell for cell in comparison.cells if cell.arm == arm and cell.mean is not None]
    # Inspect shows the first one as the log's headline.
    cells.sort(key=lambda cell: cell.metric != comparison.primary)
    spec = {
        "eval_id": mark,
        "run_id": _mark(round_.name, manifest.key),
        "task_id": mark,
        "created": manifest.started,
        "task": task,
        "task_version": persona.version,
        "dataset": {
            "name": task,
            "samples": len({sample["id"] for sample in samples}),
            "sample_ids": list(dict.fromkeys(sample["id"] for sample in samples)),
        },
        "model": f"persona/{arm}",
        "config": {"epochs": max((sample["epoch"] for sample in samples), default=1)},
        "packages": dict(manifest.versions),
        "metadata": {
            "persona": persona.id,
            "round": round_.name,
            "arm": arm,
            "base": comparison.base,
            "primary": comparison.primary,
            "differences_to_base": {
                cell.metric: cell.difference.model_dump(mode="json", exclude_none=True)
                for cell in cells
                if cell.difference
            },
        },
    }
    return {
        "version": VERSION,
        "status": "success",
        "eval": spec,
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": _results(cells, len(samples)),
        "stats": {"started_at": manifest.started, "completed_at": manifest.started},
        "samples": samples,
    }


def _results(cells: Sequence[MetricCell], samples: int) -> Json:
    scores = [
        {
            "name": cell.metric,
            "scorer": cell.metric,
            "scored_samples": cell.scored,
            "unscored_samples": cell.unscored,
            "metrics": {"mean": {"name": "mean", "value": cell.mean}},
        }
        for cell in cells
    ]
    return {"total_samples": samples, "completed_samples": samples, "scores": scores}


def _mark(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:22]


def _name(spec: Mapping[str, str]) -> str:
    """Return the file's name as ``inspect view`` looks for them: time, task, id."""
    time = spec["created"].replace(":", "-")
    arm = spec["model"].removeprefix("persona/")
    return f"{time}_{spec['task']}-{arm}_{spec['eval_id']}.json"
