"""What is new, once a second: a stream of server-sent events. The store is looked at once a second, read when it
changed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from spanbox.server.api._asked import DAY_NS, Asked
from spanbox.server.api._frame import ROOT, Json
from spanbox.server.api._status import strip

EVERY_S = 1.0
_RUNNING = 20


def tick(asked: Asked, since_ns: int, *, changed: bool) -> Json:
    """The state of things now; new are traces that began after `since_ns`."""
    now_ns = asked.now_ns
    of = (since_ns + 1, now_ns + DAY_NS)
    readable = asked.answers.readable
    new = readable(lambda: asked.spans(ROOT, of=of).count(), 0) if since_ns else 0
    newest = readable(lambda: _newest(asked), None)
    rows = asked.spans(ROOT, "status == running", of=(0, now_ns + DAY_NS), filtered=False)
    running = (
        rows.columns("trace_id", "span_id", "name", "start_ns").order_by("start_ns", descending=True).limit(_RUNNING)
    )
    return {
        "now_ns": str(time.time_ns()),
        "changed": changed,
        "new_traces": new,
        "newest_ns": None if newest is None else str(int(newest)),
        "running": readable(lambda: [_running(*row.values()) for row in running], []),
        "health": strip(asked),
    }


def _newest(asked: Asked) -> float | None:
    around = (asked.now_ns - DAY_NS, asked.now_ns + DAY_NS)
    [row] = asked.spans(of=around, filtered=False).by().agg(at="max(start_ns)")
    newest: float | None = row["at"]
    return newest


def _running(trace_id: str, span_id: str, name: str, start_ns: int) -> Json:
    return {"trace_id": trace_id, "span_id": span_id, "name": name, "start_ns": str(start_ns)}


async def events(
    ask_again: Callable[[], Asked], since_ns: int, gone: asyncio.Event, stopping: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """A tick at once and then whenever the store has changed, at most one a second; a comment while it has not."""
    known: Any = None
    while not gone.is_set() and not stopping():
        asked = await asyncio.to_thread(ask_again)
        if asked.generation != known:
            changed, known = known is not None, asked.generation
            answer = await asyncio.to_thread(tick, asked, since_ns, changed=changed)
            yield f"event: tick\ndata: {json.dumps(answer, separators=(',', ':'))}\n\n".encode()
        else:
            yield b": still here\n\n"
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(gone.wait(), EVERY_S)
