"""Recording: @observe, span(), tags() and the recorder behind them. _core does the work; this is the signature."""

from __future__ import annotations

import os
import sys
import time

from spanbox import _core
from spanbox._capture import check_bytes, set_capture
from spanbox._core import Handle, Span, Tags
from spanbox._imports import overload
from spanbox._paths import resolve_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Literal, ParamSpec, Protocol, TypeVar

    from spanbox._core import Kind
    from spanbox._redact import Key, Redact
    from spanbox._sampling import Sampling

    P = ParamSpec("P")
    R = TypeVar("R")
    T = TypeVar("T")

    class _Decorator(Protocol):
        @overload
        def __call__(self, fn: type[T], /) -> type[T]: ...
        @overload
        def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]: ...

    FullRing = Literal["wait", "drop", "block"]

KINDS: tuple[Kind, ...] = (
    "span",
    "llm",
    "embedding",
    "retriever",
    "reranker",
    "tool",
    "agent",
    "workflow",
    "chain",
    "guardrail",
    "evaluator",
    "prompt",
    "memory",
)


def _check_kind(kind: str) -> Kind:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    return kind


@overload
def observe(fn: type[T], /) -> type[T]: ...
@overload
def observe(fn: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def observe(
    *,
    name: str | None = None,
    kind: Kind = "span",
    capture_input: bool = True,
    capture_output: bool = True,
    capture_bytes: int | None = None,
) -> _Decorator: ...
def observe(
    fn: Any = None,
    /,
    *,
    name: str | None = None,
    kind: Kind = "span",
    capture_input: bool = True,
    capture_output: bool = True,
    capture_bytes: int | None = None,
) -> Any:
    """Record a span around every call of a function, with its arguments, its result or its exception.

        @observe
        def answer(question: str) -> str: ...

        @observe(kind="tool", name="search")
        async def search(query: str) -> list[str]: ...

    The function behaves as before: same result, same exception, same signature, and inspect says the same of it.

    A coroutine is traced from its first step to its last. A generator or async generator is traced until it is
    exhausted or closed: the first chunk is ttft_ns, the arrival of every chunk is kept (chunks, chunk_deltas_us,
    longest_stall_ns), and the output is the text of all chunks, or the list of them.

    Any callable will do: methods, functools.partial, builtins. Of a class, the public methods that its body defines
    (and __call__) are observed, and the class itself is returned.

    name: of the span; the function's qualified name by default. kind: what the work is, one of KINDS.
    capture_input, capture_output: False keeps arguments or result out of the store. capture_bytes: how much of them is
    kept, instead of what configure() says.
    """
    checked = _check_kind(kind)
    limit = -1 if capture_bytes is None else check_bytes(capture_bytes)

    def decorate(target: Any) -> Any:
        from spanbox._observed import observed

        return observed(target, name, (checked, capture_input, capture_output, limit))

    return decorate if fn is None else decorate(fn)


def span(name: str, /, *, kind: Kind = "span", parent: Handle | Span | str | None = None, **attributes: object) -> Span:
    """A span around a block of code, a child of the span it runs in, or of `parent`.

        with spanbox.span("retrieve", kind="retriever", index="faq") as s:
            docs = search(question)
            s.set(top_k=len(docs))
            s.output = docs

    Attributes are columns: named ones (model, input_tokens, cost_usd, ...: spanbox.columns() lists them), or any
    name of yours.
    parent: a Handle, a Span or the value of a W3C traceparent header (ValueError when it is none).
    An exception that leaves the block is recorded and goes on unchanged.
    """
    return Span(name, _check_kind(kind), attributes or None, parent or None)


def tags(**attributes: object) -> Tags:
    """Attributes for every span started inside the block, also in the functions it calls.

    with spanbox.tags(user_id="u1", session_id="s1", tenant="acme", prompt_version="v7"):
        answer(question)
    """
    return Tags(attributes)


def configure(
    path: str | os.PathLike[str] | None = None,
    *,
    full_ring: FullRing | None = None,
    max_ring_bytes: int | None = None,
    ring_dir: str | os.PathLike[str] | None = None,
    sampling: Sampling | None = None,
    propagate: bool | None = None,
    capture_bytes: int | None = None,
    capture_nodes: int | None = None,
    capture_depth: int | None = None,
    redact: Redact | None = None,
    redact_key: Key | None = None,
    redact_keys: Iterable[str] | None = None,
    hide_inputs: bool | None = None,
    hide_outputs: bool | None = None,
) -> None:
    """Choose where this process records, and how, before or after its first span. What is None stays as it is.

    path: of the store. Without it: $SPANBOX_DIR, or the nearest .spanbox folder upward, or a new one in the working
    directory.
    full_ring: when spans come faster than the disk takes them, "wait" at most 1 ms a call, sooner and shorter while
    there is room, and then drop and count (as it is at first); "drop" at once; or "block" until there is room (for
    batch jobs).
    max_ring_bytes: memory and disk for spans not yet stored, 64 MiB at first.
    ring_dir: a folder for them outside of the store: on a tmpfs such as /dev/shm no slow disk is ever waited for. They
    survive the death of the process there, as everywhere; not that of the machine, unless flushed.
    sampling: a Sampling says which traces are stored whole, and which are only counted; at first all are stored.
    propagate: False leaves threads, executors and child processes without the span they were started in
    ($SPANBOX_PROPAGATE=0 means False from the start).
    capture_bytes, capture_nodes, capture_depth: how much of an argument or result is kept (256 KiB, 10,000 values, 16
    levels, at first).
    redact: "secrets" replaces keys and passwords found in text before it is written (as at first), "pii" personal data
    as well, "off" nothing; or a mapping says what becomes of each entity: {"email_address": "hash", "pii": "replace"}.
    A function of a text, or Presidio's (AnalyzerEngine, AnonymizerEngine), sees what is left before it is stored; with
    what comes first: ("pii", function).
    redact_key: for the operators hash, encrypt and surrogate, or what returns it; without it $SPANBOX_REDACT_KEY.
    redact_keys: names whose values are never kept, besides api_key, password and the like.
    hide_inputs, hide_outputs: True keeps "[hidden]" in their place, and nothing else of them. At first as the variables
    of other tracers say (LANGSMITH_HIDE_INPUTS, OPENINFERENCE_HIDE_INPUTS, TRACELOOP_TRACE_CONTENT=false, ...).
    Raises StoreError, CorruptionError or StoreFullError when the store cannot be used; the recorder in use then stays.
    """
    if full_ring not in (None, "wait", "drop", "block"):
        raise ValueError(f"full_ring must be one of wait, drop, block, not {full_ring!r}")
    if max_ring_bytes is not None and not 1 << 20 <= max_ring_bytes <= 1 << 32:
        raise ValueError(f"max_ring_bytes must be between 1 MiB and 4 GiB, not {max_ring_bytes}")
    captures = set_capture(
        capture_bytes=capture_bytes,
        capture_nodes=capture_nodes,
        capture_depth=capture_depth,
        redact=redact,
        redact_key=redact_key,
        redact_keys=redact_keys,
        hide_inputs=hide_inputs,
        hide_outputs=hide_outputs,
    )
    if propagate is not None:
        _core.set_propagate(propagate)
    recorder = (path, full_ring, max_ring_bytes, ring_dir, sampling)
    if all(option is None for option in recorder) and (captures or propagate is not None) and not _core.has_stage():
        return  # none of it is the recorder's
    if path is None:
        path = _core.recording_path()
    rings = None if ring_dir is None else os.path.abspath(ring_dir)  # noqa: PTH100  (without pathlib, see _paths)
    chosen = None if sampling is None else sampling.for_core()
    _core.configure(resolve_store(path), full_ring, max_ring_bytes, rings, chosen)


def flush(timeout_s: float = 5.0) -> bool:
    """Store everything recorded before this call; True when that is done, False when `timeout_s` ran out first.

    What is recorded survives the death of the process without it; flush makes it survive the machine's.
    """
    reader = sys.modules.get("spanbox.integrations._reader")
    begin = time.monotonic()
    drained = reader is None or reader.drain(timeout_s)  # replies that are being read
    return _core.flush(max(0.0, timeout_s - (time.monotonic() - begin))) and drained


def health() -> _core.Health:
    """What the recorder has done, and its last error. recorded = stored + dropped + what is still in the ring."""
    return _core.health()


def feedback(name: str, value: _core.ScoreValue = None, **what: Any) -> None:
    """score(), from the source "feedback": what the people say whom the program serves."""
    _core.score(name, value, **{"source": "feedback", **what})


current_span = _core.current_span  # as it is: a function around it would cost as much again
