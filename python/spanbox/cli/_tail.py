"""`spanbox tail`: the spans that ended last, a line each, and then those that come."""

from __future__ import annotations

import time
from typing import Any

from spanbox._box import Box
from spanbox._render import clean, fit, format_cost, format_duration, one_line, short_time
from spanbox.cli._output import Output

_COLUMNS = (
    "trace_id", "span_id", "name", "kind", "status", "start_ns", "duration_ns", "model", "cost_usd", "error_type",
    "output",
)  # fmt: skip
_LOOK_EVERY_S = 0.5
_LONGEST_NS = 3_600_000_000_000  # a span that took longer is not seen to end


class _Seen:
    """Which spans have been shown. Those that began too long ago are forgotten, and not asked for again."""

    def __init__(self) -> None:
        self._starts: dict[tuple[str, str], int] = {}

    def fresh(self, rows: list[dict[str, Any]], since_ns: int) -> list[dict[str, Any]]:
        fresh = [row for row in rows if (row["trace_id"], row["span_id"]) not in self._starts]
        self._starts.update({(row["trace_id"], row["span_id"]): row["start"] for row in fresh})
        self._starts = {key: start for key, start in self._starts.items() if start >= since_ns}
        return fresh


def run(out: Output, box: Box, filter: str, count: int, *, follow: bool, json: bool) -> None:
    """Prints the last `count` spans that ended and match; with `follow` goes on until it is interrupted."""
    seen = _Seen()
    since_ns = time.time_ns() - _LONGEST_NS
    ended = f"({filter}) and status != running" if filter.strip() else "status != running"
    newest = box.spans(ended).columns(*_COLUMNS).order_by("start_ns", descending=True).limit(max(count, 1))
    rows = list(newest)[::-1]
    seen.fresh(rows + list(box.spans(ended, since=since_ns).columns(*_COLUMNS)), since_ns)
    _print(out, rows[len(rows) - count :] if count else [], json=json)
    while follow:
        time.sleep(_LOOK_EVERY_S)
        since_ns = time.time_ns() - _LONGEST_NS
        rows = list(box.spans(ended, since=since_ns).columns(*_COLUMNS))
        _print(out, seen.fresh(rows, since_ns), json=json)


def _print(out: Output, rows: list[dict[str, Any]], *, json: bool) -> None:
    for row in sorted(rows, key=lambda row: row["start"] + (row["duration_ns"] or 0)):
        if json:
            out.json_line(row)
        else:
            out.line(fit(_line(row), out.width), "red" if row["status"] == "error" else "")


def _line(row: dict[str, Any]) -> str:
    said = row["error_type"] if row["status"] == "error" else row["output"]
    parts = [
        short_time(row["start"]),
        row["trace_id"][:8],
        f"{format_duration(row['duration_ns']):>8}",
        {"ok": " ", "error": "✗"}.get(row["status"], "…"),
        clean(row["name"]),
        clean(row["model"] or ""),
        format_cost(row["cost_usd"]) if row["cost_usd"] is not None else "",
        one_line(said, limit=200) if said else "",
    ]
    return "  ".join(part for part in parts if part)
