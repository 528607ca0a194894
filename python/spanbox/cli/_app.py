"""The commands: what each takes, and which part answers. Errors become one line on standard error."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from spanbox import _core
from spanbox._box import Box
from spanbox._box import open as open_box
from spanbox._paths import resolve_store
from spanbox._render import clean, distinct_digits, format_cost, format_time, one_line, plural
from spanbox._report_figures import by_kind, by_model, recent_traces
from spanbox._sessions import SESSION_CUT
from spanbox.cli import _bridges, _money, _page, _upkeep
from spanbox.cli._examples import add_examples
from spanbox.cli._options import Filter, Json, Since, Store, Until, complete_trace
from spanbox.cli._output import Output, error_text

Trace = Annotated[str, typer.Argument(help="Id of a trace, or its first digits", autocompletion=complete_trace)]

app = typer.Typer(
    name="spanbox",
    help="Record, query and evaluate LLM traces locally.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _spanbox() -> None:
    """Record, query and evaluate LLM traces locally."""


def run() -> int:
    """Runs the command of sys.argv; the exit code."""
    out = Output()
    _build_only(sys.argv[1:])
    try:
        app(prog_name="spanbox")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except _core.FilterError as error:
        out.error(error_text(error))
        return 2
    except (_core.SpanboxError, ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader of the pipe has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        out.error(error_text(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _build_only(arguments: list[str]) -> None:
    """Reading what every command takes makes up most of the start: of the one that is asked only that is read, and of a
    list of commands what they do."""
    commands = app.registered_commands
    if asked := [each for each in commands if arguments and each.name == arguments[0]]:
        app.registered_commands = asked
    elif arguments in ([], ["--help"], ["-h"]) and "_SPANBOX_COMPLETE" not in os.environ:
        for each in commands:
            each.callback = _listed(each.callback)


def _listed(callback: Any) -> Any:
    def command() -> None: ...

    command.__doc__ = callback.__doc__
    return command


def _open(store: Path | None) -> Box:
    return open_box(store)


@app.command()
def demo(
    store: Store = None,
    requests: Annotated[int, typer.Option(help="How many customers to serve", min=1, max=10_000)] = 60,
) -> None:
    """Run a small support agent, record it, and show what was recorded."""
    from spanbox.cli import _demo

    _demo.run(Output(), Path(resolve_store(store)), requests=requests)


@app.command()
def ls(
    store: Store = None,
    since: Since = None,
    filter: Filter = "",
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many traces", min=1, max=1000)] = 20,
    sessions: Annotated[bool, typer.Option("--sessions", help="Sessions instead of traces")] = False,
    session: Annotated[
        str | None, typer.Option("--session", help="The turns of this session, with their input")
    ] = None,
    json: Json = False,
) -> None:
    """List recent traces, recent sessions, or the turns of a session."""
    from spanbox.cli import _summaries

    out, box = Output(), _open(store)
    if session is not None:
        turns = box.session(session)
        if json:
            out.json(turns.as_dict())
        else:
            out.tree(turns.lines(width=out.width))
        return
    if sessions:
        found = box.sessions(filter, since=since, limit=limit)
        if json:
            out.json(list(found))
        elif found:
            header, rows, right = found.cells(limit)
            out.table(header, rows, right=right, cut=SESSION_CUT)
        else:
            out.line(f"no sessions{' that match' if filter or since else ''} in {clean(str(box.path))}")
        return
    traces = recent_traces(box, filter, since, limit)
    if json:
        out.json([trace.as_dict() for trace in traces])
    elif traces:
        _summaries.print_traces(out, traces)
    else:
        out.line(f"no traces{' that match' if filter or since else ''} in {clean(str(box.path))}")


@app.command()
def show(
    id: Trace,
    store: Store = None,
    text: Annotated[bool, typer.Option("--text", help="Also what went in and came out of every span")] = False,
    json: Json = False,
) -> None:
    """Show one trace as a tree, and with --text its conversation."""
    from spanbox._trace import SHOWN_SPANS
    from spanbox.cli import _show

    out, box = Output(), _open(store)
    trace = box.trace(id) if json or text else box.trace(id, limit=SHOWN_SPANS, payloads=False)
    if json:
        out.json(_show.trace_json(trace))
        return
    out.tree(trace.lines(width=out.width))
    if text:
        _show.print_texts(out, trace)


@app.command()
def top(
    store: Store = None,
    filter: Filter = "",
    window: Annotated[str, typer.Option("--window", help="The time that is looked at")] = "5m",
    once: Annotated[bool, typer.Option("--once", help="One look, also on a terminal")] = False,
    json: Json = False,
) -> None:
    """Watch what runs now: latency, cost and failures by model, running spans, slowest traces. q ends it."""
    from spanbox._time import length_ns
    from spanbox.cli import _top

    _top.run(Output(), _open(store), filter, length_ns(window, what="--window"), once=once, json=json)


@app.command()
def report(
    filter: Annotated[str, typer.Argument(help='Only spans that match, such as: tenant == "acme"')] = "",
    out_file: Annotated[Path, typer.Option("--out", help="The HTML file to write")] = Path("report.html"),
    trace: Annotated[
        str | None, typer.Option("--trace", help="About this trace alone", autocompletion=complete_trace)
    ] = None,
    store: Store = None,
    since: Since = None,
    until: Until = None,
    title: Annotated[str, typer.Option("--title", help="Of the page")] = "",
) -> None:
    """Write one HTML file about a trace or a time, to read offline or to mail: no server, no script."""
    out, box = Output(), _open(store)
    with out.working("reading"):
        box.report(out_file, filter, trace=trace, since=since, until=until, title=title)
    out.line(f"written to {clean(str(out_file))}: open it in a browser")


@app.command()
def score(
    about: Annotated[
        str,
        typer.Argument(
            metavar="TRACE[/SPAN]", help="What is scored: ids, or their first digits", autocompletion=complete_trace
        ),
    ],
    name: Annotated[str, typer.Argument(help='Name of the score, such as "helpful"')],
    value: Annotated[str, typer.Argument(help="A number, true, false, or a label")],
    source: Annotated[str, typer.Option(help="rule, judge, human, feedback or experiment")] = "human",
    explanation: Annotated[str | None, typer.Option(help="Why")] = None,
    store: Store = None,
) -> None:
    """Store a score of a span, or of a whole trace."""
    box = _open(store)
    trace_part, _, span_part = about.partition("/")
    trace = box.trace(trace_part)
    found = {span.span_id for span in trace if span_part and span.span_id.startswith(span_part.lower())}
    if span_part and len(found) != 1:
        raise ValueError(
            f"{span_part!r} is the start of {plural(len(found), 'span')} of that trace: `show --json` has them"
        )
    box.score(
        name,
        _score_value(value),
        trace_id=trace.id,
        span_id=next(iter(found), None),
        source=source,
        explanation=explanation,
    )


def _score_value(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


@app.command()
def grep(
    text: Annotated[str, typer.Argument(help="What to search for in inputs, outputs, errors and attributes")],
    store: Store = None,
    since: Since = None,
    filter: Filter = "",
    regex: Annotated[bool, typer.Option("--regex", "-E", help="TEXT is a regular expression (RE2)")] = False,
    ignore_case: Annotated[bool, typer.Option("--ignore-case", "-i")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many to show", min=0, max=100_000)] = 20,
    json: Json = False,
) -> None:
    """Search the text of all spans. Exits with 1 when nothing matches."""
    out, box = Output(), _open(store)
    with out.working("searching"):
        result = box.grep(text, regex=regex, ignore_case=ignore_case, filter=filter, since=since, limit=limit)
    if json:
        out.json({"matched": result.matched, "hits": list(result)})
    else:
        digits = distinct_digits([hit["trace_id"] for hit in result])
        for hit in result:
            start, end = hit["match"]
            place = f"{hit['trace_id'][:digits]}  {clean(hit['span_name'])} {clean(hit['column'])}: "
            before, match, after = (
                clean(s) for s in (hit["snippet"][:start], hit["snippet"][start:end], hit["snippet"][end:])
            )
            out.match(place, before, match, after)
        more = f", {len(result)} shown" if result.matched > len(result) else ""
        out.line(f"{plural(result.matched, 'value matches', 'values match')}{more}", "dim")
    if not result.matched:
        raise typer.Exit(1)


@app.command()
def stats(store: Store = None, since: Since = None, filter: Filter = "", json: Json = False) -> None:
    """Latency, tokens, cost and failures, by model and by kind."""
    from spanbox.cli import _summaries

    out, box = Output(), _open(store)
    with out.working("reading"):
        models, kinds = by_model(box, filter, since), by_kind(box, filter, since)
    if json:
        out.json({"models": models, "kinds": list(kinds), "sampled_out": kinds.sampled_out})
        return
    count = sum(kinds.column("spans"))
    if not count:
        out.line(f"no spans{' that match' if filter or since else ''} in {clean(str(box.path))}")
        return
    costs = [row["cost_usd"] for row in models if row["cost_usd"] is not None]
    cost = f", {format_cost(sum(costs))}" if costs else ""
    stored = box.spans(filter, since=since).columns("start_ns").order_by("start_ns").limit(1)
    first = "".join(f" since {format_time(row['start'])}" for row in stored)  # none, when all were sampled out
    out.title(f"{plural(count, 'span')}{first}{cost}")
    for note in kinds.notes:
        out.line(note)
    if models:
        out.line()
        _summaries.print_models(out, models)
    out.line()
    _summaries.print_kinds(out, kinds)


_money.register(app)


@app.command()
def tail(
    store: Store = None,
    filter: Filter = "",
    count: Annotated[int, typer.Option("--count", "-n", help="How many of the last ones", min=0, max=10_000)] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with those that come, until Ctrl-C")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line")] = False,
) -> None:
    """Show the spans that ended last, a line each; with -f also those that come."""
    from spanbox.cli import _tail

    _tail.run(Output(), _open(store), filter, count, follow=follow, json=json)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over the table spans, as: select model, count(*) ...")],
    store: Store = None,
    since: Since = None,
    filter: Filter = "",
    json: Json = False,
) -> None:
    """Ask in SQL, by DuckDB (extra `sql`). It reads the store and nothing else."""
    out = Output()
    with out.working("asking"):
        result = _open(store).sql(query, filter, since=since)
    if json:
        out.json(list(result))
        return
    rows = [
        [clean(one_line(value, limit=1_000)) if value is not None else "" for value in row.values()] for row in result
    ]
    numbers = {
        at
        for at, name in enumerate(result.columns)
        if any(isinstance(value, (int, float)) for value in result.column(name))
    }
    out.table([clean(name) for name in result.columns], rows, right=numbers)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="The Parquet file to write")],
    store: Store = None,
    since: Since = None,
    filter: Filter = "",
) -> None:
    """Write spans to a Parquet file, for other programs. `spanbox import` reads it back."""
    if file.suffix != ".parquet":
        raise typer.BadParameter(f"{file.name!r} does not end with .parquet", param_hint="FILE")
    out, box = Output(), _open(store)
    with out.working("writing"):
        spans = box.to_parquet(file, filter, since=since)
    out.line(f"{plural(spans, 'span')} written to {clean(str(file))}")


_upkeep.register(app)
_page.add_commands(app)
_bridges.add_commands(app)
add_examples(app)
