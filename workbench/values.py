"""The base of the models that hold data: values that stay as they are, without unknown fields."""

from __future__ import annotations

from typing import Any, overload

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value: nothing of it can be set anew, and a field that it does not have is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(Frozen):
    """A value that people write: NaN and infinity, which slip past every bound, are refused."""

    model_config = ConfigDict(allow_inf_nan=False)


@overload
def dumped(part: BaseModel) -> dict[str, Any]: ...


@overload
def dumped(part: None) -> None: ...


def dumped(part: BaseModel | None) -> dict[str, Any] | None:
    """Return a part of the configuration as the JSON values that a manifest keeps."""
    return part.model_dump(mode="json") if part else None
