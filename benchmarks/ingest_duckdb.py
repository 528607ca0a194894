"""Durable ingest into DuckDB, the peer beside bench_ingest: the same columns, 1,000 spans a commit.

python benchmarks/ingest_duckdb.py [--text] SPANS FOLDER   prints one JSON line
"""

from __future__ import annotations

import itertools
import json
import random
import resource
import statistics
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

BATCH = 1_000


def words(count: int, rng: random.Random) -> list[str]:
    return ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(count)]


class Texts:
    """Running text, never the same twice: words drawn by rank, the low ranks far more often."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._words = words(20_000, rng)
        self._weights = list(itertools.accumulate(1 / rank for rank in range(1, len(self._words) + 1)))

    def draw(self, size_bytes: int) -> str:
        picked = self._rng.choices(self._words, cum_weights=self._weights, k=size_bytes // 5)
        return " ".join(picked)[:size_bytes]


def batch(start: int, rng: np.random.Generator, texts: Texts | None) -> pa.Table:
    n = BATCH
    trace = np.repeat(np.arange(n // 6 + 1), 6)[:n]
    columns = {
        "trace_id": [int(t).to_bytes(16, "big") for t in trace + start],
        "span_id": rng.integers(1, 2**63, n),
        "parent_id": rng.integers(1, 2**63, n),
        "name": pa.array([f"step {i}" for i in rng.integers(0, 40, n)]).dictionary_encode(),
        "kind": pa.array([("llm", "tool", "agent")[i] for i in rng.integers(0, 3, n)]).dictionary_encode(),
        "status": pa.array([("ok", "error")[i] for i in (rng.random(n) < 0.02).astype(int)]).dictionary_encode(),
        "start_ns": 1_767_225_600_000_000_000 + (start + np.arange(n)) * 1_000_000,
        "duration_ns": rng.lognormal(20, 1, n).astype(np.int64),
        "ttft_ns": rng.lognormal(19, 0.6, n).astype(np.int64),
        "tpot_ns": rng.lognormal(16, 0.4, n).astype(np.int64),
        "model": pa.array([f"model-{i}" for i in rng.integers(0, 12, n)]).dictionary_encode(),
        "input_tokens": rng.lognormal(7, 0.9, n).astype(np.int64),
        "output_tokens": rng.lognormal(5, 0.8, n).astype(np.int64),
        "cost_usd": rng.lognormal(-6, 1, n),
        "user_id": pa.array([f"u{i}" for i in rng.integers(0, 5000, n)]).dictionary_encode(),
        "tenant": pa.array([f"t{i}" for i in rng.integers(0, 200, n)]).dictionary_encode(),
    }
    if texts is not None:
        columns["input"] = [texts.draw(1_000) for _ in range(n)]
        columns["output"] = [texts.draw(1_500) for _ in range(n)]
    return pa.table(columns)


def main() -> None:
    text = "--text" in sys.argv
    spans, folder = int(sys.argv[-2]), Path(sys.argv[-1])
    texts = Texts(random.Random(7)) if text else None
    rng = np.random.default_rng(7)
    batches = [batch(start, rng, texts) for start in range(0, spans, BATCH)]
    connection = duckdb.connect(str(folder / "spans.duckdb"), config={"threads": 1})
    connection.register("first", batches[0])
    connection.execute("CREATE TABLE spans AS SELECT * FROM first LIMIT 0")
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu, wall = usage.ru_utime + usage.ru_stime, time.perf_counter()
    commits = []
    for rows in batches:
        begin = time.perf_counter()
        connection.register("rows", rows)
        connection.execute("INSERT INTO spans SELECT * FROM rows")
        commits.append(time.perf_counter() - begin)
    wall = time.perf_counter() - wall
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime - cpu
    connection.close()
    stored = sum(path.stat().st_size for path in folder.iterdir())
    print(
        json.dumps(
            {
                "spans": spans,
                "spans_per_s": spans / wall,
                "cpu_us_per_span": cpu / spans * 1e6,
                "commit_p50_ms": statistics.median(commits) * 1e3,
                "commit_p99_ms": sorted(commits)[int(len(commits) * 0.99)] * 1e3,
                "bytes_per_span": stored / spans,
            }
        )
    )


if __name__ == "__main__":
    main()
