"""The questions of part B over a store that bench_ingest has filled, and the same ones in DuckDB over the same rows.

python benchmarks/query_duckdb.py STORE [ROUNDS]   prints one JSON line: for each question CPU ms of both, the least of
ROUNDS taken in turns, one thread each, everything in memory. Answers are compared: exact ones must be equal, sketches
within their error.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import spanbox
from spanbox._spans import Result

SECOND = 1_000_000_000
HOUR, DAY = 3_600 * SECOND, 86_400 * SECOND
FIVE_MINUTES = 300 * SECOND
COLUMNS = (
    *("trace_id", "span_id", "parent_id", "name", "kind", "status", "start_ns", "duration_ns", "ttft_ns", "tpot_ns"),
    *("model", "input_tokens", "output_tokens", "cache_read_tokens", "cost_usd", "tenant", "prompt_version", "score"),
)

Answer = list[tuple[Any, ...]]


class Asked:
    """One question, both ways. `close`: the answers need only agree within the sketch's error."""

    def __init__(self, ours: Callable[[], Answer], sql: str, *, close: bool = False) -> None:
        self.ours, self.sql, self.close = ours, sql, close


def questions(box: spanbox.Box, end_ns: int, trace: str) -> dict[str, Asked]:
    day, week, hour = end_ns - DAY, end_ns - 7 * DAY, end_ns - HOUR
    everything = box.spans()
    calls = box.spans("ttft != none", since=day)

    def rows(result: Result, *names: str) -> Answer:
        return list(zip(*(result.column(name) for name in names), strict=True))

    def latencies(option: str) -> Answer:
        wanted = {f"{c}{p}": f"p{p}({c}{option})" for c in ("ttft", "tpot") for p in (50, 99)}
        return rows(calls.by("model", every="5m").agg(**wanted), "model", "time", *wanted)

    def cost_per_thousand() -> Answer:
        hours = rows(
            everything.by(every="1h").agg(cost="sum(cost)", n="count()", calls="rate(kind == llm)"),
            *("time", "cost", "n", "calls"),
        )
        return [
            (at, 1000 * sum(r[1] for r in last) / sum(round(r[2] * r[3]) for r in last))
            for i, (at, *_) in enumerate(hours)
            for last in [hours[max(0, i - 23) : i + 1]]
        ]

    def quantiles(columns: str, kind: str) -> str:
        return ", ".join(f"{kind}({c}, {p})" for c in columns.split() for p in (0.5, 0.99))

    latency_sql = (
        f"SELECT model, start_ns // {FIVE_MINUTES} * {FIVE_MINUTES}, {quantiles('ttft_ns tpot_ns', 'quantile_cont')} "
        f"FROM s WHERE start_ns >= {day} AND ttft_ns IS NOT NULL GROUP BY 1, 2"
    )
    return {
        "Q1 p50 and p99 by model and 5 minutes, sketched": Asked(lambda: latencies(""), latency_sql, close=True),
        "Q1 the same, exact": Asked(lambda: latencies(", exact"), latency_sql),
        "Q2 cost of 1,000 calls, 24 h rolling": Asked(
            cost_per_thousand,
            f"WITH h AS (SELECT start_ns // {HOUR} * {HOUR} h, sum(cost_usd) c, count(*) FILTER (kind = 'llm') n "
            "FROM s GROUP BY 1) "
            "SELECT h, 1000 * sum(c) OVER w / sum(n) OVER w FROM h WINDOW w AS (ORDER BY h ROWS 23 PRECEDING)",
        ),
        "Q3 failure rate by hour and name, 7 days": Asked(
            lambda: rows(
                box.spans(since=week).by("name", every="1h").agg(n="count()", failed="rate(status == error)"),
                *("time", "name", "n", "failed"),
            ),
            f"SELECT start_ns // {HOUR} * {HOUR}, name, count(*), avg((status = 'error')::INT) FROM s "
            f"WHERE start_ns >= {week} GROUP BY 1, 2",
        ),
        "Q4 20 slowest traces of the last hour": Asked(
            lambda: rows(
                Result(
                    box.spans("parent_id == none", since=hour)
                    .columns("trace_id", "duration_ns")
                    .order_by("duration", descending=True)
                    .limit(20)
                    ._table()
                ),
                *("trace_id", "duration_ns"),
            ),
            f"SELECT trace_id, duration_ns FROM s WHERE start_ns >= {hour} AND parent_id IS NULL "
            "ORDER BY duration_ns DESC LIMIT 20",
        ),
        "Q5 every span of one trace": Asked(
            lambda: [(span["span_id"],) for span in box._store.trace(trace)],
            f"SELECT span_id FROM s WHERE trace_id = '{trace}'",
        ),
        "Q6 cost and tokens by tenant and model": Asked(
            lambda: rows(
                everything.by("tenant", "model").agg(
                    cost="sum(cost)", i="sum(input_tokens)", o="sum(output_tokens)", c="sum(cache_read_tokens)"
                ),
                *("tenant", "model", "cost", "i", "o", "c"),
            ),
            "SELECT tenant, model, coalesce(sum(cost_usd), 0), coalesce(sum(input_tokens), 0), "
            "coalesce(sum(output_tokens), 0), coalesce(sum(cache_read_tokens), 0) FROM s GROUP BY 1, 2",
        ),
        "Q9 mean score by prompt version and hour, 7 days": Asked(
            lambda: rows(
                box.spans(since=week).by("prompt_version", every="1h").agg(score="mean(score)"),
                *("prompt_version", "time", "score"),
            ),
            f"SELECT prompt_version, start_ns // {HOUR} * {HOUR}, avg(score) FROM s WHERE start_ns >= {week} "
            "GROUP BY 1, 2",
        ),
        "Q10 p99 of everything, sketched": Asked(
            lambda: [(everything.quantile("ttft", 0.99),)], "SELECT quantile_cont(ttft_ns, 0.99) FROM s", close=True
        ),
        "Q10 the same, exact": Asked(
            lambda: [(everything.quantile("ttft", 0.99, exact=True),)], "SELECT quantile_cont(ttft_ns, 0.99) FROM s"
        ),
    }


