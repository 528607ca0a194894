"""The peers, each set up as its documentation says: the two functions of A1 and A2, traced.

`small` is f(str, int) -> str with arguments and result kept. `chat` is a model call, 1 KB of request and 2 KB of answer
kept, with ten attributes. Content capture is on, sampling off; what is sent goes to a loopback address.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from spanbox import _bench

Traced = Callable[..., Any]
ATTRIBUTES = {
    "gen_ai.provider.name": "openai",
    "gen_ai.usage.input_tokens": 1200,
    "gen_ai.usage.output_tokens": 300,
    "gen_ai.usage.cost": 0.0042,
    "gen_ai.request.temperature": 0.2,
    "session.id": "s-77",
    "tenant.id": "acme",
    "prompt.version": "v7",
}


@dataclass(frozen=True)
class Peer:
    small: Traced
    chat: Traced
    flush: Callable[[], object]


def bare_chat(answers: Iterator[str]) -> Traced:
    def chat(request: dict[str, Any]) -> str:
        return next(answers)

    return chat


def spanbox(answers: Iterator[str], address: str) -> Peer:
    import spanbox

    return Peer(spanbox.observe(_bench.f), _bench.chat(answers), spanbox.flush)


def _otel(answers: Iterator[str], tracer: Any, flush: Callable[[], object]) -> Peer:
    def chat(request: dict[str, Any]) -> str:
        with tracer.start_as_current_span("chat") as span:
            span.set_attribute("gen_ai.input.messages", json.dumps(request))
            span.set_attribute("gen_ai.request.model", request["model"])
            span.set_attribute("user.id", request["user"])
            span.set_attributes(ATTRIBUTES)
            answer = next(answers)
            span.set_attribute("gen_ai.output.messages", json.dumps(answer))
            return answer

    return Peer(_bench.otel_traced(tracer), chat, flush)


def opentelemetry(answers: Iterator[str], address: str) -> Peer:
    """The SDK with the same content as attributes, and an exporter that throws the spans away."""
    return _otel(answers, *_bench.otel_tracer())


def opentelemetry_otlp(answers: Iterator[str], address: str) -> Peer:
    """The SDK with its batch processor and the OTLP exporter, both at their defaults."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{address}/v1/traces")))
    return _otel(answers, provider.get_tracer("bench"), provider.force_flush)


def langfuse(answers: Iterator[str], address: str) -> Peer:
    os.environ.update(
        LANGFUSE_PUBLIC_KEY="pk-lf-bench",
        LANGFUSE_SECRET_KEY="sk-lf-bench",
        LANGFUSE_HOST=address,
        LANGFUSE_BASE_URL=address,
    )
    from langfuse import get_client, observe

    client = get_client()

    @observe(as_type="generation", name="chat")
    def chat(request: dict[str, Any]) -> str:
        client.update_current_generation(
            model=request["model"],
            usage_details={"input": 1200, "output": 300},
            cost_details={"total": 0.0042},
            model_parameters={"temperature": 0.2},
            metadata={"provider": "openai", "user": request["user"], "session": "s-77", "tenant": "acme"},
            version="v7",
        )
        return next(answers)

    return Peer(observe()(_bench.f), chat, client.flush)


def mlflow(answers: Iterator[str], address: str) -> Peer:
    """mlflow-tracing, logging asynchronously."""
    os.environ.update(
        MLFLOW_ENABLE_ASYNC_TRACE_LOGGING="true", MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_TRACKING_URI=address
    )
    import mlflow
    from mlflow.entities.trace_location import MlflowExperimentLocation

    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # the sink is no MLflow server, and it says so each time
    mlflow.tracing.set_destination(MlflowExperimentLocation("1"))

    @mlflow.trace(name="chat", span_type="LLM")
    def chat(request: dict[str, Any]) -> str:
        span = mlflow.get_current_active_span()
        span.set_attributes({**ATTRIBUTES, "gen_ai.request.model": request["model"], "user.id": request["user"]})
        return next(answers)

    return Peer(mlflow.trace(_bench.f), chat, mlflow.flush_trace_async_logging)
