"""Argilla's database and its first account."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import alembic.command
import engine
from alembic.config import Config
from argilla_server.contexts import accounts
from argilla_server.database import (
    ALEMBIC_CONFIG_FILE,
    AsyncSessionLocal,
    async_engine,
    sync_engine,
)
from argilla_server.enums import UserRole
from argilla_server.models import User, Vector
from household import HouseholdError
from sqlalchemy import event
from sqlalchemy.engine import Engine


def load_names_of_vectors() -> None:
    """Let a record's vectors come from the database with their names.

    Argilla 2.8 names the vectors of ``GET /records/{id}`` from a relation that it has not loaded;
    a lazy load is impossible there (MissingGreenlet), so it answers 500 and the page's "Find
    similar" fails. Must be called before the first query.
    """
    link = Vector.__mapper__.get_property("vector_settings", _configure_mappers=False)
    link.lazy = "joined"
    link.strategy_key = (("lazy", "joined"),)


def migrate(path: Path) -> None:
    """Bring the database at ``path`` to the schema of this Argilla, and add the engine's tables."""
    fresh = not _has_accounts(path)
    if fresh:  # no file, or a first start that was killed: nobody can have put anything in
        for leftover in path.parent.glob(f"{path.name}*"):
            leftover.unlink()
        event.listen(Engine, "connect", _hurry)
    # Not from the file: with it, alembic would silence every logger that exists by now.
    config = Config()
    config.set_main_option("script_location", str(Path(ALEMBIC_CONFIG_FILE).parent / "alembic"))
    alembic.command.upgrade(config, "head")
    if fresh:
        event.remove(Engine, "connect", _hurry)
    engine.install(sync_engine)
    sync_engine.dispose()


def _hurry(connection: Any, _record: Any) -> None:
    # Some 25 migrations of an empty database need not wait for the disk after each statement.
    connection.execute("PRAGMA synchronous = OFF")


def _has_accounts(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(path)) as database:
            return bool(database.execute("SELECT count(*) FROM users").fetchone()[0])
    except sqlite3.DatabaseError as problem:
        if "no such table" in str(problem):
            return False
        raise HouseholdError(f"{path.name}: {problem}") from problem


async def ensure_owner(username: str, password: str, api_key: str) -> None:
    """Create the owner's account, or set its password and key to these."""
    async with AsyncSessionLocal() as session:
        owner = await accounts.get_user_by_username(session, username)
        if owner is None:
            await User.create(
                session,
                first_name=username,
                username=username,
                role=UserRole.owner,
                password_hash=accounts.hash_password(password),
                api_key=api_key,
            )
        elif owner.api_key != api_key or not accounts.verify_password(
            password, owner.password_hash
        ):
            await owner.update(
                session, password_hash=accounts.hash_password(password), api_key=api_key
            )
    await async_engine.dispose()
