"""The Argilla server of a folder of runs: where it lives, whether it runs, and who signs in."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from curation.argilla.client import Connection
from curation.argilla.server import Server, shared_url, show_logins, status, stop
from curation.argilla.server_home import HOME_VARIABLE, ServerHome
from curation.argilla.server_link import open_account
from rounds.context import RoundContext
from workbench.console import console
from workbench.errors import UserError


@dataclass(frozen=True)
class ReviewServer:
    """One server for all rounds of all personas under ``runs``."""

    runs: Path
    reviewers: tuple[str, ...]
    """Accounts that it has."""

    @classmethod
    def of(cls, context: RoundContext) -> ReviewServer:
        """Return the server of a round."""
        return cls(context.runs, context.config.review.reviewers)

    @property
    def home(self) -> ServerHome:
        """The folder of its data."""
        if os.environ.get(HOME_VARIABLE):
            return ServerHome.default()
        return ServerHome((self.runs / ".argilla").absolute())

    @property
    def stays(self) -> bool:
        """Whether it was started to stay up, by ``persona review up``."""
        return self._mark.exists()

    @property
    def _mark(self) -> Path:
        return self.home.path / "stays-up"

    def pids(self) -> Iterable[int]:
        """Return the process id of the running server, for the meter."""
        pid = status(self.home).pid
        return (pid,) if pid else ()

    def up(
        self, *, port: int | None = None, host: str = "127.0.0.1", quiet: bool = False
    ) -> Server:
        """Return the running server, started if it was not; ``quiet`` shows no steps of it."""
        from curation.argilla.server import start

        return start(
            self.home,
            self.reviewers,
            port=port,
            host=host,
            reuse=True,
            progress=None if quiet else lambda step: console.print(f"  Argilla: {step}"),
        )

    def stay(self) -> None:
        """Leave it up when the command ends, until :meth:`down`."""
        self._mark.touch()

    def down(self) -> bool:
        """Stop it, everything reviewed kept; return whether it was running."""
        self._mark.unlink(missing_ok=True)
        return self.stop()

    def stop(self) -> bool:
        """Stop it for now; return whether it was running."""
        return stop(self.home)

    def connect(self, *, start: bool = False) -> Connection:
        """Return the owner's connection to the server, which runs already unless ``start``.

        Raises:
            UserError: It does not run.
        """
        if not start and not status(self.home).running:
            fix = "run `persona review up` first"
            raise UserError("the Argilla server is not running", fix=fix)
        server = self.up(quiet=not start)
        return Connection(server.url, server.owner_api_key)

    def logins(self) -> dict[str, Connection]:
        """Return the own connection of everybody who has an account, by name."""
        server = self.up(quiet=True)
        return {name: Connection(server.url, one.api_key) for name, one in server.logins.items()}

    def reviewer_connections(self) -> dict[str, Connection]:
        """Return each reviewer's own connection, by the reviewer's name.

        Raises:
            UserError: A reviewer has no account.
        """
        logins = self.logins()
        if missing := [name for name in self.reviewers if name not in logins]:
            raise UserError(
                f"no account '{missing[0]}' on the Argilla server",
                where="review.reviewers",
                fix=f"there are: {', '.join(sorted(logins))}",
            )
        for name in self.reviewers:  # their reviews are recorded: they have to be let in
            if name in self.home.secrets().closed:
                raise UserError(
                    f"the account '{name}' is closed",
                    where="review.reviewers",
                    fix=f"run `persona review close {name} --reopen`",
                )
        return {name: logins[name] for name in self.reviewers}

    @property
    def admitted(self) -> list[str]:
        """The reviewers who get the persona's workspace with a push: all but the closed ones."""
        closed = self.home.secrets().closed if self.home.secrets_file.exists() else ()
        return [name for name in self.reviewers if name not in closed]

    def open_account(self, name: str, workspace: str = "") -> None:
        """Close an account: its reviews stay, and nobody waits for it. Or open it again.

        Args:
            name: The account's user name.
            workspace: The persona's id, to open the account there.

        Raises:
            UserError: The server does not run, or has no such account.
        """
        open_account(self.home, self.connect(), name, workspace)

    def print_link(self, url: str) -> None:
        """Print where to review; the same address opens each reviewer's own first row."""
        console.print(f"  Review at {shared_url(self.home, url)}")
        console.print("  It opens at the first row that whoever signs in has not done yet")

    def print_logins(self, url: str = "") -> None:
        """Print the address and the reviewers' logins: asked for, and the one place to show them.

        ``url`` is where to review; the server's own address by default.
        """
        url = shared_url(self.home, url or status(self.home).url)
        console.print(f"  Review at {url}")
        for login in show_logins(self.home):
            if login.username in self.reviewers:
                console.print(f"    user {login.username}   password {login.password}")
