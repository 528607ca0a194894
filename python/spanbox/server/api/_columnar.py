"""Answers with columns of doubles: a head in JSON, then the doubles as they are (ui/src/lib/api.ts says the format)."""

from __future__ import annotations

import json
import math
import struct
import sys
from array import array
from collections.abc import Iterable
from typing import Any

CONTENT_TYPE = "application/vnd.spanbox.columns"
JSON_TYPE = "application/json"


def column(values: Iterable[float | None]) -> array[float]:
    """NaN where there is nothing."""
    return array("d", [math.nan if value is None else float(value) for value in values])


def encode(answer: Any) -> tuple[bytes, str]:
    """The body and its content type."""
    columns: list[array[float]] = []

    def place(value: Any) -> Any:  # columns are what json does not know
        if not isinstance(value, array):
            raise TypeError(f"{type(value).__name__} is no part of an answer")
        columns.append(value)
        return {"$f64": [sum(map(len, columns[:-1])), len(value)]}

    try:
        text = json.dumps(answer, default=place, allow_nan=False, separators=(",", ":"))
    except ValueError:  # a value that is no number
        columns.clear()
        text = json.dumps(_finite(answer), default=place, allow_nan=False, separators=(",", ":"))
    head = text.encode()
    if not columns:
        return head, JSON_TYPE
    head += b" " * (-(4 + len(head)) % 8)
    if sys.byteorder == "big":
        for each in columns:
            each.byteswap()
    return struct.pack("<I", len(head)) + head + b"".join(each.tobytes() for each in columns), CONTENT_TYPE


def decode(body: bytes) -> Any:
    """The answer, with lists of floats for columns."""
    (length,) = struct.unpack_from("<I", body)
    doubles = array("d", body[4 + length :])
    if sys.byteorder == "big":
        doubles.byteswap()

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            if value.keys() == {"$f64"}:
                first, count = value["$f64"]
                return doubles[first : first + count].tolist()
            return {name: filled(each) for name, each in value.items()}
        return [filled(each) for each in value] if isinstance(value, list) else value

    return filled(json.loads(body[4 : 4 + length]))


def _finite(value: Any) -> Any:
    """The same with null for what is no number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value
