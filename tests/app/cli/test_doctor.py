"""What ``persona doctor`` finds at scripted endpoints."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.cli.main import main
from tests.scripted_server import Reply, Request, ScriptedServer, conforms, fails, says
from workbench.config import load_config
from workbench.errors import EXIT_USER_ERROR
from workbench.inference.embedded import EMBEDDED
from workbench.inference.endpoint import free_port


@pytest.fixture
def doctor(repo: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command with a tiny base: its template is examined each time."""

    def run(model: str = str(tiny_model), **endpoints: str) -> tuple[int, str, str]:
        blocks = {
            role: {"base_url": url, "model": "m", "backoff": 0, "timeout": 2}
            for role, url in endpoints.items()
        }
        file = tmp_path / "run.yaml"
        persona = str(repo / "datasets" / "gym-trainer")
        config = {"persona": persona, "model": model, **blocks}
        file.write_text(json.dumps(config), encoding="utf-8")
        code = main(["doctor", "--config", str(file), "--runs", str(tmp_path / "runs")])
        return int(code), *capsys.readouterr()

    return run


def facts(table: str) -> dict[str, dict[str, str]]:
    """Return role → fact → what the table says."""
    rows: list[list[str]] = []
    for line in table.splitlines():
        if line[:1] not in "┃│":
            continue
        cells = [cell.strip() for cell in line.strip("┃│").replace("┃", "│").split("│")]
        if rows[1:] and not cells[0]:
            rows[-1] = [a + b for a, b in zip(rows[-1], cells, strict=True)]
        else:
            rows.append(cells)
    _, *roles = rows[0]
    return {
        role: {row[0]: row[place] for row in rows[1:]} for place, role in enumerate(roles, start=1)
    }


def test_each_endpoint_is_told_with_schema_and_speed(doctor: Any) -> None:
    def prose(request: Request) -> Reply:
        return says("word " * 50, delay=0.2)

    with ScriptedServer(conforms) as good, ScriptedServer(prose) as plain:
        code, out, _ = doctor(teacher=good.url, judge=plain.url)
    assert code == 0
    told = facts(out)
    assert told.keys() == {"teacher", "judge"}
    teacher, judge = told["teacher"], told["judge"]
    speed = {"latency (s)", "tokens/s"}
    assert {name: value for name, value in teacher.items() if name not in speed} == {
        "model": "m",
        "address": good.url,
        "answers": "yes",
        "system message": "yes",
        "seed": "yes",
        "temperature": "yes",
        "longest answer": "max_tokens",
        "JSON schema": "yes",
        "judge's JSON": "yes",
        "reasoning": "none",
        "tokens": "counted",
        "limits told": "none",
    }
    assert judge["JSON schema"] == "ignored: asked for in words"
    assert judge["judge's JSON"] == "no use"
    assert 0.2 <= float(judge["latency (s)"]) < 2
    assert 25 < float(judge["tokens/s"]) <= 250


def test_a_server_that_refuses_schemas_answers_without_them(doctor: Any) -> None:
    with ScriptedServer(lambda r: fails(400) if r.schema else conforms(r)) as server:
        code, out, _ = doctor(teacher=server.url)
    assert code == 0
    assert facts(out)["teacher"]["JSON schema"] == "refused: asked for in words"


def test_a_server_that_says_nothing_is_told_as_such(doctor: Any) -> None:
    def thinks(request: Request) -> Reply:
        plain = request.schema is None and not request.json_mode
        message = {"content": None, "reasoning_content": "Hm ..."}
        choice = {"message": message, "finish_reason": "length"}
        usage = {"prompt_tokens": 9, "completion_tokens": 400}
        cut = Reply(raw=json.dumps({"choices": [choice], "usage": usage}).encode())
        return cut if plain else conforms(request)

    def silent(request: Request) -> Reply:
        shaped = request.schema or request.json_mode
        return conforms(request) if shaped else says("")

    with ScriptedServer(thinks) as one, ScriptedServer(silent) as other:
        code, out, err = doctor(teacher=one.url, judge=other.url)
    assert code == EXIT_USER_ERROR
    first, second = err.splitlines()
    assert first.startswith(f"persona: {one.url}: model 'm' says no word (4 of 4 cut off in reason")
    assert first.endswith(" — raise 'max_tokens', or turn its reasoning off by extra_body")
    assert second == (
        f"persona: {other.url}: model 'm' says no word (4 of 4 without a word)"
        " — mend 'model', or see its own log"
    )
    told = facts(out)
    assert told["teacher"]["answers"] == "4 of 4 cut off in reasoning: raise max_tokens"
    assert told["judge"]["answers"] == "4 of 4 without a word"
    assert told["teacher"]["JSON schema"] == told["judge"]["JSON schema"] == "yes"


def test_every_endpoint_that_fails_is_one_line_and_the_others_are_told(doctor: Any) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/v1"
    with ScriptedServer(conforms) as good, ScriptedServer(lambda r: fails(404)) as unknown:
        code, out, err = doctor(teacher=nowhere, student=good.url, judge=unknown.url)
    assert code == EXIT_USER_ERROR
    assert {role: told["answers"] for role, told in facts(out).items()} == {
        "teacher": "no",
        "student": "yes",
        "judge": "no",
    }
    assert facts(out)["teacher"]["seed"] == "—"
    first, second = err.splitlines()
    assert first.startswith(f"persona: {nowhere}: nothing answers there")
    assert second.startswith(f"persona: {unknown.url}: model 'm' gives no answer (not_found: HTTP")


