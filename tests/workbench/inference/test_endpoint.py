from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.scripted_server import ScriptedServer
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint, free_port
from workbench.inference.wire import check_reachable

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
