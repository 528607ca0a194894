"""A question about a range, asked slice by slice of time, the newest first: who waits sees what is known so far.

Thread rule: any thread; what is known of one question is read by one request at a time. Invariants: every moment of the
range is read once; at least one slice a request. Units: nanoseconds, seconds where the name says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from spanbox.server.api._asked import Asked, Interval

PATIENCE_S = 0.4  # of one request
_FIRST = 16  # the first slice is this part of the range


class Slices:
    """How far a range has been read, and what was found."""

    def __init__(self, of: Interval) -> None:
        self.begin_ns, self.end_ns = of
        self.read_from_ns = of[1]  # from here on everything is read
        self.found: list[Any] = []
        self._lock = threading.Lock()

    @property
    def share(self) -> float:
        length = self.end_ns - self.begin_ns
        return (self.end_ns - self.read_from_ns) / length if length > 0 else 1.0

    def read(self, ask: Callable[[Interval], Any]) -> None:
        """As much as the patience of one request allows."""
        began_s = time.perf_counter()
        with self._lock:
            while self.read_from_ns > self.begin_ns:
                begin_ns = max(self.begin_ns, self.read_from_ns - self._next_ns(time.perf_counter() - began_s))
                self.found.append(ask((begin_ns, self.read_from_ns)))
                self.read_from_ns = begin_ns
                if time.perf_counter() - began_s >= PATIENCE_S:
                    return

    def _next_ns(self, spent_s: float) -> int:
        """How long a slice fits what is left of the patience, as fast as it went so far."""
        done_ns, least_ns = self.end_ns - self.read_from_ns, -(-(self.end_ns - self.begin_ns) // _FIRST)
        if not done_ns or spent_s <= 0:
            return least_ns
        return max(least_ns, int(done_ns * min(_FIRST, (PATIENCE_S - spent_s) / spent_s)))


def sliced(asked: Asked, what: Any, ask: Callable[[Interval], Any]) -> Slices:
    """What is known of a question about the asked range, after reading on. It goes on where the last request ended,
    also when the store has grown meanwhile."""
    of = (asked.from_ns, asked.to_ns)
    slices: Slices = asked.answers.going_on((what, of), lambda: Slices(of))
    slices.read(ask)
    if slices.share >= 1:
        asked.answers.ended((what, of))
    return slices
