"""The accounts of a migration: the same names, with new passwords that are never lost."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.argilla.api import items, post
from curation.argilla.migrate_record import Moves
from workbench.errors import UserError
from workbench.store import write_json

if TYPE_CHECKING:
    from argilla import Argilla


@dataclass(frozen=True)
class NewLogins:
    """Passwords of accounts made at ``url``, kept until they were shown.

    A password is noted before its account is made: a migration that is killed in between shows it
    when it is run again.

    Args:
        path: The file, readable by the user alone; removed once all is shown.
        url: The Argilla that the accounts are on.
    """

    path: Path
    url: str

    def noted(self) -> dict[str, str]:
        """Return user name → password of what was not shown yet."""
        return dict(self._all().get(self.url, {}))

    def password_for(self, username: str) -> str:
        """Return the noted password of an account, or note a new one."""
        mine = self.noted()
        if username not in mine:
            mine[username] = secrets.token_urlsafe(12)
            write_json(self.path, {**self._all(), self.url: mine}, mode=0o600)
        return mine[username]

    def forget(self) -> None:
        """Remove what was shown."""
        others = {url: mine for url, mine in self._all().items() if url != self.url}
        if others:
            write_json(self.path, others, mode=0o600)
        else:
            self.path.unlink(missing_ok=True)

    def _all(self) -> dict[str, dict[str, str]]:
        if not self.path.exists():
            return {}
        found: dict[str, dict[str, str]] = json.loads(self.path.read_text(encoding="utf-8"))
        return found


def move_accounts(
    here: Argilla,
    there: Argilla,
    owners: tuple[Mapping[str, Any], Mapping[str, Any]],
    logins: NewLogins,
    count: Moves,
) -> dict[str, str]:
    """Make the accounts that are missing there; return user id here → user id there.

    Args:
        here: The source, as an owner.
        there: The target, as an owner.
        owners: The accounts that both are asked as: one and the same person.
        logins: Where new passwords are noted.
        count: Counts the accounts, the owner among them.

    Raises:
        UserError: The owner there has the name of somebody else here.
    """
    me, me_there = owners
    ids = {me["id"]: me_there["id"]}
    present = {user["username"]: user["id"] for user in items(there, "users")}
    for user in items(here, "users"):
        name = user["username"]
        if user["id"] == me["id"]:
            count.already += 1
            continue
        if name == me_there["username"]:
            raise UserError(
                f"the connected owner is called '{name}' as a reviewer here is: two people's"
                " responses would become one's",
                where=logins.url,
                fix="connect with the API key of an owner of another name",
            )
        if name in present:
            count.already += 1
        else:
            present[name] = _make(there, user, logins.password_for(name))
            count.moved += 1
        ids[user["id"]] = present[name]
    count.held = len(ids)
    count.found = len({user["id"] for user in items(there, "users")} & {*ids.values()})
    return ids


def _make(there: Argilla, user: Mapping[str, Any], password: str) -> str:
    """Make the account there and return its id; only people there can make somebody an owner."""
    role = "admin" if user["role"] == "owner" else user["role"]
    body = {"username": user["username"], "first_name": user["first_name"], "role": role}
    if user["last_name"]:
        body["last_name"] = user["last_name"]
    return str(post(there, "users", {**body, "password": password})["id"])
