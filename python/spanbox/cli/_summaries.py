"""Tables the commands share: recent traces, figures by model and by kind."""

from __future__ import annotations

from spanbox._render import (
    MISSING,
    clean,
    distinct_digits,
    duration_column,
    format_cost,
    format_count,
    format_share,
    plural,
    short_count,
    short_time,
)
from spanbox._report_figures import Row, TraceSummary
from spanbox._spans import Result
from spanbox.cli._output import Output


def print_traces(out: Output, traces: list[TraceSummary]) -> None:
    rows = []
    digits = distinct_digits([trace.trace_id for trace in traces])
    took = duration_column([trace.duration_ns for trace in traces])
    for at, trace in enumerate(traces):
        status = trace.status if trace.status == "ok" else f"✗ {trace.status}"
        if trace.errors and trace.status == "ok":
            status = plural(trace.errors, "error")
        rows.append(
            [
                trace.trace_id[:digits],
                short_time(trace.start_ns),
                clean(trace.name),
                format_count(trace.spans),
                took[at],
                short_count(trace.tokens),
                format_cost(trace.cost_usd),
                status,
            ]
        )
    out.table(
        ["trace", "start", "name", "spans", "took", "tokens", "cost", "status"], rows, right={3, 4, 5, 6}, cut={2, 7}
    )


def print_models(out: Output, figures: list[Row]) -> None:
    rows = []
    columns = [duration_column([row[key] for row in figures]) for key in ("ttft_p50", "ttft_p99")]
    for at, row in enumerate(figures):
        told = row["input_tokens"] or row["output_tokens"]
        tokens = f"{short_count(row['input_tokens'])}→{short_count(row['output_tokens'])}" if told else MISSING
        times = [column[at] for column in columns]
        name = clean(row["model"] or "(no model)")
        cost, failed = format_cost(row["cost_usd"]), format_share(row["failed"])
        rows.append([name, format_count(row["calls"]), *times, tokens, cost, failed])
    header = ["model", "calls", "p50 ttft", "p99 ttft", "tokens in→out", "cost", "failed"]
    out.table(header, rows, right=set(range(1, 7)), cut={0})


def print_kinds(out: Output, result: Result) -> None:
    found = sorted(result, key=lambda row: -row["spans"])
    columns = [duration_column([row[key] for row in found]) for key in ("took_p50", "took_p99")]
    rows = [
        [clean(row["kind"]), format_count(row["spans"]), columns[0][at], columns[1][at], format_share(row["failed"])]
        for at, row in enumerate(found)
    ]
    out.table(["kind", "spans", "p50 took", "p99 took", "failed"], rows, right={1, 2, 3, 4})
