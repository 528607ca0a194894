"""A4: what a span costs the caller in 1,000 tasks of three nested spans, and in 8 threads, beside one in a plain loop.

The bare functions do the same without @observe. Afterwards the store is read: every span must have the right parent.

python benchmarks/concurrency.py ROUNDS   prints {plain_ns, coroutine_ns, tasks_ns, threads_ns, wrong_parents} as JSON
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import spanbox
from spanbox import _bench

TASKS = 1_000
THREADS = 8
CALLS_A_THREAD = 3_000
Decorate = Callable[[Any], Any]


def nested(decorate: Decorate) -> Any:
    """root(i) -> mid(i) -> leaf(i), each of which gives way to the other tasks."""

    @decorate
    async def leaf(number: int) -> int:
        await asyncio.sleep(0)
        return number

    @decorate
    async def mid(number: int) -> int:
        await asyncio.sleep(0)
        return await leaf(number)  # type: ignore[no-any-return]

    @decorate
    async def root(number: int) -> int:
        await asyncio.sleep(0)
        return await mid(number)  # type: ignore[no-any-return]

    return root


def call_in_tasks(root: Any, tasks: int) -> None:
    async def run() -> None:
        await asyncio.gather(*(root(number) for number in range(tasks)))

    asyncio.run(run())


def call_one_after_another(leaf: Any, calls: int) -> None:
    """Coroutines without a loop: what a span of a coroutine costs by itself."""

    for number in range(calls):
        coroutine = leaf(number)
        try:
            while True:
                coroutine.send(None)
        except StopIteration:
            pass


async def alone(number: int) -> int:
    return number


def in_threads(fn: Any) -> float:
    """CPU nanoseconds a call of each of the threads, all at once: the mean."""
    ready = threading.Barrier(THREADS)
    cpu: list[int] = []

    def work() -> None:
        fn("what is the answer?", 5)  # the thread's first span takes a lane
        ready.wait()
        begin = time.thread_time_ns()
        _bench.call_f(fn, CALLS_A_THREAD)
        cpu.append(time.thread_time_ns() - begin)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(cpu) / (THREADS * CALLS_A_THREAD)


def threads_ns(rounds: int) -> float:
    traced = spanbox.observe(_bench.f)
    samples = []
    for _ in range(rounds):
        bare = in_threads(_bench.f)
        samples.append(in_threads(traced) - bare)
        spanbox.flush()
    return statistics.median(samples)


def wrong_parents(path: str) -> int:
    """Spans of nested() whose parent is not what called them, and spans that are missing or too many in a trace."""
    box = spanbox.open(path)
    found = {}
    traces: dict[str, list[str]] = {}
    for row in box.spans('name in ["root", "mid", "leaf"]').columns(
        "trace_id", "span_id", "parent_id", "name", "input"
    ):
        found[row["span_id"]] = row
        traces.setdefault(row["trace_id"], []).append(row["name"])
    wrong = sum(sorted(names) != ["leaf", "mid", "root"] for names in traces.values())
    caller = {"leaf": "mid", "mid": "root"}
    for row in found.values():
        parent = found.get(row["parent_id"])
        if row["name"] == "root":
            wrong += parent is not None
        else:
            # The number is in the input of all three: a parent of another task has another one.
            wrong += parent is None or (parent["name"], parent["input"]) != (caller[row["name"]], row["input"])
    return wrong


def main() -> None:
    rounds = int(sys.argv[1])
    folder = tempfile.mkdtemp(prefix="spanbox-bench-", dir=os.environ.get("SPANBOX_BENCH_DIR"))
    spanbox.configure(folder)
    plain = _bench.added(_bench.f, {"plain": _bench.spanbox_way(10_000)}, _bench.call_f, rounds=rounds)
    ways = {"coroutine": _bench.Way(spanbox.observe(alone), 10_000, settle=spanbox.flush)}
    coroutine = _bench.added(alone, ways, call_one_after_another, rounds=rounds)
    tasks = {"tasks": _bench.Way(nested(spanbox.observe), TASKS, settle=spanbox.flush)}
    tasks_cost = _bench.added(nested(lambda fn: fn), tasks, call_in_tasks, rounds=rounds)
    found = {
        "plain_ns": plain["plain"]["cpu_ns"],
        "coroutine_ns": coroutine["coroutine"]["cpu_ns"],
        "tasks_ns": tasks_cost["tasks"]["cpu_ns"] / 3,
        "threads_ns": threads_ns(rounds),
    }
    spanbox.flush(60)
    found["wrong_parents"] = wrong_parents(folder)
    found["lost_spans"] = spanbox.health()["dropped_spans"]
    found["checked_spans"] = spanbox.open(folder).spans('name in ["root", "mid", "leaf"]').count()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
