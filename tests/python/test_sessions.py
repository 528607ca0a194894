"""Sessions: which traces they have, what these add up to, and how they look."""

from __future__ import annotations

from typing import Any

import pytest
from spanbox import Box, NotFoundError
from spanbox._render import text_width

MS = 1_000_000
START_NS = 1_700_000_000_000_000_000


def turn(number: int, session: str, user: str, **root: Any) -> list[dict[str, Any]]:
    """An agent that asks a model; only the root names the session. The agent repeats what the call reports."""
    start = START_NS + number * 60_000 * MS
    usage = {"input_tokens": 100 * number, "output_tokens": 10, "cost_usd": 0.25 * number}
    ids = {"trace_id": f"{number:032x}"}
    return [
        {
            **ids, "span_id": "a" * 16, "name": "answer", "kind": "agent", "start_ns": start, "duration_ns": 50 * MS,
            "session_id": session, "user_id": user, "input": f"question {number}",
            "output": {"text": f"reply {number}"}, **usage, **root,
        },
        {
            **ids, "span_id": "b" * 16, "parent_id": "a" * 16, "name": "chat", "kind": "llm", "start_ns": start + MS,
            "duration_ns": 20 * MS, **usage,
        },
    ]  # fmt: skip


@pytest.fixture
def chats(box: Box) -> Box:
    rows = [*turn(3, "s1", "ann", status="error"), *turn(1, "s1", "ann"), *turn(2, "s2", "bob"), *turn(4, "s1", "cem")]
    rows.append({"trace_id": "f" * 32, "span_id": "c" * 16, "name": "no session", "start_ns": START_NS})
    box._store.append(rows[:5])
    box._store.append(rows[5:])
    return box


def test_sessions_add_up_their_traces(chats: Box) -> None:
    first, second = chats.sessions()
    assert (first["session_id"], second["session_id"]) == ("s1", "s2")
    assert first == {
        "session_id": "s1", "start": START_NS + 60_000 * MS, "active": START_NS + 240_000 * MS,
        "duration_ns": 180_050 * MS, "turns": 3, "spans": 6, "model_calls": 3, "unpriced_calls": 0, "errors": 1,
        "cost_usd": 2.0, "input_tokens": 800, "cache_read_tokens": None, "cache_write_tokens": None,
        "output_tokens": 30, "users": ["ann", "cem"],
    }  # fmt: skip


def test_filters_and_orders_choose_sessions(chats: Box) -> None:
    def ids(*args: Any, **kwargs: Any) -> list[str]:
        return chats.sessions(*args, **kwargs).column("session_id")

    assert ids('user_id == "bob"') == ["s2"]
    assert ids(limit=1) == ["s1"]
    assert ids(order_by="cost_usd", descending=False) == ["s2", "s1"]
    assert ids(until=START_NS + 130_000 * MS, since=START_NS + 110_000 * MS) == ["s2"]
    assert ids('user_id == "nobody"') == []
    assert chats.sessions().order_by("turns").limit(1).column("session_id") == ["s2"]
    with pytest.raises(ValueError, match="no column"):
        ids(order_by="nothing")
    with pytest.raises(ValueError, match="negative"):
        ids(limit=-1)


def test_session_has_its_turns(chats: Box) -> None:
    session = chats.session("s1")
    assert [(t.input, t.output) for t in session] == [(f"question {n}", {"text": f"reply {n}"}) for n in (1, 3, 4)]
    assert [t.cost_usd for t in session] == [0.25, 0.75, 1.0]
    assert session.cost_usd == sum(t.totals.cost_usd or 0 for t in session) == 2.0
    assert session.users == ("ann", "cem")
    assert [t.trace_id for t in session] == [f"{n:032x}" for n in (1, 3, 4)]
    assert [t.totals for t in session] == [chats.trace(t.trace_id).totals for t in session]
    assert session.duration_ns == 180_050 * MS
    with pytest.raises(NotFoundError, match="no session"):
        chats.session("s3")


def test_sessions_agree_with_their_rows(chats: Box) -> None:
    for row in chats.sessions():
        session = chats.session(row["session_id"])
        assert (row["turns"], row["start"], row["duration_ns"]) == (len(session), session.start_ns, session.duration_ns)
        totals = session.totals.as_dict()
        assert {key: row[key] for key in totals if key in row} == {key: v for key, v in totals.items() if key in row}


def test_they_print_as_tables(chats: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert repr(chats.sessions()) == "<Sessions 2 sessions>"
    header, row, _ = str(chats.sessions()).splitlines()
    assert header.split() == ["session", "active", "turns", "spans", "took", "tokens", "cost", "errors", "users"]
    assert row.split()[0] == "s1"
    assert row.split()[2:] == ["3", "6", "3", "m", "00", "s", "830", "$2.00", "1", "ann,", "cem"]
    assert repr(chats.session("s1")) == "<Session s1 3 turns  3 m 00 s  $2.00  1 error  ann  cem>"
    lines = str(chats.session("s1")).splitlines()
    assert lines[0] == "session s1  3 turns  3 m 00 s  $2.00  1 error  ann  cem"
    assert lines[1].split() == ["turn", "start", "took", "tokens", "cost", "status", "input", "output"]
    assert "question 1" in lines[2]
    assert "✗ error" in lines[3]
    assert max(map(text_width, lines)) <= 80
    assert repr(chats.session("s1")[0]) == "<Turn answer 00000000… 50.0 ms ok>"


def test_hostile_text_is_shown_not_executed(box: Box) -> None:
    hostile = "\x1b]0;owned\x07\u202e\n<b>x</b>"
    box._store.append(turn(1, hostile, hostile, input=hostile, output=hostile))
    for text in (str(box.sessions()), str(box.session(hostile)), repr(box.session(hostile))):
        assert all(character.isprintable() for line in text.splitlines() for character in line)
    assert "<b>" not in box.sessions()._repr_html_()
    assert box.sessions().column("users") == [[hostile]]


def test_store_without_sessions_has_none(box: Box) -> None:
    assert len(box.sessions()) == 0
    assert str(box.sessions()).split()[0] == "session"
