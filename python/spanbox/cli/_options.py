"""Options that many commands have, and what a shell completes in them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Completions = list[tuple[str, str]]
_TRACES = 30


def complete_trace(context: typer.Context, incomplete: str) -> Completions:
    """Ids of recent traces, with what they are."""
    from spanbox import _core
    from spanbox._box import open as open_box
    from spanbox._render import clean, format_duration, short_time
    from spanbox._report_figures import recent_traces

    try:
        box = open_box(context.params.get("store"))
        traces = recent_traces(box, "", None, _TRACES)
    except (_core.SpanboxError, OSError):
        return []
    return [
        (trace.trace_id, f"{short_time(trace.start_ns)} {clean(trace.name)} {format_duration(trace.duration_ns)}")
        for trace in traces
        if trace.trace_id.startswith(incomplete)
    ]


def complete_column(incomplete: str) -> Completions:
    """Names of columns. Attributes are columns too, but only the store knows them."""
    import spanbox

    return [
        (name, description)
        for column, alias, _, description in spanbox.columns()
        for name in (column, alias)
        if name and name.startswith(incomplete)
    ]


Store = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="The store's folder [default: $SPANBOX_DIR, else the nearest .spanbox]",
        file_okay=False,
        is_eager=True,  # its value is known when another argument is completed
    ),
]
Since = Annotated[str | None, typer.Option("--since", help="How long back (15m, 24h, 7d) or from when (2026-11-21)")]
Until = Annotated[str | None, typer.Option("--until", help="Up to when, as --since")]
Filter = Annotated[str, typer.Option("--filter", help='Only spans that match, such as: model == "gpt-5" and ttft > 2s')]
Json = Annotated[bool, typer.Option("--json", help="Print JSON")]
By = Annotated[
    list[str] | None,
    typer.Option("--by", help="Column, repeatable [default: model]", autocompletion=complete_column),
]
