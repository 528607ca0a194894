"""Rows of part B that ask: the questions of query_duckdb.py over one store, beside DuckDB on the same rows.

Bars are ratios to DuckDB in the same run: the bar's milliseconds at 10 M spans over what DuckDB took there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from table import BUILD, HERE, WORK, Row, measured, verdict

SPANS = "1000000"
BARS = {
    "Q1 p50 and p99 by model and 5 minutes, sketched": 3 / 55,
    "Q1 the same, exact": 45 / 55,
    "Q2 cost of 1,000 calls, 24 h rolling": 25 / 153,
    "Q3 failure rate by hour and name, 7 days": 25 / 104,
    "Q4 20 slowest traces of the last hour": 0.5 / 2,
    "Q6 cost and tokens by tenant and model": 30 / 133,
    "Q9 mean score by prompt version and hour, 7 days": 30 / 135,
    "Q10 p99 of everything, sketched": 3 / 164,
    "Q10 the same, exact": 120 / 164,
}
TRACE_MS = 0.05  # DuckDB has no index to compare with


def questions() -> Iterator[Row]:
    folder = tempfile.mkdtemp(prefix="query-", dir=WORK)
    try:
        program = str(BUILD / "release" / "bench_ingest")
        subprocess.run([program, "--score", SPANS, f"{folder}/store"], check=True, stdout=subprocess.DEVNULL)
        found = measured([sys.executable, str(HERE / "query_duckdb.py"), f"{folder}/store"])
    finally:
        shutil.rmtree(folder)
    for name, row in found["questions"].items():
        ratio = row["ours_ms"] / row["duckdb_ms"]
        bar = BARS.get(name)
        reached = row["ours_ms"] <= TRACE_MS if bar is None else ratio <= bar
        yield Row(
            f"B {name}, 1 M spans: CPU ms",
            f"{row['ours_ms']:.2f}" + ("" if row["equal"] else " **not DuckDB's answer**"),
            f"DuckDB {row['duckdb_ms']:.2f}",
            f"{ratio:.2f}x",
            f"≤ {TRACE_MS} ms" if bar is None else f"≤ {bar:.2f}x",
            verdict(reached and row["equal"]),
        )
