"""Pictures that belong to a row, as Argilla's image fields take them.

In: a row, and the folder that its files are relative to. Out: addresses, web ones as they are and
files as data; :mod:`curation.argilla.push` asks for them. Text itself stays plain text, so that a
reviewer sees every letter of it: in a Markdown field Argilla would render all of it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

from workbench.errors import UserError
from workbench.records import Example

PICTURE = "picture"
"""Name of the first image field; the second one is ``picture_2``."""
_MARKDOWN = re.compile(r"!\[[^\]]*\]\(([^)\s]+)")
_KINDS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif", ".webp": "webp"}
"""Suffix → kind of picture that Argilla takes and browsers show."""
_DATA = re.compile(r"data:image/(?:avif|gif|jpeg|jpg|png|webp)[;,]")
_LONGEST_ADDRESS = 2038
_LONGEST_DATA = 5_000_000
"""Characters that Argilla takes at the most."""
_LARGE = 400_000
"""Bytes from which a picture is made smaller: a page of the server holds hundreds of rows."""
_SIDE = 1280
"""Pixels of the longer side of a picture that was made smaller."""


def picture_field(number: int) -> str:
    """Return the name of an image field, counted from 0."""
    return PICTURE if number == 0 else f"{PICTURE}_{number + 1}"


def pictures_of(
    example: Example, answers: Iterable[str] = (), folder: Path | None = None
) -> list[str]:
    """Return the addresses of a row's pictures: its own files, then those that its text names.

    What Argilla would refuse, such as a path in a text, is left out: its letters are shown.

    Args:
        example: The row.
        answers: The texts beside the prompt, in the order in which they are shown.
        folder: What the row's files are relative to; without it they are left out.

    Raises:
        UserError: A file is not there, or is no picture.
    """
    files = [_as_data(folder / name) for name in example.images] if folder else []
    texts = (*(message.content for message in example.prompt), *answers)
    named = (address for text in texts for address in _MARKDOWN.findall(text))
    return list(dict.fromkeys([*files, *filter(_is_taken, named)]))


def _is_taken(address: str) -> bool:
    if _DATA.match(address):
        return len(address) <= _LONGEST_DATA
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    usual = parts.scheme in ("http", "https") and parts.netloc and parts.path
    return bool(usual) and len(address) <= _LONGEST_ADDRESS


def _as_data(file: Path) -> str:
    """Return a file as a data address, made smaller where it is large."""
    kind = _KINDS.get(file.suffix.lower(), "")
    try:
        content = file.read_bytes()
        if not kind or len(content) > _LARGE:
            kind, content = "png", _smaller(content)
    except OSError as error:  # Pillow's own are of this kind, too
        raise UserError(
            f"a picture of a row cannot be read ({error.strerror or 'no picture'})",
            where=str(file),
            fix="import the rows again, with their pictures beside them",
        ) from None
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _smaller(content: bytes) -> bytes:
    from PIL import Image

    with Image.open(BytesIO(content)) as picture:
        picture.thumbnail((_SIDE, _SIDE))
        few = picture.convert("RGB").quantize(256)  # a photograph stays below half a megabyte
    out = BytesIO()
    few.save(out, "PNG", optimize=True)
    return out.getvalue()
