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

from spanbox import _core
from spanbox._box import Box, open
from spanbox._core import (
    CorruptionError,
    FilterError,
    NotFoundError,
    SpanboxError,
    StoreError,
    StoreFullError,
    __version__,
    columns,
)
from spanbox._observe import KINDS, configure, current_span, flush, health, observe, span, tags
from spanbox._spans import Spans
from spanbox._trace import Trace

__all__ = [
    "KINDS",
    "Box",
    "CorruptionError",
    "FilterError",
    "NotFoundError",
    "SpanboxError",
    "Spans",
    "StoreError",
    "StoreFullError",
    "Trace",
    "__version__",
    "columns",
    "configure",
    "current_span",
    "flush",
    "health",
    "observe",
    "open",
    "span",
    "tags",
]

_atexit.register(_core.close)
