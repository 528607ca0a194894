"""What spanbox costs on this machine: the measuring behind `spanbox bench` and the benchmarks of the source tree.

What tracing adds to a call is a difference: each round times the bare function and then every traced form of it, in
turn, so that a drifting machine drifts for all of them; the figure is the median over the rounds.

Thread rule: one measurement at a time in a process. Units: as named; CPU is that of the calling thread unless a name
says otherwise.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import gc
import itertools
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import spanbox
from spanbox import _core

Traced = Callable[..., Any]
Figures = dict[str, float]


def nothing() -> None:
    pass


# --- what tracing adds to a call -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Way:
    """A way of tracing: the traced form of the bare function, and what to do around its timed loop."""

    fn: Traced
    calls: int = 10_000
    prepare: Callable[[], object] = nothing
    settle: Callable[[], object] = nothing


Loop = Callable[[Traced, int], None]  # calls a function so many times


def timed(loop: Loop, fn: Traced, calls: int) -> tuple[float, float]:
    """CPU and wall nanoseconds a call."""
    cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
    loop(fn, calls)
    return (time.thread_time_ns() - cpu) / calls, (time.perf_counter_ns() - wall) / calls


def added(bare: Traced, ways: Mapping[str, Way], loop: Loop, *, rounds: int = 15) -> dict[str, Figures]:
    """Nanoseconds a call that each way adds to the bare function."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with _no_collection():
        for number in range(-1, rounds):  # round -1 warms up
            for name, way in ways.items():
                calls = way.calls if number >= 0 else min(way.calls, 200)
                bare_cpu, bare_wall = timed(loop, bare, calls)
                way.prepare()
                cpu, wall = timed(loop, way.fn, calls)
                way.settle()
                if number >= 0:
                    samples[name].append((cpu - bare_cpu, wall - bare_wall))
    return {
        name: {
            "cpu_ns": statistics.median(cpu for cpu, _ in rows),
            "wall_ns": statistics.median(wall for _, wall in rows),
            "cpu_min_ns": min(cpu for cpu, _ in rows),
        }
        for name, rows in samples.items()
    }


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def f(question: str, top_k: int) -> str:
    return question


def call_f(fn: Traced, calls: int) -> None:
    question, top_k = "what is the answer?", 5
    for _ in range(calls):
        fn(question, top_k)


def spanbox_way(calls: int) -> Way:
    """Arguments and result captured, START and END in the crash-proof ring."""
    return Way(spanbox.observe(f), calls, settle=spanbox.flush)


def off_way(calls: int) -> Way:
    """The same with recording switched off."""
    return Way(spanbox.observe(f), calls, prepare=spanbox.off, settle=spanbox.on)


def python_decorator(calls: int) -> Way:
    """A ContextVar set and reset and two clock readings, in Python; keeps nothing."""
    current: contextvars.ContextVar[str] = contextvars.ContextVar("current")

    @functools.wraps(f)
    def traced(*args: Any, **kwargs: Any) -> str:
        token = current.set("f")
        start = time.perf_counter_ns()
        try:
            return f(*args, **kwargs)
        finally:
            time.perf_counter_ns() - start
            current.reset(token)

    return Way(traced, calls)


