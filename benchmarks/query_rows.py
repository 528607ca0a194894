"""Rows of part B that ask: the questions of query_duckdb.py over one store, beside DuckDB on the same rows; a process
that asks one; and questions of a store of ten million spans and of a larger one.

Bars are ratios to DuckDB in the same run: the bar's milliseconds at 10 M spans over what DuckDB took there.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import spanbox
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
START_MS = 5
GROWN = [10_000_000, 30_000_000]  # run.py --large sets the second one
GROWTH = 2
TREE_MB = 200


@contextmanager
def filled(*spans: str, commit: str = "1000") -> Iterator[list[str]]:
    """Stores of so many spans each, `commit` of them at a time."""
    folder = tempfile.mkdtemp(prefix="query-", dir=WORK)
    stores = [f"{folder}/{i}" for i in range(len(spans))]
    try:
        for count, store in zip(spans, stores, strict=True):
            program = str(BUILD / "release" / "bench_ingest")
            command = [program, "--score", "--commit", commit, count, store]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        yield stores
    finally:
        shutil.rmtree(folder)


def questions() -> Iterator[Row]:
    with filled(SPANS) as (store,):
        yield from asked(store, SPANS)


def asked(store: str, spans: str) -> Iterator[Row]:
    """Every question, of spanbox and of DuckDB."""
    found = measured([sys.executable, str(HERE / "query_duckdb.py"), store])
    for name, row in found["questions"].items():
        ratio = row["ours_ms"] / row["duckdb_ms"]
        bar = BARS.get(name)
        reached = row["ours_ms"] <= TRACE_MS if bar is None else ratio <= bar
        yield Row(
            f"B {name}, {int(spans) // 1_000_000} M spans: CPU ms",
            f"{row['ours_ms']:.2f}" + ("" if row["equal"] else " **not DuckDB's answer**"),
            f"DuckDB {row['duckdb_ms']:.2f}",
            f"{ratio:.2f}x",
            f"≤ {TRACE_MS} ms" if bar is None else f"≤ {bar:.2f}x",
            verdict(reached and row["equal"]),
        )


def start() -> Iterator[Row]:
    def seconds(code: str) -> float:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begin

    with filled(SPANS) as (store,):
        table = f"{store}/duckdb"
        made = f"CREATE TABLE s AS SELECT range i FROM range({SPANS})"
        subprocess.run(
            [sys.executable, "-c", f"import duckdb; duckdb.connect({table!r}).execute({made!r})"], check=True
        )
        [row] = spanbox.open(store).spans().columns("trace_id").limit(1)
        opened = f"import spanbox; box = spanbox.open({store!r}); "
        programs = {
            "bare": "pass",
            "trace": f"{opened}print(len(box.trace({row['trace_id']!r})))",
            "count": f"{opened}print(box.spans().count())",
            "duckdb": f"import duckdb; print(duckdb.connect({table!r}).execute('SELECT count(*) FROM s').fetchall())",
        }
        rounds = [{name: seconds(code) for name, code in programs.items()} for _ in range(15)]
    trace, count, duckdb = (
        statistics.median(r[name] - r["bare"] for r in rounds) * 1e3 for name in ("trace", "count", "duckdb")
    )
    bar = f"≤ {START_MS} ms"
    name = "B process start to first answer, more than bare Python: one trace by its id"
    yield Row(name, f"{trace:.1f} ms", "–", "–", bar, verdict(trace <= START_MS))
    peer = f"DuckDB {duckdb:.1f} ms"
    yield Row("B the same: a count", f"{count:.1f} ms", peer, f"{count / duckdb:.2f}x", bar, verdict(count <= START_MS))


def growth() -> Iterator[Row]:
    with filled(*map(str, GROWN), commit="65536") as stores:
        small, large = measured([sys.executable, str(HERE / "growth.py"), *stores])
        tree = measured([str(BUILD / "release" / "bench_query"), stores[0], "1", "tree"])["tree"]
        yield from asked(stores[0], str(GROWN[0]))
    yield Row(
        f"B resident memory at its peak, any(children, ...) of {small['spans'] // 1_000_000} M spans",
        f"{tree['peak_mb']} MB",
        "–",
        "–",
        f"≤ {TREE_MB} MB",
        verdict(tree["peak_mb"] <= TREE_MB),
    )
    for name in small:
        if name != "spans":
            times = large[name] / small[name]
            yield Row(
                f"B growth {name}, {large['spans'] // 1_000_000} M spans: CPU ms",
                f"{large[name]:.3f}",
                f"{small['spans'] // 1_000_000} M spans {small[name]:.3f}",
                f"{times:.2f}x",
                f"≤ {GROWTH}x",
                verdict(times <= GROWTH),
            )
