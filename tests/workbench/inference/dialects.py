"""How thirty servers speak what they all call OpenAI's API: small variations of one script.

A :class:`Dialect` says which fields a server refuses and in which words, how it wraps an answer,
how it counts tokens, and what it says of prompts that it filters and of too many requests. Errors
are rebuilt from what such servers are known to send. :meth:`Dialect.script` is a script of the
scripted server; it counts what it would bill.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.scripted_server import Reply, Request, instance

Wrap = Callable[[str], dict[str, Any]]
QUESTIONS = {
    "type": "object",
    "properties": {"questions": {"type": "array", "items": {"type": "string"}}},
}
FILTERED_BELOW = 0.2
"""Share of the questions that are filtered, where a dialect filters."""


def error(status: int, body: Any, **headers: str) -> Reply:
    """Return an error as a server sends it: JSON, or a text or a page as it is."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, str):
        kind = "text/html" if body.startswith("<") else "text/plain"
        return Reply(status=status, headers={"Content-Type": kind, **named}, raw=body.encode())
    return Reply(status=status, headers=named, raw=json.dumps(body, ensure_ascii=False).encode())


def openai(status: int, message: str, **fields: Any) -> Reply:
    """Return an error in OpenAI's own form."""
    body = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return error(status, {"error": body | fields})


def plain(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def thinks(before: str, after: str = "") -> Wrap:
    return lambda text: plain(f"{before}{text}{after}")


def beside(name: str) -> Wrap:
    return lambda text: {**plain(text), name: "The user asks. Champ has to stand there."}


def counted(asked: int, said: int) -> dict[str, Any] | None:
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _events(message: Mapping[str, Any], finish: str, usage: Any) -> str:
    """Return an answer as a stream of events, in three pieces."""
    text = message["content"]
    pieces = [text[:5], text[5:9], text[9:]]
    events: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
        for piece in pieces
    ]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage:
        events.append({"choices": [], "usage": usage})
    return "".join(f"data: {json.dumps(one)}\n\n" for one in events) + "data: [DONE]\n\n"


