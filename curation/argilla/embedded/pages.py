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
"""A script that keeps Enter and Backspace from doing harm."""
PACKS = Path(__file__).resolve().parents[3] / "workbench" / "language"
"""Packs of languages; ``argilla.json`` in one has the pages' words where Argilla has none."""
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
_LAST = '{code:"ja",name:"日本語",file:"ja.js"}'
_CODES = 'localeCodes:["en","de","es","ja"'
_LOADER = '"ja.js":function'
_FETCH = '"%s.js":function(){return fetch("own/%s.json").then(function(r){return r.json()})},'
_NAME = re.compile(r"^name: *(.+)$", re.MULTILINE)


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
        _replace(script, lambda text: _with_titles(_with_packs(text)))
    shutil.copytree(OWN, folder / "own")
    for words in PACKS.glob("*/argilla.json"):
        shutil.copy(words, folder / "own" / f"{words.parent.name}.json")
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


def _with_packs(text: str) -> str:
    """Let the pages speak the languages whose packs have their words."""
    if _LOADER not in text:
        return text
    for words in sorted(PACKS.glob("*/argilla.json")):
        code, facts = words.parent.name, words.with_name("pack.yaml").read_text(encoding="utf-8")
        name = _NAME.findall(facts)[0]
        text = text.replace(_LAST, f'{_LAST},{{code:"{code}",name:"{name}",file:"{code}.js"}}')
        text = text.replace(_CODES, f'{_CODES},"{code}"')
        text = text.replace(_LOADER, _FETCH % (code, code) + _LOADER)
    return text


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
