"""Sends a store's spans and scores to several sinks at once, each at its own pace: the store is the queue.

What a sink has got is a feed of the store. A batch is many small segments, or a part of a large one. Small ones are
held first: a second feed marks them, so that they are merged with each other only, and what was sent can be told from
what has come since. So a batch is sent twice only when the process dies between the sink's answer and the commit
behind it.

Thread rule: a Forwarder is started and stopped by one thread; each sink has a thread of its own. Of several processes
one serves a sink, the others wait.
Invariants:
1. The feed of a sink takes a span when the sink has answered for it, or refused it for good, which is counted.
2. A sink that does not answer keeps no other waiting, and takes no memory beyond one batch.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spanbox import _core
from spanbox.export._otlp_http import Connection, OtlpSink, Reply
from spanbox.export._scores import Row, encode_logs, rows_of

if TYPE_CHECKING:
    from types import TracebackType

    from spanbox._box import Box

__all__ = ["Forwarder", "Report"]

_log = logging.getLogger("spanbox")

_RETRIED = {0, 429, 502, 503, 504}  # as the specification says; 0: no answer
_MISCONFIGURED = {301, 302, 303, 307, 308, 401, 403, 404, 405, 407}  # the same spans will do when that is mended
_NO_LOGS = {404, 405, 415, 501}
_OTHER_TRIES = 10
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 300.0


@dataclass(frozen=True, slots=True)
class Report:
    """How far a sink is. `waiting` counts all spans behind, also those that its filter will leave out."""

    sink: str
    sent: int = 0
    refused: int = 0
    waiting: int = 0
    sent_scores: int = 0
    refused_scores: int = 0
    last_error: str = ""


class Forwarder:
    """Sends what `box` holds, and what comes, to `sinks`. send() once, or start() and stop(), or `with`."""

    def __init__(self, box: Box, sinks: Sequence[OtlpSink], *, every_s: float = 5.0) -> None:
        names = [sink.name for sink in sinks]
        if len(set(names)) < len(names):
            raise ValueError(f"two sinks have the same name: {sorted(names)}")
        self._box = box
        self._every_s = every_s
        self._senders = [_Sender(box, sink) for sink in sinks]
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def send(self) -> list[Report]:
        """Sends what there is; a sink that fails is tried again by the next call."""
        threads = [threading.Thread(target=sender.drain, args=(None, 0.0)) for sender in self._senders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.reports()

    def start(self) -> None:
        """Sends from now on, on a thread a sink."""
        self._stop.clear()
        self._threads = [
            threading.Thread(
                target=sender.drain, args=(self._stop, self._every_s), name=f"spanbox-{sender.sink.name}", daemon=True
            )
            for sender in self._senders
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, *, timeout_s: float = 5.0) -> None:
        """Ends after the batch under way. What is not sent waits in the store."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout_s)
        self._threads = []

    def reports(self) -> list[Report]:
        return [sender.report() for sender in self._senders]

    def __enter__(self) -> Forwarder:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()


@dataclass(frozen=True, slots=True)
class _Batch:
    """Some segments as a whole, or rows of one: of spans, or of scores."""

    rows: _core.Table
    scores: list[Row] | None = None  # those to be sent; None: these are spans
    end_row: int = 0  # of one that is sent in parts: how far this batch goes; 0: all

    @property
    def count(self) -> int:
        return self.rows.rows if self.scores is None else len(self.scores)


