"""Rows of part A: what recording costs, and what is kept when a process ends badly."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sink
from spanbox import _bench
from table import BUILD, HERE, WORK, Row, measured, verdict

quick = False  # set by run.py

DASH = "–"


def few(number: int) -> str:
    return str(max(3, number // 10) if quick else number)


def script(name: str, *arguments: str) -> Any:
    """What a program of this folder prints, with stores of its own that are removed."""
    with fresh_folder() as folder:
        return measured([sys.executable, str(HERE / name), *arguments], folder)


@contextmanager
def fresh_folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="record-", dir=WORK)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def cheaper(name: str, ours_ns: float, peer_ns: float, bar: float | None) -> Row:
    """The peer costs at least `bar` times as much."""
    ratio = peer_ns / ours_ns
    holds = DASH if bar is None else verdict(ratio >= bar)
    shown_bar = DASH if bar is None else f"≥ {bar:.0f}x"
    return Row(name, f"{ours_ns:,.0f} ns", f"{peer_ns:,.0f} ns", f"{ratio:,.1f}x cheaper", shown_bar, holds)


def dearer(name: str, ours_ns: float, peer_ns: float, bar: float) -> Row:
    """Ours costs at most `bar` times the peer's."""
    ratio = ours_ns / peer_ns
    figures = f"{ours_ns:,.0f} ns", f"{peer_ns:,.0f} ns", f"{ratio:.2f}x its cost"
    return Row(name, *figures, f"≤ {bar}x", verdict(ratio <= bar))


# --- A1, A2: one call ------------------------------------------------------------------------------------------------


def build_floor() -> None:
    """Compiles floor.c for the running interpreter into the folder that measured() puts on its path."""
    target = WORK / f"floor{sysconfig.get_config_var('EXT_SUFFIX')}"
    source = HERE / "floor.c"
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        include = sysconfig.get_paths()["include"]
        command = [*os.environ.get("CC", "cc").split(), "-O3", "-fPIC", "-shared", f"-I{include}", str(source)]
        subprocess.run([*command, "-o", str(target)], check=True)


def costs_ns(workload: str, *names: str) -> dict[str, float]:
    """The ways of tracing named, timed in one process of their own."""
    with sink.running() as address:
        figures = script("recording.py", workload, few(15), address, *names)
    return {name: each["cpu_ns"] for name, each in figures.items()}


def a1() -> Iterator[Row]:
    build_floor()
    ns = costs_ns("small", "python_decorator", "c_wrapper", "spanbox", "off", "opentelemetry")
    ours = ns["spanbox"]
    yield dearer("A1 `@observe` vs a Python decorator that keeps nothing", ours, ns["python_decorator"], 0.75)
    yield dearer("A1 `@observe` vs a C wrapper that keeps nothing", ours, ns["c_wrapper"], 1.6)
    yield cheaper("A1 `@observe` vs OpenTelemetry SDK, spans thrown away", ours, ns["opentelemetry"], 60)
    # These start threads that use the caller's CPU: each has a process of its own, with ours beside it.
    for peer, title, bar in (("langfuse", "Langfuse", 500.0), ("mlflow", "MLflow, asynchronous", None)):
        pair = costs_ns("small", "spanbox", peer)
        yield cheaper(f"A1 `@observe` vs {title}, loopback sink", pair["spanbox"], pair[peer], bar)
    yield Row("A1 baseline: `@observe` after `spanbox.off()`", f"{ns['off']:,.0f} ns", DASH, DASH, DASH, DASH)


def a2() -> Iterator[Row]:
    ns = costs_ns("chat", "spanbox", "off", "opentelemetry")
    ours = ns["spanbox"]
    name = "A2 1 KB in, 2 KB out, 10 attributes"
    yield Row(name, f"{ours:,.0f} ns", DASH, DASH, "≤ 1,200 ns", verdict(ours <= 1200))
    yield cheaper("A2 the same vs OpenTelemetry SDK, spans thrown away", ours, ns["opentelemetry"], 30)
    for peer, title, bar in (("langfuse", "Langfuse", 150.0), ("mlflow", "MLflow, asynchronous", None)):
        pair = costs_ns("chat", "spanbox", peer)
        yield cheaper(f"A2 the same vs {title}, loopback sink", pair["spanbox"], pair[peer], bar)
    yield Row("A2 baseline: the same after `spanbox.off()`", f"{ns['off']:,.0f} ns", DASH, DASH, DASH, DASH)


# --- A3 to A7 --------------------------------------------------------------------------------------------------------


def a3() -> Iterator[Row]:
    with fresh_folder() as folder:
        ns = measured([str(BUILD / "release" / "bench_record"), few(300), f"{folder}/store"])
    for quantile, key, bar in (("p50", "p50_ns", 120), ("p99.9", "p999_ns", 1000)):
        ours, copy = ns[key], ns[f"copy_{key}"]
        name = f"A3 C++ Start + End, 4 attributes, 400 B: {quantile}"
        ratio = f"{ours / max(copy, 1):.1f}x its cost"
        holds = verdict(ours <= bar)
        yield Row(name, f"{ours:,.0f} ns", f"memcpy to a heap ring {copy:,.0f} ns", ratio, f"≤ {bar:,} ns", holds)


