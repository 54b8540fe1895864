from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.scripted_server import Reply, Request, ScriptedServer
from workbench.errors import UserError
from workbench.inference.client import complete_all
from workbench.inference.endpoint import Endpoint, free_port
from workbench.inference.exchange import EndpointRequest
from workbench.inference.probe import probe
from workbench.inference.wire import check_reachable, open_client
from workbench.records import user_prompt

SECRET = "sk-very-secret-4711"


def test_the_key_is_read_at_use_and_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TEACHER_KEY", f" {SECRET}\n")
    file = tmp_path / "key"
    file.write_text(SECRET + "\n")
    by_name = Endpoint(base_url="http://a.b/v1/", model="m", api_key_env="TEACHER_KEY")
    by_file = Endpoint(base_url="http://a.b/v1", model="m", api_key_file=file)
    for endpoint in (by_name, by_file):
        assert endpoint.api_key() == SECRET
        assert SECRET not in repr(endpoint) + endpoint.model_dump_json()
    assert by_name.base_url == "http://a.b/v1"
    assert Endpoint(base_url="http://a.b", model="m").api_key() == "none"


def test_a_missing_key_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with pytest.raises(UserError) as unset:
        Endpoint(base_url="http://a", model="m", api_key_env="TEACHER_KEY").api_key()
    assert unset.value.line() == ("$TEACHER_KEY: the API key is not set — export TEACHER_KEY=<key>")
    with pytest.raises(UserError, match="cannot be read"):
        Endpoint(base_url="http://a", model="m", api_key_file=tmp_path / "no").api_key()
    (tmp_path / "empty").write_text(" \n")
    with pytest.raises(UserError, match="holds no API key"):
        Endpoint(base_url="http://a", model="m", api_key_file=tmp_path / "empty").api_key()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"api_key": SECRET}, "'api_key' must not stand in a configuration"),
        ({"base_url": f"http://me:{SECRET}@a.b/v1"}, "must hold no user, password or query"),
        ({"base_url": f"http://a.b/v1?key={SECRET}"}, "must hold no user, password or query"),
        ({"base_url": "a.b/v1"}, "is no address such as"),
        ({"api_key_env": "A", "api_key_file": "b"}, "not both"),
        ({"modle": "m"}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_block_is_told_without_its_secrets(fields: dict[str, str], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Endpoint.model_validate({"base_url": "http://a.b/v1", "model": "m", **fields})
    assert told in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_wrong_address_or_key_shows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", SECRET)
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(UserError) as nothing:
        check_reachable(Endpoint(base_url=url, model="m"))
    assert nothing.value.line().startswith(f"{url}: nothing answers there")
    with ScriptedServer(api_key="another") as server:
        endpoint = Endpoint(base_url=server.url, model="m", api_key_env="TEACHER_KEY")
        with pytest.raises(UserError) as refused:
            check_reachable(endpoint)
        assert refused.value.line() == (
            f"{server.url}: refuses the API key (HTTP 401) — check the key in $TEACHER_KEY"
        )
    with ScriptedServer(api_key=SECRET) as server:
        check_reachable(Endpoint(base_url=server.url, model="m", api_key_env="TEACHER_KEY"))


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("binary", "it is no text"),
        ("~nobodyx/key", "No such file or directory"),
        ("a\0b", "it is no path"),
    ],
)
def test_a_file_that_holds_no_key_is_one_line(tmp_path: Path, path: str, why: str) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00sk")
    file = tmp_path / path if path == "binary" else Path(path)
    with pytest.raises(UserError) as caught:
        Endpoint(base_url="http://a", model="m", api_key_file=file).api_key()
    assert caught.value.what == f"the API key cannot be read ({why})"


@pytest.mark.parametrize("url", ["http://a:abc/v1", "http://a:99999", "http://[::1", "http://a b"])
def test_an_address_that_is_none_is_told_as_such(url: str) -> None:
    with pytest.raises(ValidationError, match="is no address such as"):
        Endpoint(base_url=url, model="m")
    odd = Endpoint(base_url=f"http://{'a' * 70}é.b/v1", model="m")
    for ask in (check_reachable, open_client):
        with pytest.raises(UserError, match="is no address"):
            ask(odd)


@pytest.mark.parametrize("key", ["sk-SECRET\nline2", "sk-SECRET\0x", "sk-SECRET키"])
def test_a_key_or_header_that_cannot_be_sent_is_told_without_it(tmp_path: Path, key: str) -> None:
    file = tmp_path / "key"
    file.write_text(key, encoding="utf-8")
    endpoint = Endpoint(base_url="http://127.0.0.1:9/v1", model="m", api_key_file=file)
    for ask in (check_reachable, open_client):
        with pytest.raises(UserError) as unsent:
            ask(endpoint)
        assert unsent.value.line() == (
            "http://127.0.0.1:9/v1: the API key cannot be sent — check the key for stray signs"
        )
    named = Endpoint(base_url="http://a", model="m", headers={"X-Team": "a\nb"})
    with pytest.raises(UserError, match="the header 'X-Team' cannot be sent"):
        named.sent_headers()


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_server_that_repeats_the_key_has_it_hidden(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("TEACHER_KEY", SECRET)
    monkeypatch.setenv("TEAM", 'Bearer te"am+token/1')

    def echo(request: Request) -> Reply:
        error = {"message": f"what is {request.headers['authorization']} in {request.headers}?"}
        return Reply(status=status, raw=json.dumps({"error": error}).encode())

    with ScriptedServer(echo) as server:
        endpoint = Endpoint(
            base_url=server.url,
            model="m",
            api_key_env="TEACHER_KEY",
            headers={"X-Team": "${TEAM}"},
            attempts=1,
        )
        (completion,) = complete_all(endpoint, [EndpointRequest(user_prompt("How deep?"))])
        assert completion.detail.startswith("what is Bearer *** in {")
        with pytest.raises(UserError) as told:
            probe(endpoint)
    assert "what is Bearer ***" in told.value.line()
    for text in (completion.detail, told.value.line()):
        assert SECRET not in text and "am+token" not in text


def test_secrets_are_hidden_in_every_form_and_where_a_text_was_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEACHER_KEY", SECRET)
    monkeypatch.setenv("TEAM", 'Bearer te"am+token/1')
    endpoint = Endpoint(
        base_url="http://a", model="m", api_key_env="TEACHER_KEY", headers={"X-Team": "$TEAM"}
    )
    for form in ('te"am+token/1', 'te\\"am+token/1', "te%22am%2Btoken%2F1", "te&quot;am+token/1"):
        assert endpoint.redacted(f"no Bearer {form}.") == "no Bearer ***."
    assert endpoint.redacted(f"no {SECRET[:9]}") == "no ***"
    assert endpoint.redacted("The bearer is unknown.") == "The bearer is unknown."
    assert Endpoint(base_url="http://a", model="m").redacted("none is none") == "none is none"
