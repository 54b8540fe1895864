"""The few addresses of the Hub that an upload uses, on loopback; large files by LFS."""

from __future__ import annotations

import base64
import hashlib
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
        created: What was asked for when the last repository was made.
        files: Path → content, over all commits.
        repositories: Repository, such as ``models/me/it`` → path → content, or the SHA-256 that
            stands for a large file.
        large: SHA-256 → number of bytes that came, of the files sent by LFS.
    """

    def __init__(self, token: str) -> None:
        self.token = token
        self.created: dict[str, Any] = {}
        self.files: dict[str, str] = {}
        self.repositories: dict[str, dict[str, str]] = {}
        self.large: dict[str, int] = {}

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
            kind = "datasets/" if self.created.get("type") == "dataset" else ""
            return {"url": f"{self.url}/{kind}{owner}/{self.created['name']}"}
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            return {
                "files": [
                    {"path": f["path"], "uploadMode": _mode(f["path"]), "shouldIgnore": False}
                    for f in files
                ]
            }
        if path.endswith("/info/lfs/objects/batch"):
            upload = [
                {**wanted, "actions": {"upload": {"href": f"{self.url}/large/{wanted['oid']}"}}}
                for wanted in json.loads(body)["objects"]
            ]
            return {"transfer": "basic", "objects": upload}
        if "/commit/" in path:
            name = path.removeprefix("/api/").split("/commit/")[0]
            held = self.repositories.setdefault(name, {})
            for line in body.splitlines():
                sent = json.loads(line)
                value = sent["value"]
                if sent["key"] == "file":
                    held[value["path"]] = base64.b64decode(value["content"]).decode()
                elif sent["key"] == "lfsFile":
                    held[value["path"]] = value["oid"]
            self.files |= held
            oid = "1" * 40
            return {"commitUrl": f"{self.url}/{name}/commit/{oid}", "commitOid": oid}
        return {"errors": [], "warnings": []}


def _mode(path: str) -> str:
    return "lfs" if path.endswith((".safetensors", ".gguf")) else "regular"


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

        def do_PUT(self) -> None:
            """Take a large file; its address is signed in its own way and carries no token."""
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            known = self.path == f"/large/{hashlib.sha256(body).hexdigest()}"
            hub.large[self.path.rpartition("/")[2]] = len(body)
            self.send_response(200 if known else 400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
