"""Spans of the OpenTelemetry SDK come into the store by our processor or exporter, as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import spanbox

pytest.importorskip("opentelemetry.sdk.trace")

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode
from spanbox import observe, otel


def provider(*processors: Any) -> TracerProvider:
    made = TracerProvider(resource=Resource({"service.name": "shop"}))
    for processor in processors:
        made.add_span_processor(processor)
    return made


def use_everything(tracer: Any) -> Any:
    link = Link(SpanContext(1, 2, is_remote=False), {"why": "x"})
    with tracer.start_as_current_span("parent", attributes={"gen_ai.request.model": "gpt-5"}, links=[link]) as parent:
        with tracer.start_as_current_span("child", kind=SpanKind.CLIENT, start_time=1_000) as child:
            child.set_attribute("gen_ai.usage.input_tokens", 5)
            child.add_event("sent", {"n": 1}, timestamp=5)
            child.update_name("renamed")
            child.set_status(StatusCode.ERROR, "no")
            child.end(9_000)
        parent.set_attribute("late", True)
    return parent.get_span_context()


@pytest.mark.parametrize("make", [otel.SpanboxProcessor, lambda: SimpleSpanProcessor(otel.SpanboxExporter())])
def test_spans_come_whole_under_their_own_ids(make: Any, recorded: Any) -> None:
    context = use_everything(provider(make()).get_tracer("tests", "1.0"))
    spans: dict[str, Any] = {span["name"]: span for span in recorded.spans()}
    parent, child = spans["parent"], spans["renamed"]
    assert (parent["trace_id"], parent["span_id"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert child["parent_id"] == parent["span_id"]
    assert (child["start_ns"], child["duration_ns"], child["status"]) == (1_000, 8_000, "error")
    assert child["attributes"]["error_message"] == "no"
    assert child["attributes"]["input_tokens"] == 5
    assert child["attributes"]["otel.kind"] == "client"
    assert child["attributes"]["events"] == [{"name": "sent", "time_ns": 5, "attributes": {"n": 1}}]
    assert parent["attributes"]["model"] == "gpt-5"
    assert parent["attributes"]["late"] is True
    assert parent["attributes"]["links"][0]["attributes"] == {"why": "x"}
    assert parent["attributes"]["resource.service.name"] == "shop"
    assert parent["attributes"]["scope.name"] == "tests"


def test_processor_shares_the_context_with_observe(recorded: Any) -> None:
    tracer = provider(otel.SpanboxProcessor()).get_tracer("tests")

    @observe(name="ours")
    def ours() -> None:
        with tracer.start_as_current_span("theirs"):
            pass

    with tracer.start_as_current_span("root"):
        ours()
    assert recorded.shape() == "root\n  ours\n    theirs"


KILLED = """
import os, signal
from opentelemetry.sdk.trace import TracerProvider
from spanbox import otel
provider = TracerProvider()
provider.add_span_processor(otel.SpanboxProcessor())
with provider.get_tracer("tests").start_as_current_span("call", attributes={"key": "value"}):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processor_has_recorded_a_running_span_of_a_killed_process(recorded: Any) -> None:
    environment = {**os.environ, "SPANBOX_DIR": str(recorded.path)}
    died = subprocess.run([sys.executable, "-c", KILLED], env=environment, check=False)
    assert died.returncode == -9
    span = recorded.reopened().only_span()
    assert (span["name"], span["status"], span["attributes"]["key"]) == ("call", "interrupted", "value")


def test_off_leaves_the_sdk_alone(recorded: Any) -> None:
    tracer = provider(otel.SpanboxProcessor()).get_tracer("tests")
    spanbox.off()
    try:
        with tracer.start_as_current_span("work") as span:
            assert span.is_recording()
    finally:
        spanbox.on()
    assert recorded.spans() == []