def agree(ours: Answer, theirs: Answer, relative: float) -> bool:
    """Rows in any order; numbers within `relative`."""

    def key(row: tuple[Any, ...]) -> tuple[tuple[bool, str], ...]:
        return tuple((v is None, str(v)) for v in row if not isinstance(v, float))

    def same(a: Any, b: Any) -> bool:
        if isinstance(a, float) or isinstance(b, float):
            return a is not None and b is not None and math.isclose(a, b, rel_tol=relative)
        return bool(a == b)

    if len(ours) != len(theirs):
        return False
    pairs = zip(sorted(ours, key=key), sorted(theirs, key=key), strict=True)
    return all(same(a, b) for x, y in pairs for a, b in zip(x, y, strict=True))


def cpu_ms(ask: Callable[[], object]) -> float:
    begin = time.process_time()
    ask()
    return (time.process_time() - begin) * 1e3


def main() -> None:
    path, rounds = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 7
    box = spanbox.open(path)
    spans = box.spans().columns(*COLUMNS).to_arrow()
    connection = duckdb.connect(config={"threads": 1})
    connection.register("arrow", spans)
    connection.execute("CREATE TABLE s AS SELECT * REPLACE (epoch_ns(start) AS start) FROM arrow")
    connection.execute("ALTER TABLE s RENAME start TO start_ns")
    end_ns, trace = connection.execute("SELECT max(start_ns) + 1, min(trace_id) FROM s").fetchone() or (0, "")
    del spans
    answers = {}
    for name, asked in questions(box, end_ns, trace).items():
        ask = asked.ours
        theirs = connection.execute(asked.sql).fetchall()
        # The sketch's quantile is of the value at a rank, DuckDB's lies between two: with few values these differ.
        compared = agree(ask(), theirs, 0.0101 if asked.close and len(theirs) == 1 else 1 if asked.close else 1e-9)
        times = [(cpu_ms(ask), cpu_ms(lambda sql=asked.sql: connection.execute(sql).fetchall())) for _ in range(rounds)]
        answers[name] = {
            "ours_ms": min(t for t, _ in times),
            "duckdb_ms": min(t for _, t in times),
            "rows": len(theirs),
            "equal": compared,
        }
    print(json.dumps({"spans": box.info()["spans"], "questions": answers}))


if __name__ == "__main__":
    main()
