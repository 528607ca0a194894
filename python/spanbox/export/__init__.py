"""Spans of a store to other systems, by OTLP over HTTP: the store is the queue (docs/bridges.md)."""

from __future__ import annotations

from spanbox.export._forwarder import Forwarder, Report
from spanbox.export._otlp_http import OtlpSink, load_sinks

__all__ = ["Forwarder", "OtlpSink", "Report", "load_sinks"]
