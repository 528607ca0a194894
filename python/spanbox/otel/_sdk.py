"""For programs that have set up the OpenTelemetry SDK: its spans into the recorder, beside wherever else they go.

The processor records a span when it starts and when it ends, so that it is there when the process is killed. The
exporter is given ended spans by the SDK's own processors.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from spanbox import _core
from spanbox._limit import PAID, any_limit
from spanbox._observe import flush
from spanbox.otel._api import share_context as _share_context


class _Tracers:
    """One for each resource and scope."""

    def __init__(self) -> None:
        self._tracers: dict[tuple[int, int], tuple[object, object, _core.Tracer]] = {}

    def of(self, span: ReadableSpan) -> _core.Tracer:
        resource, scope = span.resource, span.instrumentation_scope
        known = self._tracers.get((id(resource), id(scope)))
        if known is not None:
            return known[2]
        fields = {f"resource.{key}": value for key, value in _attributes(resource.attributes).items()}
        fields["resource.schema_url"] = resource.schema_url or None
        if scope is not None:
            fields |= {"scope.name": scope.name, "scope.version": scope.version or None}
            fields |= {"scope.schema_url": scope.schema_url or None}
            fields |= {"scope.attributes": _attributes(scope.attributes) or None}
        tracer = _core.Tracer(fields)
        self._tracers[id(resource), id(scope)] = resource, scope, tracer  # the objects keep their addresses
        return tracer

    def adopt(self, span: ReadableSpan, known_kind: str | None = None) -> _core.Span | None:
        return self.of(span).adopt(
            span.get_span_context(),
            None if span.parent is None else span.parent.span_id,
            span.name,
            kind=span.kind,
            attributes=_attributes(span.attributes),
            start_time=span.start_time,
            known_kind=known_kind,
        )


def _attributes(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return dict(attributes or {})


def _finish(ours: _core.Span, span: ReadableSpan, known: Mapping[str, Any]) -> None:
    """Ends our span as theirs has ended; attributes in `known` are recorded already."""
    if span.name != ours.name:
        ours.update_name(span.name)
    attributes = _attributes(span.attributes)
    ours.set_attributes({key: value for key, value in attributes.items() if known.get(key) is not value})
    for event in span.events:
        ours.add_event(event.name, event.attributes, event.timestamp)
    for link in span.links:
        ours.add_link(link.context, link.attributes)
    if span.status.status_code is not trace.StatusCode.UNSET:
        ours.set_status(span.status)
    ours.end(span.end_time)


class _Open(NamedTuple):
    ours: _core.Span
    attributes: dict[str, Any]  # that are recorded
    kind: str | None  # where a limit is open
    parent_id: int


class SpanboxProcessor(SpanProcessor):  # type: ignore[misc]  # the SDK is not known to the type checker
    """Records the spans of an SDK's TracerProvider.

        provider.add_span_processor(spanbox.otel.SpanboxProcessor())

    share_context: spans of @observe become parents and children of the SDK's, too. False where those are also sent to
    a backend that does not get ours, and would miss them.

    spanbox.limit() counts these spans, too. One that it does not allow raises out of start_span(), as it would with
    spanbox's own provider: that is what the program has asked for. Nothing else here raises.
    """

    def __init__(self, *, share_context: bool = True) -> None:
        self._tracers = _Tracers()
        self._open: dict[int, _Open] = {}
        self._lock = threading.Lock()
        if share_context:
            _share_context()

    def on_start(self, span: Any, parent_context: object = None) -> None:
        attributes = _attributes(span.attributes)
        parent_id = 0 if span.parent is None else span.parent.span_id
        kind = self._within_limits(span.name, attributes, parent_id) if any_limit() else None
        ours = self._tracers.adopt(span, kind)
        if ours is not None:
            with self._lock:
                self._open[span.get_span_context().span_id] = _Open(ours, attributes, kind, parent_id)

    def _within_limits(self, name: str, attributes: dict[str, Any], parent_id: int) -> str | None:
        calls, depth = [], 0
        with self._lock:
            while depth < len(self._open) and (each := self._open.get(parent_id)) is not None:
                depth += 1
                if each.kind in PAID:
                    calls.append(parent_id)
                parent_id = each.parent_id
        return _core.ask_limits(name, attributes, calls, depth)

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            found = self._open.pop(span.get_span_context().span_id, None)
        if found is not None:
            _finish(found.ours, span, found.attributes)

    def shutdown(self) -> None:
        flush()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return flush(timeout_millis / 1000)


class SpanboxExporter(SpanExporter):  # type: ignore[misc]
    """Records ended spans, for the SDK's SimpleSpanProcessor or BatchSpanProcessor."""

    def __init__(self) -> None:
        self._tracers = _Tracers()

    def export(self, spans: Sequence[ReadableSpan]) -> Any:
        for span in spans:
            ours = self._tracers.adopt(span)
            if ours is None:
                return SpanExportResult.FAILURE
            _finish(ours, span, _attributes(span.attributes))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        flush()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return flush(timeout_millis / 1000)
