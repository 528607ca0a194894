"""How tables of spans look to people: units, cells, and the notes beside them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from spanbox import _core
from spanbox._render import (
    MISSING,
    clean,
    duration_column,
    format_cost,
    format_count,
    format_duration,
    format_share,
    format_time,
    one_line,
    plural,
)

Unit = Literal["duration", "cost", "share", "plain"]
_BARS = "▁▂▃▄▅▆▇█"
_CELL_CHARACTERS = 60
TEXT_ROWS = 50


def sampling_notes(sampled_out: tuple[int, int]) -> list[str]:
    """A sentence each about dropped spans that are in the figures, and that are not."""
    where = zip(sampled_out, ("in", "not in"), strict=True)
    return [
        f"{plural(count, 'sampled-out span')} {_be(count)} {place} these figures" for count, place in where if count
    ]


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


@cache
def _column_names() -> dict[str, str]:
    """Name or alias of every named column, to its name."""
    names: dict[str, str] = {}
    for name, alias, *_ in _core.columns():
        names[name] = name
        if alias:
            names[alias] = name
    return names


def column_unit(name: str) -> Unit:
    full = _column_names().get(name, name)
    if full.endswith("_ns"):
        return "duration"
    return "cost" if full.endswith("_usd") else "plain"


_UNIT_KEEPING = re.compile(
    r"\s*(?:p\d+(?:\.\d+)?|mean|sum|min|max|histogram)\(\s*([^(),\s]+)\s*(?:,\s*\w+\s*)?\)\s*", re.ASCII
)


def expression_unit(expression: str) -> Unit:
    if expression.lstrip().startswith("rate("):
        return "share"
    match = _UNIT_KEEPING.fullmatch(expression)
    return column_unit(match[1]) if match else "plain"


def format_value(value: Any, unit: Unit) -> str:
    """A value for people, by its unit."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, list):
        return _format_counts(value)
    if unit == "duration":
        return format_duration(value)
    if unit == "cost":
        return format_cost(value)
    if unit == "share":
        return format_share(value)
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() or abs(value) >= 1000 else f"{value:.3g}"
    return (
        format_count(value)
        if isinstance(value, int) and not isinstance(value, bool)
        else one_line(value)[:_CELL_CHARACTERS]
    )


def _format_counts(value: list[list[Any]]) -> str:
    """histogram() as bars of equal ratio, top() as values and counts."""
    if len(value[0]) == len(("low", "high", "count")):
        most = max(count for _, _, count in value)
        return "".join(" " if count == 0 else _BARS[(len(_BARS) - 1) * count // most] for _, _, count in value)
    return one_line(", ".join(f"{each} {count:,}" for each, count in value))[:_CELL_CHARACTERS]


def cells(table: _core.Table, units: Mapping[str, Unit], limit: int) -> tuple[list[str], list[list[str]], set[int]]:
    """Header, rows and right-aligned columns of a table for people."""
    names, types = table.column_names, table.column_types
    columns: list[list[str]] = []
    for name, type_ in zip(names, types, strict=True):
        values = table.column(name)[:limit]
        if type_ == "timestamp":
            columns.append([MISSING if value is None else format_time(value) for value in values])
        else:
            unit = units.get(name) or column_unit(name)
            alone = unit != "duration" or type_ not in ("int", "float")
            columns.append([format_value(value, unit) for value in values] if alone else duration_column(values))
    rows = [list(row) for row in zip(*columns, strict=True)]
    right = {i for i, type_ in enumerate(types) if type_ in ("int", "float")}
    return [clean(name) for name in names], rows, right
