"""The few addresses of the Hub that a dataset's upload uses, on loopback."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class ScriptedHub:
    """The server, as a context manager.

    Args:
        token: The only token that is let in.

    Attributes:
        url: Its address, for ``HF_ENDPOINT``.
        created: What was asked for when a repository was made.
        files: Path → content of the commit.
    """

    def __init__(self, token: str) -> None:
        self.token = token
        self.created: dict[str, Any] = {}
        self.files: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        """Return the reply to one request."""
        if path == "/api/repos/create":
            self.created = json.loads(body)
            owner = self.created.get("organization") or "me"
            return {"url": f"{self.url}/datasets/{owner}/{self.created['name']}"}
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            return {
                "files": [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in files
                ]
            }
        if "/commit/" in path:
            for line in body.splitlines():
                sent = json.loads(line)
                if sent["key"] == "file":
                    content = base64.b64decode(sent["value"]["content"]).decode()
                    self.files[sent["value"]["path"]] = content
            name = path.removeprefix("/api/").split("/commit/")[0]
            oid = "1" * 40
            return {"commitUrl": f"{self.url}/{name}/commit/{oid}", "commitOid": oid}
        return {"errors": [], "warnings": []}


def _handler(hub: ScriptedHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            known = self.headers["Authorization"] == f"Bearer {hub.token}"
            data = json.dumps(hub.answer(self.path, body) if known else {"error": "no"}).encode()
            self.send_response(200 if known else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
