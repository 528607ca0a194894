"""OpenTelemetry's API on spanbox: a TracerProvider whose spans go into the recorder, with no SDK in between.

    from opentelemetry import trace
    trace.set_tracer_provider(spanbox.otel.TracerProvider())

Its spans and those of @observe are of one kind and share one context, in both directions: see docs/instrument.md.
For programs that have set up the SDK: SpanboxProcessor and SpanboxExporter. Needs the package opentelemetry-api.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanbox.otel._api import TracerProvider, share_context

if TYPE_CHECKING:
    from spanbox.otel._sdk import SpanboxExporter, SpanboxProcessor

__all__ = ["SpanboxExporter", "SpanboxProcessor", "TracerProvider", "share_context"]


def __getattr__(name: str) -> object:
    if name not in ("SpanboxExporter", "SpanboxProcessor"):
        raise AttributeError(f"module 'spanbox.otel' has no attribute {name!r}")
    from spanbox.otel import _sdk  # the SDK is there only where it is used

    return getattr(_sdk, name)
