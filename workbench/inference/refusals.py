"""What a server says when it gives no answer, in whatever form and words.

In: status, headers and body of a reply that is an error, also one of status 200. Out: a
:class:`Refusal`, its kind, and the field of the request that is at fault, if one is.
:mod:`workbench.inference.exchange` calls it, and who looks whether an endpoint can be reached.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple

from pydantic_core import from_json

Body = dict[str, Any]
"""Fields of a request, as JSON."""
Kind = Literal[
    "content_filter",
    "auth",
    "quota",
    "rate_limit",
    "not_found",
    "prompt_too_long",
    "server_error",
    "wrong_shape",
    "rejected",
]
SYSTEM = "system"
"""The system message, as a field that a server may refuse."""
_FIELDS = (
    *("json_schema", "json_object", "seed", "temperature", SYSTEM),
    *("max_tokens", "max_completion_tokens"),
)
"""What a request can do without, or in another way, in the order in which it is tried."""
_NAMES = {
    "json_schema": r"response_?format|json_schema|guided_json|structured output|grammar",
    "json_object": r"response_?format|json_object|json mode",
    "seed": r"seed",
    "temperature": r"temperature",
    "max_tokens": r"max_(?:new_)?tokens",
    "max_completion_tokens": r"max_(?:completion_)?tokens",
    SYSTEM: r"system|developer instruction|roles must alternate|only user and assistant",
}
_REFUSED = re.compile(
    r"support|unknown|unrecogni[sz]ed|unexpected|not (?:allowed|permitted|available|enabled|valid)"
    r"|invalid|extra (?:inputs|fields)|must |unavailable|지원|허용|不支持|不允许|サポート|対応",
    re.IGNORECASE,
)
_FILTERED = re.compile(
    r"content[_ ]?filter|content management policy|responsibleai|content[_ ]policy|moderation"
    r"|safety (?:system|setting|filter)|prohibited[_ ]content|inappropriate content|flagged"
    r"|content exists risk|data_?inspection|unsafe content|blocked by|guardrail"
    r"|usage (?:polic|guideline)|sensitive (?:content|information|words)"
    r"|内容安全|敏感|콘텐츠 필터|유해|안전 정책",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(
    r"context[ _](?:length|window|size)|context_length|prompt is too long|maximum context"
    r"|too many (?:input )?tokens|input is too long|exceeds the (?:available )?context"
    r"|`?inputs`? (?:tokens|must have less)|(?:text|message|request|conversation) (?:is )?too long"
    r"|超长|최대 길이|길이를 초과|너무 깁니다",
    re.IGNORECASE,
)
_NO_KEY = re.compile(
    r"(?:incorrect|invalid|no|missing|wrong)[ _](?:api[ _-]?key|authentication|token provided)"
    r"|api[ _-]?key (?:is )?(?:not valid|invalid|expired|required)|unauthori[sz]ed|unauthenticated",
    re.IGNORECASE,
)
_NO_QUOTA = re.compile(
    r"insufficient[_ ](?:quota|balance|funds|credits?)|billing|credit|payment|top up|recharge"
    r"|exceeded your current quota|잔액|余额",
    re.IGNORECASE,
)
_LIMITED = re.compile(
    r"rate[_ -]?limit|too many requests|requests per (?:min|sec|day)|tokens per (?:min|day)"
    r"|throttl|overloaded|at capacity|resource[_ ]exhausted|try again in|请求过于频繁|요청이 너무",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(r"model.{0,80}(?:not found|not exist|unknown|no such)", re.IGNORECASE)
_NO_JSON = re.compile(r"json_validate_failed|failed to generate json", re.IGNORECASE)
_LONGEST_WORDS = 200
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)(?![a-z])", re.IGNORECASE)
_AGAIN_IN = re.compile(
    r"(?:again|retry\w*|wait|reset\w*)\b\D{0,24}?((?:\d+(?:\.\d+)?\s*(?:ms|[hms])[a-z]*\s*)+)",
    re.IGNORECASE,
)
_RESETS = re.compile(r"(?:x-|anthropic-)?ratelimit-(?:reset-(\w+)|(\w+)-reset|(reset))\Z")


class Refusal(NamedTuple):
    """An error as a server told it."""

    status: int
    """Of HTTP; what the body says where the reply itself has 200."""
    words: str = ""
    """The server's own, at most 200 characters."""
    text: str = ""
    """All that it says, words and codes, to look for marks in."""
    fields: tuple[str, ...] = ()
    """Names of fields that it points at, as in ``param`` or FastAPI's ``loc``."""
    after: float | None = None
    """Seconds after which to ask again, where it says so."""

    @property
    def kind(self) -> Kind:
        """What it means for the request."""
        if self.status != 401 and _FILTERED.search(self.text):
            return "content_filter"
        if _NO_JSON.search(self.text):
            return "wrong_shape"
        if self.status == 402 or "insufficient_quota" in self.text:
            return "quota"
        if self.status in (401, 403) or (self.status < 500 and _NO_KEY.search(self.text)):
            return "auth"
        if self.status == 429 and self.after is None and _NO_QUOTA.search(self.text):
            # Some end a plain limit with how more can be bought.
            limited = re.search(r"rate[_ -]limit reached", self.text, re.IGNORECASE)
            return "rate_limit" if limited else "quota"
        if self.status in (413, 429) and "too large" in self.text.lower():
            return "prompt_too_long"
        if self.status in (429, 498, 529) or _LIMITED.search(self.text):
            return "rate_limit"
        if self.status < 500 and _NO_MODEL.search(self.text):
            return "not_found"
        if self.status == 413 or _TOO_LONG.search(self.text):
            return "prompt_too_long"
        if self.status == 404:
            return "not_found"
        if self.status >= 500 or self.status in (408, 409, 425):
            return "server_error"
        return "rejected"


