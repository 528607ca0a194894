"""CPU ms of questions whose cost should not grow with the store, over stores that bench_ingest has filled.

python benchmarks/growth.py STORE...   prints one JSON line: of each store how many spans it has, and for each question
the least of some rounds, the stores in turns, one thread.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import spanbox
from query_duckdb import HOUR, cpu_ms, questions

ROUNDS = 7
ASKED = ("Q1 p50", "Q4", "Q5", "Q10 p99")


def main() -> None:
    stores = []
    for path in sys.argv[1:]:
        box = spanbox.open(Path(path), create=False)
        end_ns = box.info()["last_start_ns"] + 1
        newest = box.spans(since=end_ns - HOUR).columns("trace_id").limit(1).to_arrow()
        asked = questions(box, end_ns, newest.column("trace_id")[0].as_py())
        stores.append((box, {name: each.ours for name, each in asked.items() if name.startswith(ASKED)}))
    answers: list[dict[str, object]] = [{"spans": box.info()["spans"]} for box, _ in stores]
    for name in stores[0][1]:
        times: list[list[float]] = [[] for _ in stores]
        for _ in range(ROUNDS):
            for (_, asked_of), measured in zip(stores, times, strict=True):
                measured.append(cpu_ms(asked_of[name]))
        for answer, measured in zip(answers, times, strict=True):
            answer[name] = min(measured)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
