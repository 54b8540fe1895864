"""The base of the models that hold data: values that stay as they are, without unknown fields."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value: nothing of it can be set anew, and a field that it does not have is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(Frozen):
    """A value that people write: NaN and infinity, which slip past every bound, are refused."""

    model_config = ConfigDict(allow_inf_nan=False)
