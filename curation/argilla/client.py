"""A client of any Argilla: its failures as one line each, and the calls that the SDK does not make.

The SDK's client goes in and out of :func:`connected`; every other module here calls through it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from workbench.errors import UserError

if TYPE_CHECKING:
    import httpx
    from argilla import Argilla, Dataset, Workspace


OLDEST = (2, 8)
"""The server's oldest version that these calls were written for and tested with."""
Json = dict[str, Any]
"""An object as Argilla's API gives or takes it."""
TIMEOUT = 60
"""Seconds for one request."""


@dataclass(frozen=True)
class Connection:
    """Where an Argilla is and who asks; the key stays out of ``repr`` and of every message."""

    url: str
    api_key: str = field(repr=False)

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine, where no proxy may come between."""
        return is_loopback(urlsplit(self.url).hostname or "")


def is_loopback(host: str) -> bool:
    """Return whether a name or address is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def connected(connection: Connection) -> Iterator[Argilla]:
    """Open a client of Argilla's SDK and turn its failures into one line each.

    Raises:
        UserError: Nothing answers, the key is wrong or may not do this, the server is older
            than :data:`OLDEST`, or it fails or goes away in between.
    """
    import httpx
    from argilla import Argilla
    from argilla._exceptions import (
        ArgillaAPIError,
        ArgillaCredentialsError,
        ArgillaError,
        ForbiddenError,
    )

    try:
        _check_version(connection)
        client = Argilla(
            api_url=connection.url,
            api_key=connection.api_key,
            timeout=TIMEOUT,
            retries=1,
            trust_env=not connection.is_local,
        )
        try:
            yield client
        finally:
            client.http_client.close()
    except httpx.HTTPStatusError as error:
        response = error.response
        raise _refused(_failed(connection, error), response.status_code, response.text) from None
    except httpx.HTTPError as error:
        raise UserError(
            f"Argilla does not answer ({type(error).__name__})",
            where=_failed(connection, error).url,
            fix="check that it runs (`persona review status`), then run the same command again:"
            " nothing is lost",
        ) from None
    except ArgillaCredentialsError:
        raise _refused(connection, 401, "") from None
    except ForbiddenError:  # the SDK sometimes raises it anew, without the code
        raise _refused(connection, 403, "") from None
    except ArgillaAPIError as error:
        raise _refused(connection, error.status_code, str(error)) from None
    except ArgillaError as error:
        raise _refused(connection, 0, str(error.__cause__ or error)) from None


def _failed(connection: Connection, error: httpx.HTTPError) -> Connection:
    """Return the connection that failed: where two are open, the error tells which."""
    try:
        url = error.request.url
    except RuntimeError:  # it failed before there was a request
        return connection
    if str(url).startswith(f"{connection.url.rstrip('/')}/"):
        return connection
    return Connection(f"{url.scheme}://{url.netloc.decode()}", "")


def _check_version(connection: Connection) -> None:
    import httpx

    with httpx.Client(
        base_url=connection.url, timeout=TIMEOUT, trust_env=not connection.is_local
    ) as api:
        response = api.get("/api/v1/version")
    try:
        version = str(response.json()["version"])
    except (ValueError, KeyError, TypeError):
        raise UserError(
            "does not answer as an Argilla server does",
            where=connection.url,
            fix="check the address: it is the one that opens Argilla in a browser",
        ) from None
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        needed = ".".join(str(part) for part in OLDEST)
        raise UserError(
            f"this is Argilla {version}, and {needed} or newer is needed",
            where=connection.url,
            fix="update that server, or use the embedded one (`persona review up`)",
        )


def _refused(connection: Connection, code: int, message: str) -> UserError:
    """Return what the server's refusal means."""
    if code == 401:
        return UserError(
            "the API key is not valid there",
            where=connection.url,
            fix="copy it from Argilla's 'My settings', or see `persona review logins`",
        )
    if code == 403:
        return UserError(
            "this account may not do that",
            where=connection.url,
            fix="use the owner's API key, or one of an admin of the workspace",
        )
    short = message if len(message) <= 300 else f"{message[:300]}…"
    return UserError(
        f"Argilla refused ({code}): {short}" if code else f"Argilla refused: {short}",
        where=connection.url,
        fix="see the server's log; the same command can be run again",
    )


def get(client: Argilla, path: str, **params: object) -> Json:
    """Return the answer to ``GET /api/v1/{path}``."""
    return _call(client, "GET", path, None, params)


def items(client: Argilla, path: str) -> list[Json]:
    """Return the items of a list that Argilla gives as a whole."""
    return list(get(client, path)["items"])


def post(client: Argilla, path: str, body: Json, **params: object) -> Json:
    """Return the answer to ``POST /api/v1/{path}``."""
    return _call(client, "POST", path, body, params)


