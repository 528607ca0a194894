"""Redaction stands below every integration: a key and an address in every field that one can tell, and neither is on
the disk. Masks of other tracers missed an integration, a dict where a text was expected, or a second copy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import spanbox
from spanbox import _audit, _core
from spanbox.integrations import httpx as any_host

httpx = pytest.importorskip("httpx")

KEY, MAIL = "sk-proj-" + "7aXq9ZkV3Rw5" * 4, "canary.person@secret-mail.example"
TEXT = f"key {KEY} of {MAIL}"
CANARIES = ["7aXq9ZkV3Rw5", "canary.person", "secret-mail"]
DICT = {"text": TEXT, "deep": [{"more": (TEXT,)}], f"named {MAIL}": KEY}
START = datetime(2026, 11, 1, 12, 0, 0)


class Failed(Exception):
    """Carries text in every way that exceptions do."""


def error() -> Failed:
    made = Failed(TEXT, DICT)
    made.__cause__ = ValueError(TEXT)
    made.add_note(TEXT)
    return made


def by_langchain() -> None:
    pytest.importorskip("langchain_core")
    from langchain_core.agents import AgentAction, AgentFinish
    from langchain_core.documents import Document
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
    from langchain_core.outputs import ChatGeneration, LLMResult
    from spanbox.integrations.langchain import SpanboxCallbackHandler

    handler = SpanboxCallbackHandler()
    chain, model, tool, retriever, bad, bad_model = (uuid4() for _ in range(6))
    more: dict[str, Any] = {"tags": [TEXT], "metadata": DICT | {"session_id": TEXT}}
    serialized = {"name": TEXT, "kwargs": {"api_key": KEY, "prompt": TEXT}}
    handler.on_chain_start(serialized, DICT, run_id=chain, name=TEXT, **more)
    messages = [[SystemMessage(TEXT), HumanMessage([{"type": "text", "text": TEXT}], additional_kwargs=DICT)]]
    parameters = {"invocation_params": {"model": "gpt-5", "api_key": KEY, "stop": [TEXT], "tools": [DICT]}}
    handler.on_chat_model_start(serialized, messages, run_id=model, parent_run_id=chain, **parameters, **more)
    handler.on_llm_new_token(TEXT, run_id=model, parent_run_id=chain)
    answer = AIMessage(
        TEXT,
        tool_calls=[{"name": "mail", "args": DICT, "id": "1", "type": "tool_call"}],
        additional_kwargs={"reasoning_content": TEXT},
        response_metadata={"model_name": "gpt-5", "headers": DICT},
    )
    result = LLMResult(generations=[[ChatGeneration(message=answer)]], llm_output=DICT)
    handler.on_llm_end(result, run_id=model, parent_run_id=chain)
    handler.on_agent_action(AgentAction("mail", DICT, TEXT), run_id=chain)
    handler.on_tool_start(serialized, TEXT, run_id=tool, parent_run_id=chain, inputs=DICT, **more)
    handler.on_tool_end(DICT, run_id=tool, parent_run_id=chain)
    handler.on_retriever_start(serialized, TEXT, run_id=retriever, parent_run_id=chain, **more)
    handler.on_retriever_end([Document(TEXT, metadata=DICT)], run_id=retriever, parent_run_id=chain)
    handler.on_text(TEXT, run_id=chain)
    handler.on_custom_event(TEXT, DICT, run_id=chain, **more)
    handler.on_llm_start(serialized, [TEXT], run_id=bad_model, parent_run_id=chain, **more)
    handler.on_llm_error(error(), run_id=bad_model, parent_run_id=chain)
    handler.on_tool_start(serialized, TEXT, run_id=bad, parent_run_id=chain)
    handler.on_tool_error(error(), run_id=bad, parent_run_id=chain)
    handler.on_agent_finish(AgentFinish(DICT, TEXT), run_id=chain)
    handler.on_chain_end(DICT, run_id=chain)


def by_litellm() -> None:
    from spanbox.integrations.litellm import SpanboxLogger

    logger = SpanboxLogger()
    for call in ("well", "badly"):
        told: dict[str, Any] = {
            "litellm_call_id": call, "model": f"gpt-5 {MAIL}", "custom_llm_provider": "openai", "user": MAIL,
            "litellm_params": {"api_key": KEY, "metadata": DICT | {"session_id": TEXT, "user_id": MAIL}},
            "optional_params": DICT, "additional_args": {"headers": {"Authorization": KEY}},
        }  # fmt: skip
        logger.log_pre_api_call(told["model"], [{"role": "user", "content": TEXT}, DICT], told)
        tool_calls = [{"function": {"name": "mail", "arguments": TEXT}}]
        message = SimpleNamespace(role="assistant", content=TEXT, tool_calls=tool_calls)
        choice = SimpleNamespace(message=message, finish_reason=TEXT)
        response = SimpleNamespace(id=TEXT, model=TEXT, usage=None, choices=[choice])
        if call == "well":
            logger.log_success_event(told, response, START, START)
        else:
            logger.log_failure_event({**told, "exception": error()}, None, START, START)


def spans_of(tracer: Any) -> None:
    from opentelemetry import trace

    attributes = {
        "gen_ai.input.messages": TEXT,
        "http.request.header.authorization": KEY,
        "rows": [TEXT],
        MAIL: TEXT,
        KEY: 1,
    }
    with suppress(Failed), tracer.start_as_current_span(f"call {KEY}", attributes=attributes) as span:
        link = trace.Link(trace.SpanContext(5, 6, is_remote=True), attributes)
        with tracer.start_as_current_span("child", links=[link]) as child:
            child.update_name(TEXT)
            child.set_attribute(f"of {MAIL}", KEY)
            child.set_attribute(f"{MAIL} {KEY}", True)
            child.set_attribute(f"password {MAIL}", TEXT)
            child.set_attributes(attributes)
            child.add_event(TEXT, attributes)
            child.set_status(trace.Status(trace.StatusCode.ERROR, TEXT))
            child.record_exception(error(), attributes)
        span.set_attribute("gen_ai.output.messages", TEXT)
        raise error()


def by_opentelemetry() -> None:
    pytest.importorskip("opentelemetry")
    from spanbox.otel import TracerProvider

    spans_of(TracerProvider().get_tracer(TEXT))


def by_the_sdk() -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from spanbox.otel import SpanboxExporter, SpanboxProcessor

    for processor in (SpanboxProcessor(), SimpleSpanProcessor(SpanboxExporter())):
        provider = sdk.TracerProvider(resource=Resource({"service.name": TEXT, "owner": MAIL}))
        provider.add_span_processor(processor)
        spans_of(provider.get_tracer("app"))
        provider.shutdown()


def by_otlp() -> None:
    attribute = {"key": f"of {MAIL} {KEY}", "value": {"stringValue": TEXT}}
    span = {
        "traceId": "1" * 32, "spanId": "2" * 16, "name": TEXT, "startTimeUnixNano": "1800000000000000000",
        "endTimeUnixNano": "1800000000000000001", "attributes": [attribute], "status": {"code": 2, "message": TEXT},
        "traceState": f"a={KEY}", "events": [{"name": TEXT, "attributes": [attribute]}],
        "links": [{"traceId": "3" * 32, "spanId": "4" * 16, "attributes": [attribute]}],
    }  # fmt: skip
    scope = {"scope": {"name": TEXT, "attributes": [attribute]}, "spans": [span, {**span, "spanId": "5" * 16}]}
    body = {"resourceSpans": [{"resource": {"attributes": [attribute]}, "scopeSpans": [scope]}]}
    store = _core.Store(_core.recording_path(), False)
    assert store.receive_otlp(json.dumps(body).encode(), True)[0] == 2


def by_ingest() -> None:
    path = Path(_core.recording_path()).parent / "rows.jsonl"
    row = {
        "name": TEXT, "start_ns": 1, "duration_ns": 1, "input": DICT, "output": TEXT, "error_message": TEXT,
        "user_id": MAIL, "model": TEXT, f"of {MAIL}": KEY, KEY: MAIL,
    }  # fmt: skip
    path.write_text("\n".join(json.dumps({**row, "span_id": f"{at:016x}"}) for at in (1, 2)))
    box = spanbox.open(_core.recording_path())
    box.ingest(path)
    path.unlink()
    box.add_scores([{"name": TEXT, "trace_id": "1" * 32, "label": TEXT, "explanation": TEXT, "metadata": DICT}])


def by_httpx() -> None:
    reply = {
        "id": TEXT, "object": "chat.completion", "model": TEXT,
        "choices": [{"index": 0, "finish_reason": TEXT, "message": {
            "role": "assistant", "content": TEXT, "refusal": TEXT,
            "tool_calls": [{"id": TEXT, "type": "function", "function": {"name": TEXT, "arguments": TEXT}}],
        }}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "note": TEXT},
    }  # fmt: skip
    body = {
        "model": TEXT, "messages": [{"role": "user", "content": TEXT}], "system": TEXT, "seed": 1,
        "tools": [{"type": "function", "function": {"name": "f", "description": TEXT}}],
    }  # fmt: skip
    answers = [
        (200, json.dumps(reply).encode(), "application/json"),
        (200, f"data: {json.dumps({**reply, 'object': 'chat.completion.chunk'})}\n\n".encode(), "text/event-stream"),
        (401, json.dumps({"error": {"message": TEXT, "type": TEXT, "code": TEXT}}).encode(), "application/json"),
        (200, TEXT.encode(), "text/plain"),
        (200, json.dumps({"object": TEXT, TEXT: 1}).encode(), "application/json"),
    ]

    def answer(_: Any) -> Any:
        status, content, kind = answers.pop()
        return httpx.Response(status, content=content, headers={"content-type": kind, "x-key": TEXT})

    any_host.install()
    try:
        with httpx.Client(transport=httpx.MockTransport(answer)) as client:
            while answers:
                client.post(f"https://example.test/{KEY}/v1/chat/completions?k={KEY}", json=body, headers={"K": KEY})
    finally:
        any_host.uninstall()

    def fail(_: Any) -> Any:
        raise httpx.ConnectError(TEXT)

    any_host.install()
    try:
        with httpx.Client(transport=httpx.MockTransport(fail)) as client, pytest.raises(httpx.ConnectError):
            client.post("https://example.test/v1/chat/completions", json=body)
    finally:
        any_host.uninstall()


def by_a_file() -> None:
    box = spanbox.open(_core.recording_path())
    run = {
        "id": "0190a1b2-0000-7000-8000-000000000001", "trace_id": "0190a1b2-0000-7000-8000-000000000001", "name": TEXT,
        "run_type": "llm", "start_time": "2026-01-01T00:00:00", "end_time": "2026-01-01T00:00:01", "error": TEXT,
        "inputs": {"messages": [TEXT]}, "outputs": {"text": TEXT}, "extra": {"metadata": {"note": TEXT}},
        "tags": [TEXT],
    }  # fmt: skip
    path = Path(_core.recording_path()).parent / "runs.jsonl"
    other = {**run, "id": run["id"].replace("1b2", "1b3"), "trace_id": run["trace_id"].replace("1b2", "1b3")}
    path.write_text(json.dumps(run) + "\n" + json.dumps(other))
    assert box.import_file(path, format="langsmith").added == 2
    path.unlink()


def by_logs() -> None:
    from spanbox.server import _logs

    told = {"key": "gen_ai.input.messages", "value": {"stringValue": TEXT}}
    record = {
        "timeUnixNano": "1800000000000000000", "traceId": "01" * 16, "spanId": "02" * 8, "body": {"stringValue": TEXT},
        "eventName": "gen_ai.client.inference.operation.details", "attributes": [told, {**told, "key": f"of.{KEY}"}],
    }  # fmt: skip
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record, {**record, "spanId": "03" * 8}]}]}]}
    store: Any = _core.Store(_core.recording_path(), False)
    assert _logs.receive(store, json.dumps(body).encode(), True)[0] == 2


WAYS: list[Callable[[], None]] = [
    by_langchain, by_litellm, by_opentelemetry, by_the_sdk, by_otlp, by_ingest, by_httpx, by_a_file, by_logs,
]  # fmt: skip


@pytest.fixture
def personal(recorded: Any) -> Iterator[Any]:
    spanbox.configure(recorded.path, redact="pii")
    yield recorded
    spanbox.configure(recorded.path, redact="secrets")


@pytest.mark.parametrize("way", WAYS)
def test_no_integration_leads_a_key_or_an_address_to_the_disk(way: Callable[[], None], personal: Any) -> None:
    way()
    assert spanbox.flush(60)
    for path in personal.path.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not any(each.encode() in content for each in CANARIES), path.name
    found = _audit.audit(personal.box, CANARIES)
    assert found.hits == ()
    assert found.spans >= 2
    assert all("[redacted:" in str(span["attributes"]) + span["name"] for span in personal.spans()[:1])


@pytest.mark.parametrize("way", WAYS)
def test_what_is_looked_for_is_there_when_nothing_is_redacted(way: Callable[[], None], personal: Any) -> None:
    spanbox.configure(redact="off")
    way()
    assert spanbox.flush(60)
    assert {hit.canary for hit in _audit.audit(personal.box, CANARIES).hits} == {1, 2, 3}
