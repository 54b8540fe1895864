"""Move what one Argilla holds to another, through its API: resumable, and nothing twice.

``persona review migrate`` hands over two connections and shows the counts that come out. Accounts
keep their names and get new passwords; :mod:`curation.argilla.migrate_dataset` moves a dataset.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from curation.argilla.client import Connection, Json, connected, get, items, post
from curation.argilla.migrate_dataset import Moves, move_dataset
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

    def pending(self) -> dict[str, str]:
        """Return user name → password of what was not shown yet."""
        return dict(self._by_url().get(self.url, {}))

    def password_for(self, username: str) -> str:
        """Return the noted password of an account, or note a new one."""
        mine = self.pending()
        if username not in mine:
            mine[username] = secrets.token_urlsafe(12)
            write_json(self.path, {**self._by_url(), self.url: mine}, mode=0o600)
        return mine[username]

    def forget(self) -> None:
        """Remove what was shown."""
        others = {url: mine for url, mine in self._by_url().items() if url != self.url}
        if others:
            write_json(self.path, others, mode=0o600)
        else:
            self.path.unlink(missing_ok=True)

    def _by_url(self) -> dict[str, dict[str, str]]:
        if not self.path.exists():
            return {}
        logins: dict[str, dict[str, str]] = json.loads(self.path.read_text(encoding="utf-8"))
        return logins


def move_accounts(
    here: Argilla,
    there: Argilla,
    owners: tuple[Json, Json],
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
    count.arrived = len({user["id"] for user in items(there, "users")} & {*ids.values()})
    return ids


def _make(there: Argilla, user: Json, password: str) -> str:
    """Make the account there and return its id; only people there can make somebody an owner."""
    role = "admin" if user["role"] == "owner" else user["role"]
    body = {"username": user["username"], "first_name": user["first_name"], "role": role}
    if user["last_name"]:
        body["last_name"] = user["last_name"]
    return str(post(there, "users", {**body, "password": password})["id"])


@dataclass(frozen=True)
class Migrated:
    """What a migration found and did."""

    counts: Mapping[str, Moves]
    """Kind of thing → how many; each adds up."""
    logins: Mapping[str, str]
    """New account → its password, to be shown once."""


def migrate(source: Connection, target: Connection, logins: NewLogins) -> Migrated:
    """Copy workspaces, accounts, datasets, records and all responses; nothing is removed.

    The owner that ``source`` asks as becomes the account that ``target`` asks as; every other
    account keeps its name and gets a new password. What the target holds already stays as it is,
    except for a response that was changed at the source later than there. Argilla's API can't set
    the times of records and responses: at the target they are those of the move.

    Args:
        source: The embedded server, as its owner.
        target: Another Argilla, as an owner.
        logins: Where a new password is noted before an account is made with it.

    Raises:
        UserError: Both are the same server, something there contradicts what is here, or one of
            them refuses or goes away; then run it again.
    """
    kinds = ("workspaces", "users", "datasets", "records", "suggestions", "vectors", "responses")
    counts = {kind: Moves() for kind in kinds}
    with connected(source) as here, connected(target) as there:
        me, me_there = get(here, "me"), get(there, "me")
        if me["id"] == me_there["id"]:
            raise UserError(
                "that is the embedded server itself", where=target.url, fix="connect another one"
            )
        people = move_accounts(here, there, (me, me_there), logins, counts["users"])
        spaces = _move_workspaces(here, there, people, counts["workspaces"])
        for dataset in items(here, "me/datasets"):
            move_dataset(here, there, dataset, spaces[dataset["workspace_id"]], people, counts)
    _check(counts, target)
    return Migrated(counts, logins.pending())


def _move_workspaces(
    here: Argilla, there: Argilla, people: Mapping[str, str], count: Moves
) -> dict[str, str]:
    """Make the missing workspaces and memberships; return id here → id there."""
    present = {space["name"]: space["id"] for space in items(there, "me/workspaces")}
    ids = {}
    for space in items(here, "me/workspaces"):
        name = space["name"]
        if name in present:
            count.already += 1
        else:
            present[name] = post(there, "workspaces", {"name": name})["id"]
            count.moved += 1
        ids[space["id"]] = present[name]
        members = f"workspaces/{present[name]}/users"
        joined = {user["id"] for user in items(there, members)}
        for user in items(here, f"workspaces/{space['id']}/users"):
            if (person := people[user["id"]]) not in joined:
                post(there, members, {"user_id": person})
    count.held = len(ids)
    count.arrived = len({space["id"] for space in items(there, "me/workspaces")} & {*ids.values()})
    return ids


def _check(counts: Mapping[str, Moves], target: Connection) -> None:
    lacking = [
        f"{moves.held - moves.arrived} of {moves.held} {kind}"
        for kind, moves in counts.items()
        if not moves.add_up
    ]
    if lacking:
        raise UserError(
            f"not all has arrived, missing are: {', '.join(lacking)}",
            where=target.url,
            fix="run `persona review migrate` again: what is there stays, the rest follows",
        )
