"""Results, sessions and costs as a notebook shows them: tables with bars and sparklines, at most fifty rows.

Thread rule: pure functions. All texts are escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spanbox._notebook_html import HTML_ROWS, block, facts, number, spark, table, text
from spanbox._render import format_cost, format_duration, format_time, one_line, plural
from spanbox._tables import format_value

if TYPE_CHECKING:
    from spanbox._sessions import Session, Sessions
    from spanbox._spans import Result, Spans

_SPARKS = 6  # groups with a line of their own
_TURN_TEXT = 600
_MOST_BUCKETS = 2_000


def result_html(result: Result) -> str:
    return block(rows_html(result, _shown(len(result), "row")) + sparks_html(result))


def spans_html(spans: Spans) -> str:
    caption, result = spans.overview(HTML_ROWS)
    return block(rows_html(result, "; ".join(caption)))


def rows_html(result: Result, caption: str) -> str:
    """The rows; durations, costs and shares beside a bar."""
    header, rows, right = result.cells(HTML_ROWS)
    bars = {
        at: result.column(name)[:HTML_ROWS]
        for at, name in enumerate(result.columns)
        if len(rows) > 1 and at in right and _has_length(result, name)
    }
    return table(caption, header, rows, right=right, bars=bars, notes=[result.basis] if result.basis else [])


def _has_length(result: Result, name: str) -> bool:
    if name in result.key_columns or name == "time":
        return False
    return result.unit(name) != "plain" or bool(result.key_columns)


def _shown(count: int, noun: str) -> str:
    return plural(count, noun) + (f", first {HTML_ROWS} shown" if count > HTML_ROWS else "")


def sparks_html(result: Result) -> str:
    """A line through the time for each figure of each of the largest groups."""
    if "time" not in result.key_columns:
        return ""
    names = [key for key in result.key_columns if key != "time"]
    figures = [name for name in result.columns if name not in result.key_columns]
    buckets = _buckets(result)
    if len(buckets) < 2:
        return ""
    groups: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for row in result:
        groups.setdefault(tuple(row[key] for key in names), {})[row["time"]] = row
    largest = sorted(groups.items(), key=lambda group: -len(group[1]))[:_SPARKS]
    lines = ""
    for key, rows in largest:
        cells = ""
        for name in figures:
            values = [rows[at][name] if at in rows else None for at in buckets]
            drawn = [float(v) if isinstance(v, (int, float)) and v == v else None for v in values]
            known = [v for v in drawn if v is not None]
            last = format_value(known[-1], result.unit(name)) if known else ""
            cells += f"<td>{spark(drawn, f'{name} over time, last {last}')} {number(last)}</td>"
        lines += f"<tr><td>{text(', '.join(map(str, key)) or 'all')}</td>{cells}</tr>"
    head = "".join(f"<th>{text(name)}, and its last</th>" for name in figures)
    return f'<table class="sb-t"><thead><tr><th>over time</th>{head}</tr></thead><tbody>{lines}</tbody></table>'


def _buckets(result: Result) -> list[int]:
    """The times of the rows, and those between them that no group has: a line breaks there."""
    found = sorted(set(result.column("time")))
    every = list(found[:1])
    for at in found[1:]:
        while at - every[-1] > 1.5 * result.every_ns and len(every) < _MOST_BUCKETS:
            every.append(every[-1] + result.every_ns)
        every.append(at)
    return every


def sessions_html(sessions: Sessions) -> str:
    header, cells, right = sessions.cells(HTML_ROWS)
    rows = list(sessions.limit(HTML_ROWS))
    bars: dict[int, Sequence[float | None]] = {}
    if len(rows) > 1:
        bars = {4: [row["duration_ns"] for row in rows], 6: [row["cost_usd"] for row in rows]}
    return block(table(_shown(len(sessions), "session"), header, cells, right=right, bars=bars, wrap={8}))


def session_html(session: Session) -> str:
    """A session as the conversation it was: what each turn got and gave."""
    head = f"<p><strong>session {text(session.id)}</strong></p>" + facts(
        [
            ("turns", f"{len(session):,}"),
            ("from first to last", format_duration(session.duration_ns)),
            ("cost", format_cost(session.cost_usd)),
            ("failed", f"{session.totals.errors:,}" if session.totals.errors else ""),
            ("users", ", ".join(session.users)),
        ]
    )
    turns = session.turns[:HTML_ROWS]
    status = {"ok": "", "error": "▲ error", "running": "◌ running", "interrupted": "⊠ interrupted"}
    rows = [
        [
            str(at),
            format_time(turn.start_ns),
            format_duration(turn.duration_ns),
            format_cost(turn.cost_usd),
            status.get(turn.status, turn.status),
            *("" if said is None else one_line(said, limit=_TURN_TEXT) for said in (turn.input, turn.output)),
        ]
        for at, turn in enumerate(turns, 1)
    ]
    bars: dict[int, Sequence[float | None]] = {}
    if len(turns) > 1:
        bars = {2: [turn.duration_ns for turn in turns], 3: [turn.cost_usd for turn in turns]}
    header = ["turn", "start", "took", "cost", "", "input", "output"]
    caption = "" if len(session) <= HTML_ROWS else _shown(len(session), "turn")
    return block(head + table(caption, header, rows, right={0, 2, 3}, bars=bars, wrap={5, 6}))


Cells = tuple[list[str], list[list[str]], set[int]]


def figures_html(caption: str, cells: Cells, notes: Sequence[str], bars: Mapping[int, Sequence[float | None]]) -> str:
    """A table of costs or the like: its last row may be a total, which is no part of `bars`."""
    header, rows, right = cells
    cut = {at: [*values, *[None] * (len(rows) - len(values))][:HTML_ROWS] for at, values in bars.items()}
    more = [f"{len(rows) - HTML_ROWS:,} more rows"] if len(rows) > HTML_ROWS else []
    shown = rows if len(rows) <= HTML_ROWS else rows[:HTML_ROWS]
    return table(caption, header, shown, right=right, bars=cut if len(rows) > 1 else {}, notes=[*more, *notes])
