"""The few phrases that reviewers and readers of a report see, in the persona's language."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import yaml


@lru_cache(maxsize=4)
def phrases(language: str) -> dict[str, str]:
    """Return every phrase of ``language`` by its dotted key."""
    text = files(__name__).joinpath(f"{language}.yaml").read_text(encoding="utf-8")
    data: dict[str, str] = yaml.safe_load(text)
    return data


def say(language: str, key: str, **values: object) -> str:
    """Return the phrase ``key`` with ``values`` filled in.

    Raises:
        KeyError: The phrase is missing in that language: a mistake of ours, not of a user's.
    """
    return phrases(language)[key].format(**values)
