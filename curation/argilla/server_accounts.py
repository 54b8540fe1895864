"""The accounts of an embedded server: made and mended through Argilla's own API."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from curation.argilla.server_home import Secrets, ServerHome
from workbench.errors import UserError

WORKSPACE = "review"


def ensure_accounts(home: ServerHome, url: str, reviewers: Iterable[str]) -> Secrets:
    """Give each reviewer, and those of earlier starts, an account and the workspace.

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
        workspaces = _items(api.get("me/workspaces"))
        workspace = next((w for w in workspaces if w["name"] == WORKSPACE), None)
        if workspace is None:
            workspace = _answer(api.post("workspaces", json={"name": WORKSPACE}))
        members = {user["id"] for user in _items(api.get(f"workspaces/{workspace['id']}/users"))}
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
            if user["id"] not in members:
                member = {"user_id": user["id"]}
                _answer(api.post(f"workspaces/{workspace['id']}/users", json=member))
            made[name] = replace(login, api_key=str(user["api_key"]))
    accounts = replace(accounts, reviewers=made)
    home.save(accounts)
    return accounts


def _items(response: Any) -> list[dict[str, Any]]:
    return list(_answer(response)["items"])


def _answer(response: Any) -> dict[str, Any]:
    if response.is_error:
        raise UserError(
            f"the Argilla server answered {response.status_code} to "
            f"{response.request.method} {response.request.url.path}",
            where=str(response.request.url.copy_with(path="/")),
            fix="see its log; was its database made with another home's secrets?",
        )
    found: dict[str, Any] = response.json()
    return found
