"""Sessions, and one session as a conversation."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

from spanbox import _core
from spanbox._render import plural
from spanbox._sessions import Session
from spanbox.server.api._asked import Asked
from spanbox.server.api._frame import Colors, Json, panel
from spanbox.server.api._messages import conversation
from spanbox.server.api._problem import Problem
from spanbox.server.api._tree import score_json

PAGE = 100
_SORTS = ("active", "start", "turns", "spans", "errors", "cost_usd", "duration_ns", "input_tokens", "output_tokens")
_TURNS = 500


def sessions(asked: Asked, colors: Colors) -> Json:
    began_s = time.perf_counter()
    offset = asked.number("offset", 0, least=0, most=100_000)
    limit = asked.number("limit", PAGE, least=1, most=PAGE)
    sort = asked.param("sort", "-active")
    name = sort.removeprefix("-")
    if name not in _SORTS:
        raise Problem("bad_request", f"sort must be one of {', '.join(_SORTS)}, with a - before it for descending")
    found = asked.box.sessions(
        asked.q,
        since=asked.from_ns,
        until=asked.to_ns,
        limit=offset + limit + 1,
        order_by=name,
        descending=sort.startswith("-"),
    )
    rows = list(found)[offset:]
    return {
        **panel(
            asked,
            began_s,
            state="ok" if rows or offset else "empty",
            text="" if rows or offset else "No span in this range names a session.",
            basis=["sessions with a span that matches, figures of the whole session, exact"],
        ),
        "rows": [_row(row) for row in rows[:limit]],
        "more": len(rows) > limit,
    }


def _row(row: dict[str, Any]) -> Json:
    figures = ("duration_ns", "turns", "spans", "errors", "cost_usd", "input_tokens", "output_tokens")
    return {
        "session_id": row["session_id"],
        "users": list(row["users"]),
        "start_ns": str(row["start"]),
        "active_ns": str(row["active"]),
        **{name: row[name] for name in figures},
    }


def session(asked: Asked, colors: Colors, session_id: str) -> Json:
    try:
        found = asked.answers.kept(asked.generation, ("session", session_id), lambda: asked.box.session(session_id))
    except _core.NotFoundError:
        raise Problem("not_found", "no span names this session") from None
    scores = _scores(asked, found)
    return {
        "session_id": found.id,
        "users": list(found.users),
        "start_ns": str(found.start_ns),
        "duration_ns": found.duration_ns,
        "totals": found.totals.as_dict(),
        "turns": [
            {
                "trace_id": turn.trace_id,
                "name": turn.name,
                "status": turn.status,
                "start_ns": str(turn.start_ns),
                "duration_ns": turn.duration_ns,
                "totals": turn.totals.as_dict(),
                "scores": scores.get(turn.trace_id, []),
                "messages": conversation(turn.input, turn.output),
            }
            for turn in found.turns[:_TURNS]
        ],
        "basis": f"{plural(len(found), 'turn')}, a trace each; input and output of their roots",
        "basis_full": "A trace belongs to the session that its earliest span with a session_id names. "
        f"The first {_TURNS} turns "
        "are shown.",
    }


def _scores(asked: Asked, found: Session) -> dict[str, list[Json]]:
    """Of the whole traces, the latest of each name."""
    store = asked.box._fresh_store()
    latest: dict[str, dict[str, Json]] = defaultdict(dict)
    for turn in found.turns[:_TURNS]:
        for score in store.trace_scores(turn.trace_id):
            if score.get("span_id") is None:
                latest[turn.trace_id][score["name"]] = score_json(score)
    return {trace_id: list(names.values()) for trace_id, names in latest.items()}
