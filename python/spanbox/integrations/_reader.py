"""A thread that reads long replies: to read a stream of 2,000 pieces takes longer than a program may be held up.

Thread rule: later() and drain() from any thread. What waits when a process is forked is the parent's.
Invariant: at most MOST_WAITING wait; what comes then is read by the caller.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable

MOST_WAITING = 64
_EXIT_S = 5.0

_changed = threading.Condition()
_waiting: deque[Callable[[], None]] = deque()  # the first is being read
_thread: threading.Thread | None = None


def later(read: Callable[[], None]) -> None:
    """Calls read(), which must not raise, on the thread."""
    global _thread
    with _changed:
        if len(_waiting) < MOST_WAITING:
            _waiting.append(read)
            if _thread is None:
                _thread = threading.Thread(target=_work, name="spanbox-reader", daemon=True)
                _thread.start()
            _changed.notify_all()
            return
    read()


def drain(timeout_s: float) -> bool:
    """Waits until nothing waits; False when `timeout_s` ran out first."""
    with _changed:
        return _changed.wait_for(lambda: not _waiting, timeout_s)


def _work() -> None:
    while True:
        with _changed:
            _changed.wait_for(lambda: bool(_waiting))
            read = _waiting[0]
        read()
        with _changed:
            _waiting.popleft()
            _changed.notify_all()


def _forked() -> None:
    global _changed, _thread
    _changed, _thread = threading.Condition(), None
    _waiting.clear()


os.register_at_fork(after_in_child=_forked)
atexit.register(drain, _EXIT_S)  # before the recorder closes
