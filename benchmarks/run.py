"""Runs the benchmarks, each beside its peer in the same run, prints the table and writes it to benchmarks/README.md.

    make bench                                   everything
    python benchmarks/run.py --only A1           rows whose name starts so
    python benchmarks/run.py --no-write          only print

No row fails on a time: a machine that is busy is not a bug. The bars are in the table, beside what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parent / "build"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


@dataclass(frozen=True)
class Row:
    name: str
    ours: str
    peer: str
    ratio: str
    bar: str
    verdict: str


def verdict(holds: bool) -> str:
    return "reached" if holds else "**not reached**"


# --- A: recording ----------------------------------------------------------------------------------------------------


def build_floor() -> Path:
    """Compiles floor.c for the running interpreter; the folder to put on its path."""
    folder = BUILD / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"floor{sysconfig.get_config_var('EXT_SUFFIX')}"
    source = HERE / "floor.c"
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        include = sysconfig.get_paths()["include"]
        command = [*os.environ.get("CC", "cc").split(), "-O3", "-fPIC", "-shared", f"-I{include}", str(source)]
        subprocess.run([*command, "-o", str(target)], check=True)
    return folder


def timed_ways(*names: str) -> dict[str, dict[str, float]]:
    """The ways of tracing named, timed in one process of their own."""
    environment = {**os.environ, "PYTHONPATH": str(build_floor())}
    command = [sys.executable, str(HERE / "recording.py"), *names]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    measured: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return measured


def a1() -> Iterator[Row]:
    ways = timed_ways("python_decorator", "c_wrapper", "spanbox", "opentelemetry")
    ours = ways["spanbox"]["cpu_ns"]
    for peer, title, bar, at_least in (
        ("python_decorator", "a Python decorator that keeps nothing", 0.75, False),
        ("c_wrapper", "a C wrapper that keeps nothing", 1.6, False),
        ("opentelemetry", "OpenTelemetry SDK, spans thrown away", 60.0, True),
    ):
        yield a1_row(ours, ways[peer]["cpu_ns"], title, bar, at_least)
    # Langfuse starts threads that use the caller's CPU, so it is measured in a process of its own, with ours beside it.
    ways = timed_ways("spanbox", "langfuse")
    yield a1_row(ways["spanbox"]["cpu_ns"], ways["langfuse"]["cpu_ns"], "Langfuse, loopback sink", 500.0, True)


def a1_row(ours: float, peer: float, title: str, bar: float, at_least: bool) -> Row:
    ratio = peer / ours if at_least else ours / peer
    return Row(
        f"A1 `@observe` vs {title}",
        f"{ours:,.0f} ns",
        f"{peer:,.0f} ns",
        f"{ratio:.1f}x cheaper" if at_least else f"{ratio:.2f}x its cost",
        f"≥ {bar:.0f}x" if at_least else f"≤ {bar}x",
        verdict(ratio >= bar if at_least else ratio <= bar),
    )


# --- B: ingest -------------------------------------------------------------------------------------------------------


def in_fresh_folder(command: Callable[[str], list[str]]) -> dict[str, float]:
    """One measurement in a new folder on the disk of the build, where fsync is real."""
    folder = tempfile.mkdtemp(prefix="ingest-", dir=BUILD / "bench")
    try:
        done = subprocess.run(command(folder), stdout=subprocess.PIPE, check=True, text=True)
    finally:
        shutil.rmtree(folder)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def ingest(text: bool) -> Iterator[Row]:
    spans = "100000" if text else "500000"
    flag = ["--text"] if text else []
    program = BUILD / "release" / "bench_ingest"
    ours = in_fresh_folder(lambda folder: [str(program), *flag, spans, f"{folder}/store"])
    peer = in_fresh_folder(
        lambda folder: [sys.executable, str(HERE / "ingest_duckdb.py"), *flag, "20000" if text else "100000", folder]
    )
    kind = "2.5 KB of text a span" if text else "metrics only"
    rate_bar, cpu_bar = (100e3, None) if text else (500e3, 1.5)
    cpu_us = ours["cpu_ns_per_span"] / 1e3
    stored = ours["column_bytes_per_span"] + ours["text_bytes_per_span"]
    yield Row(
        f"B durable ingest, 1,000 spans a commit, {kind}: spans/s",
        f"{ours['spans_per_s']:,.0f}",
        f"DuckDB {peer['spans_per_s']:,.0f}",
        f"{ours['spans_per_s'] / peer['spans_per_s']:.1f}x",
        f"≥ {rate_bar:,.0f}",
        verdict(ours["spans_per_s"] >= rate_bar),
    )
    if cpu_bar is not None:
        yield Row(
            f"B the same: CPU us a span, {kind}",
            f"{cpu_us:.2f}",
            f"DuckDB {peer['cpu_us_per_span']:.2f}",
            f"{cpu_us / peer['cpu_us_per_span']:.2f}x",
            f"≤ {cpu_bar}",
            verdict(cpu_us <= cpu_bar),
        )
    yield Row(
        f"B the same: commit p99, {kind}",
        f"{ours['commit_p99_ms']:.1f} ms",
        f"DuckDB {peer['commit_p99_ms']:.1f} ms",
        f"{ours['commit_p99_ms'] / peer['commit_p99_ms']:.2f}x",
        "–",
        "–",
    )
    yield Row(
        f"B bytes a span after merging, {kind}",
        f"{stored:.0f} encoded, {ours['file_bytes_per_span']:.0f} in the file",
        f"DuckDB {peer['bytes_per_span']:.0f}",
        f"{stored / peer['bytes_per_span']:.2f}x",
        "≤ 800" if text else "≤ 40",
        verdict(stored <= (800 if text else 40)),
    )


# --- E: exit ---------------------------------------------------------------------------------------------------------


def exit_latency() -> Iterator[Row]:
    command = [sys.executable, str(HERE / "exit.py"), str(BUILD / "bench")]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    measured = json.loads(done.stdout.splitlines()[-1])
    added = measured["full_ms"] - measured["empty_ms"]
    yield Row(
        "E interpreter exit, 20,000 spans just recorded",
        f"{measured['full_ms']:.0f} ms ({measured['waiting_bytes'] / 1e6:.1f} MB in the ring)",
        f"no spans {measured['empty_ms']:.0f} ms",
        f"{added:+.0f} ms",
        "≤ 50 ms added",
        verdict(added <= 50),
    )


ROWS: dict[str, Callable[[], Iterator[Row]]] = {
    "A1": a1,
    "B metrics": lambda: ingest(text=False),
    "B text": lambda: ingest(text=True),
    "E exit": exit_latency,
}


def table(rows: list[Row]) -> str:
    lines = ["| row | spanbox | peer | ratio | bar | |", "|---|---|---|---|---|---|"]
    lines += [f"| {r.name} | {r.ours} | {r.peer} | {r.ratio} | {r.bar} | {r.verdict} |" for r in rows]
    return "\n".join(lines)


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name starts so")
    parser.add_argument("--no-write", action="store_true", help="leave benchmarks/README.md alone")
    options = parser.parse_args()
    (BUILD / "bench").mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name, run in ROWS.items():
        if name.startswith(options.only):
            print(f"measuring {name} ...", file=sys.stderr)
            rows += run()
    text = table(rows)
    print(text)
    if not options.no_write and not options.only:
        page = HERE / "README.md"
        head, _, rest = page.read_text().partition(BEGIN)
        tail = rest.partition(END)[2]
        page.write_text(f"{head}{BEGIN}\n{machine()}\n\n{text}\n{END}{tail}")


if __name__ == "__main__":
    main()
