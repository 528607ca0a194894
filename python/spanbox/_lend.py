"""What a client's instrumentor starts inside a framework's call is a child of the framework's span, also where the
framework tells of its call in callbacks only, and so cannot make its span the current one.

Thread rule: everything may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from functools import cache
from typing import Any

from spanbox import _core
from spanbox._limit import PAID, kind_of

_waiting: ContextVar[_core.Span | None] = ContextVar("spanbox_waiting", default=None)


def expect_client(span: _core.Span) -> None:
    """The next model call that a tracer starts in this context belongs below `span`, if that is still open."""
    _switch_on()
    _waiting.set(span)


@cache
def _switch_on() -> None:
    _core.set_lender(_lend)


def _lend(name: str, attributes: Mapping[str, Any] | None) -> _core.Span | None:
    span = _waiting.get()
    if span is None or (span.is_recording() and kind_of(name, dict(attributes or {})) not in PAID):
        return None
    _waiting.set(None)
    return span  # one that has ended is no parent: _core sees to that
