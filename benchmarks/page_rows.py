"""Rows of part C: what the page asks of ten million spans (docs/ui.md). Bars are times: there is no peer."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from query_rows import filled
from table import HERE, Row, measured, verdict

SPANS = "10000000"
BARS_MS = {"sentence": 500, "first screen": 1_000}
PANEL_MS = 200


def page() -> Iterator[Row]:
    with filled(SPANS) as (store,):
        found = measured([sys.executable, str(HERE / "page.py"), store])
    for range_ in ("6 h", "all of it"):
        for name, ms in found[range_].items():
            bar = BARS_MS.get(name, PANEL_MS)
            what = f"C page, {name}, {range_} of {found['spans'] // 1_000_000} M spans: CPU ms"
            yield Row(what, f"{ms:.0f}", "–", "–", f"≤ {bar} ms", verdict(ms <= bar))
