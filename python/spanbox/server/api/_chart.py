"""A saved chart, drawn: one aggregate of the query language over time, a line for each value of a column."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from typing import Any

from spanbox import _core
from spanbox._render import plural
from spanbox.server.api import _writes
from spanbox.server.api._asked import Asked
from spanbox.server.api._columnar import column
from spanbox.server.api._frame import Colors, Json, bucket_name, every, panel, partial_note, time_axis

_LINES = 6
_CALL = re.compile(r"\s*(\w+)\s*\(\s*([\w.`]*)")
_COUNTS = ("count", "distinct", "approx_distinct")


def chart(asked: Asked, colors: Colors, chart_id: str) -> Json:
    """Of the spans that pass the chart's filter and the asked one."""
    began_s = time.perf_counter()
    spec = _writes.chart(asked.box, chart_id)
    axis = asked.axis()
    of, by = (axis.begin_ns, asked.to_ns), [spec["by"]] if spec["by"] else []
    spans = asked.spans(spec["q"], of=of)
    n = spans.count()
    lines: dict[Any, list[float | None]] = defaultdict(lambda: [None] * axis.buckets)
    for row in spans.by(*by, every=every(axis)).agg(spanbox_value=spec["value"]):
        if (place := axis.place(row["time"])) is not None:
            lines[row[by[0]] if by else None][place] = _number(row["spanbox_value"])
    whole = {
        row[by[0]] if by else None: _number(row["spanbox_value"])
        for row in spans.by(*by).agg(spanbox_value=spec["value"])
    }
    told = [key for key, values in lines.items() if any(value is not None for value in values)]
    order = sorted(told, key=lambda key: (-(whole.get(key) or 0.0), str(key)))
    answer = time_axis(asked, axis)
    return {
        **panel(
            asked,
            began_s,
            state="ok" if n else "empty",
            text="" if n else "No span of this range passes the chart's filter.",
            basis=[plural(n, "span"), spec["value"], bucket_name(axis), partial_note(answer)],
            more="Quantiles have a relative error of at most 1 %",
        ),
        **answer,
        **{name: spec[name] for name in ("id", "title", "q", "value", "by")},
        "unit": unit_of(spec["value"]),
        "total": whole.get(None) if not by else None,
        "lines": [
            {
                "label": spec["title"] if not by else "none" if key is None else str(key)[:200],
                "color": colors.of(str(key)) if by == ["model"] and key is not None else None,
                "values": column(lines[key]),
                "total": whole.get(key),
            }
            for key in order[:_LINES]
        ],
        "more_lines": max(0, len(order) - _LINES),
    }


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def unit_of(value: str) -> str:
    """What the values of an aggregate are: ns, usd, rate or count."""
    match = _CALL.match(value)
    if match is None or match[1] in _COUNTS:
        return "count"
    if match[1] == "rate":
        return "rate"
    wanted = match[2].strip("`")
    types = {each: type_ for name, alias, type_, _ in _core.columns() for each in (name, alias) if each}
    name = next((name for name, alias, *_ in _core.columns() if wanted in (name, alias)), wanted)
    if name.endswith("_usd"):
        return "usd"
    return "ns" if name.endswith("_ns") or types.get(name) == "duration" else "count"
