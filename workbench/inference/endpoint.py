"""Where a model is served: one block of configuration for teacher, student and judge."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from html import escape
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote, urlsplit

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from workbench.errors import UserError
from workbench.store import expanded
from workbench.values import Settings

_SECRET_KEYS = {"api_key", "key", "token", "apikey", "secret", "password"}
_SECRET_HEADER = re.compile(r"authorization|cookie|key|token|secret|password", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_SENDABLE = re.compile(r"[\t\x20-\x7e]*\Z")
"""What a header can hold, as it is written here: ASCII without control characters."""
_UNWRITABLE = re.compile(r"[\x00-\x20\x7f]")
"""What no address holds."""
_SCHEMES = {"bearer", "basic", "token", "digest", "apikey", "key"}
"""Words before a key that are no part of it."""
_SHORTEST_SECRET = 4
"""Characters; what is shorter stands in every text."""
_HIDDEN = "***"


class Price(Settings):
    """What a million tokens cost."""

    input: float = Field(ge=0)
    """Of the tokens of prompts."""
    output: float = Field(ge=0)
    """Of the tokens of answers."""
    currency: str = "USD"
    """What prices and budgets are in."""

    def of(self, input_tokens: float, output_tokens: float) -> float:
        """Return what so many tokens cost."""
        return (self.input * input_tokens + self.output * output_tokens) / 1_000_000


class Paid(NamedTuple):
    """What one kind of requests took, failed ones too, over every run that used their file."""

    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def cost(self, price: Price | None) -> float:
        """Return what the tokens cost; nothing where no price is known."""
        return price.of(self.input_tokens, self.output_tokens) if price else 0.0

    @classmethod
    def total(cls, parts: Iterable[Paid]) -> Paid:
        """Return the sum of each number."""
        return cls(*(sum(numbers) for numbers in zip(cls(), *parts, strict=True)))


class Endpoint(Settings):
    """An OpenAI-compatible endpoint. It names where the key is and never holds it."""

    model_config = ConfigDict(hide_input_in_errors=True)

    base_url: str
    """Address up to and including the version, such as ``http://127.0.0.1:8000/v1``."""
    model: str = Field(min_length=1)
    """What the endpoint calls the model."""
    api_key_env: str = ""
    """Name of the environment variable that holds the key."""
    api_key_file: Path | None = None
    """File that holds the key and nothing else."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds for one try of a request."""
    attempts: int = Field(default=5, ge=1)
    """Tries of a request in all."""
    backoff: float = Field(default=1.0, ge=0)
    """Seconds before the second try, at most; doubled for each further one, up to 60."""
    concurrency: int = Field(default=8, ge=1)
    """Requests under way at once."""
    price: Price | None = None
    """Of a million tokens, for estimates and budgets."""
    licence: str = ""
    """The model's licence or the service's terms, by name, for what is handed on with its rows."""
    outputs_may_train: bool | None = None
    """Whether those terms let its outputs train another model; unset where nobody has looked."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Fields that this server wants beside ours, sent with every request as they are."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Headers that this server wants; ``$NAME`` in one is a variable of the environment."""
    api_version: str = ""
    """Azure's ``api-version``; the key is then sent as Azure wants it."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of an answer, reasoning included, in place of what a job asks for."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Most requests that are sent in a minute."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """Of prompts and answers together."""
    batch: bool = False
    """Whether requests go through the batch endpoint, at half the price and within a day."""
    rate_limit_wait: float = Field(default=900.0, ge=0)
    """Seconds without any request let through after which a rate limit is given up on."""

    @model_validator(mode="before")
    @classmethod
    def _holds_no_secret(cls, data: object) -> Any:
        if isinstance(data, dict) and (secrets := _SECRET_KEYS & {str(k).lower() for k in data}):
            raise ValueError(
                f"'{min(secrets)}' must not stand in a configuration; name the environment variable"
                " that holds it in 'api_key_env', or a file in 'api_key_file'"
            )
        return data

    @model_validator(mode="after")
    def _one_key(self) -> Endpoint:
        if self.api_key_env and self.api_key_file:
            raise ValueError("give 'api_key_env' or 'api_key_file', not both")
        return self

    @field_validator("headers")
    @classmethod
    def _hold_no_secret(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if _SECRET_HEADER.search(name) and not _VARIABLE.search(text):
                raise ValueError(
                    f"the header '{name}' must not stand in a configuration; write"
                    f" '$NAME' for the environment variable that holds it"
                )
        return value

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port that is no number, brackets around no address
            whole = False
        if not whole or _UNWRITABLE.search(value):
            raise ValueError("base_url is no address such as http://127.0.0.1:8000/v1")
        # What stands in an address ends in logs and in runs.
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("base_url must hold no user, password or query")
        return value.rstrip("/")

    def api_key(self) -> str:
        """Return the key, read anew at every use; a harmless word where none is configured.

        Raises:
            UserError: The variable is not set, or the file cannot be read or is empty.
        """
        if self.api_key_env:
            if key := os.environ.get(self.api_key_env, "").strip():
                return key
            raise UserError(
                "the API key is not set",
                where=f"${self.api_key_env}",
                fix=f"export {self.api_key_env}=<key>",
            )
        if self.api_key_file is None:
            return "none"
        try:
            key = expanded(self.api_key_file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            # Beside what the system says: bytes that are no text, a path that is none.
            why = "it is no text" if isinstance(error, UnicodeError) else "it is no path"
            raise UserError(
                f"the API key cannot be read ({getattr(error, 'strerror', None) or why})",
                where=str(self.api_key_file),
                fix="check 'api_key_file'",
            ) from None
        if not key:
            raise UserError("holds no API key", where=str(self.api_key_file), fix="put it there")
        return key

    @property
    def rate(self) -> Price | None:
        """The price that counts: half of it in batches."""
        if self.price is None or not self.batch:
            return self.price
        return self.price.model_copy(
            update={"input": self.price.input / 2, "output": self.price.output / 2}
        )

    def sent_headers(self) -> dict[str, str]:
        """Return the headers of every request, the key among them.

        Raises:
            UserError: The key, or a variable that a header names, cannot be had, or cannot be sent:
                it holds a line break or a letter that no header can hold.
        """
        key = self.api_key()
        if not _SENDABLE.match(key):
            raise UserError(
                "the API key cannot be sent",
                where=self.base_url,
                fix="check the key for stray signs",
            )
        own = {"api-key": key} if self.api_version else {"Authorization": f"Bearer {key}"}
        named = {name: _VARIABLE.sub(_variable, text) for name, text in self.headers.items()}
        for name, text in named.items():
            if not _SENDABLE.match(text):
                raise UserError(
                    f"the header '{name}' cannot be sent",
                    where=self.base_url,
                    fix="check it for stray signs",
                )
        return own | named

    def redacted(self, text: str) -> str:
        """Return what a server or a library said without the key and the secrets of headers.

        Whatever is told of a request goes through it, since servers repeat what they were sent.
        A beginning of a secret at the text's end, where somebody cut it, is hidden as well.
        """
        words = sorted(self._secrets(), key=len, reverse=True)
        for word in words:
            # As it is, and as Python, JSON, an address and a page write it.
            forms = (word, repr(word)[1:-1], json.dumps(word)[1:-1], quote(word, ""), escape(word))
            for form in dict.fromkeys(forms):
                text = text.replace(form, _HIDDEN)
        for word in words:
            for size in range(len(word) - 1, _SHORTEST_SECRET - 1, -1):
                if text.endswith(word[:size]):
                    return text[:-size] + _HIDDEN
        return text

    def _secrets(self) -> set[str]:
        names = [
            match[1] or match[2] for t in self.headers.values() for match in _VARIABLE.finditer(t)
        ]
        texts = [os.environ.get(name, "") for name in names]
        if self.api_key_env or self.api_key_file:
            with suppress(UserError):
                texts.append(self.api_key())
        words = {word for text in texts for word in text.split() if len(word) >= _SHORTEST_SECRET}
        return {word for word in words if word.lower() not in _SCHEMES}

    @property
    def query(self) -> dict[str, str]:
        """What is added to every address."""
        return {"api-version": self.api_version} if self.api_version else {}

    @property
    def name(self) -> str:
        """Who answers: model and address."""
        return f"{self.model} at {self.base_url}"

    @property
    def fingerprint(self) -> list[str]:
        """What decides its answers: address, model, and its own settings as they are written."""
        own = {"extra_body", "headers", "api_version", "max_tokens"}
        extra = self.model_dump(include=own, exclude_defaults=True)
        return [self.base_url, self.model, *([json.dumps(extra, sort_keys=True)] if extra else [])]

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine, so that no proxy lies between."""
        host = urlsplit(self.base_url).hostname or ""
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def refused(self, status: int) -> UserError:
        """Return the error of an endpoint that refuses the key."""
        place = f"${self.api_key_env}" if self.api_key_env else str(self.api_key_file or "")
        return UserError(
            f"refuses the API key (HTTP {status})",
            where=self.base_url,
            fix=f"check the key in {place}" if place else "name its key in 'api_key_env'",
        )


