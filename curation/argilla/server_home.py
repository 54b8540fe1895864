"""The folder of an embedded Argilla server: its database, its accounts, and who holds it.

Accounts are made and mended through Argilla's own API, each time a server has started.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from curation.argilla.client import Json
from workbench.errors import UserError
from workbench.store import expanded, write_json

if TYPE_CHECKING:
    import httpx

HOME_VARIABLE = "PERSONA_ARGILLA_HOME"
OWNER = "owner"
_USERNAME = re.compile(r"\w[\w.@-]{0,63}")


@dataclass(frozen=True)
class Login:
    """One account of an Argilla server; its secrets stay out of ``repr`` and so out of logs."""

    username: str
    password: str = field(repr=False)
    api_key: str = field(repr=False)


@dataclass(frozen=True)
class ServerHome:
    """The paths of one embedded server.

    Args:
        path: The folder; made, for the user alone, when the server first starts.
    """

    path: Path

    @classmethod
    def default(cls) -> ServerHome:
        """Return the home named by PERSONA_ARGILLA_HOME, else the one in the user's data folder."""
        if named := os.environ.get(HOME_VARIABLE):
            return cls(expanded(named))
        import platformdirs

        return cls(
            Path(platformdirs.user_data_dir("persona-workbench", appauthor=False)) / "argilla"
        )

    @property
    def database(self) -> Path:
        """The SQLite database of Argilla."""
        return self.path / "argilla.db"

    @property
    def log(self) -> Path:
        """What the server and its job worker said; holds no secret."""
        return self.path / "server.log"

    @property
    def secrets_file(self) -> Path:
        """Accounts and keys, readable by the user alone."""
        return self.path / "secrets.json"

    @property
    def state_file(self) -> Path:
        """The server's process id, address and stage, written by the server."""
        return self.path / "server.json"

    def create(self) -> None:
        """Make the folder, closed to other users.

        Raises:
            UserError: It cannot be made there.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o700)
        except OSError as error:
            raise UserError(
                f"the server's folder cannot be made ({error.strerror})",
                where=str(self.path),
                fix=f"choose another with {HOME_VARIABLE}",
            ) from None

    def holder(self) -> int | None:
        """Return the process id of the server that runs on this home, or None.

        The server holds a lock for as long as it lives, however it ends: a file that a killed
        server left behind does not count.
        """
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            while not (written := os.read(descriptor, 32)):  # it took the lock this very moment
                time.sleep(0.01)
            return int(written)
        else:
            return None
        finally:
            os.close(descriptor)

    def state(self) -> dict[str, Any]:
        """Return what the server last wrote about itself, or an empty mapping."""
        try:
            state = json.loads(self.state_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return state if isinstance(state, dict) else {}

    def last_log_line(self, begin: int = 0) -> str:
        """Return the last line that was logged after byte ``begin``, or an empty string."""
        if not self.log.exists():
            return ""
        lines = self.log.read_bytes()[begin:].decode("utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def secrets(self) -> Secrets:
        """Return the accounts and keys of this home, made at random where there are none yet."""
        if not self.secrets_file.exists():
            fresh = Secrets(
                auth_secret=secrets.token_hex(32),
                owner=Login(OWNER, _password(), secrets.token_urlsafe(48)),
                reviewers={},
            )
            self.save(fresh)
            return fresh
        try:
            return _SECRETS.validate_json(self.secrets_file.read_bytes())
        except ValueError:
            raise UserError(
                "the server's accounts cannot be read",
                where=str(self.secrets_file),
                fix="move the file away: new passwords are then made, nothing reviewed is lost",
            ) from None

    def save(self, accounts: Secrets) -> None:
        """Write accounts and keys, for the user's eyes alone."""
        write_json(self.secrets_file, _SECRETS.dump_python(accounts, mode="json"), mode=0o600)


@dataclass(frozen=True)
class Secrets:
    """All accounts of a home, and the key that signs the web sign-ins."""

    auth_secret: str = field(repr=False)
    owner: Login
    reviewers: Mapping[str, Login]
    closed: frozenset[str] = frozenset()
    """Reviewers who were taken out of the workspaces; no push takes them in again."""

    def with_reviewers(self, names: Iterable[str]) -> Secrets:
        """Return these with an account, its key still unknown, for each new name.

        Raises:
            UserError: A name cannot be a user name.
        """
        reviewers = dict(self.reviewers)
        for name in names:
            if name == OWNER or not _USERNAME.fullmatch(name):
                raise UserError(
                    f"'{name}' cannot be a reviewer's name",
                    where="reviewers",
                    fix=f"use letters, digits, and . _ @ - (up to 64), and not '{OWNER}'",
                )
            reviewers.setdefault(name, Login(name, _password(), ""))
        return replace(self, reviewers=reviewers)


_SECRETS = TypeAdapter(Secrets)


def _password() -> str:
    return secrets.token_urlsafe(12)


def ensure_accounts(home: ServerHome, url: str, reviewers: Iterable[str]) -> Secrets:
    """Give each reviewer, and those of earlier starts, an account; a push opens the workspaces.

    A password is saved before it is sent: killed in between, the next start goes on.

    Raises:
        UserError: The server refuses the owner's key or a request.
    """
    import httpx

    accounts = home.secrets().with_reviewers(reviewers)
    home.save(accounts)
    headers = {"X-Argilla-Api-Key": accounts.owner.api_key}
    with httpx.Client(
        base_url=f"{url}/api/v1/", headers=headers, timeout=30, trust_env=False
    ) as api:
        users = {user["username"]: user for user in _items(api.get("users"))}
        made = {}
        for name, login in accounts.reviewers.items():
            user = users.get(name)
            if user is None:
                account = {"username": name, "first_name": name, "role": "annotator"}
                user = _answer(api.post("users", json={**account, "password": login.password}))
            elif not login.api_key:  # made elsewhere, or its key was never saved
                password = {"password": login.password}
                user = _answer(api.patch(f"users/{user['id']}", json=password))
            made[name] = replace(login, api_key=str(user["api_key"]))
    accounts = replace(accounts, reviewers=made)
    home.save(accounts)
    return accounts


def _items(response: httpx.Response) -> list[Json]:
    return list(_answer(response)["items"])


def _answer(response: httpx.Response) -> Json:
    if response.is_error:
        raise UserError(
            f"the Argilla server answered {response.status_code} to "
            f"{response.request.method} {response.request.url.path}",
            where=str(response.request.url.copy_with(path="/")),
            fix="see its log; was its database made with another home's secrets?",
        )
    body: Json = response.json()
    return body
