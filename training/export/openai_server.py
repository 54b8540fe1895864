"""The process behind ``persona serve``: ``transformers serve`` as OpenAI's clients expect it.

In: the name of a model's folder in the working directory, a host and a port. Out: an endpoint until
the process ends. ``app.cli.models`` starts it.

What transformers' own server (5.23) does otherwise, and is mended here: ``/v1/models`` lists a
hub's cache in place of what is served; ``stop`` is ignored where requests are batched; the model is
called ``NAME@main``; a stream never says that it is done and counts tokens unasked; mistakes are
told in a shape that clients do not read; and no page of this machine may ask.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException as AnyHTTPException
from transformers.cli.serving.chat_completion import ChatCompletionHandler
from transformers.cli.serving.completion import CompletionHandler
from transformers.cli.serving.model_manager import ModelManager
from transformers.cli.serving.response import ResponseHandler
from transformers.cli.serving.server import build_server
from transformers.cli.serving.systemone import SystemOneHandler
from transformers.cli.serving.transcription import TranscriptionHandler
from transformers.cli.serving.utils import GenerationState

from training.export.openai_stream import Chunk, chunks_of, cut_at, events, mistake, whole

ORIGINS = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
"""Pages that may ask: those of this machine. A page from elsewhere may not use the model."""
MOST_STOPS = 4
"""Stop sequences of a request, as in OpenAI's own API."""
_OWN = {"stop", "stream", "stream_options", "n", "model"}
"""Fields of a request that are seen to here."""


class ServedModel(ModelManager):  # type: ignore[misc]
    """The one model of this server."""

    def __init__(self, name: str) -> None:
        super().__init__(continuous_batching=True, force_model=name)
        self.name, self.since = name, int(time.time())

    def get_gen_models(self, cache_dir: str | None = None) -> list[Chunk]:
        """Return what is served, by the name that requests call it."""
        one = {"id": self.name, "object": "model", "created": self.since, "owned_by": "persona"}
        return [one]


class ChatHandler(ChatCompletionHandler):  # type: ignore[misc]
    """Chat completions; every answer is streamed from the model, so that a stop ends its work."""

    def __init__(self, model: ServedModel, state: GenerationState) -> None:
        super().__init__(model_manager=model, generation_state=state, chat_template_kwargs={})
        self.name = model.name
        self.counts: dict[str, Callable[[str], Chunk]] = {}
        """Id of a request → what counts its tokens where its answer is cut."""

    async def handle_request(
        self, body: dict[str, Any], request_id: str
    ) -> StreamingResponse | JSONResponse:
        """Answer a request, streamed or whole.

        Raises:
            HTTPException: What OpenAI's server would refuse too, or this one cannot do.
        """
        stops = check_request(body, self.name)
        inner = {key: value for key, value in body.items() if key not in _OWN} | {"stream": True}
        answer = await super().handle_request(inner, request_id)
        chunks = cut_at(stops, chunks_of(answer.body_iterator), self.counts.pop(request_id))
        if not body.get("stream"):
            return JSONResponse(await whole(chunks, self.name))
        counted = bool((body.get("stream_options") or {}).get("include_usage"))
        stream = events(chunks, self.name, counted=counted)
        return StreamingResponse(stream, media_type="text/event-stream")

    def _streaming(
        self, request_id: str, model: Any, processor: Any, model_id: str, inputs: Any, *args: Any,
        **kwargs: Any,
    ) -> StreamingResponse:  # fmt: skip
        """Start a stream, and keep what counts it."""
        ids = inputs["input_ids"]
        prompt = len(ids) if isinstance(ids, list) else ids.shape[-1]
        tokenizer = getattr(processor, "tokenizer", processor)

        def usage(text: str) -> Chunk:
            tokens = len(tokenizer(text, add_special_tokens=False)["input_ids"])
            counts = {"prompt_tokens": prompt, "completion_tokens": tokens}
            return counts | {"total_tokens": prompt + tokens}

        self.counts[request_id] = usage
        own = (request_id, model, processor, model_id, inputs)
        answer: StreamingResponse = super()._streaming(*own, *args, **kwargs)
        return answer


def check_request(body: dict[str, Any], name: str) -> list[str]:
    """Return the stop sequences of a request that the model ``name`` can answer.

    Raises:
        HTTPException: It asks for another model, for nothing, or for what cannot be had here.
    """
    if body.get("model") not in (None, name):
        what = f"the model '{body['model']}' does not exist; this server has '{name}'"
        raise HTTPException(404, what)
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        raise HTTPException(400, "messages: at least one is needed")
    if body.get("n") not in (None, 1):
        raise HTTPException(400, "n: one answer a request")
    stop = body.get("stop") or []
    stops = [stop] if isinstance(stop, str) else stop
    texts = isinstance(stops, list) and all(isinstance(one, str) and one for one in stops)
    if not texts or len(stops) > MOST_STOPS:
        raise HTTPException(400, f"stop: a text, or a list of up to {MOST_STOPS}")
    return list(stops)


def make_app(name: str) -> FastAPI:
    """Load the model in the folder ``name``, and return the server's application."""
    model, state = ServedModel(name), GenerationState(continuous_batching=True)
    app: FastAPI = build_server(
        model,
        ChatHandler(model, state),
        completion_handler=CompletionHandler(model_manager=model, generation_state=state),
        response_handler=ResponseHandler(
            model_manager=model, generation_state=state, chat_template_kwargs={}
        ),
        transcription_handler=TranscriptionHandler(model, state),
        systemone_handler=SystemOneHandler(
            model_manager=model, generation_state=state, chat_template_kwargs={}
        ),
        generation_state=state,
    )
    app.add_middleware(
        CORSMiddleware,
        allow_origin_regex=ORIGINS,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
    )

    @app.get("/v1/models/{model_id:path}")
    def one_model(model_id: str) -> Chunk:
        if model_id != name:
            raise HTTPException(404, f"the model '{model_id}' does not exist")
        return model.get_gen_models()[0]

    @app.exception_handler(AnyHTTPException)
    @app.exception_handler(RequestValidationError)
    @app.exception_handler(Exception)
    async def refuse(_: Request, error: Exception) -> JSONResponse:
        status = 422 if isinstance(error, RequestValidationError) else 500
        status = getattr(error, "status_code", status)
        text = str(getattr(error, "detail", None) or error)
        return JSONResponse(mistake(status, text), status_code=status)

    return app


def main() -> None:
    """Serve until the process ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    uvicorn.run(make_app(options.name), host=options.host, port=options.port, log_level="info")


if __name__ == "__main__":
    main()
