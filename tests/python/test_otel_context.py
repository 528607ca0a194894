"""One context for spans of OpenTelemetry's API and spans of ours: either is the other's parent, in threads and tasks
too, and nothing that is detached in the wrong order or place does harm."""

from __future__ import annotations

import asyncio
import logging
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import spanbox

pytest.importorskip("opentelemetry.trace")

from opentelemetry import baggage, trace
from opentelemetry import context as context_api
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from spanbox import observe, otel

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def tracer(recorded: Any) -> Iterator[Any]:
    before = context_api.get_current()
    yield otel.TracerProvider().get_tracer("tests")
    assert context_api.get_current() == before


@observe
def leaf() -> None:
    pass


def test_spans_of_both_kinds_nest_in_each_other(tracer: Any, recorded: Any) -> None:
    @observe(name="ours")
    def ours() -> None:
        with tracer.start_as_current_span("theirs"):
            with spanbox.span("ours again"), tracer.start_as_current_span("theirs again"):
                leaf()
            leaf()
        tracer.start_span("sibling").end()

    with tracer.start_as_current_span("root"):
        ours()
    assert recorded.shape() == textwrap.dedent("""\
        root
          ours
            sibling
            theirs
              leaf
              ours again
                theirs again
                  leaf""")


def test_use_span_and_attach_make_a_span_the_parent(tracer: Any, recorded: Any) -> None:
    span = tracer.start_span("parent")
    with trace.use_span(span):
        leaf()
        assert spanbox.current_span() is span
    leaf()
    token = context_api.attach(trace.set_span_in_context(span))
    leaf()
    tracer.start_span("child").end()
    context_api.detach(token)
    span.end()
    assert recorded.shape() == "leaf\nparent\n  child\n  leaf x2"


def test_a_context_that_is_given_decides(tracer: Any, recorded: Any) -> None:
    with tracer.start_as_current_span("a") as a, spanbox.span("b"):
        tracer.start_span("of a", context=trace.set_span_in_context(a)).end()
        tracer.start_span("root", context=context_api.Context()).end()
        tracer.start_span("of b", context=context_api.get_current()).end()
        with tracer.start_as_current_span("of a too", context=trace.set_span_in_context(a)):
            leaf()
    assert recorded.shape() == "a\n  b\n    of b\n  of a\n  of a too\n    leaf\nroot"


def test_current_span_of_the_api_is_the_observed_one(tracer: Any, recorded: Any) -> None:
    @observe(name="work")
    def work() -> None:
        span = trace.get_current_span()
        assert span is spanbox.current_span()
        assert isinstance(span, trace.Span)
        assert span.is_recording()
        span.set_attribute("from.the.api", 1)
        span.add_event("one")
        span.add_event("two")
        span.end()  # is not its business
        leaf()

    work()
    assert recorded.shape() == "work\n  leaf"
    attributes: Any = recorded.spans()[0]["attributes"]
    assert attributes["from.the.api"] == 1
    assert [event["name"] for event in attributes["events"]] == ["one", "two"]
    assert recorded.spans()[0]["status"] == "ok"


def test_propagator_sends_the_observed_span_and_takes_up_a_remote_one(tracer: Any, recorded: Any) -> None:
    propagator = TraceContextTextMapPropagator()
    sent: dict[str, str] = {}
    context = propagator.extract({"traceparent": PARENT, "tracestate": "vendor=1"})
    token = context_api.attach(context)
    with spanbox.span("work"), tracer.start_as_current_span("call"):
        propagator.inject(sent)
    context_api.detach(token)
    work, call = recorded.spans()
    assert (work["trace_id"], work["parent_id"]) == (PARENT[3:35], PARENT[36:52])
    assert sent["traceparent"] == f"00-{PARENT[3:35]}-{call['span_id']}-01"
    assert sent["tracestate"] == "vendor=1"


def test_a_remote_parent_in_a_given_context_is_one(tracer: Any, recorded: Any) -> None:
    remote = NonRecordingSpan(
        SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(0), trace_state=TraceState())
    )
    tracer.start_span("work", context=trace.set_span_in_context(remote)).end()
    span = recorded.only_span()
    assert (span["trace_id"], span["parent_id"]) == (f"{0xABC:032x}", f"{0xDEF:016x}")


def test_handle_is_a_remote_span_to_the_api(tracer: Any, recorded: Any) -> None:
    with spanbox.attach(PARENT):
        context = trace.get_current_span().get_span_context()
        assert (f"{context.trace_id:032x}", f"{context.span_id:016x}") == (PARENT[3:35], PARENT[36:52])
        assert context.is_remote
        tracer.start_span("work").end()
    assert recorded.only_span()["parent_id"] == PARENT[36:52]


def test_tags_reach_spans_of_the_api(tracer: Any, recorded: Any) -> None:
    with spanbox.tags(tenant="acme"), tracer.start_as_current_span("a"), spanbox.tags(user_id="u1"):
        tracer.start_span("b").end()
    a, b = recorded.spans()
    assert (a["attributes"]["tenant"], a["attributes"].get("user_id")) == ("acme", None)
    assert (b["attributes"]["tenant"], b["attributes"]["user_id"]) == ("acme", "u1")


