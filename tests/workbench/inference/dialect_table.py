"""The dialects by name: which server says what; :mod:`.dialects` has what they share."""

from __future__ import annotations

from tests.scripted_server import Reply, Request
from tests.workbench.inference.dialects import Dialect, beside, counted, error, openai, thinks


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
