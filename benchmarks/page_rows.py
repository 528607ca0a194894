"""Rows of part C: what the page asks of ten million spans, and of a browser (docs/ui.md). Bars are times and sizes:
there is no peer."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator

from query_rows import filled
from table import HERE, WORK, Row, measured, verdict

SPANS = "10000000"
BARS_MS = {"sentence": 500, "first screen": 1_000}
PANEL_MS = 200
OF_TRACE = {  # bar, unit
    "first paint, nothing kept": (300, "ms"),
    "first paint": (300, "ms"),
    "longest task while it scrolls": (50, "ms"),
    "key to paint": (50, "ms"),
    "nodes": (1_500, ""),
    "heap_mb": (150, "MB"),
}


def page() -> Iterator[Row]:
    with filled(SPANS, commit="65536") as (store,):
        found = measured([sys.executable, str(HERE / "page.py"), store])
    for range_ in ("6 h", "all of it"):
        for name, ms in found[range_].items():
            bar = BARS_MS.get(name, PANEL_MS)
            what = f"C page, {name}, {range_} of {found['spans'] // 1_000_000} M spans: CPU ms"
            yield Row(what, f"{ms:.0f}", "–", "–", f"≤ {bar} ms", verdict(ms <= bar))


def trace() -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="trace-", dir=WORK) as folder:
        found = measured([sys.executable, str(HERE / "page_trace.py"), folder])
    for name, (bar, unit) in OF_TRACE.items():
        what = f"C trace of 100,000 spans, {name.replace('_mb', '')}" + (f": {unit}" if unit else "")
        yield Row(what, f"{found[name]:.0f}", "–", "–", f"≤ {bar:,} {unit}".rstrip(), verdict(found[name] <= bar))
