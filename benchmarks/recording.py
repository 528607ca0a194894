"""What tracing one small call adds to the caller: A1.

Every way of tracing decorates the same function `f(str, int) -> str`. A round times the bare loop and then each
decorated loop, in turn, so that a drifting machine drifts for all of them; the figure is the median over the rounds of
(decorated - bare) per call, in nanoseconds of the calling thread's CPU time.

python benchmarks/recording.py NAME...   prints {name: {cpu_ns, wall_ns}} as JSON; NAMEs share one process.
"""

from __future__ import annotations

import contextvars
import functools
import gc
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Traced = Callable[[str, int], str]
ROUNDS = 15
ARGUMENTS = ("what is the answer?", 5)


def f(question: str, top_k: int) -> str:
    return question


def nothing() -> None:
    pass


def python_decorator() -> tuple[Traced, Callable[[], object]]:
    """A ContextVar set and reset and two clock readings, in Python; keeps nothing."""
    current: contextvars.ContextVar[str] = contextvars.ContextVar("current")

    @functools.wraps(f)
    def traced(*args: object, **kwargs: object) -> str:
        token = current.set("f")
        start = time.perf_counter_ns()
        try:
            return f(*args, **kwargs)  # type: ignore[arg-type]
        finally:
            time.perf_counter_ns() - start
            current.reset(token)

    return traced, nothing


def c_wrapper() -> tuple[Traced, Callable[[], object]]:
    """The same in C; keeps nothing. See floor.c."""
    import floor

    return floor.wrap(f), nothing


def spanbox() -> tuple[Traced, Callable[[], object]]:
    """Arguments and result captured, START and END in the crash-proof ring."""
    import spanbox

    spanbox.configure(tempfile.mkdtemp(prefix="spanbox-bench-"))
    return spanbox.observe(f), spanbox.flush


def opentelemetry() -> tuple[Traced, Callable[[], object]]:
    """The OpenTelemetry SDK with the same content as attributes, and an exporter that throws the spans away."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    tracer = provider.get_tracer("bench")

    @functools.wraps(f)
    def traced(*args: object, **kwargs: object) -> str:
        with tracer.start_as_current_span("f") as span:
            span.set_attribute("input.value", json.dumps({"args": args, "kwargs": kwargs}))
            result = f(*args, **kwargs)  # type: ignore[arg-type]
            span.set_attribute("output.value", json.dumps(result))
            return result

    return traced, provider.force_flush


class _Sink(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def langfuse() -> tuple[Traced, Callable[[], object]]:
    """Langfuse's @observe, sending to a loopback server that answers 200."""
    sink = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    os.environ.update(
        LANGFUSE_PUBLIC_KEY="pk-lf-bench",
        LANGFUSE_SECRET_KEY="sk-lf-bench",
        LANGFUSE_HOST=f"http://127.0.0.1:{sink.server_port}",
        LANGFUSE_BASE_URL=f"http://127.0.0.1:{sink.server_port}",
    )
    from langfuse import get_client, observe

    return observe()(f), get_client().flush


WAYS = {way.__name__: way for way in (python_decorator, c_wrapper, spanbox, opentelemetry, langfuse)}
CALLS = {"opentelemetry": 4_000, "langfuse": 400}  # slow ones: fewer calls a round; all others 10,000


def timed(fn: Traced, calls: int) -> tuple[float, float]:
    """CPU and wall nanoseconds a call."""
    question, top_k = ARGUMENTS
    repeat = range(calls)
    cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
    for _ in repeat:
        fn(question, top_k)
    return (time.thread_time_ns() - cpu) / calls, (time.perf_counter_ns() - wall) / calls


def measure(names: list[str]) -> dict[str, dict[str, float]]:
    ready = {name: WAYS[name]() for name in names}
    for fn, flush in ready.values():
        timed(fn, 200)
        flush()
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    gc.disable()
    for _ in range(ROUNDS):
        for name, (fn, flush) in ready.items():
            calls = CALLS.get(name, 10_000)
            bare = timed(f, calls)
            traced = timed(fn, calls)
            flush()
            samples[name].append((traced[0] - bare[0], traced[1] - bare[1]))
    return {
        name: {
            "cpu_ns": statistics.median(cpu for cpu, _ in rows),
            "wall_ns": statistics.median(wall for _, wall in rows),
            "cpu_min_ns": min(cpu for cpu, _ in rows),
        }
        for name, rows in samples.items()
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1:])))
    sys.stdout.flush()
    os._exit(0)  # peers' exporters would hold the process