def read_refusal(status: int, headers: Mapping[str, str], content: bytes) -> Refusal:
    """Return what an error says: an object, a list, a text, a page or FastAPI's ``detail``."""
    raw = content.decode("utf-8", "replace")
    try:
        data = from_json(content)
    except ValueError:
        page = re.search(r"<(?:title|h1)[^>]*>(.*?)</", raw, re.DOTALL | re.IGNORECASE)
        data = page[1] if page else re.sub(r"<[^>]+>", " ", raw)
    parts = list(_strings(data))
    own = [text for name, text in parts if name in _SAID]
    words = " ".join(" ".join(own or [text for _, text in parts][:1]).split())
    text = " ".join(text for _, text in parts)[:4000]
    fields = tuple(text for name, text in parts if name in ("param", "loc"))
    waits = " ".join(f"{name} {text}" for name, text in parts if name in (*_SAID, *_WAITS))
    inside = _status(data)
    status = inside if status < 400 and inside else status
    return Refusal(status, words[:_LONGEST_WORDS], text, fields, retry_after(headers, waits))


_WAITS = ("retrydelay", "retry_after", "retry_after_seconds", "estimated_time")
_ECHOES = ("input", "messages", "prompt", "failed_generation")
"""What an error repeats of the request or the answer, which says nothing of what is wrong."""
_SAID = (
    *("", "message", "msg", "detail", "error", "error_message", "errormessage", "raw", "reason"),
    *("error_msg", "status_msg"),
)


