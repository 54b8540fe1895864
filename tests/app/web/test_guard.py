"""Who may see and change the pages, and what is refused."""

from __future__ import annotations

import pytest
from fastapi.routing import APIRoute

from app.web.guard import CSRF, HEADERS
from app.web.server import PAGES
from tests.app.web.conftest import TOKEN, Pages

ROUND = "/round/tester/1"


def csrf(pages_html: str) -> str:
    """Return the token that a page's forms carry."""
    return pages_html.split('name="csrf" value="')[1].split('"')[0]


def test_without_the_link_nothing_is_seen_and_with_it_one_cookie_is_set(pages: Pages) -> None:
    client = pages.stranger()
    for path in ("/", ROUND, "/static/page.css", "/nowhere"):
        answer = client.get(path)
        assert (answer.status_code, "persona ui" in answer.text) == (403, True), path
    assert client.get("/", params={"token": "guess"}).status_code == 403
    opened = client.get("/", params={"token": TOKEN})
    assert (opened.status_code, opened.headers["location"]) == (303, "/")
    cookies = opened.headers.get_list("set-cookie")
    assert len(cookies) == 1
    assert cookies[0].startswith(f"persona-ui-{pages.port}=")
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookies[0].split(";")}
    page = client.get("/")
    assert page.status_code == 200
    assert "set-cookie" not in page.headers
    assert TOKEN not in page.text


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:8765"},
        {"host": "127.0.0.1"},
        {"host": "127.0.0.1:9999"},
        {"host": "localhost.evil.example:8765"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_another_name_or_another_site_is_refused(pages: Pages, headers: dict[str, str]) -> None:
    reader = pages.reader()
    for path in ("/", ROUND):
        assert reader.get(path, headers=headers).status_code == 403
    assert reader.get("/", headers={"host": f"localhost:{pages.port}"}).status_code == 200


def test_every_answer_has_the_strict_headers(pages: Pages) -> None:
    reader = pages.reader()
    for path in ("/", ROUND, f"{ROUND}/rows", "/static/htmx.min.js", "/nowhere", "/round/none/1"):
        answer = reader.get(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS, path
    policy = HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    "path", [f"{ROUND}/start", f"{ROUND}/stop", f"{ROUND}/contest", "/language"]
)
def test_a_change_without_the_sessions_token_is_refused(pages: Pages, path: str) -> None:
    reader = pages.reader()
    other = csrf(pages.reader().get("/").text)
    for data in ({}, {"csrf": ""}, {"csrf": "guess"}, {"csrf": other}):
        assert reader.post(path, data=data).status_code == 403
    assert reader.post(path, headers={CSRF: other}).status_code == 403
    assert not (pages.round().folder / ".process.json").exists()


def _routes(method: str) -> list[str]:
    """Return the address of every page that answers to a method, of the small rounds."""
    values = {"persona": "tester", "name": "tester", "number": "1", "row": "ex-1"}
    paths = {
        route.path.replace("{row:path}", "{row}").format(**values)
        for page in PAGES
        for route in page.router.routes
        if isinstance(route, APIRoute) and method in (route.methods or ())
    }
    return sorted(paths)


def test_no_page_is_seen_without_a_session_and_none_is_changed_without_its_token(
    pages: Pages,
) -> None:
    reads, changes = _routes("GET"), _routes("POST")
    assert len(reads) >= 14
    assert len(changes) >= 12
    stranger, reader = pages.stranger(), pages.reader()
    before = {path: path.stat().st_mtime_ns for path in pages.runs.rglob("*")}
    for path in reads:
        assert stranger.get(path).status_code == 403, path
    for path in changes:
        assert stranger.post(path).status_code == 403, path
        answer = reader.post(path, data={"csrf": "guess"})
        assert (answer.status_code, "not of these pages" in answer.text) == (403, True), path
        assert reader.post(path, content=b"x", headers={CSRF: "guess"}).status_code == 403, path
    assert {path: path.stat().st_mtime_ns for path in pages.runs.rglob("*")} == before


def test_a_language_is_chosen_and_leads_to_no_other_site(pages: Pages) -> None:
    reader = pages.reader()
    token = csrf(reader.get("/").text)
    for back in ("https://evil.example", "//evil.example", "/\\evil.example"):
        answer = reader.post("/language", data={"csrf": token, "language": "ko", "back": back})
        assert answer.headers["location"] == "/"
    assert '<html lang="ko">' in reader.get("/").text
    reader.post("/language", data={"csrf": token, "language": "xx", "back": "/"})
    assert '<html lang="ko">' in reader.get("/").text
    assert '<html lang="en">' in pages.reader().get("/").text


@pytest.mark.parametrize(
    "path",
    [
        "/round/../1",
        "/round/%2e%2e%2f%2e%2e/1",
        "/round/tester/0",
        "/round/tester/7",
        "/round/tester/1/row/..%2f..%2fconfig.yaml",
        "/static/..%2fguard.py",
        "/static/phrases.en.yaml",
    ],
)
def test_what_is_not_there_is_told_without_a_traceback(pages: Pages, path: str) -> None:
    answer = pages.reader().get(path)
    assert answer.status_code in (404, 409, 422) or "to do" in answer.text
    assert "Traceback" not in answer.text