def otel_tracer() -> tuple[Any, Callable[[], object]]:
    """A tracer of the OpenTelemetry SDK whose exporter throws the spans away, and its flush."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

    class Nowhere:
        def export(self, spans: object) -> object:
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            pass

        def force_flush(self, timeout_millis: int = 0) -> bool:
            return True

    nowhere: Any = Nowhere()
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(nowhere))
    return provider.get_tracer("bench"), provider.force_flush


def otel_traced(tracer: Any) -> Traced:
    """f with the same content as attributes."""

    @functools.wraps(f)
    def traced(*args: Any, **kwargs: Any) -> str:
        with tracer.start_as_current_span("f") as span:
            span.set_attribute("input.value", json.dumps({"args": args, "kwargs": kwargs}))
            result = f(*args, **kwargs)
            span.set_attribute("output.value", json.dumps(result))
            return result

    return traced


def opentelemetry(calls: int) -> Way:
    tracer, flush = otel_tracer()
    return Way(otel_traced(tracer), calls, settle=flush)


# --- starting --------------------------------------------------------------------------------------------------------

_FIRST_SPAN = """
import time, spanbox
@spanbox.observe
def f(question): return question
begin = time.perf_counter_ns()
f("what is the answer?")
print(time.perf_counter_ns() - begin)
"""


def import_ms(runs: int) -> float:
    """What `import spanbox` adds to a bare interpreter: the median over runs that take turns."""
    _python("import spanbox")
    bare: list[int] = []
    ours: list[int] = []
    for _ in range(runs):
        for code, times in (("pass", bare), ("import spanbox", ours)):
            begin = time.perf_counter_ns()
            _python(code)
            times.append(time.perf_counter_ns() - begin)
    return (statistics.median(ours) - statistics.median(bare)) / 1e6


def first_span_ms(folder: Path, runs: int) -> float:
    """The first call of an observed function in a process, which makes the ring of a new store: the median."""
    times = [int(_python(_FIRST_SPAN, SPANBOX_DIR=str(folder / f"first-{number}"))) for number in range(runs)]
    return statistics.median(times) / 1e6


def _python(code: str, **variables: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPANBOX_")}
    command = [sys.executable, "-c", code]
    return subprocess.run(  # noqa: S603
        command, env={**inherited, **variables}, capture_output=True, text=True, check=True
    ).stdout


# --- spans like those of an application ------------------------------------------------------------------------------

MODELS = ("gpt-5", "gpt-5-mini", "opus-5", "llama-4")
RARE = "zyxqvrare"


class Chats:
    """Model calls of about `input_bytes` in and `output_bytes` out. Texts are running words, the low ranks of a
    vocabulary far more often, cut anywhere out of `pool_bytes`: no two calls carry the same."""

    def __init__(self, *, input_bytes: int, output_bytes: int, pool_bytes: int) -> None:
        self._rng = random.Random(7)
        self._sizes = (input_bytes, output_bytes)
        vocabulary = ["".join(self._rng.choices("etaoinshrdlu", k=self._rng.randint(2, 9))) for _ in range(20_000)]
        weights = list(itertools.accumulate(1 / rank for rank in range(1, len(vocabulary) + 1)))
        self._pool = " ".join(self._rng.choices(vocabulary, cum_weights=weights, k=pool_bytes // 6))

    def text(self, size: int) -> str:
        at = self._rng.randrange(len(self._pool) - size)
        return self._pool[at : at + size]

    def make(self, count: int) -> list[tuple[dict[str, Any], str]]:
        """Requests with their answers."""
        input_bytes, output_bytes = self._sizes
        asked = max(1, input_bytes - 400)
        return [
            (
                {
                    "model": MODELS[number % 4],
                    "temperature": 0.2,
                    "max_tokens": 512,
                    "messages": [
                        {"role": "system", "content": self.text(160)},
                        {"role": "user", "content": self.text(asked)},
                    ],
                    "tools": [{"type": "function", "name": "search_orders", "strict": True}],
                    "user": f"u-{number % 997}",
                },
                self.text(output_bytes),
            )
            for number in range(count)
        ]


def chat(answers: Iterator[str]) -> Traced:
    """A model call as an application would trace it: the request, the next answer, and ten attributes."""

    @spanbox.observe(kind="llm")
    def chat(request: dict[str, Any]) -> str:
        span = spanbox.current_span()
        if span is not None:
            span.set(
                model=request["model"], provider="openai", input_tokens=1200, output_tokens=300, cost_usd=0.0042,
                temperature=0.2, user_id=request["user"], session_id="s-77", tenant="acme", prompt_version="v7",
            )  # fmt: skip
        return next(answers)

    return chat


def cpu_of_process_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def burst(spans: int) -> Figures:
    """Traces of five spans as fast as the caller can, then a flush."""
    chats = Chats(input_bytes=700, output_bytes=1000, pool_bytes=4 << 20).make(spans * 4 // 5)
    requests = [request for request, _ in chats]
    answers = [answer for _, answer in chats]
    answers[len(answers) // 2] += f" {RARE}"
    call = chat(iter(answers))
    before = spanbox.health()
    cpu_s, begin = cpu_of_process_s(), time.perf_counter()
    for first in range(0, len(requests), 4):
        with spanbox.span("support", kind="agent"):
            for request in requests[first : first + 4]:
                call(request)
    recorded = time.perf_counter()
    spanbox.flush(60)
    stored, cpu_s = time.perf_counter(), cpu_of_process_s() - cpu_s
    after = spanbox.health()
    count = after["recorded_spans"] - before["recorded_spans"]
    return {
        "spans": count,
        "lost_spans": after["dropped_spans"] - before["dropped_spans"],
        "recorded_per_s": count / (recorded - begin),
        "stored_per_s": count / (stored - begin),
        "process_cpu_us_per_span": cpu_s / count * 1e6,
    }


# --- the store -------------------------------------------------------------------------------------------------------


def stored_bytes(path: Path) -> Figures:
    """Bytes a span, after merging: as stored, and the text in them before compression."""
    store = _core.Store(str(path), False)
    store.merge()
    info = store.info()
    count = max(1, info["spans"])
    return {
        "bytes_per_span": (info["column_bytes"] + info["text_bytes"]) / count,
        "text_bytes_per_span": info["raw_text_bytes"] / count,
    }


def queries_ms(path: Path, repeats: int) -> Figures:
    """Questions to the spans of burst(): the median of their times."""
    box = spanbox.open(path)
    [newest] = box.spans().columns("trace_id").order_by("start_ns", descending=True).limit(1)
    questions: dict[str, Callable[[], object]] = {
        "count": lambda: box.spans("kind == llm and output_tokens > 100").count(),
        "p99 by model": lambda: box.spans("kind == llm").by("model").agg(p99="p99(duration)", cost="sum(cost)"),
        "20 slowest": lambda: list(box.spans().order_by("duration_ns", descending=True).limit(20)),
        "one trace": lambda: box.trace(newest["trace_id"]),
        "rare word in all text": lambda: box.grep(RARE),
    }
    return {name: statistics.median(_took_ms(ask) for _ in range(repeats)) for name, ask in questions.items()}


def commits_ms(path: Path, commits: int) -> Figures:
    """Durable commits of one span each into a store at `path`: what its disk allows."""
    store = _core.Store(str(path), True)
    start_ns = time.time_ns()
    rows = [
        {"trace_id": f"{number:032x}", "span_id": f"{number:016x}", "start_ns": start_ns + number, "name": "commit"}
        for number in range(1, commits + 1)
    ]
    times = sorted(_took_ms(lambda row=row: store.append([row])) for row in rows)  # type: ignore[misc]
    return {"p50_ms": times[len(times) // 2], "p99_ms": times[len(times) * 99 // 100], "commits": commits}


def _took_ms(work: Callable[[], object]) -> float:
    begin = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - begin) / 1e6


# --- all of it -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is measured; the defaults take about ten seconds."""

    rounds: int = 11
    calls: int = 5_000
    starts: int = 15
    spans: int = 20_000
    repeats: int = 7
    commits: int = 200