class Teacher(Endpoint):
    """An endpoint that writes rows."""

    share: float = Field(default=1.0, gt=0)
    """How many of the rows it writes, against the shares of the others."""


class TeacherPart(NamedTuple):
    """What one of the teachers gave."""

    model: str
    planned: int
    """Rows and conversations that were its to write."""
    rows: int
    """Those that came."""
    tokens: int
    """Of all its prompts and answers, earlier runs included."""
    spent: float
    """Money for them."""


def _apart(teachers: tuple[Teacher, ...]) -> tuple[Teacher, ...]:
    names = [one.name for one in teachers]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise ValueError(f"{twice} stands there twice; name it once, with the sum of its shares")
    return teachers


OneOrSeveral = Annotated[
    Annotated[Teacher, Tag("[one]")]
    | Annotated[tuple[Teacher, ...], Field(min_length=1), AfterValidator(_apart), Tag("[several]")],
    Discriminator(lambda value: "[several]" if isinstance(value, list | tuple) else "[one]"),
]


def _variable(match: re.Match[str]) -> str:
    name = match[1] or match[2]
    if value := os.environ.get(name, "").strip():
        return value
    raise UserError(
        "a header needs it, and it is not set", where=f"${name}", fix=f"export {name}=<value>"
    )


def free_port() -> int:
    """Return a port of this machine that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
