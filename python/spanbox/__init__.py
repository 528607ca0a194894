"""spanbox: record, query and evaluate LLM traces locally.

import spanbox
from spanbox import observe

@observe
def answer(question: str) -> str: ...

box = spanbox.open()
box.spans('kind == llm and ttft > 2s', since="24h").count()
"""

from __future__ import annotations

import atexit as _atexit
from functools import partial as _partial
from typing import TYPE_CHECKING

from spanbox import _core, _propagate
from spanbox._capture import register_encoder
from spanbox._context import attach, environ, off, on, wrap
from spanbox._core import (
    CorruptionError,
    FilterError,
    Handle,
    NotFoundError,
    SpanboxError,
    StoreError,
    StoreFullError,
    __version__,
    columns,
    current_handle,
    score,
)
from spanbox._observe import KINDS, configure, current_span, flush, health, observe, span, tags
from spanbox._sampling import Sampling, keep

if TYPE_CHECKING:
    from spanbox import cost, replies
    from spanbox._box import Box, open
    from spanbox._instrument import instrument, uninstrument
    from spanbox._limit import LimitExceeded, limit
    from spanbox._redact import decrypt, redact
    from spanbox._spans import Scores, Spans
    from spanbox._trace import Trace

__all__ = [
    "KINDS",
    "Box",
    "CorruptionError",
    "FilterError",
    "Handle",
    "LimitExceeded",
    "NotFoundError",
    "Sampling",
    "Scores",
    "SpanboxError",
    "Spans",
    "StoreError",
    "StoreFullError",
    "Trace",
    "__version__",
    "attach",
    "columns",
    "configure",
    "cost",
    "current_handle",
    "current_span",
    "decrypt",
    "environ",
    "feedback",
    "flush",
    "health",
    "instrument",
    "keep",
    "limit",
    "observe",
    "off",
    "on",
    "open",
    "redact",
    "register_encoder",
    "replies",
    "score",
    "span",
    "tags",
    "uninstrument",
    "wrap",
]

feedback = _partial(score, source="feedback")

_propagate.install()
_atexit.register(_core.close)

# Asking is imported when it is asked for, and so is what few need: a program that only records should not wait for it.
_ASKING = {
    "Box": "_box",
    "LimitExceeded": "_limit",
    "instrument": "_instrument",
    "uninstrument": "_instrument",
    "Scores": "_spans",
    "Spans": "_spans",
    "Trace": "_trace",
    "cost": "cost",
    "limit": "_limit",
    "decrypt": "_redact",
    "open": "_box",
    "redact": "_redact",
    "replies": "replies",
}


def __getattr__(name: str) -> object:
    if name not in _ASKING:
        raise AttributeError(f"module 'spanbox' has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"spanbox.{_ASKING[name]}")
    value: object = module if name in ("cost", "replies") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