def measure(folder: Path, counts: Counts, *, tell: Callable[[str], object]) -> dict[str, Any]:
    """Every figure of `spanbox bench`. `folder`: empty, on the disk to measure; what is made in it stays. `tell`: is
    told what comes next. Ends this process's recorder."""
    spanbox.on()
    spanbox.configure(folder / "store")
    tell("recording one call")
    ways = {"spanbox": spanbox_way(counts.calls), "off": off_way(counts.calls)}
    ways["python_decorator"] = python_decorator(counts.calls)
    with contextlib.suppress(ImportError):
        ways["opentelemetry"] = opentelemetry(max(1, counts.calls // 5))
    found: dict[str, Any] = {"call": added(f, ways, call_f, rounds=counts.rounds)}
    tell("starting")
    found["start"] = {
        "import_ms": import_ms(counts.starts),
        "first_span_ms": first_span_ms(folder, max(1, counts.starts // 3)),
    }
    tell("a burst")
    spanbox.configure(folder / "burst")
    found["burst"] = burst(counts.spans) | stored_bytes(folder / "burst")
    tell("asking")
    found["queries_ms"] = queries_ms(folder / "burst", counts.repeats)
    _core.close()
    tell("committing")
    found["commit"] = commits_ms(folder / "commits", counts.commits)
    return found
