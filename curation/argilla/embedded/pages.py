"""What the embedded server changes of Argilla's web pages, in its own copy of them.

Argilla copies its pages into the home's temporary folder at each start; :func:`adapt` edits that
copy, never the package. In: Argilla's application. Out: the application to serve. The launcher
calls it. Written for argilla-server 2.8.0, which imports fonts of another host in its style sheet
and speaks no Korean; ``tests/curation/argilla/test_pages.py`` fails once a change has no place.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

OWN = Path(__file__).resolve().parent / "pages"
"""The Korean words of the pages, and a script that keeps Enter and Backspace from doing harm."""
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
"""A page loads nothing from, and tells nothing to, another host, whatever a row's text says."""
_OUTSIDE = re.compile(r"@import url\(https?://[^)]*\);?")
_JAPANESE = '{code:"ja",name:"日本語",file:"ja.js"}'
_KOREAN = '{code:"ko",name:"한국어",file:"ko.js"}'
_CODES = 'localeCodes:["en","de","es","ja"]'
_LOADER = '"ja.js":function'
_LOAD_KOREAN = '"ko.js":function(){return fetch("own/ko.json").then(function(r){return r.json()})},'


_UNTITLED = re.compile(
    r'(?P<one>\w)\.title\?(?P<tag>\w\("span",\{domProps:\{textContent:\w\._s\()(?P=one)\.title\)'
)
"""A filter's entry: a question's has a tooltip alone, and was shown by its raw name."""
_RAW_SORT = '{key:"title",get:function get(){return this.question.name}}'


def adapt(application: Any) -> App:
    """Return ``application`` with pages that ask nothing outside, in the persona's language."""
    (mount,) = (route for route in application.routes if route.name == "static")
    folder = Path(mount.app.directory)
    for sheet in folder.glob("_nuxt/*.css"):
        _replace(sheet, lambda text: _OUTSIDE.sub("", text))
    for script in folder.glob("_nuxt/*.js"):
        _replace(script, lambda text: _with_titles(_with_korean(text)))
    shutil.copytree(OWN, folder / "own")
    _replace(
        folder / "index.html",
        lambda text: text.replace("</head>", '<script src="/own/labeler.js"></script></head>'),
    )

    async def guarded(scope: Message, receive: Receive, send: Send) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", POLICY.encode())
                message["headers"] = [*message.get("headers", ()), policy]
            await send(message)

        await application(scope, receive, with_policy if scope["type"] == "http" else send)

    return guarded


def _with_korean(text: str) -> str:
    if _LOADER not in text:
        return text
    text = text.replace(_JAPANESE, f"{_JAPANESE},{_KOREAN}")
    text = text.replace(_CODES, _CODES.replace("]", ',"ko"]'))
    return text.replace(_LOADER, _LOAD_KOREAN + _LOADER)


def _with_titles(text: str) -> str:
    """Let filters and orders show questions by their titles, in the persona's language."""
    text = text.replace(_RAW_SORT, _RAW_SORT.replace("question.name", "question.title"))
    return _UNTITLED.sub(
        r"(\g<one>.title||\g<one>.tooltip)?\g<tag>\g<one>.title||\g<one>.tooltip)", text
    )


def _replace(file: Path, change: Callable[[str], str]) -> None:
    text = file.read_text(encoding="utf-8")
    if (changed := change(text)) != text:
        file.write_text(changed, encoding="utf-8")
