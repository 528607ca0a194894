"""Sessions: traces of one session_id in a row, with totals; and one session with its turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from spanbox import _core
from spanbox._render import (
    MISSING,
    clean,
    duration_column,
    fit,
    format_cost,
    format_count,
    format_duration,
    one_line,
    plural,
    short_count,
    short_time,
    terminal_width,
    text_table,
)
from spanbox._spans import Result
from spanbox._trace import Totals, TraceSpan

SHOWN_ROWS = 50
_TEXT_CELL = 200  # characters of an input or output, before the table cuts it to the terminal
SESSION_HEADER = ["session", "active", "turns", "spans", "took", "tokens", "cost", "errors", "users"]
SESSION_RIGHT = {2, 3, 4, 5, 6, 7}
SESSION_CUT = {0, 8}  # columns that give way to the width
_TURN_HEADER = ["turn", "start", "took", "tokens", "cost", "status", "input", "output"]
_TURN_RIGHT = {0, 2, 3, 4}


def _tokens(incoming: int | None, outgoing: int | None) -> str:
    return MISSING if incoming is None and outgoing is None else short_count((incoming or 0) + (outgoing or 0))


class Sessions(Result):
    """A row for each session: session_id, start, active, duration_ns, turns, spans, errors, cost_usd, tokens, users and
    more. Iterate it, print it, or hand it to a data frame library."""

    def __repr__(self) -> str:
        return f"<Sessions {plural(len(self), 'session')}>"

    def __str__(self) -> str:
        header, rows, right = self.cells(SHOWN_ROWS)
        lines = text_table(header, rows, right=right, width=terminal_width(), cut=SESSION_CUT)
        more = len(self) - SHOWN_ROWS
        return "\n".join([*lines, f"… {plural(more, 'more session')}"] if more > 0 else lines)

    def _repr_html_(self) -> str:
        from spanbox._notebook_tables import sessions_html

        return sessions_html(self)

    def cells(self, limit: int) -> tuple[list[str], list[list[str]], set[int]]:
        shown = list(self.limit(limit))
        took = duration_column([row["duration_ns"] for row in shown])
        rows = [
            [
                one_line(row["session_id"]),
                short_time(row["active"]),
                format_count(row["turns"]),
                format_count(row["spans"]),
                took[at],
                _tokens(row["input_tokens"], row["output_tokens"]),
                format_cost(row["cost_usd"]),
                format_count(row["errors"]),
                clean(", ".join(row["users"])),
            ]
            for at, row in enumerate(shown)
        ]
        return SESSION_HEADER, rows, SESSION_RIGHT


@dataclass(frozen=True, slots=True, repr=False)
class Turn:
    """One trace of a session."""

    trace_id: str
    name: str
    status: str
    start_ns: int
    duration_ns: int | None
    totals: Totals
    root: TraceSpan

    @property
    def input(self) -> Any:
        """Of the root."""
        return self.root.input

    @property
    def output(self) -> Any:
        """Of the root."""
        return self.root.output

    @property
    def cost_usd(self) -> float | None:
        return self.totals.cost_usd

    def as_dict(self) -> dict[str, Any]:
        fields = ("trace_id", "name", "status", "start_ns", "duration_ns", "input", "output")
        return {**{name: getattr(self, name) for name in fields}, "totals": self.totals.as_dict()}

    def __repr__(self) -> str:
        return f"<Turn {clean(self.name)} {self.trace_id[:8]}… {format_duration(self.duration_ns)} {self.status}>"


class Session(Sequence[Turn]):
    """The turns of one session, by their start."""

    def __init__(self, session: _core.SessionDict) -> None:
        self.id = session["session_id"]
        self.users = tuple(session["users"])
        self.totals = Totals(*session["totals"])
        self.turns = tuple(
            Turn(
                trace_id=trace["trace_id"],
                name=trace["name"],
                status=trace["status"],
                start_ns=trace["start_ns"],
                duration_ns=trace["duration_ns"],
                totals=Totals(*trace["totals"]),
                root=TraceSpan(root, None),
            )
            for trace, root in session["turns"]
        )

    @overload
    def __getitem__(self, index: int) -> Turn: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Turn]: ...
    def __getitem__(self, index: int | slice) -> Turn | Sequence[Turn]:
        return self.turns[index]

    def __len__(self) -> int:
        return len(self.turns)

    def __iter__(self) -> Iterator[Turn]:
        return iter(self.turns)

    @property
    def start_ns(self) -> int:
        return self.turns[0].start_ns

    @property
    def duration_ns(self) -> int | None:
        """From the first start to the last end that is known."""
        ends = [turn.start_ns + turn.duration_ns for turn in self.turns if turn.duration_ns is not None]
        return max(ends) - self.start_ns if ends else None

    @property
    def cost_usd(self) -> float | None:
        return self.totals.cost_usd

    def as_dict(self) -> dict[str, Any]:
        turns = [turn.as_dict() for turn in self.turns]
        return {"session_id": self.id, "users": list(self.users), "totals": self.totals.as_dict(), "turns": turns}

    def __repr__(self) -> str:
        return f"<Session {clean(self.id)} {'  '.join(self._facts())}>"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, *, width: int | None = None) -> list[str]:
        """A summary and a line for each turn, cut at `width` (the terminal's)."""
        shown = self.turns[:SHOWN_ROWS]
        took = duration_column([turn.duration_ns for turn in shown])
        rows = [_turn_cells(at + 1, turn, took[at]) for at, turn in enumerate(shown)]
        table = text_table(_TURN_HEADER, rows, right=_TURN_RIGHT, width=width or terminal_width(), cut={5, 6, 7})
        summary = f"session {clean(self.id)}  {'  '.join(self._facts())}"
        lines = [fit(summary, width or terminal_width()), *table]
        more = len(self) - len(rows)
        return [*lines, f"… {plural(more, 'more turn')}"] if more > 0 else lines

    def _repr_html_(self) -> str:
        from spanbox._notebook_tables import session_html

        return session_html(self)

    def _facts(self) -> list[str]:
        facts = [plural(len(self), "turn"), format_duration(self.duration_ns), format_cost(self.cost_usd)]
        if self.totals.errors:
            facts.append(plural(self.totals.errors, "error"))
        return [*facts, *map(clean, self.users)]


def _turn_cells(number: int, turn: Turn, took: str) -> list[str]:
    status = turn.status if turn.status == "ok" else f"✗ {turn.status}"
    if turn.totals.errors and turn.status == "ok":
        status = plural(turn.totals.errors, "error")
    return [
        str(number),
        short_time(turn.start_ns),
        took,
        _tokens(turn.totals.input_tokens, turn.totals.output_tokens),
        format_cost(turn.cost_usd),
        status,
        *("" if value is None else one_line(value, limit=_TEXT_CELL) for value in (turn.input, turn.output)),
    ]
