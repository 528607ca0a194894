"""Spans that OpenTelemetry's API starts on our TracerProvider: what is kept of them, and that nothing they are given
raises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import spanbox
from spanbox import semconv

pytest.importorskip("opentelemetry.trace")

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from spanbox import otel


@pytest.fixture
def tracer(recorded: Any) -> Any:
    return otel.TracerProvider().get_tracer("tests", "1.2")


CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.response.model": "gpt-5-2025-08-07",
    "gen_ai.usage.input_tokens": 1100,
    "gen_ai.usage.cache_read.input_tokens": 800,
    "gen_ai.usage.output_tokens": 50,
    "gen_ai.response.time_to_first_chunk": 0.25,
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]),
}
CHAT_COLUMNS = {
    "provider": "openai", "model": "gpt-5-2025-08-07", "model_request": "gpt-5", "operation": "chat",
    "input_tokens": 1100, "cache_read_tokens": 800, "output_tokens": 50, "ttft_ns": 250_000_000,
    "finish_reason": "stop",
}  # fmt: skip


def test_attributes_of_the_conventions_become_columns(tracer: Any, recorded: Any) -> None:
    halves = dict(list(CHAT.items())[:4]), dict(list(CHAT.items())[4:])
    with tracer.start_as_current_span("chat gpt-5", kind=SpanKind.CLIENT, attributes=halves[0]) as span:
        span.set_attributes(halves[1])
    span = recorded.only_span()
    assert span["kind"] == "llm"
    assert {name: span["attributes"].get(name) for name in CHAT_COLUMNS} == CHAT_COLUMNS
    assert span["attributes"]["otel.kind"] == "client"
    assert (span["attributes"]["scope.name"], span["attributes"]["scope.version"]) == ("tests", "1.2")


def plain(value: Any) -> Any:
    """As JSON has it."""
    return json.loads(json.dumps(value))


def test_attributes_come_back_verbatim(tracer: Any, recorded: Any) -> None:
    given: dict[str, Any] = {
        **CHAT,
        "text": "naïve ☕",
        "flag": True,
        "count": -7,
        "ratio": 0.1,
        "list": ["a", "b"],
        "numbers": (1, 2.5),
        "nested": {"a": [1, {"b": None}]},
        # named like columns, like what we add ourselves, and like nothing
        "model": "mine", "name": "n", "input": "in", "ttft": 3, "attributes.model": 1, "scope.name": "s",
        "otel.kind": "k", "resource.a": 2, "tokens_dialect": "d", "": "empty",
    }  # fmt: skip
    with tracer.start_as_current_span("call", attributes=given):
        pass
    row = recorded.only_span()["attributes"]
    ours = ("otel.kind", "scope.name", "scope.version")
    back = semconv.restore({name: value for name, value in row.items() if name not in ours})
    assert {name: plain(back.get(name)) for name in given} == {
        name: plain(json.loads(value) if name == "gen_ai.input.messages" and not isinstance(back[name], str) else value)
        for name, value in given.items()
    }


def test_last_value_of_an_attribute_counts(tracer: Any, recorded: Any) -> None:
    with tracer.start_as_current_span("chat", attributes={"gen_ai.request.model": "first", "x": 1}) as span:
        span.set_attribute("gen_ai.request.model", "second")
        span.set_attribute("x", 2)
    attributes = recorded.only_span()["attributes"]
    assert (attributes["model"], attributes["x"]) == ("second", 2)


def test_times_that_are_given_are_kept_to_the_nanosecond(tracer: Any, recorded: Any) -> None:
    start_ns = 1_700_000_000_123_456_789
    tracer.start_span("past", start_time=start_ns).end(start_ns + 1_234_567)
    span = recorded.only_span()
    assert (span["start_ns"], span["duration_ns"]) == (start_ns, 1_234_567)


def test_an_end_before_the_start_makes_no_negative_duration(tracer: Any, recorded: Any) -> None:
    tracer.start_span("odd", start_time=2_000_000_000).end(1_000_000_000)
    assert recorded.only_span()["duration_ns"] == 0


def test_only_the_first_end_counts_and_nothing_is_kept_after_it(tracer: Any, recorded: Any) -> None:
    span = tracer.start_span("once", start_time=1_000)
    assert span.is_recording()
    span.end(3_000)
    assert not span.is_recording()
    span.end(9_000)
    span.set_attribute("late", 1)
    span.update_name("late")
    span.add_event("late")
    stored = recorded.only_span()
    assert (stored["name"], stored["duration_ns"]) == ("once", 2_000)
    assert "late" not in json.dumps(stored["attributes"])


def test_events_links_and_a_new_name_are_kept(tracer: Any, recorded: Any) -> None:
    other = SpanContext(0x1234, 0x56, is_remote=True, trace_flags=TraceFlags(1))
    with tracer.start_as_current_span("before", links=[trace.Link(other, {"why": "batch"})]) as span:
        for number in range(5):
            span.add_event("chunk", {"number": number}, timestamp=1_000 + number)
        span.add_link(SpanContext(0x9, 0x8, is_remote=False))
        span.update_name("after")
    stored = recorded.only_span()
    assert stored["name"] == "after"
    assert stored["attributes"]["events"] == [
        {"name": "chunk", "time_ns": 1_000 + number, "attributes": {"number": number}} for number in range(5)
    ]
    assert stored["attributes"]["links"] == [
        {"trace_id": f"{0x1234:032x}", "span_id": f"{0x56:016x}", "attributes": {"why": "batch"}},
        {"trace_id": f"{9:032x}", "span_id": f"{8:016x}"},
    ]


def raises_value_error() -> None:
    raise ValueError("bad")


def test_exception_that_leaves_the_block_is_an_error_with_an_event(tracer: Any, recorded: Any) -> None:
    with pytest.raises(ValueError, match="bad"), tracer.start_as_current_span("work"):
        raises_value_error()
    span = recorded.only_span()
    attributes: Any = span["attributes"]
    assert span["status"] == "error"
    assert (attributes["error_type"], attributes["error_message"]) == ("ValueError", "bad")
    [event] = attributes["events"]
    assert event["name"] == "exception"
    assert event["attributes"]["exception.type"] == "ValueError"
    assert "raises_value_error" in event["attributes"]["exception.stacktrace"]


def test_exception_may_be_left_out_of_events_and_status(tracer: Any, recorded: Any) -> None:
    options = {"record_exception": False, "set_status_on_exception": False}
    with pytest.raises(ValueError, match="bad"), tracer.start_as_current_span("work", **options):
        raises_value_error()
    span = recorded.only_span()
    assert span["status"] == "ok"
    assert "events" not in span["attributes"]


@pytest.mark.parametrize("error", [GeneratorExit, KeyboardInterrupt])
def test_what_is_no_exception_is_no_error(error: type[BaseException], tracer: Any, recorded: Any) -> None:
    with pytest.raises(error), tracer.start_as_current_span("work"):
        raise error
    assert recorded.only_span()["status"] == "ok"


def test_recorded_exception_explains_a_span_that_is_set_to_error(tracer: Any, recorded: Any) -> None:
    span = tracer.start_span("work")
    span.record_exception(KeyError("k"), attributes={"extra": 1}, timestamp=5)
    span.set_status(StatusCode.ERROR)
    span.end()
    attributes: Any = recorded.only_span()["attributes"]
    assert attributes["error_type"] == "KeyError"
    assert attributes["events"][0]["time_ns"] == 5
    assert attributes["events"][0]["attributes"]["extra"] == 1


def set_statuses(*statuses: tuple[Any, ...]) -> Callable[[Any], None]:
    def act(span: Any) -> None:
        for status in statuses:
            span.set_status(*status)

    return act


@pytest.mark.parametrize(
    ("act", "status", "message", "code"),
    [
        (set_statuses(), "ok", None, None),
        (set_statuses((StatusCode.ERROR, "went wrong")), "error", "went wrong", None),
        (set_statuses((Status(StatusCode.ERROR, "went wrong"),)), "error", "went wrong", None),
        (set_statuses((StatusCode.OK,)), "ok", None, "ok"),
        (set_statuses((StatusCode.ERROR,), (StatusCode.OK,)), "ok", None, "ok"),
        (set_statuses((StatusCode.OK,), (StatusCode.ERROR, "late")), "ok", None, "ok"),
        (set_statuses((StatusCode.ERROR, "kept"), (StatusCode.UNSET,)), "error", "kept", None),
    ],
)
def test_status_follows_the_specification(
    act: Callable[[Any], None], status: str, message: str | None, code: str | None, tracer: Any, recorded: Any
) -> None:
    with tracer.start_as_current_span("work") as span:
        act(span)
    stored = recorded.only_span()
    assert stored["status"] == status
    assert stored["attributes"].get("error_message") == message
    assert stored["attributes"].get("otel.status_code") == code


def test_span_context_has_the_stored_ids_and_is_sampled(tracer: Any, recorded: Any) -> None:
    with tracer.start_as_current_span("work") as span:
        context = span.get_span_context()
    stored = recorded.only_span()
    assert trace.format_trace_id(context.trace_id) == stored["trace_id"]
    assert trace.format_span_id(context.span_id) == stored["span_id"]
    assert context.is_valid
    assert not context.is_remote
    assert context.trace_flags.sampled


def test_span_is_one_of_the_api(tracer: Any) -> None:
    span = tracer.start_span("work")
    assert isinstance(span, trace.Span)
    assert isinstance(tracer, trace.Tracer)
    assert isinstance(span, spanbox._core.Span)
    span.end()


def test_start_span_as_a_block_ends_it_but_does_not_make_it_current(tracer: Any, recorded: Any) -> None:
    span = tracer.start_span("work")
    with pytest.raises(ValueError, match="bad"), span:
        raises_value_error() if trace.get_current_span() is not span else None
    assert recorded.tree() == "work [span] error"


def test_block_may_leave_its_span_open(tracer: Any, recorded: Any) -> None:
    with tracer.start_as_current_span("work", end_on_exit=False) as span:
        pass
    assert span.is_recording()
    span.end()
    assert recorded.tree() == "work [span] ok"


def test_decorator_makes_a_span_of_every_call(tracer: Any, recorded: Any) -> None:
    @tracer.start_as_current_span("double")
    def double(x: int) -> int:
        return 2 * x

    assert [double(1), double(2)] == [2, 4]
    assert recorded.tree() == "double [span] ok\ndouble [span] ok"


def test_decorated_coroutine_is_one(tracer: Any, recorded: Any) -> None:
    import asyncio

    @tracer.start_as_current_span("double")
    async def double(x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    assert asyncio.run(double(4)) == 8
    assert recorded.tree() == "double [span] ok"


class Hostile:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__

    def __len__(self) -> int:
        raise RuntimeError

    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError


class BadText(Exception):
    def __str__(self) -> str:
        raise RuntimeError


WRONG: dict[str, Callable[[], Any]] = {
    "none": lambda: None, "number": lambda: 3, "text": lambda: "text", "object": object, "hostile": Hostile,
    "mapping": lambda: {1: 2}, "list": lambda: [1], "nan": lambda: float("nan"), "bytes": lambda: b"\xff",
    "large": lambda: 1 << 80,
}  # fmt: skip


@pytest.mark.parametrize("which", WRONG)
def test_nothing_a_span_is_given_raises(which: str, tracer: Any, recorded: Any) -> None:
    wrong = WRONG[which]()
    arguments = ("context", "kind", "attributes", "links", "start_time", "record_exception", "set_status_on_exception")
    for name in arguments:
        tracer.start_span("s", **{name: wrong}).end()
    span = tracer.start_span("s")
    span.set_attribute(wrong, wrong)
    span.set_attribute("a", wrong)
    span.set_attributes(wrong)
    span.set_attributes({"a": wrong})
    span.add_event(wrong, wrong, wrong)
    span.add_link(wrong, wrong)
    span.update_name(wrong)
    span.set_status(wrong, wrong)
    span.record_exception(wrong, wrong, wrong, wrong)
    span.record_exception(BadText())
    span.end(wrong)
    tracer.start_span(wrong).end()
    spanbox.flush()
    assert spanbox.health()["dropped_spans"] == 0
    assert len(recorded.spans()) == len(arguments) + 2


def test_secrets_in_attributes_are_redacted(tracer: Any, recorded: Any) -> None:
    key = "sk-proj-" + "A1b2" * 12
    with tracer.start_as_current_span(
        "call", attributes={"http.request.header.authorization": f"Bearer {key}"}
    ) as span:
        span.set_attribute("gen_ai.input.messages", f"my key is {key}")
        span.add_event("note", {"api_key": key, "text": key})
    assert key not in json.dumps(recorded.spans())


def test_off_records_nothing_and_gives_the_api_s_own_spans(tracer: Any, recorded: Any) -> None:
    spanbox.off()
    try:
        with tracer.start_as_current_span("work") as span:
            assert not span.is_recording()
            assert not span.get_span_context().is_valid
        assert not tracer.start_span("work").is_recording()
    finally:
        spanbox.on()
    assert recorded.spans() == []


def test_suppressed_instrumentation_makes_no_spans(tracer: Any, recorded: Any) -> None:
    token = context_api.attach(context_api.set_value(context_api._SUPPRESS_INSTRUMENTATION_KEY, True))
    with tracer.start_as_current_span("hidden"):
        assert not tracer.start_span("hidden").is_recording()
    context_api.detach(token)
    tracer.start_span("seen").end()
    assert recorded.tree() == "seen [span] ok"


def test_resource_of_the_environment_is_on_every_span(recorded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=a%20b, service.name=other")
    otel.TracerProvider(resource={"zone": 3}).get_tracer("tests").start_span("work").end()
    attributes = recorded.only_span()["attributes"]
    assert (attributes["resource.service.name"], attributes["resource.team"]) == ("shop", "a b")
    assert attributes["resource.zone"] == 3


KILLED = """
import os, signal, spanbox
from spanbox import otel
tracer = otel.TracerProvider().get_tracer("tests")
with tracer.start_as_current_span("call", attributes={"gen_ai.request.model": "gpt-5"}) as span:
    span.set_attribute("gen_ai.operation.name", "chat")
    span.add_event("sent")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_span_of_a_killed_process_is_there_with_what_was_set(recorded: Any) -> None:
    environment = {**os.environ, "SPANBOX_DIR": str(recorded.path)}
    died = subprocess.run([sys.executable, "-c", KILLED], env=environment, check=False)
    assert died.returncode == -9
    span = recorded.reopened().only_span()
    assert (span["name"], span["status"]) == ("call", "interrupted")
    assert semconv.restore(span["attributes"])["gen_ai.request.model"] == "gpt-5"
    assert span["attributes"]["events"][0]["name"] == "sent"


def test_openinferences_event_of_the_first_token_is_the_ttft(tracer: Any, recorded: Any) -> None:
    with tracer.start_as_current_span("chat") as span:
        span.add_event("First Token Stream Event")
        span.add_event("First Token Stream Event")
    stored = recorded.only_span()
    assert 0 < stored["attributes"]["ttft_ns"] <= stored["duration_ns"]
    [event, _] = stored["attributes"]["events"]
    assert abs(stored["start_ns"] + stored["attributes"]["ttft_ns"] - event["time_ns"]) < 1_000_000
