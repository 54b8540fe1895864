"""Move what one Argilla holds to another, through its API: resumable, and nothing twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curation.argilla.api import get, items, post
from curation.argilla.connection import Connection, connected
from curation.argilla.migrate_accounts import NewLogins, move_accounts
from curation.argilla.migrate_dataset import move_dataset
from curation.argilla.migrate_record import Moves
from workbench.errors import UserError

if TYPE_CHECKING:
    from argilla import Argilla


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
    return Migrated(counts, logins.noted())


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
    count.found = len({space["id"] for space in items(there, "me/workspaces")} & {*ids.values()})
    return ids


def _check(counts: Mapping[str, Moves], target: Connection) -> None:
    lacking = [
        f"{moves.held - moves.found} of {moves.held} {kind}"
        for kind, moves in counts.items()
        if not moves.add_up
    ]
    if lacking:
        raise UserError(
            f"not all has arrived, missing are: {', '.join(lacking)}",
            where=target.url,
            fix="run `persona review migrate` again: what is there stays, the rest follows",
        )