class _Sender:
    """The work of one sink."""

    def __init__(self, box: Box, sink: OtlpSink) -> None:
        self.sink = sink
        self._box = box
        self._feed = f"sink {sink.name}"
        self._hold = f"hold {sink.name}"
        self._batch_spans = sink.batch_spans
        self._tries = 0
        self._connection = Connection(sink)
        self._error = ""

    def report(self) -> Report:
        feed = self._box._store.feed(self._feed)
        state = json.loads(feed["state"] or b"{}")
        taking = next((of for id, _, of in feed["waiting"] if id == feed["taking"]), "")
        waiting = sum(rows for _, rows, of in feed["waiting"] if of == "spans")
        if taking == "spans":
            waiting -= feed["taken_rows"]
        told = {name: state.get(name, 0) for name in ("sent", "refused", "sent_scores", "refused_scores")}
        return Report(self.sink.name, waiting=waiting, last_error=self._error, **told)

    def drain(self, stop: threading.Event | None, every_s: float) -> None:
        """Sends until nothing waits, and then again every so often, or until a try fails when there is no `stop`."""
        while stop is None or not stop.is_set():
            wait_s: float | None = every_s
            try:
                with _Turn(self._box, self.sink.name) as mine:
                    if mine:
                        wait_s = self._drain_once(stop)
                    else:
                        self._error = "another process serves this sink"
            except (_core.SpanboxError, OSError) as error:
                self._error = str(error)
                _log.warning("sink %s: %s", self.sink.name, error)
            if stop is None:
                break
            stop.wait(every_s if wait_s is None else wait_s)
        self._connection.close()

    def _drain_once(self, stop: threading.Event | None) -> float | None:
        """How long to wait before the next try; None: nothing is left."""
        self._box._fresh_store()
        while stop is None or not stop.is_set():
            batch = self._next()
            if batch is None:
                return None
            reply = Reply(200)
            if batch.count:
                reply = self._post(batch)
            wait_s = self._settle(batch, reply)
            if wait_s is not None:
                return wait_s
        return None

    def _post(self, batch: _Batch) -> Reply:
        is_json = self.sink.encoding == "json"
        if batch.scores is None:
            return self._connection.post(_core.encode_otlp(batch.rows, is_json, self.sink.openinference))
        reply = self._connection.post(encode_logs(batch.scores, is_json=is_json), logs=True)
        if reply.status in _NO_LOGS:  # it takes spans alone, and goes on to do so
            return Reply(400, f"it takes no scores: {reply.status} {reply.message}")
        return reply

    def _settle(self, batch: _Batch, reply: Reply) -> float | None:
        """Remembers what has become of the batch; how long to wait when it has to be sent again."""
        if 200 <= reply.status < 300:
            if reply.message:
                _log.warning("sink %s: %s", self.sink.name, reply.message)
            self._error, self._tries = "", 0
            self._took(batch, batch.count - reply.rejected, reply.rejected)
            return None
        self._error = f"{reply.status or 'no answer'}: {reply.message}"
        if reply.status == 413 and batch.count > 1:
            self._batch_spans = max(1, batch.count // 2)
            self._box._store.drop_feed(self._hold)  # what was held is chosen anew
            return None
        again = reply.status in _RETRIED | _MISCONFIGURED or (reply.status >= 500 and self._tries < _OTHER_TRIES)
        if not again:
            what = "spans" if batch.scores is None else "scores"
            _log.warning("sink %s refused %d %s: %s", self.sink.name, batch.count, what, self._error)
            self._tries = 0
            self._took(batch, 0, batch.count)
            return None
        self._tries += 1
        longest_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(self._tries - 1, 20))
        wait_s = longest_s * (0.5 + random.random() / 2)
        return max(wait_s, reply.retry_after_s or 0.0)

    # --- the feeds ---------------------------------------------------------------------------------------------------

    def _next(self) -> _Batch | None:
        """The batch to send now; None when nothing waits. The same again until _took."""
        while True:
            try:
                feed, held = self._feeds()
                if feed["taking"]:
                    return self._part(feed)
                if held:
                    scores = held[0][2] == "scores"
                    return self._batch([id for id, _, of in held if of != "rollups"], scores=scores)
                if not feed["waiting"]:
                    return None
                self._choose(feed)
            except _core.StoreError:  # a merge came in between: look again
                self._tries += 1
                if self._tries > _OTHER_TRIES:
                    self._tries = 0
                    raise

    def _feeds(self) -> tuple[_core.Feed, list[tuple[int, int, str]]]:
        """The sink's feed, and which of its waiting segments are held. The sink's is read first: a segment that comes
        after it would not be among those that the hold has left, and so count as held, and as sent."""
        feed = self._box._store.feed(self._feed)
        free = {id for id, *_ in self._box._store.feed(self._hold)["waiting"]}
        return feed, [segment for segment in feed["waiting"] if segment[0] not in free]

    def _choose(self, feed: _core.Feed) -> None:
        """Holds as many small segments as make a batch, or begins with a large one. Scores come after spans."""
        chosen: list[int] = []
        rows = 0
        spans = [each for each in feed["waiting"] if each[2] != "scores"]
        waiting_now = spans or feed["waiting"]
        for id, count, of in waiting_now:
            if of != "rollups":
                if rows + count > self._batch_spans:
                    break
                rows += count
            chosen.append(id)
        store = self._box._store
        if chosen:
            hold = store.feed(self._hold)
            waiting = {id for id, *_ in feed["waiting"]}
            # What has been sent is marked, too: segments are merged with those that all feeds see alike.
            held = [id for id, *_ in hold["waiting"] if id in chosen or id not in waiting]
            store.advance_feed(self._hold, hold["turn"], held, 0, 0, b"")
        else:
            store.advance_feed(self._feed, feed["turn"], [], waiting_now[0][0], 0, feed["state"])

    def _part(self, feed: _core.Feed) -> _Batch:
        scores = any(id == feed["taking"] and of == "scores" for id, _, of in feed["waiting"])
        return self._batch([feed["taking"]], scores=scores, limit=self._batch_spans, skip=feed["taken_rows"])

    def _batch(self, only: list[int], *, scores: bool, limit: int | None = None, skip: int = 0) -> _Batch:
        store = self._box._store
        filter = "" if scores else self.sink.filter
        rows = store.scan(filter, None, None, [], limit, "", False, scores, only, skip)
        end = skip + rows.rows if limit is not None and rows.rows == limit else 0
        return _Batch(rows, self._wanted(rows) if scores else None, end)

    def _wanted(self, scores: _core.Table) -> list[Row]:
        """Those of spans that pass the filter, and of traces with one."""
        found = list(rows_of(scores))
        if not self.sink.scores or not self._connection.takes_logs or not found:
            return []
        if not self.sink.filter:
            return found
        traces = ", ".join(f'"{trace}"' for trace in sorted({row["trace_id"] for row in found}))
        passing = f"({self.sink.filter}) and trace_id in [{traces}]"
        spans = self._box._store.scan(passing, None, None, ["trace_id", "span_id"], None, "", False)
        known = {*zip(spans.column("trace_id"), spans.column("span_id"), strict=True)}
        known |= {(trace, None) for trace in spans.column("trace_id")}
        return [row for row in found if (row["trace_id"], row.get("span_id")) in known]

    def _took(self, batch: _Batch, sent: int, refused: int) -> None:
        store = self._box._store
        while True:
            feed, held = self._feeds()
            state = json.loads(feed["state"] or b"{}")
            of = "" if batch.scores is None else "_scores"
            for name, more in ((f"sent{of}", sent), (f"refused{of}", refused)):
                state[name] = state.get(name, 0) + more
            encoded = json.dumps(state).encode()
            if feed["taking"]:
                taken = [] if batch.end_row else [feed["taking"]]
                under_way = feed["taking"] if batch.end_row else 0
                done = store.advance_feed(self._feed, feed["turn"], taken, under_way, batch.end_row, encoded)
            else:
                done = store.advance_feed(self._feed, feed["turn"], [id for id, *_ in held], 0, 0, encoded)
            if done:
                return


class _Turn:
    """Of all processes one serves a sink: whoever has locked its file."""

    def __init__(self, box: Box, name: str) -> None:
        self._path = box.path / "rings" / f"sink-{name}.lock"
        self._handle = -1

    def __enter__(self) -> bool:
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._handle)
