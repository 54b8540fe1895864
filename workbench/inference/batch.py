"""OpenAI's batch endpoint: requests go as one file and come back within a day, at half the price.

In go the bodies of requests, out come their replies, as by any other
:class:`~workbench.inference.wire.Wire`: retries, reasoning, money and reasons are the exchange's.
What is asked within a moment goes into one batch. Every batch is written down with its requests
before anybody waits for it, so that a job that was killed finds it again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from workbench.inference.endpoint import Endpoint
from workbench.inference.refusals import Body, read_refusal
from workbench.inference.wire import CHAT, NoReply, RawReply, no_reply, omitted_headers
from workbench.text import counted

if TYPE_CHECKING:
    import httpx2
    import openai

LEDGER = "batches.jsonl"
"""Name of the file, beside the answers, of the batches that are under way."""
MOST_REQUESTS = 50_000
MOST_BYTES = 100_000_000
"""Of one batch; the API takes twice as many."""
_QUIET = 0.3
"""Seconds without a new request after which those that came are sent."""
_LONGEST_POLL = 60.0
_ENDS = ("completed", "failed", "expired", "cancelled")


@dataclass
class Ledger:
    """The batches that an endpoint was given, and that may still bring answers.

    The file has a JSON object a line; without one they are forgotten with the process.
    """

    file: Path | None
    endpoint: str
    batches: dict[str, list[str]] = field(default_factory=dict)
    """Batch → keys of its requests."""
    seen: set[str] = field(default_factory=set)
    """Every batch that was written down, done ones too."""

    def __post_init__(self) -> None:
        if self.file is None or not self.file.exists():
            return
        for line in self.file.read_text(encoding="utf-8").splitlines():
            try:
                entry = from_json(line)
            except ValueError:
                continue  # a kill in the middle of a line
            if entry.get("endpoint") != self.endpoint:
                continue
            self.seen.add(entry["batch"])
            if entry.get("done"):
                self.batches.pop(entry["batch"], None)
            else:
                self.batches[entry["batch"]] = entry["keys"]

    def add(self, batch: str, keys: list[str]) -> None:
        """Write down a batch."""
        self.batches[batch] = keys
        self.seen.add(batch)
        self._write(batch=batch, keys=keys)

    def close(self, batch: str) -> None:
        """Write down that the answers of a batch are kept elsewhere."""
        if self.batches.pop(batch, None) is not None:
            self._write(batch=batch, done=True)

    def _write(self, **entry: object) -> None:
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"endpoint": self.endpoint, **entry}) + "\n")


class BatchWire:
    """Requests that wait for others, and go together.

    The client may try these calls again by itself; ``tell`` gets a line whenever a batch moves on.
    """

    def __init__(
        self,
        openai: openai.AsyncOpenAI,
        endpoint: Endpoint,
        ledger: Ledger,
        tell: Callable[[str], object],
    ) -> None:
        self._openai = openai.with_options(max_retries=endpoint.attempts)
        self._endpoint, self._ledger, self._tell = endpoint, ledger, tell
        self._headers = omitted_headers(endpoint)
        self._new: dict[str, Body] = {}
        self._waiting: dict[str, asyncio.Future[RawReply]] = {}
        self._earlier = {key: one for one, keys in ledger.batches.items() for key in keys}
        """Key → the batch of an earlier run that may hold its reply."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._sender: asyncio.Task[None] | None = None
        self._collected: list[str] = []

    async def post(self, body: Body) -> RawReply:
        """Return the reply to one request, when its batch is done."""
        text = json.dumps(body, ensure_ascii=False, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        if (waiting := self._waiting.get(key)) is None:
            waiting = self._waiting[key] = asyncio.get_running_loop().create_future()
            self._new[key] = body
            if self._sender is None or self._sender.done():
                self._sender = asyncio.create_task(self._send())
        return await asyncio.shield(waiting)

    async def close(self) -> None:
        """Let go; what was collected is kept by now."""
        for task in (*self._tasks, *([self._sender] if self._sender else [])):
            task.cancel()
        for batch in self._collected:
            self._ledger.close(batch)

    async def _send(self) -> None:
        """Send what came, once nothing more comes."""
        count = 0
        while len(self._new) != count:
            count = len(self._new)
            await asyncio.sleep(_QUIET)
        new, self._new = self._new, {}
        earlier: dict[str, list[str]] = {}
        for key in [key for key in new if key in self._earlier]:
            earlier.setdefault(self._earlier.pop(key), []).append(key)
        for batch, keys in earlier.items():
            self._tell(f"batch {batch} of an earlier run: {counted(len(keys), 'request')} in it")
            self._start(self._collect(batch, {key: new.pop(key) for key in keys}))
        for part in _parts(new):
            self._start(self._made(part))

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _made(self, bodies: dict[str, Body]) -> None:
        """Make a batch of some requests, and wait for it."""
        digest = hashlib.sha256("".join(sorted(bodies)).encode()).hexdigest()[:32]
        try:
            made = await self._lost(digest) or await self._new_batch(bodies, digest)
            self._ledger.add(made["id"], list(bodies))
        except NoReply as none:
            self._fail(bodies, none)
            return
        except _Refused as refused:
            self._fail(bodies, self._no_batches(refused.reply) or refused.reply)
            return
        self._tell(f"batch {made['id']}: {counted(len(bodies), 'request')} sent")
        await self._collect(made["id"], bodies)

    async def _lost(self, digest: str) -> dict[str, Any] | None:
        """Return a batch of the same requests that was made, and never written down."""
        try:
            made = (await self._json("get", "/batches?limit=100")).get("data") or []
        except _Refused:
            return None
        for one in made:
            own = (one.get("metadata") or {}).get("requests") == digest
            if own and one["id"] not in self._ledger.seen and one["status"] not in _ENDS[1:]:
                return dict(one)
        return None

    async def _new_batch(self, bodies: dict[str, Body], digest: str) -> dict[str, Any]:
        body = {
            "input_file_id": await self._upload(bodies),
            "endpoint": f"/v1{CHAT}",
            "completion_window": "24h",
            "metadata": {"requests": digest},
        }
        return await self._json("post", "/batches", body=body)

    async def _upload(self, bodies: dict[str, Body]) -> str:
        lines = (
            {"custom_id": key, "method": "POST", "url": f"/v1{CHAT}", "body": body}
            for key, body in bodies.items()
        )
        content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        made = await self._json(
            "post",
            "/files",
            body={"purpose": "batch"},
            files={"file": ("requests.jsonl", content.encode(), "application/jsonl")},
        )
        return str(made["id"])

    async def _collect(self, batch: str, bodies: dict[str, Body]) -> None:
        """Wait for a batch, and hand its replies out."""
        try:
            state = await self._ended(batch)
            replies: dict[str, RawReply] = {}
            for name in ("output_file_id", "error_file_id"):
                if state.get(name):
                    path = f"/files/{state[name]}/content"
                    replies |= dict(_replies((await self._call("get", path)).content))
        except NoReply as none:
            self._fail(bodies, none)
            return
        except _Refused as refused:
            self._ledger.close(batch)  # it is not there any more
            self._fail(bodies, refused.reply)
            return
        self._collected.append(batch)
        self._tell(f"batch {batch}: {state['status']}, {len(replies)} replies")
        for key in bodies:
            if key in replies:
                self._waiting.pop(key).set_result(replies[key])
            else:
                self._fail([key], _without_reply(state))

    async def _ended(self, batch: str) -> dict[str, Any]:
        """Return the state of a batch that has come to its end."""
        wait, last = max(0.05, self._endpoint.backoff), ""
        while True:
            state = await self._json("get", f"/batches/{batch}")
            if state["status"] in _ENDS:
                return state
            counts = state.get("request_counts") or {}
            now = f"{state['status']}, {counts.get('completed', 0)} of {counts.get('total', 0)}"
            if now != last:
                self._tell(f"batch {batch}: {now}")
                last = now
            await asyncio.sleep(wait)
            wait = min(_LONGEST_POLL, 1.5 * wait)

    def _fail(self, keys: Any, why: RawReply | NoReply) -> None:
        for key in list(keys):
            waiting = self._waiting.pop(key)
            if isinstance(why, NoReply):
                waiting.set_exception(why)
            else:
                waiting.set_result(why)

    def _no_batches(self, reply: RawReply) -> NoReply | None:
        if reply.status not in (404, 405, 501):
            return None
        words = read_refusal(reply.status, reply.headers, reply.content).words
        return NoReply("no_batches", words or f"HTTP {reply.status}")

    async def _json(self, method: str, path: str, **options: object) -> dict[str, Any]:
        reply = await self._call(method, path, **options)
        try:
            data = from_json(reply.content)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise NoReply("no_batches", f"{path} answers no JSON object")
        return data

    async def _call(
        self, method: str, path: str, *, body: Any = None, files: Any = None
    ) -> httpx2.Response:
        """Return a reply to one of the calls about batches.

        Raises:
            NoReply: There is none.
            _Refused: It is an error.
        """
        import httpx2
        import openai

        headers = {**self._headers, **({"Content-Type": "multipart/form-data"} if files else {})}
        try:
            if method == "get":
                return await self._openai.get(
                    path, cast_to=httpx2.Response, options={"headers": headers}
                )
            return await self._openai.post(
                path,
                cast_to=httpx2.Response,
                body=body,
                files=files,
                options={"headers": headers},
            )
        except openai.APIStatusError as error:
            response = error.response
            reply = RawReply(response.status_code, response.headers, response.content)
            raise _Refused(reply) from None
        except openai.APIConnectionError as error:
            raise no_reply(error, self._endpoint) from None


class _Refused(Exception):
    def __init__(self, reply: RawReply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def _parts(bodies: dict[str, Body]) -> Iterator[dict[str, Body]]:
    """Yield requests in batches of a size that the API takes."""
    part: dict[str, Body] = {}
    size = 0
    for key, body in bodies.items():
        length = len(json.dumps(body, ensure_ascii=False).encode()) + 200
        if part and (len(part) >= MOST_REQUESTS or size + length > MOST_BYTES):
            yield part
            part, size = {}, 0
        part[key] = body
        size += length
    if part:
        yield part


def _replies(content: bytes) -> Iterator[tuple[str, RawReply]]:
    """Yield key and reply of each line of a batch's output or of its errors."""
    for line in content.splitlines():
        try:
            entry = from_json(line)
        except ValueError:
            continue
        response = entry.get("response") or {}
        body, status = response.get("body"), response.get("status_code")
        if body is None or status is None:
            body, status = {"error": entry.get("error") or "no reply in the batch"}, 500
        yield entry["custom_id"], RawReply(int(status), {}, json.dumps(body).encode())


def _without_reply(state: dict[str, Any]) -> RawReply | NoReply:
    """Return why a request of a batch that ended has no reply."""
    status = state["status"]
    errors = (state.get("errors") or {}).get("data") or []
    if status == "failed":
        error = errors[0] if errors else {"message": "the batch failed"}
        # Of the batch and no single request: no field of one is looked for.
        return RawReply(424, {}, json.dumps({"error": error}).encode())
    return NoReply("timeout", f"the batch is {status}")