@dataclass
class Dialect:
    """One server's manner."""

    name: str
    refuses: Mapping[str, Reply] = field(default_factory=dict)
    """Field, or ``json_schema``, ``json_object``, ``system``, ``greedy`` → what is said of it."""
    wrap: Wrap = plain
    wrap_json: Wrap | None = None
    """Of JSON, where it differs."""
    usage: Callable[[int, int], dict[str, Any] | None] = counted
    finish: str = "stop"
    filtered: Reply | None = None
    """What a filtered prompt gets."""
    first: Reply | None = None
    """What many prompts get once, before their answer."""
    stream: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    needs: Callable[[Request], Reply | None] = lambda request: None
    """What a request must have, in its body, headers or address."""
    models: int = 200
    endpoint: Mapping[str, Any] = field(default_factory=dict)
    """Settings of ours for it."""
    left_out: frozenset[str] = frozenset()
    """What has to be learnt of it."""
    reasons: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the doctor has to say of it."""
    bills: bool = True
    """Whether it counts tokens."""

    def __post_init__(self) -> None:
        self.input_tokens = self.output_tokens = 0
        self.filters = 0
        self._lock = threading.Lock()

    def script(self, request: Request) -> Reply:
        """Reply to a request."""
        if wrong := self.needs(request) or self._refusal(request.body):
            return wrong
        judge, asks = '"value"' in request.prompt, '{"questions"' in request.prompt
        if self.filtered and request.system and request.share < FILTERED_BELOW:
            self.filters += 1
            return self.filtered
        if self.first and request.time == 0 and (asks or request.share < 0.4):
            return self.first
        if judge or request.json_mode:
            text = json.dumps({"reason": "It does.", "value": "yes"})
        elif asks or request.schema:
            text = json.dumps(instance(request.schema or QUESTIONS, request.prompt))
        else:
            text = f"Champ, this is the answer to number {request.share:.8f}, so stand up."
        wrap = self.wrap_json if text.startswith("{") and self.wrap_json else self.wrap
        return self._answer(request, wrap(text))

    def _refusal(self, body: Mapping[str, Any]) -> Reply | None:
        form = (body.get("response_format") or {}).get("type")
        system = any(turn["role"] == "system" for turn in body["messages"])
        for name, reply in self.refuses.items():
            if name == "greedy" and body.get("temperature") == 0:
                return reply
            if name in body or name == form or (name == "system" and system):
                return reply
        return None

    def _answer(self, request: Request, message: dict[str, Any]) -> Reply:
        asked = sum(len(turn["content"].split()) for turn in request.body["messages"])
        said = len(json.dumps(message).split())
        with self._lock:
            self.input_tokens += asked
            self.output_tokens += said
        usage = self.usage(asked, said)
        if self.stream:
            raw = _events(message, self.finish, usage)
            return Reply(headers={"Content-Type": "text/event-stream"}, raw=raw.encode())
        choice = {"index": 0, "message": message, "finish_reason": self.finish}
        body: dict[str, Any] = {"id": "1", "object": "chat.completion", "choices": [choice]}
        if usage is not None:
            body["usage"] = usage
        return Reply(headers=dict(self.headers), raw=json.dumps(body).encode())


def _azure(request: Request) -> Reply | None:
    if "api-version=2024-10-21" not in request.path:
        return error(404, {"error": {"code": "404", "message": "Resource not found"}})
    if request.headers.get("api-key") != "azure-key" or "authorization" in request.headers:
        return error(401, {"statusCode": 401, "message": "Unauthorized. Access token is missing."})
    return None


def _dashscope(request: Request) -> Reply | None:
    if request.body.get("enable_thinking") is not False:
        words = "parameter.enable_thinking must be set to false for non-streaming calls"
        return openai(400, words, code="invalid_parameter_error")
    return None


def _titled(request: Request) -> Reply | None:
    named = request.headers.get("x-title") == "gym" and request.headers.get("x-org") == "azure-key"
    return None if named else error(400, {"error": "x-title and x-org are required"})


AZURE_FILTER = openai(
    400,
    "The response was filtered due to the prompt triggering Azure OpenAI's content management"
    " policy. Please modify your prompt and retry.",
    code="content_filter",
    param="prompt",
    innererror={"code": "ResponsibleAIPolicyViolation"},
)
SEED, TEMPERATURE, LIMIT = (
    frozenset({"seed"}),
    frozenset({"temperature"}),
    frozenset({"max_tokens"}),
)
SCHEMA, MODE, SYSTEM = frozenset({"json_schema"}), frozenset({"json_object"}), frozenset({"system"})

DIALECTS = [
    Dialect(
        "openai",
        headers={"x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "499"},
        facts={"limits told": "requests 500", "reasoning": "none", "tokens": "counted"},
    ),
    Dialect(
        "openai, a reasoning model",
        refuses={
            "max_tokens": openai(
                400,
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use"
                " 'max_completion_tokens' instead.",
                param="max_tokens",
                code="unsupported_parameter",
            ),
            "temperature": openai(
                400,
                "Unsupported value: 'temperature' does not support 0.7 with this model.",
                param="temperature",
                code="unsupported_value",
            ),
        },
        usage=lambda asked, said: {
            **(counted(asked, said) or {}),
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
        left_out=LIMIT | TEMPERATURE,
        facts={"longest answer": "max_completion_tokens", "temperature": "not taken"},
    ),
    Dialect(
        "azure",
        needs=_azure,
        filtered=AZURE_FILTER,
        endpoint={"api_version": "2024-10-21", "api_key_env": "DIALECT_KEY"},
    ),
    Dialect("vllm with a parser", wrap=beside("reasoning_content"), reasons=True),
    Dialect("vllm without one", wrap=thinks("It has to be short.\n</think>\n\n"), reasons=True),
    Dialect(
        "vllm, newer",
        wrap=beside("reasoning"),
        reasons=True,
        first=error(503, {"object": "error", "message": "The engine is loading", "code": 503}),
    ),
    Dialect(
        "llama.cpp",
        first=error(
            503,
            {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
        ),
        refuses={
            "system": error(
                500,
                {"error": {"code": 500, "message": "Jinja: System role not supported"}},
            )
        },
        left_out=SYSTEM,
        facts={"system message": "opens the first question"},
    ),
    Dialect(
        "ollama",
        wrap=thinks('<think>\nDraft: {"questions": ["A draft?"]}\n</think>\n\n'),
        first=error(503, {"error": "server busy, please try again. maximum pending requests"}),
        reasons=True,
    ),
    Dialect(
        "lm studio",
        refuses={
            "json_object": error(
                400, {"error": "'response_format.type' must be 'json_schema' or 'text'"}
            )
        },
        left_out=MODE,
        facts={"JSON schema": "yes", "judge's JSON": "yes, without JSON mode"},
    ),
    Dialect(
        "sglang",
        refuses={
            "seed": error(
                400,
                {
                    "object": "error",
                    "message": "Unrecognized request argument supplied: seed",
                    "type": "BadRequestError",
                    "param": None,
                    "code": 400,
                },
            )
        },
        left_out=SEED,
    ),
    Dialect(
        "tgi",
        refuses={
            "greedy": error(
                422,
                {
                    "error": "Input validation error: `temperature` must be strictly positive",
                    "error_type": "validation",
                },
            ),
            "json_object": error(
                422, "Failed to deserialize the JSON body: response_format: unknown variant"
            ),
        },
        finish="eos_token",
        left_out=TEMPERATURE | MODE,
    ),
    Dialect(
        "groq",
        first=openai(
            429,
            "Rate limit reached for m on tokens per minute (TPM). Please try again in 20ms.",
            type="tokens",
            code="rate_limit_exceeded",
        ),
        headers={"x-ratelimit-limit-requests": "14400", "x-ratelimit-limit-tokens": "18000"},
        facts={"limits told": "requests 14400, tokens 18000"},
    ),
    Dialect(
        "groq that validates JSON itself",
        first=openai(
            400,
            "Failed to generate JSON. Please adjust your prompt. See 'failed_generation'.",
            code="json_validate_failed",
            failed_generation='{"seed": 1, "temperature": ',
        ),
    ),
    Dialect(
        "mistral",
        refuses={
            "seed": error(
                422,
                {
                    "object": "error",
                    "message": {
                        "detail": [
                            {
                                "type": "extra_forbidden",
                                "loc": ["body", "seed"],
                                "msg": "Extra inputs are not permitted",
                                "input": 0,
                            }
                        ]
                    },
                },
            )
        },
        wrap=lambda text: {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "Plan."}]},
                {"type": "text", "text": text},
            ],
        },
        left_out=SEED,
        reasons=True,
    ),
    Dialect(
        "deepseek",
        refuses={"json_schema": openai(400, "This response_format type is unavailable now")},
        wrap=beside("reasoning_content"),
        filtered=openai(400, "Content Exists Risk"),
        left_out=SCHEMA,
        reasons=True,
        facts={"JSON schema": "refused: asked for in words", "judge's JSON": "yes"},
    ),
    Dialect(
        "gemini",
        refuses={
            "seed": error(
                400,
                [
                    {
                        "error": {
                            "code": 400,
                            "message": 'Invalid JSON payload received. Unknown name "seed": Cannot'
                            " find field.",
                            "status": "INVALID_ARGUMENT",
                        }
                    }
                ],
            )
        },
        # Tokens of thinking are in the total alone.
        usage=lambda asked, said: {
            "prompt_tokens": asked,
            "completion_tokens": 1,
            "total_tokens": asked + said,
        },
        first=error(
            429,
            [
                {
                    "error": {
                        "code": 429,
                        "message": "You exceeded your current quota, please check your plan and"
                        " billing details.",
                        "status": "RESOURCE_EXHAUSTED",
                        "details": [{"@type": "RetryInfo", "retryDelay": "0.02s"}],
                    }
                }
            ],
        ),
        left_out=SEED,
    ),
    Dialect(
        "gemma behind gemini",
        refuses={
            "system": error(
                400,
                [{"error": {"code": 400, "message": "Developer instruction is not enabled for m"}}],
            ),
            "json_schema": error(
                400, [{"error": {"code": 400, "message": "JSON mode is not enabled for m"}}]
            ),
            "json_object": error(
                400, [{"error": {"code": 400, "message": "JSON mode is not enabled for m"}}]
            ),
        },
        left_out=SYSTEM | SCHEMA | MODE,
    ),
    Dialect(
        "anthropic",
        first=error(
            529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        ),
        finish="end_turn",
        wrap_json=thinks("Here it is:\n```json\n", "\n```\nAnything else?"),
        usage=lambda asked, said: {"input_tokens": asked, "output_tokens": said},
    ),
    Dialect(
        "openrouter",
        first=error(
            200, {"error": {"message": "Rate limit exceeded: free-models-per-min", "code": 429}}
        ),
        filtered=error(
            403,
            {
                "error": {
                    "code": 403,
                    "message": "m requires moderation. Your input was flagged for violence",
                    "metadata": {"reasons": ["violence"], "flagged_input": "..."},
                }
            },
        ),
    ),
    Dialect(
        "openrouter without schemas",
        refuses={
            "json_schema": error(
                404,
                {
                    "error": {
                        "message": "No endpoints found that support the requested parameters:"
                        " response_format",
                        "code": 404,
                    }
                },
            )
        },
        first=error(
            200,
            {"choices": [{"error": {"code": 502, "message": "Upstream error"}, "message": {}}]},
        ),
        left_out=SCHEMA,
    ),
    Dialect(
        "together",
        refuses={
            "json_schema": openai(400, "Input validation error", param="response_format"),
        },
        finish="eos",
        left_out=SCHEMA,
    ),
    Dialect(
        "litellm",
        refuses={
            "seed": openai(
                400,
                "litellm.UnsupportedParamsError: m does not support parameters: ['seed']. To drop"
                " these, set `litellm.drop_params=True`",
                type="None",
                param="None",
                code="400",
            )
        },
        left_out=SEED,
    ),
    Dialect(
        "a fastapi of one's own",
        refuses={
            "temperature": error(
                422,
                {"detail": [{"loc": ["body", "temperature"], "msg": "extra fields not permitted"}]},
            ),
            "seed": error(400, {"detail": "seed: unknown"}),
        },
        usage=lambda asked, said: None,
        left_out=SEED | TEMPERATURE,
        facts={"tokens": "not counted: estimated", "tokens/s": "not told"},
        bills=False,
    ),
    Dialect(
        "dashscope",
        needs=_dashscope,
        filtered=openai(
            400,
            "Input data may contain inappropriate content.",
            code="data_inspection_failed",
        ),
        endpoint={"extra_body": {"enable_thinking": False}},
    ),
    Dialect(
        "zhipu",
        refuses={"seed": error(400, {"error": {"code": "1210", "message": "不支持参数 seed"}})},
        first=error(
            429, {"error": {"code": "1302", "message": "您的请求过于频繁"}}, Retry_After="0"
        ),
        filtered=error(
            400,
            {"error": {"code": "1301", "message": "系统检测到输入可能包含不安全或敏感内容"}},
        ),
        left_out=SEED,
    ),
    Dialect(
        "a server that speaks Korean",
        refuses={
            "temperature": error(400, {"message": "지원하지 않는 매개변수입니다: temperature"})
        },
        filtered=error(400, {"message": "콘텐츠 필터에 의해 차단되었습니다"}),
        left_out=TEMPERATURE,
    ),
    Dialect(
        "behind nginx",
        first=error(502, "<html><head><title>502 Bad Gateway</title></head></html>"),
        models=404,
    ),
    Dialect(
        "behind a gateway that limits",
        first=error(429, "<html><h1>429 Too Many Requests</h1></html>"),
    ),
    Dialect("streams whatever is asked", stream=True),
    Dialect(
        "streams without a count",
        stream=True,
        usage=lambda asked, said: None,
        facts={"tokens": "not counted: estimated"},
        bills=False,
    ),
    Dialect(
        "says no word",
        refuses={"json_schema": error(400, "Bad Request"), "json_object": error(400, "")},
        left_out=SCHEMA | MODE,
    ),
    Dialect(
        "gpt-oss, raw",
        wrap=thinks(
            '<|channel|>analysis<|message|>Say {"questions": []}?<|end|><|start|>assistant'
            "<|channel|>final<|message|>",
            "<|return|>",
        ),
        reasons=True,
    ),
    Dialect(
        "a key that may not list models, and headers",
        needs=_titled,
        models=403,
        usage=lambda asked, said: {"prompt_tokens": str(asked), "completion_tokens": float(said)},
        endpoint={"headers": {"X-Title": "gym", "X-Org": "$DIALECT_KEY"}},
    ),
]
