"""Rows of part B that bench_ingest measures, beside DuckDB."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from table import BUILD, HERE, WORK, Row, measured, verdict


def in_fresh_folder(command: Callable[[str], list[str]]) -> Any:
    folder = tempfile.mkdtemp(prefix="ingest-", dir=WORK)
    try:
        return measured(command(folder))
    finally:
        shutil.rmtree(folder)


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
    stored = ours["column_bytes_per_span"] + ours["text_bytes_per_span"] + ours["filter_bytes_per_span"]
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
        f"B bytes a span once settled, search filter included, {kind}",
        f"{stored:.0f} encoded, {ours['file_bytes_per_span']:.0f} in the file",
        f"DuckDB {peer['bytes_per_span']:.0f}",
        f"{stored / peer['bytes_per_span']:.2f}x",
        "≤ 800" if text else "≤ 40",
        verdict(stored <= (800 if text else 40)),
    )


def receive() -> Iterator[Row]:
    figures = in_fresh_folder(lambda _: [sys.executable, str(HERE / "receive.py"), "24", "3"])
    size = f"512 spans of {figures['bytes_per_span']:,.0f} bytes a request"
    for kind in ("plain", "gzip"):
        ours, peer = figures[f"{kind} spanbox"], figures[f"{kind} python"]
        packed = ", gzip" if kind == "gzip" else ""
        yield Row(
            f"B OTLP received over loopback and durable, {size}{packed}: spans/s",
            f"{ours['spans_per_s']:,.0f}",
            f"Python's protobuf and SQLite {peer['spans_per_s']:,.0f}",
            f"{ours['spans_per_s'] / peer['spans_per_s']:.1f}x",
            "–",
            "–",
        )
        yield Row(
            f"B the same: CPU us a span of the receiver{packed}",
            f"{ours['cpu_us']:.1f}",
            f"Python's protobuf and SQLite {peer['cpu_us']:.1f}",
            f"{ours['cpu_us'] / peer['cpu_us']:.2f}x",
            "–",
            "–",
        )
