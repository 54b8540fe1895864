"""``persona serve``: the base model or an adapter of a round, as an OpenAI-compatible endpoint."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys

import click

from app.cli.options import round_options
from rounds.context import RoundContext
from rounds.models import linked_model
from workbench.config import METHODS
from workbench.errors import UserError

HOST = "127.0.0.1"


@click.command("serve")
@round_options
@click.option("--adapter", type=click.Choice(METHODS), help="Of the round; none by default.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8001, show_default=True, help="On loopback."
)
def serve(context: RoundContext, adapter: str | None, port: int) -> None:
    """Serve the base model, or an adapter of the round merged into it, until Ctrl-C.

    The server is `transformers serve`. It listens on loopback alone, ignores
    JSON schemas, and knows one model, whose name is printed with its address.

    \b
    Examples:
      persona serve
      persona serve --adapter dpo --port 8002
    """
    if importlib.util.find_spec("uvicorn") is None or importlib.util.find_spec("fastapi") is None:
        fix = "make setup"
        raise UserError("the server's libraries are not installed", fix=fix)
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise UserError(f"port {port} is taken", where="--port", fix="choose another one")
    model = linked_model(context, adapter)
    # The server calls a model by the path that it was given, so it gets one that is a name.
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", model.name]
    command += ["--host", HOST, "--port", str(port), "--continuous-batching"]
    click.echo(f"{{base_url: 'http://{HOST}:{port}/v1', model: {model.name}}}")
    hub = model.parent / ".hub"
    hub.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        # It lists this folder among its models, and fails where there is none.
        "HF_HUB_CACHE": str(hub.resolve()),
        "TOKENIZERS_PARALLELISM": "false",
    }
    # Whoever ends this process, as a service manager does, ends the server with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = subprocess.Popen(command, env=environment, cwd=model.parent)
    try:
        code = server.wait()
    except KeyboardInterrupt:
        server.terminate()
        server.wait()
        return
    if code:
        raise UserError(f"the server ended with code {code}", fix="its own words above say why")
