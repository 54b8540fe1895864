"""Rounds of a persona: made, run, read, compared and talked to from Python.

``Round`` is the interface; the other names are artifacts that ``round.read`` takes. Importing this
package imports no heavy library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rounds.layout import (
        AGREEMENT,
        ASSIGNMENTS,
        BASELINE,
        CALIBRATION,
        COMPARISON,
        DECISIONS,
        DROPS,
        EXAMPLES,
        FILTERED,
        GENERAL,
        GENERATED,
        IMPORTED,
        PREFERENCES,
        PROBES,
        RESOLVED,
        RESOLVED_PREFERENCES,
        RESPONSES,
        REVIEWS,
        SCORES,
        SENSE,
        STAGES,
        STYLE,
        TEST,
        TRAIN,
        VALIDATION,
    )
    from rounds.round import Chat, Round

__all__ = [
    "AGREEMENT",
    "ASSIGNMENTS",
    "BASELINE",
    "CALIBRATION",
    "COMPARISON",
    "DECISIONS",
    "DROPS",
    "EXAMPLES",
    "FILTERED",
    "GENERAL",
    "GENERATED",
    "IMPORTED",
    "PREFERENCES",
    "PROBES",
    "RESOLVED",
    "RESOLVED_PREFERENCES",
    "RESPONSES",
    "REVIEWS",
    "SCORES",
    "SENSE",
    "STAGES",
    "STYLE",
    "TEST",
    "TRAIN",
    "VALIDATION",
    "Chat",
    "Round",
]


def __getattr__(name: str) -> Any:
    """Import a name of the interface when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'rounds' has no attribute '{name}'")
    return getattr(import_module(f"rounds.{'layout' if name.isupper() else 'round'}"), name)
