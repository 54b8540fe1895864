"""The story of one row, read off the files of its round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rounds.context import RoundContext
from rounds.layout import CARRIED_REVIEWS, MANIFEST, STAGES, Manifest
from workbench.errors import UserError, nearest
from workbench.store import file_hash, read_json_lines

Row = dict[str, Any]
_GOLD = "review/gold.jsonl"
_MOST_NAMED = 5
_CHARACTERS = 160
"""Of a text, so much is shown."""


def story(context: RoundContext, name: str) -> list[str]:
    """Return the story of a row as lines, in the order of stages.

    Args:
        context: The round.
        name: Id of a record or the beginning of one, or a row's source such as ``seeds.jsonl:17``.

    Raises:
        UserError: Nothing or more than one record is meant, or a file cannot be read.
    """
    files = _read(context.round.folder)
    start = _named(files, name, str(context.round.folder))
    return list(_Teller(context, files, start).lines())


def _read(folder: Path) -> dict[str, list[Row]]:
    """Return ``stage/file.jsonl`` → records, in the order of stages."""
    found = {}
    for stage in STAGES:
        for path in sorted((folder / stage).glob("*.jsonl"), key=lambda path: path.stem):
            if path.stat().st_size:
                rows = [row for _, row in read_json_lines(path)]
                found[f"{stage}/{path.name}"] = [row for row in rows if "id" in row]
    return found


def _named(files: dict[str, list[Row]], name: str, where: str) -> Row:
    # The first file that holds a record tells it as it came.
    every = {row["id"]: row for rows in reversed(files.values()) for row in rows}
    sources: dict[str, set[str]] = defaultdict(set)
    for file in (*(f"import/{kind}.jsonl" for kind in ("drops", "preferences", "examples")), _GOLD):
        for row in files.get(file, ()):
            sources[row.get("source", "")].add(row["id"])
    matches = {name} & every.keys() or sources.get(name, set())
    matches = matches or {one for one in every if one.startswith(name)}
    if len(matches) == 1:
        return every[matches.pop()]
    if matches:
        some = ", ".join(sorted(matches)[:_MOST_NAMED])
        fix = f"such as {some}"
        raise UserError(f"{len(matches)} records are meant by '{name}'", where=where, fix=fix)
    fix = nearest(name, [*sources, *every]) or "give a record's id, or a source: seeds.jsonl:17"
    raise UserError(f"no record is meant by '{name}'", where=where, fix=fix)


class _Teller:
    """Tells of a row, what it was made from, and what was made of it."""

    def __init__(self, context: RoundContext, files: dict[str, list[Row]], start: Row) -> None:
        self._job, self._files = context, files
        self._rows: dict[str, Row] = {}
        parents: dict[str, set[str]] = defaultdict(set)
        children: dict[str, set[str]] = defaultdict(set)
        for rows in files.values():
            for row in rows:
                if "prompt" not in row or "prompt_id" in row:
                    continue  # neither an example nor a pair
                self._rows.setdefault(row["id"], row)
                parents[row["id"]].update(row["parents"])
                for parent in row["parents"]:
                    children[parent].add(row["id"])
        subject = str(start.get("prompt_id") or start.get("record") or start["id"])
        up, down = _reach(subject, parents), _reach(subject, children)
        self._ids = [one for one in self._rows if one in up or one in down]
        self._known = {*self._ids, subject}

    def lines(self) -> Iterator[str]:
        """Yield the story."""
        yield from self._came()
        for stage in ("import", "generate", "filter"):
            yield from self._dropped(stage)
        yield from self._filtered()
        yield from self._reviewed()
        yield from self._decided()
        yield from self._dropped("split")
        yield from self._touched()

    def _of(self, *names: str, key: str = "record") -> Iterator[Row]:
        for name in names:
            yield from (row for row in self._files.get(name, ()) if row.get(key) in self._known)

    def _came(self) -> Iterator[str]:
        for one in self._ids[:1]:
            row = self._rows[one]
            topic = f", topic {self._job.persona.topic_name(row['topic'])}" if row["topic"] else ""
            yield f"{one}: {row['origin']} row from {row['source'] or 'no named source'}{topic}"
            yield f"  question: {_short(row['prompt'][-1]['content'])}"
            yield from (f"  {key}: {_short(row[key])}" for key in _TEXTS if key in row)
        for gold in self._of(_GOLD, key="id"):
            known = self._gold_outcomes().get(gold["id"], "no longer among the gold rows")
            yield f"gold: the known outcome is {known}; it tests reviewers and is never trained on"
        for bare in self._of("generate/baseline.jsonl", key="prompt_id"):
            yield f"generate: the base model answered {bare['id']}: {_short(bare['text'])}"

    def _gold_outcomes(self) -> dict[str, str]:
        from curation.review.reliability import read_gold

        return read_gold(self._job.persona_folder, self._job.config.review.policy).outcomes

    def _dropped(self, stage: str) -> Iterator[str]:
        for drop in self._of(f"{stage}/drops.jsonl"):
            source = f" ({drop['source']})" if not self._ids and drop["source"] else ""
            yield f"{stage}: {drop['record']}{source} dropped: {drop['reason']}, {drop['detail']}"

    def _filtered(self) -> Iterator[str]:
        for name in ("examples", "preferences"):
            for row in self._of(f"filter/{name}.jsonl", key="id"):
                masked = [parent for parent in row["parents"] if parent in self._known]
                done = f"masked, now {row['id']}" if masked else "kept"
                yield f"filter: {done}"

    def _reviewed(self) -> Iterator[str]:
        told = {
            CARRIED_REVIEWS.path: "reviewed in an earlier round",
            "review/reviews.jsonl": "review",
            "review/gold-reviews.jsonl": "gold",
            "review/adjudications.jsonl": "adjudicated",
        }
        for file, verb in told.items():
            for review in self._of(file):
                yield f"{verb}: {review['id']} {review['reviewer']} at {review['at']}:"
                yield f"  {_said(review)}"

    def _decided(self) -> Iterator[str]:
        for decision in self._of("resolve/decisions.jsonl"):
            reason = f" ({decision['reason']})" if decision["reason"] else ""
            yield f"resolve: {decision['outcome']}{reason}: {decision['detail']}"
        decided = {d["record"] for d in self._of("resolve/decisions.jsonl") if d["reason"]}
        for drop in self._of("resolve/drops.jsonl"):
            if drop["record"] not in decided:
                yield f"resolve: {drop['record']} dropped: {drop['reason']}, {drop['detail']}"
        for row in self._of("resolve/examples.jsonl", key="id"):
            if row["origin"] == "edit":
                yield f"resolve: corrected, now {row['id']}: {_short(row['answer'])}"
        for pair in self._of("resolve/preferences.jsonl", key="id"):
            yield f"resolve: pair {pair['id']}, preferred to: {_short(pair['rejected'])}"

    def _touched(self) -> Iterator[str]:
        sides = set()
        for split in self._of("split/splits.jsonl"):
            sides.add((split["split"], "pair" if split["record"].startswith("pf-") else "row"))
            yield f"split: {split['record']} on {split['split']}, group {split['group']}"
        for stage, kind, file in (("sft", "row", "train"), ("dpo", "pair", "preferences-train")):
            if ("train", kind) in sides and self._was_input(stage, f"split/{file}.jsonl"):
                own = self._files.get(f"{stage}/{'trained.jsonl'}")
                drawn = own is None or any(row["id"] in self._known for row in own)
                which = "the adapter" if drawn else "the adapter that it started from"
                yield f"{stage}: {which} was trained on it"
        yield from self._evaluated()

    def _was_input(self, stage: str, name: str) -> bool:
        """Return whether a finished stage read the file as it is now."""
        folder = self._job.round.folder
        manifest = folder / stage / MANIFEST
        if not manifest.exists():
            return False
        inputs = Manifest.load(manifest).inputs
        return bool(inputs.get(name) == file_hash(folder / name))

    def _evaluated(self) -> Iterator[str]:
        scores: dict[str, list[Row]] = defaultdict(list)
        for score in self._of("evaluate/scores.jsonl", key="prompt_id"):
            scores[score["response"]].append(score)
        for response in self._of("evaluate/responses.jsonl", key="prompt_id"):
            scored = [
                f"{one['metric']} {one['value']:.2f}"
                for one in scores[response["id"]]
                if one["value"] is not None
            ]
            yield f"evaluate: {response['arm']} answered {response['id']}: " + _short(
                response["text"]
            )
            yield f"  {', '.join(scored) or 'not scored'}"


_TEXTS = ("answer", "chosen", "rejected")


def _reach(start: str, links: dict[str, set[str]]) -> set[str]:
    """Return all that can be reached from ``start``, itself included."""
    found: set[str] = set()
    left: list[str] = [start]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left += links.get(one, ())
    return found


def _said(review: Row) -> str:
    if review["status"] != "submitted":
        return str(review["status"])
    answers = review["answers"]
    parts: Iterable[str] = (
        f"fidelity {answers.get('fidelity')}",
        f"better: {answers['better']}" if answers.get("better") else "",
        f"problems: {', '.join(answers['problems'])}" if answers.get("problems") else "",
        f"corrected: {_short(answers['corrected'])}" if answers.get("corrected") else "",
        f"note: {_short(answers['note'])}" if answers.get("note") else "",
    )
    return "; ".join(part for part in parts if part)


def _short(text: str) -> str:
    folded = " ".join(text.split())
    return folded if len(folded) <= _CHARACTERS else f"{folded[: _CHARACTERS - 1]}…"