def a4() -> Iterator[Row]:
    found = script("concurrency.py", few(15))
    plain = found["plain_ns"]
    for title, key in (("1,000 tasks of 3 nested spans", "tasks_ns"), ("8 threads", "threads_ns")):
        ratio = found[key] / plain
        figures = f"{found[key]:,.0f} ns a span", f"plain loop {plain:,.0f} ns", f"{ratio:.2f}x its cost"
        yield Row(f"A4 {title}", *figures, "0.7x to 1.3x", verdict(0.7 <= ratio <= 1.3))
    alone = found["coroutine_ns"]
    name = "A4 a coroutine that does not wait"
    yield Row(name, f"{alone:,.0f} ns", f"plain loop {plain:,.0f} ns", f"{alone / plain:.2f}x its cost", DASH, DASH)
    wrong = found["wrong_parents"] + found["lost_spans"]
    yield Row(
        "A4 wrong parents or lost", f"{wrong} of {found['checked_spans']:,}", DASH, DASH, "0", verdict(wrong == 0)
    )


def a5() -> Iterator[Row]:
    def sustained(name: str, spans: int, *pace: str) -> Any:
        with sink.running() as address:
            return script("sustained.py", name, few(spans), address, *pace)

    def losses(title: str, ours: Any) -> Row:
        shown = [f"{each['lost'] / each['spans']:.1%} at {each['calls_per_s']:,.0f} calls/s" for each in (ours, otlp)]
        return Row(f"A5 lost, {title}", shown[0], f"OTLP {shown[1]}", DASH, "0", verdict(ours["lost"] == 0))

    nowhere, otlp = sustained("opentelemetry", 20_000), sustained("opentelemetry_otlp", 20_000)
    yield losses("as fast as the caller can", sustained("spanbox", 100_000))
    yield losses("no faster than OTLP", sustained("spanbox", 20_000, str(otlp["calls_per_s"])))
    # What is lost costs nothing: CPU is told of a run that waits for the disk.
    block = sustained("spanbox_block", 100_000)
    yield losses('`full_ring="block"`', block)
    cpu_us = block["cpu_us_per_span"]
    name = "A5 CPU of the process a span, nothing lost"
    yield Row(name, f"{cpu_us:.1f} us", DASH, DASH, "≤ 12 us", verdict(cpu_us <= 12))
    for title, peer, bar in (("OpenTelemetry SDK, spans thrown away", nowhere, 4), ("the SDK with OTLP", otlp, 10)):
        peer_us = peer["cpu_us_per_span"]
        ratio = peer_us / cpu_us
        shown = f"{cpu_us:.1f} us", f"{peer_us:.1f} us", f"{ratio:.1f}x cheaper"
        yield Row(f"A5 the same vs {title}", *shown, f"≥ {bar}x", verdict(ratio >= bar))


def a6() -> Iterator[Row]:
    with fresh_folder() as folder:
        import_ms, first_ms = _bench.import_ms(int(few(20))), _bench.first_span_ms(Path(folder), int(few(11)))
    name = "A6 `import spanbox`, more than bare Python"
    yield Row(name, f"{import_ms:.1f} ms", DASH, DASH, "≤ 30 ms", verdict(import_ms <= 30))
    yield Row("A6 first span", f"{first_ms:.2f} ms", DASH, DASH, "≤ 5 ms", verdict(first_ms <= 5))


def a7() -> Iterator[Row]:
    for text, ns in script("redaction.py", few(15)).items():
        yield Row(f"A7 redaction adds, {text}", f"{ns:,.0f} ns a KB", DASH, DASH, "≤ 1,000 ns", verdict(ns <= 1000))


def otel_api() -> Iterator[Row]:
    figures = script("otel_api.py", few(15))
    ns = {name: each["cpu_ns"] for name, each in figures.items()}
    name = "OTel-API span, 10 attributes: our provider vs the SDK"
    yield cheaper(name, ns["call spanbox"], ns["call sdk"], 10)
    yield cheaper("OTel-API span, no attributes: our provider vs the SDK", ns["empty spanbox"], ns["empty sdk"], 10)
    yield Row(
        "OTel-API span, no attributes, vs `@observe`",
        f"{ns['empty spanbox']:,.0f} ns",
        f"{ns['observe']:,.0f} ns",
        f"{ns['empty spanbox'] / ns['observe']:.1f}x its cost",
        DASH,
        DASH,
    )


def crashes() -> Iterator[Row]:
    titles = {
        "SIGKILL": "after SIGKILL",
        "SIGTERM": "after SIGTERM",
        "fork": "of a forked child that ends with `os._exit`",
        "burst": "of a burst, then a normal exit",
    }
    for ending, found in script("crashes.py").items():
        spans, ours, peer = found["spans"], found["spanbox"], found["opentelemetry"]
        name = f"Crash: finished spans kept, of {spans:,}, {titles[ending]}"
        yield Row(name, f"{ours:,}", f"OpenTelemetry SDK {peer:,}", DASH, f"{spans:,}", verdict(ours == spans))


def exit_latency() -> Iterator[Row]:
    with fresh_folder() as folder:
        found = measured([sys.executable, str(HERE / "exit.py"), folder])
    full, empty, waiting = found["full_ms"], found["empty_ms"], found["waiting_bytes"]
    yield Row(
        "E interpreter exit, 20,000 spans just recorded",
        f"{full:.0f} ms ({waiting / 1e6:.1f} MB in the ring)",
        f"no spans {empty:.0f} ms",
        f"{full - empty:+.0f} ms",
        "≤ 50 ms added",
        verdict(full - empty <= 50),
    )


ROWS: dict[str, Callable[[], Iterator[Row]]] = {
    "A1": a1,
    "A2": a2,
    "A3": a3,
    "A4": a4,
    "A5": a5,
    "A6": a6,
    "A7": a7,
    "OTel API": otel_api,
    "Crash": crashes,
    "E exit": exit_latency,
}
