"""Attribute names of the tracing dialects in use, and the columns they become: the core's normaliser, from Python."""

from __future__ import annotations

from typing import Any, Final

from spanbox._core import CONVENTIONS, attribute_rules, normalise, restore

__all__ = ["CONVENTIONS", "KEYS", "columns", "normalise", "restore"]

# The attribute that remembers, as JSON, which key a column came from when it was not the export name.
KEYS: Final = "semconv.keys"

_NAMED: Final = frozenset(column for column, _ in attribute_rules()) | {"kind", "tokens_dialect", KEYS}


def columns(attributes: dict[str, Any]) -> dict[str, Any]:
    """The columns among what normalise() gives, without the attributes that stay as they are."""
    return {name: value for name, value in normalise(attributes).items() if name in _NAMED}
