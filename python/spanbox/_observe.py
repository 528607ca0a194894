"""Recording: @observe, span(), tags() and the recorder behind them. _core does the work; this is the signature."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, cast, overload

from spanbox import _core
from spanbox._core import Handle, Span, Tags
from spanbox._paths import resolve_store

if TYPE_CHECKING:
    from spanbox._core import Kind

P = ParamSpec("P")
R = TypeVar("R")

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
def observe(fn: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def observe(
    *, name: str | None = None, kind: Kind = "span", capture_input: bool = True, capture_output: bool = True
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def observe(
    fn: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    kind: Kind = "span",
    capture_input: bool = True,
    capture_output: bool = True,
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Record a span around every call of a function, with its arguments, its result or its exception.

        @observe
        def answer(question: str) -> str: ...

        @observe(kind="tool", name="search")
        def search(query: str) -> list[str]: ...

    The function behaves as before: same result, same exception, same signature. Coroutine functions are traced from the
    first step to the last. Generator functions are refused with TypeError: put `with spanbox.span(...)` inside them.

    name: of the span; the function's qualified name by default. kind: what the work is, one of KINDS.
    capture_input, capture_output: False keeps arguments or result out of the store.
    """
    checked = _check_kind(kind)

    def decorate(target: Callable[P, R]) -> Callable[P, R]:
        return _traced(target, name or _span_name(target), checked, capture_input, capture_output)

    return decorate if fn is None else decorate(fn)


def _span_name(fn: Callable[..., Any]) -> str:
    qualified = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    return cast(str, qualified.rsplit("<locals>.", 1)[-1])


def _parameter_names(fn: Callable[..., Any]) -> tuple[str, ...]:
    code = getattr(fn, "__code__", None)
    return () if code is None else cast("tuple[str, ...]", code.co_varnames[: code.co_argcount])


def _traced(fn: Callable[P, R], name: str, kind: Kind, capture_input: bool, capture_output: bool) -> Callable[P, R]:
    if not callable(fn):
        raise TypeError(
            f"observe() decorates a function, not {type(fn).__name__}; "
            "in a class, put it under @staticmethod or @classmethod"
        )
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(
            f"observe() does not trace generator functions such as {name}: put `with spanbox.span({name!r})` inside it"
        )
    parameters = _parameter_names(fn)
    if inspect.iscoroutinefunction(fn):
        return cast("Callable[P, R]", _traced_coroutine(fn, name, kind, capture_input, capture_output, parameters))
    traced = _core.observed(fn, name, kind, capture_input, capture_output, parameters)
    return functools.update_wrapper(cast("Callable[P, R]", traced), fn)


def _traced_coroutine(
    fn: Callable[..., Any],
    name: str,
    kind: Kind,
    capture_input: bool,
    capture_output: bool,
    parameters: tuple[str, ...],
) -> Callable[..., Any]:
    skip = 1 if parameters[:1] in (("self",), ("cls",)) else 0

    @functools.wraps(fn)
    async def traced(*args: Any, **kwargs: Any) -> Any:
        with Span(name, kind) as span:
            if capture_input and (len(args) > skip or kwargs):
                span.input = _arguments(parameters, skip, args, kwargs)
            result = await fn(*args, **kwargs)
            if capture_output:
                span.output = result
            return result

    return traced


def _arguments(
    parameters: tuple[str, ...], skip: int, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, object]:
    named: dict[str, object] = dict(zip(parameters[skip:], args[skip:], strict=False))
    if len(args) > len(parameters):
        named["args"] = args[max(len(parameters), skip) :]
    return named | kwargs


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
    full_ring: FullRing = "wait",
    max_ring_bytes: int = 64 << 20,
    propagate: bool | None = None,
) -> None:
    """Choose where this process records, before or after its first span. Without it: $SPANBOX_DIR, or the nearest
    .spanbox folder upward, or a new one in the working directory.

    full_ring: when spans come faster than the disk takes them, "wait" at most 1 ms and then drop and count, "drop" at
    once, or "block" until there is room (for batch jobs). max_ring_bytes: memory and disk for spans not yet stored.
    propagate: False leaves threads, executors and child processes without the span they were started in, True undoes
    it, None keeps what is ($SPANBOX_PROPAGATE=0 means False from the start).
    Raises StoreError, CorruptionError or StoreFullError when the store cannot be used; the recorder in use then stays.
    """
    if full_ring not in ("wait", "drop", "block"):
        raise ValueError(f"full_ring must be one of wait, drop, block, not {full_ring!r}")
    if not 1 << 20 <= max_ring_bytes <= 1 << 32:
        raise ValueError(f"max_ring_bytes must be between 1 MiB and 4 GiB, not {max_ring_bytes}")
    _core.configure(str(resolve_store(path)), full_ring, max_ring_bytes)
    if propagate is not None:
        _core.set_propagate(propagate)


def flush(timeout_s: float = 5.0) -> bool:
    """Store everything recorded before this call; True when that is done, False when `timeout_s` ran out first.

    What is recorded survives the death of the process without it; flush makes it survive the machine's.
    """
    return _core.flush(timeout_s)


def health() -> _core.Health:
    """What the recorder has done, and its last error. recorded = stored + dropped + what is still in the ring."""
    return _core.health()


def current_span() -> Span | None:
    """The span this code runs in, to set attributes on; None outside of any."""
    return _core.current_span()
