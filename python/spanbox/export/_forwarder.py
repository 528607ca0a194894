"""Sends a store's spans to several sinks at once, each at its own pace: the store is the queue.

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

if TYPE_CHECKING:
    from types import TracebackType

    from spanbox._box import Box

__all__ = ["Forwarder", "Report"]

_log = logging.getLogger("spanbox")

_RETRIED = {0, 429, 502, 503, 504}  # as the specification says; 0: no answer
_MISCONFIGURED = {301, 302, 303, 307, 308, 401, 403, 404, 405, 407}  # the same spans will do when that is mended
_OTHER_TRIES = 10
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 300.0


@dataclass(frozen=True, slots=True)
class Report:
    """How far a sink is. `waiting` counts all spans behind, also those that its filter will leave out."""

    sink: str
    sent: int = 0
    refused: int = 0
    waiting: int = 0
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
    """Some segments as a whole, or rows of one."""

    rows: _core.Table
    segments: tuple[int, ...]
    end_row: int = 0  # of one that is sent in parts: how far this batch goes; 0: all


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
        waiting = sum(rows for _, rows, of in feed["waiting"] if of == "spans") - feed["taken_rows"]
        return Report(self.sink.name, state.get("sent", 0), state.get("refused", 0), waiting, self._error)

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
            if batch.rows.rows:
                encoded = _core.encode_otlp(batch.rows, self.sink.encoding == "json", self.sink.openinference)
                reply = self._connection.post(encoded)
            wait_s = self._settle(batch, reply)
            if wait_s is not None:
                return wait_s
        return None

    def _settle(self, batch: _Batch, reply: Reply) -> float | None:
        """Remembers what has become of the batch; how long to wait when it has to be sent again."""
        if 200 <= reply.status < 300:
            if reply.message:
                _log.warning("sink %s: %s", self.sink.name, reply.message)
            self._error, self._tries = "", 0
            self._took(batch, batch.rows.rows - reply.rejected, reply.rejected)
            return None
        self._error = f"{reply.status or 'no answer'}: {reply.message}"
        if reply.status == 413 and batch.rows.rows > 1:
            self._batch_spans = max(1, batch.rows.rows // 2)
            self._box._store.drop_feed(self._hold)  # what was held is chosen anew
            return None
        again = reply.status in _RETRIED | _MISCONFIGURED or (reply.status >= 500 and self._tries < _OTHER_TRIES)
        if not again:
            _log.warning("sink %s refused %d spans: %s", self.sink.name, batch.rows.rows, self._error)
            self._tries = 0
            self._took(batch, 0, batch.rows.rows)
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
                    rows = self._scan([id for id, _, of in held if of == "spans"])
                    return _Batch(rows, tuple(id for id, *_ in held))
                if not feed["waiting"]:
                    return None
                self._choose(feed)
            except _core.StoreError:  # a merge came in between: look again
                self._tries += 1
                if self._tries > _OTHER_TRIES:
                    self._tries = 0
                    raise

    def _feeds(self) -> tuple[_core.Feed, list[tuple[int, int, str]]]:
        """The sink's feed, and which of its waiting segments are held."""
        free = {id for id, *_ in self._box._store.feed(self._hold)["waiting"]}
        feed = self._box._store.feed(self._feed)
        return feed, [segment for segment in feed["waiting"] if segment[0] not in free]

    def _choose(self, feed: _core.Feed) -> None:
        """Holds as many small segments as make a batch, or begins with a large one."""
        chosen: list[int] = []
        rows = 0
        for id, count, of in feed["waiting"]:
            if of == "spans":
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
            store.advance_feed(self._feed, feed["turn"], [], feed["waiting"][0][0], 0, feed["state"])

    def _part(self, feed: _core.Feed) -> _Batch:
        rows = self._scan([feed["taking"]], limit=self._batch_spans, skip=feed["taken_rows"])
        end = feed["taken_rows"] + rows.rows if rows.rows == self._batch_spans else 0
        return _Batch(rows, (feed["taking"],), end)

    def _scan(self, only: list[int], *, limit: int | None = None, skip: int = 0) -> _core.Table:
        return self._box._store.scan(self.sink.filter, None, None, [], limit, "", False, False, only, skip)

    def _took(self, batch: _Batch, sent: int, refused: int) -> None:
        store = self._box._store
        while True:
            feed, held = self._feeds()
            state = json.loads(feed["state"] or b"{}")
            state = {"sent": state.get("sent", 0) + sent, "refused": state.get("refused", 0) + refused}
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
