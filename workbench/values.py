"""The base of the models that hold data: values that stay as they are, without unknown fields."""

from __future__ import annotations

from typing import Annotated, Any, overload

from pydantic import AfterValidator, BaseModel, ConfigDict


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


def _step_name(name: str) -> str:
    module, colon, kind = name.partition(":")
    if not (colon and kind.isidentifier() and all(map(str.isidentifier, module.split(".")))):
        raise ValueError("names no step; write it as my_steps:Shorten")
    return name


StepName = Annotated[str, AfterValidator(_step_name)]
"""Of a class in a module, such as ``my_steps:Shorten``."""
