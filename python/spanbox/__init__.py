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
from spanbox._observe import KINDS, configure, current_span, feedback, flush, health, observe, span, tags
from spanbox._sampling import Sampling, keep

# What typing says, without importing it: here, as in all modules that this loads, only the standard library's quickest
# are imported, and others where they are used.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from spanbox import cost, replies
    from spanbox._box import Box, open
    from spanbox._documents import Document, Mark, mark
    from spanbox._instrument import instrument, uninstrument
    from spanbox._limit import LimitExceeded, limit
    from spanbox._redact import decrypt, redact
    from spanbox._spans import Scores, Spans
    from spanbox._trace import Trace

__all__ = [
    "KINDS",
    "Box",
    "CorruptionError",
    "Document",
    "FilterError",
    "Handle",
    "LimitExceeded",
    "Mark",
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
    "mark",
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

_core.set_price_file(_core.__file__.rpartition("/")[0] + "/prices.json")
_propagate.install()
_atexit.register(_core.close)

# Asking is imported when it is asked for, and so is what few need: a program that only records should not wait for it.
_ASKING = {
    "Box": "_box",
    "Document": "_documents",
    "Mark": "_documents",
    "mark": "_documents",
    "LimitExceeded": "_limit",
    "instrument": "_instrument",
    "uninstrument": "_instrument",
    "Scores": "_spans",
    "Spans": "_spans",
    "Trace": "_trace",
    "cost": "cost",
    "limit": "_limit",
    "decrypt": "_redact",
    "load_ipython_extension": "_notebook",
    "unload_ipython_extension": "_notebook",
    "open": "_box",
    "redact": "_redact",
    "replies": "replies",
}


def __getattr__(name: str) -> object:
    if name not in _ASKING:
        raise AttributeError(f"module 'spanbox' has no attribute {name!r}")
    module = _ASKING[name]
    __import__(f"spanbox.{module}")  # which is an attribute of this package then
    if name != module:
        globals()[name] = getattr(globals()[module], name)
    return globals()[name]


def __dir__() -> list[str]:
    return __all__
