"""`spanbox bench`: what recording, storing and asking cost on this machine."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

from spanbox import _bench, _core
from spanbox._paths import resolve_store
from spanbox._render import clean, format_count, format_duration, plural
from spanbox.cli._output import Output

_CALL = {
    "spanbox": ("@observe f(str, int) -> str", "CPU of the caller"),
    "off": ("the same after spanbox.off()", ""),
    "python_decorator": ("a Python decorator that keeps nothing", ""),
    "opentelemetry": ("OpenTelemetry SDK, spans thrown away", ""),
}


def run(out: Output, path: Path | None, *, json: bool, counts: _bench.Counts = _bench.Counts()) -> None:  # noqa: B008
    """Measures in a new folder at `path` (default: beside the store), removes it, and prints."""
    parent = path or Path(resolve_store()).parent
    folder = tempfile.mkdtemp(prefix="spanbox-bench-", dir=parent)
    try:
        with out.working("measuring") as say:
            found = _bench.measure(Path(folder), counts, tell=lambda what: say(f"measuring: {what}"))
    finally:
        _core.close()  # what records must end before its files go
        shutil.rmtree(folder, ignore_errors=True)
    report = {**_machine(parent), **found}
    if json:
        out.json(report)
    else:
        _print(out, report)


def _machine(path: Path) -> dict[str, Any]:
    return {
        "version": _core.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "path": str(path.resolve()),
    }


def _print(out: Output, report: dict[str, Any]) -> None:
    cores = plural(report["cores"] or 1, "core")
    out.title(f"spanbox {report['version']}, Python {report['python']}, {cores}, {report['system']}")
    out.line(f"stores in {clean(report['path'])}", "dim")
    burst = report["burst"]
    text_bytes, spans = format_count(burst["text_bytes_per_span"]), plural(burst["spans"], "span")
    sections = [
        ("one call, traced", _call_rows(report["call"])),
        ("starting", _start_rows(report["start"])),
        (f"a burst of {spans}, {text_bytes} bytes of text each", _burst_rows(burst)),
        ("asking them", [(what, _ms(ms), "") for what, ms in report["queries_ms"].items()]),
        (
            "a durable commit of one span",
            [("half are done in", _ms(report["commit"]["p50_ms"]), ""), ("99 %", _ms(report["commit"]["p99_ms"]), "")],
        ),
    ]
    for title, rows in sections:
        out.line()
        out.title(title)
        for what, figure, note in rows:
            out.line(f"  {what:<39}{figure:>15}  {note}".rstrip())


_Rows = list[tuple[str, str, str]]


def _call_rows(call: dict[str, _bench.Figures]) -> _Rows:
    ours = call["spanbox"]["cpu_ns"]
    rows = []
    for name, (what, note) in _CALL.items():
        if name in call:
            cost = call[name]["cpu_ns"]
            ratio = f"{cost / ours:,.1f}x as much" if name not in ("spanbox", "off") and ours > 0 else note
            rows.append((what, format_duration(max(0.0, cost)), ratio))
    return rows


def _start_rows(start: _bench.Figures) -> _Rows:
    return [
        ("import spanbox", _ms(start["import_ms"]), "more than bare Python"),
        ("the first span", _ms(start["first_span_ms"]), "makes its ring file"),
    ]


def _burst_rows(burst: _bench.Figures) -> _Rows:
    lost = plural(int(burst["lost_spans"]), "span") + " lost"
    return [
        ("recorded", f"{burst['recorded_per_s']:,.0f} spans/s", ""),
        ("stored on disk", f"{burst['stored_per_s']:,.0f} spans/s", lost),
        ("CPU of the whole process", f"{burst['process_cpu_us_per_span']:.1f} µs a span", ""),
        ("size in the store", f"{burst['bytes_per_span']:,.0f} bytes a span", ""),
    ]


def _ms(milliseconds: float) -> str:
    return format_duration(milliseconds * 1e6)