def test_baggage_goes_through_our_spans(tracer: Any, recorded: Any) -> None:
    token = context_api.attach(baggage.set_baggage("key", "value"))
    with spanbox.span("work"):
        assert baggage.get_baggage("key") == "value"
        with tracer.start_as_current_span("call"):
            assert baggage.get_baggage("key") == "value"
        inner = context_api.attach(baggage.set_baggage("key", "other"))
        leaf()
        assert baggage.get_baggage("key") == "other"
        context_api.detach(inner)
        assert baggage.get_baggage("key") == "value"
    context_api.detach(token)
    assert baggage.get_baggage("key") is None
    assert recorded.shape() == "work\n  call\n  leaf"


def test_threads_and_pools_carry_the_context(tracer: Any, recorded: Any) -> None:
    def work() -> None:
        leaf()
        assert baggage.get_baggage("key") == "value"
        with tracer.start_as_current_span("call"):
            leaf()

    with tracer.start_as_current_span("root"):
        token = context_api.attach(baggage.set_baggage("key", "value"))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(work) for _ in range(3)]:
                done.result()
        context_api.detach(token)
    spans = recorded.spans()
    root = spans[0]
    calls = [span for span in spans if span["name"] == "call"]
    assert [span["parent_id"] for span in calls] == [root["span_id"]] * 4
    assert sorted(span["parent_id"] for span in spans if span["name"] == "leaf") == sorted(
        [root["span_id"]] * 4 + [span["span_id"] for span in calls]
    )


def test_a_span_is_used_in_another_thread(tracer: Any, recorded: Any) -> None:
    span = tracer.start_span("parent")

    def work() -> None:
        with trace.use_span(span, end_on_exit=True):
            leaf()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert recorded.shape() == "parent\n  leaf"


def test_tasks_are_apart_from_each_other(tracer: Any, recorded: Any) -> None:
    async def work(name: str) -> None:
        with tracer.start_as_current_span(name):
            await asyncio.sleep(0)
            leaf()
            await asyncio.sleep(0)
            with trace.use_span(tracer.start_span(f"{name} used"), end_on_exit=True):
                await asyncio.sleep(0)
                leaf()

    async def main() -> None:
        with spanbox.span("main"):
            await asyncio.gather(*(work(f"task {number}") for number in range(3)))

    asyncio.run(main())
    tasks = "\n".join(f"  task {number}\n    leaf\n    task {number} used\n      leaf" for number in range(3))
    assert recorded.shape() == f"main\n{tasks}"


def test_detaching_elsewhere_or_out_of_order_is_harmless(
    tracer: Any, recorded: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    outer = context_api.attach(baggage.set_baggage("n", "1"))
    inner = context_api.attach(baggage.set_baggage("n", "2"))
    in_thread = threading.Thread(target=context_api.detach, args=(inner,))
    in_thread.start()
    in_thread.join()
    assert baggage.get_baggage("n") == "2"
    context_api.detach(outer)
    assert baggage.get_baggage("n") is None
    context_api.detach(inner)
    context_api.detach(outer)
    assert baggage.get_baggage("n") is None
    for wrong in (None, 3, object()):
        context_api.detach(wrong)  # type: ignore[arg-type]
        context_api.attach(wrong)  # type: ignore[arg-type]
    leaf()
    assert recorded.shape() == "leaf"
    assert caplog.records == []


def test_a_stream_that_another_task_closes_leaves_both_where_they_were(
    tracer: Any, recorded: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """openlit#1369, google/adk-python#6893: an ERROR for every turn, and spans that became roots of their own."""
    caplog.set_level(logging.DEBUG, "opentelemetry")

    async def stream() -> AsyncIterator[int]:
        with tracer.start_as_current_span("stream"):
            for number in range(10):
                leaf()
                yield number

    async def main() -> None:
        with spanbox.span("main"):
            chunks = stream()
            await anext(chunks)
            await asyncio.create_task(chunks.aclose())  # type: ignore[attr-defined]
        assert spanbox.current_span() is None

    asyncio.run(main())
    assert caplog.records == []
    assert recorded.tree() == "main [span] ok\n  stream [span] ok\n    leaf [span] ok"


def test_child_ends_after_its_parent(tracer: Any, recorded: Any) -> None:
    with tracer.start_as_current_span("parent"):
        child = tracer.start_span("child")
    child.end()
    assert recorded.shape() == "parent\n  child"


def test_off_inside_a_span_keeps_the_tree(tracer: Any, recorded: Any) -> None:
    with tracer.start_as_current_span("root"):
        spanbox.off()
        with tracer.start_as_current_span("not seen"):
            leaf()
            spanbox.on()
            tracer.start_span("seen").end()
    assert recorded.shape() == "root\n  seen"


def test_many_spans_in_contexts_that_are_kept_free_their_memory(tracer: Any, recorded: Any) -> None:
    import gc
    import weakref

    class Value:
        pass

    value = Value()
    gone = weakref.ref(value)
    token = context_api.attach(context_api.set_value("key", value))
    with tracer.start_as_current_span("a"), trace.use_span(tracer.start_span("b"), end_on_exit=True):
        leaf()
    context_api.detach(token)
    del value, token
    gc.collect()
    assert gone() is None


def test_a_token_is_left_as_one_of_contextvars(recorded: Any) -> None:
    """OpenInference's LlamaIndex says token.var.reset(token); without it every span of its stayed open for good."""
    tracer = otel.TracerProvider().get_tracer("x")
    span = tracer.start_span("run")
    token: Any = context_api.attach(trace.set_span_in_context(span))
    assert trace.get_current_span() is span
    token.var.reset(token)
    token.var.reset(token)
    assert not trace.get_current_span().get_span_context().is_valid
    span.end()
    assert recorded.only_span()["status"] == "ok"