def _strings(data: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text and number in an error, with the name that it stands under."""
    if isinstance(data, str):
        try:
            nested = from_json(data) if data.lstrip()[:1] in ("{", "[") else data
        except ValueError:
            nested = data
        if isinstance(nested, dict | list):
            yield from _strings(nested, name)
        else:
            yield name, data
    elif isinstance(data, Mapping):
        for key, value in data.items():
            if str(key).lower() in _ECHOES:
                continue
            yield from _strings(value, str(key).lower())
    elif isinstance(data, list):
        for value in data:
            yield from _strings(value, name)
    elif isinstance(data, int | float) and not isinstance(data, bool):
        waits = name in _WAITS
        yield (name, f"{data}s") if waits else (f"{name}_number", str(data))


def _status(data: object) -> int:
    """Return the HTTP status that a body tells, 0 where it tells none."""
    while isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, Mapping):
        return 0
    for key in ("code", "status", "status_code"):
        value = data.get(key)
        if str(value).isdigit() and 400 <= int(str(value)) < 600:
            return int(str(value))
    choices = data.get("choices")
    return _status(data.get("error") or (choices if isinstance(choices, list) else None))


def refused_fields(refusal: Refusal, body: Body) -> tuple[str, ...]:
    """Return the fields of a request that may be at fault, the most likely one first.

    One alone where the server names it; all of them, one after another, where it says of a request
    only that it is wrong; none where it is not about fields.
    """
    kind, present = refusal.kind, _present(body)
    if kind not in ("rejected", "not_found", "server_error", "prompt_too_long"):
        return ()
    for name in present:
        if any(re.fullmatch(_NAMES[name], field.rpartition(".")[2]) for field in refusal.fields):
            return (name,)
    named = [n for n in present if re.search(rf"\b(?:{_NAMES[n]})\b", refusal.text, re.IGNORECASE)]
    if kind == "prompt_too_long":
        return ()
    if named and (kind == "rejected" or _REFUSED.search(refusal.text)):
        return (named[0],)
    return present if kind == "rejected" and refusal.status in (400, 405, 415, 422) else ()


def _present(body: Body) -> tuple[str, ...]:
    form = (body.get("response_format") or {}).get("type")
    system = any(turn["role"] == "system" for turn in body["messages"])
    return tuple(n for n in _FIELDS if n in body or n == form or (n == SYSTEM and system))


def leave_out(body: Body, names: Collection[str]) -> None:
    """Take fields out of a request, or put what they say in another way.

    OpenAI's newer models know ``max_tokens`` by another name; a system message that is refused
    opens the first question.
    """
    for name in _FIELDS:
        if name not in names:
            continue
        if name in ("json_schema", "json_object"):
            if (body.get("response_format") or {}).get("type") == name:
                del body["response_format"]
        elif name == SYSTEM:
            body["messages"] = _without_system(body["messages"])
        elif (value := body.pop(name, None)) is not None and name == "max_tokens":
            body["max_completion_tokens"] = value


def _without_system(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    system = [turn["content"] for turn in messages if turn["role"] == "system"]
    turns = [dict(turn) for turn in messages if turn["role"] != "system"]
    if system and turns:
        turns[0]["content"] = "\n\n".join([*system, turns[0]["content"]])
    return turns


def retry_after(headers: Mapping[str, str], text: str = "") -> float | None:
    """Return the seconds that a reply asks to wait, in any form that servers use.

    ``Retry-After`` as a number, a date (RFC 9110, 10.2.3) or a span such as ``1m30s``,
    ``retry-after-ms``, the reset of an exhausted limit, or words such as *try again in 20s*.
    """
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    if (value := lower.get("retry-after-ms")) and (wait := _number(value)) is not None:
        return wait / 1000
    if (value := lower.get("retry-after")) and (wait := _seconds(value)) is not None:
        return wait
    waits = [
        wait
        for name, value in lower.items()
        if (match := _RESETS.match(name))
        if lower.get(f"{_limit(name, match)}", "0").split(".")[0] == "0"
        if (wait := _seconds(value)) is not None
    ]
    if waits:
        return max(waits)
    if again := _AGAIN_IN.search(text):
        return _seconds(again[1])
    return None


def _limit(name: str, match: re.Match[str]) -> str:
    """Return the name of the header that says how much is left of the same limit."""
    what = match[1] or match[2]
    if match[3]:
        return name.replace("reset", "remaining")
    return name.replace(f"reset-{what}", f"remaining-{what}").replace(
        f"{what}-reset", f"{what}-remaining"
    )


def _number(value: str) -> float | None:
    try:
        return max(0.0, float(value))
    except ValueError:
        return None


def _seconds(value: str) -> float | None:
    """Return seconds from now: a number, a span, a date; a large number is a time since 1970."""
    if (number := _number(value)) is not None:
        if number > 1e12:
            number /= 1000
        return max(0.0, number - time.time()) if number > 1e9 else number
    if spans := _SPAN.findall(re.sub(r"(?<=\d)\s*(seconds?|secs?)\b", "s", value)):
        return sum(float(count) * _UNITS[unit.lower()] for count, unit in spans)
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return max(0.0, read(value.replace("Z", "+00:00")).timestamp() - time.time())
        except ValueError:
            continue
    return None
