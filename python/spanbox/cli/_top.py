"""`spanbox top`: what the store's programs do right now, once a second, until q or Ctrl-C."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from spanbox._box import Box
from spanbox._notebook_trace import KIND_TAGS
from spanbox._render import (
    clean,
    duration_column,
    fit,
    format_bytes,
    format_cost,
    format_count,
    format_duration,
    format_share,
    plural,
    short_count,
    short_time,
    significant,
    text_table,
)
from spanbox._report_figures import Row, TraceSummary, by_model, slowest_traces
from spanbox.cli._output import Output

_REFRESH_S = 1.0
_QUIT = frozenset(b"qQ\x03")
_RUNNING, _SLOWEST, _MODELS = 5, 8, 6
_RUNNING_COLUMNS = ("trace_id", "name", "kind", "model", "start_ns")


@dataclass(frozen=True, slots=True)
class Moment:
    """What one look at the store found."""

    at_ns: int
    window_ns: int
    path: str
    spans: int  # that began in the window
    stored: int
    file_bytes: int
    running: int
    processes: int
    dropped: int
    models: list[Row] = field(default_factory=list)
    oldest: list[Row] = field(default_factory=list)  # running spans
    slowest: list[TraceSummary] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        names = ("at_ns", "window_ns", "path", "spans", "stored", "file_bytes", "running", "processes", "dropped")
        return {
            **{name: getattr(self, name) for name in names},
            "models": self.models,
            "oldest_running": self.oldest,
            "slowest": [trace.as_dict() for trace in self.slowest],
        }


def look(box: Box, filter: str, window_ns: int) -> Moment:
    now = time.time_ns()
    since = now - window_ns
    info, processes = box.info(), box.processes()
    running = box.spans(f"({filter}) and status == running" if filter.strip() else "status == running")
    return Moment(
        at_ns=now,
        window_ns=window_ns,
        path=str(box.path),
        spans=box.spans(filter, since=since).count(),
        stored=info["spans"],
        file_bytes=info["file_bytes"],
        running=running.count(),
        processes=len(processes),
        dropped=sum(int(str(process.get("dropped_spans", 0))) for process in processes),
        models=by_model(box, filter, since),
        oldest=list(running.columns(*_RUNNING_COLUMNS).order_by("start_ns").limit(_RUNNING)),
        slowest=slowest_traces(box, filter, since, None, _SLOWEST),
    )


# --- one frame -------------------------------------------------------------------------------------------------------

Line = tuple[str, str]  # text, style


def frame(seen: Moment, width: int, height: int) -> list[Line]:
    """At most `height` lines of `width` cells."""
    lines: list[Line] = [(f"last {format_duration(seen.window_ns)} of {clean(seen.path)}", "bold"), _health(seen)]
    lines += [("", ""), *_models(seen, width), ("", ""), *_running(seen, width), ("", ""), *_slowest(seen, width)]
    return [(fit(text, width), style) for text, style in lines[:height]]


def _health(seen: Moment) -> Line:
    per_s = seen.spans / (seen.window_ns / 1e9)
    worst = f"▲ {plural(seen.dropped, 'span')} dropped" if seen.dropped else ""
    facts = [
        worst,
        plural(seen.processes, "process", "processes") + " recording",
        f"{significant(per_s)} spans/s",
        f"{seen.running:,} running",
        f"store {short_count(seen.stored)} spans, {format_bytes(seen.file_bytes)}",
    ]
    return " · ".join(filter(None, facts)), "red" if worst else ""


def _table(lines: list[str], styles: list[str]) -> list[Line]:
    return [(lines[0], "dim"), *zip(lines[1:], styles, strict=True)]


def _models(seen: Moment, width: int) -> list[Line]:
    if not seen.models:
        return [("no model calls in this time", "dim")]
    shown = seen.models[:_MODELS]
    keys = ("ttft_p50", "ttft_p99", "tpot_p50", "tpot_p99")
    columns = [duration_column([row[key] for row in shown]) for key in keys]
    rows = [
        [
            clean(row["model"] or "(no model)"), format_count(row["calls"]), *(column[at] for column in columns),
            format_share(row["failed"]), format_cost(row["cost_usd"]),
        ]
        for at, row in enumerate(shown)
    ]  # fmt: skip
    header = ["model", "calls", "TTFT p50", "p99", "TPOT p50", "p99", "failed", "cost"]
    lines = text_table(header, rows, right=set(range(1, 8)), width=width, cut={0})
    more = len(seen.models) - len(shown)
    rest: list[Line] = [(f"… {plural(more, 'more model')}", "dim")] if more else []
    return [*_table(lines, ["red" if row["failed"] else "" for row in shown]), *rest]


def _running(seen: Moment, width: int) -> list[Line]:
    if not seen.oldest:
        return [("nothing is running", "dim")]
    ages = duration_column([seen.at_ns - row["start"] for row in seen.oldest])
    rows = [
        [row["trace_id"][:12], KIND_TAGS.get(row["kind"], "FN"), clean(row["name"]), clean(row["model"] or ""), age]
        for row, age in zip(seen.oldest, ages, strict=True)
    ]
    header = [f"running: {seen.running:,}", "kind", "span", "model", "for"]
    return _table(text_table(header, rows, right={4}, width=width, cut={2, 3}), [""] * len(rows))


def _slowest(seen: Moment, width: int) -> list[Line]:
    if not seen.slowest:
        return [("no trace has ended in this time", "dim")]
    took = duration_column([trace.duration_ns for trace in seen.slowest])
    rows = [
        [
            trace.trace_id[:12], short_time(trace.start_ns), clean(trace.name), took[at], format_count(trace.spans),
            format_cost(trace.cost_usd), "▲" if trace.errors or trace.status == "error" else "",
        ]
        for at, trace in enumerate(seen.slowest)
    ]  # fmt: skip
    header = ["slowest", "start", "trace", "took", "spans", "cost", ""]
    lines = text_table(header, rows, right={3, 4, 5}, width=width, cut={2})
    return _table(lines, ["red" if row[-1] else "" for row in rows])


# --- the loop --------------------------------------------------------------------------------------------------------


def run(out: Output, box: Box, filter: str, window_ns: int, *, once: bool, json: bool) -> None:
    """One frame where nobody watches; else a new one each second until q or Ctrl-C."""
    if json:
        out.json(look(box, filter, window_ns).as_dict())
        return
    if once or not out.is_terminal or not sys.stdin.isatty():
        for text, style in frame(look(box, filter, window_ns), out.width, 10_000):
            out.line(text, style)
        return
    from rich.live import Live
    from rich.text import Text

    console = out.console()
    with _keys() as quit_within, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            lines = frame(look(box, filter, window_ns), console.width, console.height - 1)
            lines += [("", "")] * (console.height - 1 - len(lines))
            shown = Text("\n").join(Text(text, style) for text, style in [*lines, ("q quits", "dim")])
            live.update(shown, refresh=True)
            if quit_within(_REFRESH_S):
                return


@contextmanager
def _keys() -> Iterator[Any]:
    """Gives a function that waits so many seconds for q. Keys are not shown, and are as before afterwards."""
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)

    def quit_within(timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            if not select.select([handle], [], [], left)[0]:
                return False
            pressed = os.read(handle, 64)
            if not pressed or set(pressed) & _QUIT:
                return True
        return False

    tty.setcbreak(handle)
    try:
        yield quit_within
    except KeyboardInterrupt:
        return
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
