"""The parts of OpenTelemetry's API that are no hot path: provider, context, and what _core asks for."""

from __future__ import annotations

import functools
import inspect
import os
import traceback
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.context.context import _RuntimeContext
from opentelemetry.trace.propagation import _SPAN_KEY

from spanbox import _core
from spanbox._observe import flush

Event = dict[str, Any]


class TracerProvider(trace.TracerProvider):  # type: ignore[misc]  # the API is not known to the type checker
    """Hands out tracers whose spans are spanbox's: recorded at their start, safe when the process is killed.

    resource: attributes of every span, as resource.<name>; those of OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME
    too. share_context: whether OpenTelemetry's current context and spanbox's are one from now on, in this process.
    """

    def __init__(self, *, resource: Mapping[str, object] | None = None, share_context: bool = True) -> None:
        self._resource = {f"resource.{key}": value for key, value in {**_resource(), **(resource or {})}.items()}
        self._tracers: dict[tuple[object, ...], _core.Tracer] = {}
        if share_context:
            _share_context()

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Mapping[str, object] | None = None,
    ) -> _core.Tracer:
        scope = {
            "scope.name": instrumenting_module_name,
            "scope.version": instrumenting_library_version,
            "scope.schema_url": schema_url,
            **{f"scope.attributes.{key}": value for key, value in (attributes or {}).items()},
        }
        key = tuple(repr(value) for value in scope.values()), tuple(scope)
        if key not in self._tracers:
            fields = {name: value for name, value in scope.items() if value not in (None, "")}
            self._tracers[key] = _core.Tracer(self._resource | fields)
        return self._tracers[key]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        flush()


def _resource() -> dict[str, str]:
    """What the environment says of this process, as the SDK reads it."""
    pairs = (item.partition("=") for item in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    found = {key.strip(): unquote(value.strip()) for key, equals, value in pairs if equals}
    if service := os.environ.get("OTEL_SERVICE_NAME", "").strip():
        found["service.name"] = service
    return found


class _Context(_RuntimeContext):  # type: ignore[misc]
    """OpenTelemetry's current context, kept in spanbox's ContextVar. What is detached out of order, or elsewhere than
    it was attached, does no harm and is not logged."""

    attach = staticmethod(_core.otel_attach)
    detach = staticmethod(_core.otel_detach)
    get_current = staticmethod(_core.otel_get_current)


def share_context() -> None:
    """Make OpenTelemetry's current context and spanbox's one, in this process and from now on: spans of either are
    parents of the other's, get_current_span() inside @observe is the observed span, and propagators send its ids."""
    if not isinstance(context_api._RUNTIME_CONTEXT, _Context):
        context_api._RUNTIME_CONTEXT = _Context()


_share_context = share_context  # TracerProvider has a parameter of that name


def _exception_event(exception: BaseException, attributes: Any, timestamp_ns: int, escaped: object) -> Event:
    """As the SDK writes it."""
    kind = type(exception)
    module = "" if kind.__module__ in ("builtins", None) else f"{kind.__module__}."
    about: dict[str, Any] = {"exception.type": f"{module}{kind.__qualname__}", "exception.message": str(exception)}
    if isinstance(exception, BaseException):
        about["exception.stacktrace"] = "".join(traceback.format_exception(exception))
    about |= {"exception.escaped": str(bool(escaped)), **(attributes or {})}
    return {"name": "exception", "time_ns": timestamp_ns, "attributes": about}


def _link(context: Any, attributes: Any) -> Event | None:
    if not context.is_valid and not attributes and not context.trace_state:
        return None
    link = {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}
    if context.trace_state:
        link["trace_state"] = context.trace_state.to_header()
    return {**link, "attributes": dict(attributes)} if attributes else link


def _explain(events: list[Event]) -> dict[str, Any]:
    """What the exceptions among the events of a span say of its error."""
    columns: dict[str, Any] = {}
    for event in events:
        if event["name"] == "exception":
            about = event.get("attributes") or {}
            columns |= {"error_type": about.get("exception.type"), "error_message": about.get("exception.message")}
    return columns


def _decorate(scope: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """start_as_current_span() as a decorator: every call is a span."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def traced_coroutine(*args: Any, **kwargs: Any) -> Any:
            with scope.again():
                return await function(*args, **kwargs)

        return traced_coroutine

    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with scope.again():
            return function(*args, **kwargs)

    return traced


_core.set_otel(
    span_key=_SPAN_KEY,
    suppress_key=context_api._SUPPRESS_INSTRUMENTATION_KEY,
    context_class=Context,
    no_context=Context(),
    span_context=trace.SpanContext,
    remote_span=trace.NonRecordingSpan,
    sampled=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    kinds=tuple(trace.SpanKind),
    kind_names=tuple(kind.name.lower() for kind in trace.SpanKind),
    no_op_tracer=trace.NoOpTracer(),
    make_exception_event=_exception_event,
    make_link=_link,
    explain=_explain,
    decorate=_decorate,
)
trace.Span.register(_core.Span)
trace.Tracer.register(_core.Tracer)
