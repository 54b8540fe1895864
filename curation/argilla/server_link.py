"""The Argilla that a home is connected to in place of its embedded server.

``persona review connect`` saves an address and where its key is; whoever starts or asks a server
goes by it.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from curation.argilla.client import (
    SHARED_WORKSPACE,
    Connection,
    admit,
    connected,
    get,
    items,
    review_workspaces,
)
from curation.argilla.server_home import Login, ServerHome
from workbench.errors import UserError, nearest
from workbench.store import atomic_file, expanded, write_json

KEY_VARIABLE = "PERSONA_ARGILLA_API_KEY"
_FILE = "connected.json"
_AGAIN = "run `persona review connect URL` again"


@dataclass(frozen=True)
class Link:
    """An address, and where its key is: a home can lie among the runs, so no key goes into it."""

    url: str
    key_file: str = ""
    """File that holds the key; empty where :data:`KEY_VARIABLE` names it."""

    def connection(self) -> Connection:
        """Return the connection with its key.

        Raises:
            UserError: The key is no longer where it was.
        """
        if not self.key_file:
            if not variable_is_set():
                raise UserError(
                    f"{KEY_VARIABLE} is not set", where=self.url, fix=f"set it, or {_AGAIN}"
                )
            return Connection(self.url, os.environ[KEY_VARIABLE].strip())
        return Connection(self.url, read_key(Path(self.key_file)))


def link_of(home: ServerHome) -> Link | None:
    """Return what ``home`` is connected to, or None where its embedded server is meant.

    Raises:
        UserError: The saved connection cannot be read.
    """
    file = home.path / _FILE
    try:
        return Link(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise UserError("no connection can be read", where=str(file), fix=_AGAIN) from None


def connect(home: ServerHome, url: str, *, key: str = "", key_file: Path | None = None) -> Link:
    """Let the commands of ``home`` talk to the Argilla at ``url``, and return the connection.

    Args:
        home: Where the address is saved, readable by the user alone.
        url: As it opens Argilla in a browser.
        key: An owner's API key; kept in the user's own configuration folder.
        key_file: A file that holds such a key, in place of ``key``; without either it comes from
            :data:`KEY_VARIABLE`, now and whenever it is needed.

    Raises:
        UserError: No such address, no Argilla there that is new enough, or no owner's key.
            Nothing is saved then.
    """
    address = _checked(url)
    if key:
        _check_owner(Connection(address, key))
        key_file = _keep(address, key)
    link = Link(address, str(expanded(key_file).absolute()) if key_file else "")
    if not key:
        _check_owner(link.connection())
    home.create()
    write_json(home.path / _FILE, vars(link), mode=0o600)
    return link


def disconnect(home: ServerHome) -> bool:
    """Go back to the embedded server, forget a key that we kept; return whether it was needed."""
    link = link_of(home)
    if link is None:
        return False
    _kept_key(link.url).unlink(missing_ok=True)
    (home.path / _FILE).unlink()
    return True


def accounts_of(connection: Connection) -> dict[str, Login]:
    """Return the accounts of a connected Argilla; passwords are nobody's to read."""
    with connected(connection) as client:
        users = items(client, "users")
    return {user["username"]: Login(user["username"], "", user["api_key"]) for user in users}


def open_account(home: ServerHome, connection: Connection, name: str, workspace: str = "") -> None:
    """Take an account out of all workspaces of reviews, or back into one.

    Outside, it sees nothing and nobody waits for it; its reviews stay, on the server too, which
    would delete them with the account.

    Args:
        home: Remembers closed accounts, so that no push takes them in again.
        connection: With the owner's key.
        name: The account's user name.
        workspace: The persona's id, to open the account there; the others open with their pushes.

    Raises:
        UserError: There is no such account, or Argilla refuses or does not answer.
    """
    with connected(connection) as client:
        users = {user.username: user for user in client.users.list()}
        if name not in users:
            raise UserError(
                f"no account '{name}' on this server",
                where=connection.url,
                fix=nearest(name, users) or f"there are: {', '.join(sorted(users))}",
            )
        for space in review_workspaces(client):
            if workspace and space.name in (workspace, SHARED_WORKSPACE):
                admit(client, space, [name])
            elif not workspace and name in {user.username for user in space.users}:
                space.remove_user(users[name])
    secrets = home.secrets()
    closed = secrets.closed - {name} if workspace else secrets.closed | {name}
    home.save(replace(secrets, closed=closed))


def variable_is_set() -> bool:
    """Return whether :data:`KEY_VARIABLE` holds a key."""
    return bool(os.environ.get(KEY_VARIABLE, "").strip())


def read_key(file: Path) -> str:
    """Return the API key that a file holds.

    Raises:
        UserError: It cannot be read or is no key.
    """
    try:
        key = expanded(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise UserError(
            f"no API key can be read there ({reason})", where=str(file), fix=_AGAIN
        ) from None
    if not key or len(key.split()) != 1:
        raise UserError("no API key in it", where=str(file), fix="one line, the key alone")
    return key


def _checked(url: str) -> str:
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UserError(
            "is no address of an Argilla", where=url, fix="such as https://argilla.example.org"
        )
    if parts.username or parts.password:
        raise UserError(
            "an address with a password in it would be shown and saved",
            where=parts.hostname,
            fix="leave it out; the API key is asked for",
        )
    return parts.geturl().rstrip("/")


def _check_owner(connection: Connection) -> None:
    with connected(connection) as client:
        role = get(client, "me")["role"]
    if role != "owner":
        raise UserError(
            f"the API key is of an account with the role '{role}'",
            where=connection.url,
            fix="use an owner's: datasets and accounts are made with it",
        )


def _kept_key(url: str) -> Path:
    import platformdirs

    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    folder = platformdirs.user_config_dir("persona-workbench", appauthor=False)
    return Path(folder) / "argilla-keys" / name


def _keep(url: str, key: str) -> Path:
    file = _kept_key(url)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with atomic_file(file, mode=0o600) as opened:
        opened.write(f"{key}\n")
    return file
