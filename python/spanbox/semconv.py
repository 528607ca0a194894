"""Attribute names of the tracing dialects in use, and the columns they become: the core's normaliser, from Python."""

from __future__ import annotations

from typing import Final

from spanbox._core import CONVENTIONS, normalise, restore

__all__ = ["CONVENTIONS", "KEYS", "normalise", "restore"]

# The attribute that remembers, as JSON, which key a column came from when it was not the export name.
KEYS: Final = "semconv.keys"
