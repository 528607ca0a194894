"""What real emitters send: runs instrumentors of OpenTelemetry GenAI, OpenInference and OpenLLMetry against the
loopback server, each in a process of its own, and writes their spans as OTLP/JSON into fixtures/.

    python tests/python/make_fixtures.py            # those that are installed
    python tests/python/make_fixtures.py NAME...    # these

Nothing in a fixture depends on the time or the machine: ids are counted, times are steps, ports are 0. Their names and
attributes are the emitters'.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
FIXTURES = HERE / "fixtures"
_FIRST_NS = 1_790_000_000_000_000_000
_STEP_NS = 1_000_000
_FACTS = " ".join(f"Fact number {number} is that apples grow on trees of kind {number}." for number in range(40))
_QUESTION = "which apples grow on trees?"
_TOOL = {
    "type": "function",
    "function": {
        "name": "track_order",
        "description": "where an order is",
        "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}},
    },
}


class Emitter(NamedTuple):
    """A package with an instrumentor, and what is called under it."""

    package: str
    instrumentor: str  # module:class
    calls: Callable[[str], None]


def call_openai(url: str) -> None:
    import openai

    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        messages: Any = [{"role": "system", "content": _FACTS}, {"role": "user", "content": _QUESTION}]
        create: Any = client.chat.completions.create
        create(model="gpt-5-mini", messages=messages, temperature=0.5)
        list(create(model="gpt-5-mini", messages=messages, stream=True, stream_options={"include_usage": True}))
        order: Any = [{"role": "user", "content": "where is order A1234?"}]
        create(model="gpt-5-mini", messages=order, tools=[_TOOL])
        with contextlib.suppress(openai.APIStatusError):
            create(model="", messages="no list")


def call_anthropic(url: str) -> None:
    import anthropic

    with anthropic.Anthropic(base_url=url.removesuffix("/v1"), api_key="none", max_retries=0) as client:
        asked: Any = {
            "model": "claude-sonnet-4-5", "max_tokens": 100, "system": _FACTS,
            "messages": [{"role": "user", "content": _QUESTION}],
        }  # fmt: skip
        client.messages.create(**asked)
        list(client.messages.create(**asked, stream=True))


def call_langchain(url: str) -> None:
    from langchain_core.language_models.fake_chat_models import FakeListChatModel
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.tools import tool

    @tool
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    chain = ChatPromptTemplate.from_messages([("user", "{question}")]) | FakeListChatModel(responses=["42"])
    chain.invoke({"question": _QUESTION})
    add.invoke({"a": 1, "b": 2})


EMITTERS = {
    "otel_openai": Emitter(
        "opentelemetry-instrumentation-genai-openai",
        "opentelemetry.instrumentation.genai.openai:OpenAIInstrumentor",
        call_openai,
    ),
    "otel_anthropic": Emitter(
        "opentelemetry-instrumentation-genai-anthropic",
        "opentelemetry.instrumentation.genai.anthropic:AnthropicInstrumentor",
        call_anthropic,
    ),
    "openinference_openai": Emitter(
        "openinference-instrumentation-openai", "openinference.instrumentation.openai:OpenAIInstrumentor", call_openai
    ),
    "openinference_anthropic": Emitter(
        "openinference-instrumentation-anthropic",
        "openinference.instrumentation.anthropic:AnthropicInstrumentor",
        call_anthropic,
    ),
    "openinference_langchain": Emitter(
        "openinference-instrumentation-langchain",
        "openinference.instrumentation.langchain:LangChainInstrumentor",
        call_langchain,
    ),
    "openllmetry_openai": Emitter(
        "opentelemetry-instrumentation-openai", "opentelemetry.instrumentation.openai:OpenAIInstrumentor", call_openai
    ),
    "openllmetry_anthropic": Emitter(
        "opentelemetry-instrumentation-anthropic",
        "opentelemetry.instrumentation.anthropic:AnthropicInstrumentor",
        call_anthropic,
    ),
}


def version_of(name: str) -> str | None:
    """Of the emitter's package; None: it is not installed."""
    try:
        return importlib.metadata.version(EMITTERS[name].package)
    except importlib.metadata.PackageNotFoundError:
        return None


def emit(name: str) -> dict[str, Any]:
    """What the emitter sends for its calls: run in a process of its own, as instrumentors stay."""
    environment = {
        **os.environ,
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY",
        "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
        "TRACELOOP_TRACE_CONTENT": "true",
        "OTEL_RESOURCE_ATTRIBUTES": "",
        "OTEL_SERVICE_NAME": "fixture",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    program = [sys.executable, "-W", "ignore", str(Path(__file__)), "--emit", name]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _emit_here(name: str) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    sys.path.insert(0, str(HERE.parents[1] / "examples"))
    loopback = importlib.import_module("loopback_llm")
    emitter = EMITTERS[name]
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    module, _, kind = emitter.instrumentor.partition(":")
    getattr(importlib.import_module(module), kind)().instrument(tracer_provider=provider)
    with loopback.serve(scale=0.0, failures=False, seed=7) as url:
        emitter.calls(url)
    spans = sorted(exporter.get_finished_spans(), key=lambda span: span.start_time)
    return _Settled().request(MessageToDict(encode_spans(spans)))


class _Settled:
    """A request with everything replaced that is of one run only."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._times: dict[str, str] = {}

    def request(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.request(each) for each in value]
        if not isinstance(value, dict):
            return value
        if value.get("key") in ("server.port", "process.pid") and "value" in value:
            return {**value, "value": {"intValue": "0"}}
        if value.get("key") == "exception.stacktrace":  # names files of one machine
            return {**value, "value": {"stringValue": "Traceback (most recent call last):\n  (left out)\n"}}
        settled = {}
        for key, each in value.items():
            if key in ("traceId", "spanId", "parentSpanId") and isinstance(each, str):
                settled[key] = self._id(each)
            elif key.endswith("UnixNano") and isinstance(each, str):
                settled[key] = self._time(each)
            elif key == "kind" and isinstance(each, str):
                kinds = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
                settled[key] = kinds.index(each.removeprefix("SPAN_KIND_"))
            elif key == "code" and isinstance(each, str):
                settled[key] = ("UNSET", "OK", "ERROR").index(each.removeprefix("STATUS_CODE_"))
            else:
                settled[key] = self.request(each)
        return settled

    def _id(self, given: str) -> str:
        size = len(base64.b64decode(given))
        return self._ids.setdefault(given, f"{len(self._ids) + 1:0{2 * size}x}") if size else ""

    def _time(self, given: str) -> str:
        return self._times.setdefault(given, str(_FIRST_NS + _STEP_NS * len(self._times)))


def main(names: list[str]) -> None:
    if names[:1] == ["--emit"]:
        print(json.dumps(_emit_here(names[1])))
        return
    for name in names or EMITTERS:
        version = version_of(name)
        if version is None:
            print(f"{name}: {EMITTERS[name].package} is not installed", file=sys.stderr)
            continue
        made = {"emitter": f"{EMITTERS[name].package} {version}", "request": emit(name)}
        (FIXTURES / f"{name}.json").write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", "utf-8")
        print(f"{name}: {made['emitter']}")


if __name__ == "__main__":
    main(sys.argv[1:])
