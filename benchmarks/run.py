"""Runs the benchmarks, each beside its peer in the same run, prints the table and writes it to benchmarks/README.md.

    make bench                                   everything, in less than ten minutes
    python benchmarks/run.py --only A1           rows whose name starts so
    python benchmarks/run.py --only growth       10 M and 30 M spans: five minutes, 2 GB of disk
    python benchmarks/run.py --only growth --large 100000000     as the bar has it: a quarter of an hour, 6 GB
    python benchmarks/run.py --only "C page"     what the page asks of 10 M spans: minutes, 1 GB
    python benchmarks/run.py --only "C trace"    what a browser needs for a trace of 100,000 spans: a minute, `make ui`
    python benchmarks/run.py --no-write          only print
    python benchmarks/run.py --quick             a tenth of the work: do the programs run?

No row fails on a time: a machine that is busy is not a bug. The bars are in the table, beside what was measured.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import query_rows
import recording_rows
from ingest_rows import ingest, receive
from page_rows import page, trace
from pii_rows import pii
from query_rows import growth, questions, start
from search_rows import search
from table import WORK, Row, table, write

ROWS: dict[str, Callable[[], Iterator[Row]]] = {
    **recording_rows.ROWS,
    "B metrics": partial(ingest, text=False),
    "B text": partial(ingest, text=True),
    "B OTLP": receive,
    "B Q": questions,
    "B search": search,
    "B start": start,
    "D PII": pii,
    "growth": growth,
    "C page": page,
    "C trace": trace,
}
LONG = {"growth", "C page", "C trace"}  # only when asked for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name starts so")
    parser.add_argument("--large", type=int, default=query_rows.GROWN[1], help="spans of the larger store of growth")
    parser.add_argument("--no-write", action="store_true", help="leave benchmarks/README.md alone")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work of part A, and no writing")
    parser.add_argument("--note", default="", help="a sentence to go with the table")
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    recording_rows.quick = options.quick
    query_rows.GROWN[1] = options.large
    rows: list[Row] = []
    for name, run in ROWS.items():
        if name.startswith(options.only) and (options.only or name not in LONG):
            begin = time.perf_counter()
            print(f"measuring {name} ...", end="", file=sys.stderr, flush=True)
            rows += run()
            print(f" {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    text = table(rows)
    print(text)
    if not (options.no_write or options.only or options.quick):
        write(text, options.note)


if __name__ == "__main__":
    main()