def put(client: Argilla, path: str, body: Json | None = None) -> Json:
    """Return the answer to ``PUT /api/v1/{path}``."""
    return _call(client, "PUT", path, body, {})


def patch(client: Argilla, path: str, body: Json) -> Json:
    """Return the answer to ``PATCH /api/v1/{path}``."""
    return _call(client, "PATCH", path, body, {})


def _call(client: Argilla, method: str, path: str, body: Json | None, params: Json) -> Json:
    response = client.http_client.request(method, f"/api/v1/{path}", params=params, json=body)
    answer: Json = response.raise_for_status().json()
    return answer


def pages(ask: Callable[..., Json]) -> Iterator[Json]:
    """Yield a list of records page by page; ``ask`` takes ``offset`` and ``limit``."""
    total, offset = 1, 0
    while offset < total:
        page = ask(offset=offset, limit=PAGE)
        total, offset = page["total"], offset + PAGE
        yield page


SHARED_WORKSPACE = "review"
"""Where rounds of all personas lay before each persona had a workspace; they stay there."""
PAGE = 250
"""Records asked for in one request: a page of them stays well below a second and a megabyte."""
PASSES = 5
"""Readings of all pages after which missing records are an error."""


def dataset_name(persona_id: str, round_name: str, *, queue: bool = False) -> str:
    """Return the name of a round's dataset, or of its disagreement queue."""
    return f"{persona_id}-{round_name}" + ("-queue" if queue else "")


def workspace_of(dataset: str) -> str:
    """Return the workspace of a dataset by its name: the persona's id, before the round's name."""
    return re.sub(r"-round-\d+.*$", "", dataset)


def find_dataset(client: Argilla, name: str) -> Dataset | None:
    """Return the dataset ``name`` of its persona's workspace, or None."""
    from argilla import Dataset

    names = (workspace_of(name), SHARED_WORKSPACE)
    spaces = {space.id for space in client.api.workspaces.list() if space.name in names}
    for model in client.api.datasets.list():
        if model.name == name and model.workspace_id in spaces:
            return Dataset.from_model(model, client=client).get()
    return None


def existing_dataset(client: Argilla, connection: Connection, name: str) -> Dataset:
    """Return the dataset ``name``.

    Raises:
        UserError: It was not pushed.
    """
    dataset = find_dataset(client, name)
    if dataset is None:
        raise UserError(
            f"no dataset '{name}' in the workspace '{workspace_of(name)}'",
            where=connection.url,
            fix="push the round first (`persona review push`)",
        )
    return dataset


def review_workspaces(client: Argilla) -> list[Workspace]:
    """Return the workspaces that reviews lie in: a persona's holds datasets of its rounds."""
    names = {model.id: model.name for model in client.api.workspaces.list()}
    used = {
        model.workspace_id
        for model in client.api.datasets.list()
        if names.get(model.workspace_id) in (workspace_of(model.name), SHARED_WORKSPACE)
    }
    return [space for space in client.workspaces.list() if space.id in used]


def admit(client: Argilla, space: Workspace, reviewers: Iterable[str] | None) -> None:
    """Take accounts into a workspace: from then on they see its rows and are waited for.

    Args:
        client: With an owner's key.
        space: Whose members stay, whoever they are.
        reviewers: User names, those without an account left out; None for all who label.
    """
    inside = {user.username for user in space.users}
    for user in client.users.list():
        wanted = user.role.value == "annotator" if reviewers is None else user.username in reviewers
        if wanted and user.username not in inside:
            space.add_user(user)


def records_of(client: Argilla, dataset: Dataset, *include: str) -> list[Json]:
    """Return all records of a dataset as an owner or admin sees them, as the API gives them.

    As :func:`all_records` does, which see.
    """
    return all_records(client, str(dataset.id), str(dataset.name), include)


def all_records(
    client: Argilla, dataset_id: str, name: str, include: Sequence[str] = ()
) -> list[Json]:
    """Return all records of a dataset as an owner or admin sees them, as the API gives them.

    The SDK's own records lose the time of a response, which a review keeps. Argilla orders pages
    by a time that records of one push share, so a page can repeat a record and pass over another
    while people work; it is read again until nothing is missing.

    Args:
        client: A client with an owner's or admin's key.
        dataset_id: The dataset's id.
        name: Its name, to be told in an error.
        include: ``responses``, ``suggestions``, ``vectors``, or nothing.

    Raises:
        UserError: Records are missing after :data:`PASSES` readings.
    """
    records: dict[str, Json] = {}
    for _ in range(PASSES):
        for page in pages(
            partial(get, client, f"datasets/{dataset_id}/records", include=list(include))
        ):
            records |= {item["id"]: item for item in page["items"]}
            total = page["total"]
        if len(records) >= total:
            return list(records.values())
    raise UserError(
        f"only {len(records)} of {total} records of '{name}' could be read",
        where=client.api_url,
        fix="run the same command again when records are no longer being added",
    )