BODIES = [b"<html><body>Welcome</body></html>", b"[]", b"{}", b"null", b'{"choices": []}', b""]


@pytest.mark.parametrize("body", BODIES)
def test_replies_that_are_no_chat_fail(doctor: Any, body: bytes) -> None:
    with ScriptedServer(lambda _: Reply(raw=body)) as server:
        code, out, err = doctor(teacher=server.url)
    assert code == EXIT_USER_ERROR
    assert facts(out)["teacher"]["answers"] == "no"
    assert "model 'm' gives no answer (malformed_reply: HTTP 200, no JSON of a chat" in err


def test_prompts_are_not_sent_on_to_another_host(doctor: Any) -> None:
    with ScriptedServer(conforms) as other:

        def away(request: Request) -> Reply:
            return Reply(status=307, headers={"location": f"{other.url}/chat/completions"})

        with ScriptedServer(away) as server:
            code, _, err = doctor(teacher=server.url)
        assert other.requests == [] and len(server.requests) == 1
    (line,) = err.splitlines()
    assert code == EXIT_USER_ERROR
    assert f"(to {other.url.removesuffix('/v1')}, another host)" in line
    assert line.startswith(f"persona: {server.url}: sends requests on")


def test_a_redirect_on_the_same_host_is_followed_and_a_circle_is_told(doctor: Any) -> None:
    def moved(request: Request) -> Reply:
        there = request.path.endswith("?there")
        return conforms(request) if there else Reply(status=307, headers=location("?there"))

    def circle(request: Request) -> Reply:
        return Reply(status=307, headers=location(""))

    def location(query: str) -> dict[str, str]:
        return {"location": f"/v1/chat/completions{query}"}

    with ScriptedServer(moved) as server:
        assert doctor(teacher=server.url)[0] == 0
    with ScriptedServer(circle) as server:
        code, _, err = doctor(teacher=server.url)
    assert code == EXIT_USER_ERROR
    assert "sends requests on" in err and "maximum allowed redirects" in err


PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
NOWHERE = "http://127.0.0.1:9"
UNREACHED = {
    "unknown host": (
        {},
        "http://nowhere.invalid/v1",
        "the host's name is not known (",
        " — mend the host in 'base_url', or connect to its network",
    ),
    "refused": (
        {},
        "http://127.0.0.1:9/v1",
        "nothing answers there ([Errno 111] Connection refused)",
        " — start the server or mend 'base_url'",
    ),
    "a proxy that is not there": (
        {"HTTP_PROXY": NOWHERE},
        "http://teacher.example/v1",
        "the proxy of $HTTP_PROXY lets nothing through (",
        " — unset HTTP_PROXY, or name the host in NO_PROXY",
    ),
    "a proxy for all": (
        {"all_proxy": NOWHERE},
        "https://teacher.example/v1",
        "the proxy of $all_proxy lets nothing through (",
        " — unset all_proxy, or name the host in NO_PROXY",
    ),
    "socks": (
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
        "https://teacher.example/v1",
        "the proxy of $ALL_PROXY cannot be used (Using SOCKS proxy, but",
        " — unset ALL_PROXY, or name the host in NO_PROXY",
    ),
    "loopback behind socks": (
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
        "http://127.0.0.1:9/v1",
        "nothing answers there ([Errno 111] Connection refused)",
        " — start the server or mend 'base_url'",
    ),
}


@pytest.mark.parametrize(("env", "url", "what", "fix"), UNREACHED.values(), ids=UNREACHED)
def test_an_endpoint_that_cannot_be_reached_is_one_line_with_the_way_out(
    doctor: Any,
    monkeypatch: pytest.MonkeyPatch,
    env: dict[str, str],
    url: str,
    what: str,
    fix: str,
) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    code, _, err = doctor(teacher=url)
    (line,) = err.splitlines()
    assert code == EXIT_USER_ERROR
    assert line.startswith(f"persona: {url}: {what}") and line.endswith(fix)


def test_a_certificate_that_nobody_signed_is_told_as_such(doctor: Any, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ScriptedServer(conforms) as server:
        server.listener.socket = context.wrap_socket(server.listener.socket, server_side=True)
        url = server.url.replace("http://127.0.0.1", "https://localhost")
        code, _, err = doctor(teacher=url)
    (line,) = err.splitlines()
    assert code == EXIT_USER_ERROR
    assert line.startswith(f"persona: {url}: its certificate is not trusted (")
    assert line.endswith("set SSL_CERT_FILE to the file of your organization's root certificates")


def test_without_endpoints_there_is_nothing_to_check(doctor: Any) -> None:
    code, out, _ = doctor(model=EMBEDDED)
    assert (code, out.splitlines()) == (
        0,
        [
            "base smollm2-135m: its chat template is used as it is",
            "no endpoint is configured; teacher, student and judge are optional",
        ],
    )


def test_the_documented_blocks_are_valid_configurations(repo: Path, tmp_path: Path) -> None:
    text = (repo / "docs" / "endpoints.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 7
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block, encoding="utf-8")
        config = load_config(file)
        ((role, fields),) = yaml.safe_load(block).items()
        assert getattr(config, role).base_url == fields["base_url"]
