"""spanbox.limit() counts the model calls that instrumentors start, and stops them where they are made."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import spanbox
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from spanbox import LimitExceeded, observe
from spanbox._limit import LimitBreak
from spanbox.otel import SpanboxProcessor, TracerProvider

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5"}
USAGE = {"gen_ai.usage.input_tokens": 1_000_000, "gen_ai.usage.output_tokens": 0}  # $1.25


@pytest.fixture(params=["spanbox's provider", "an SDK's, with SpanboxProcessor"])
def tracer(request: pytest.FixtureRequest) -> Any:
    if request.param == "spanbox's provider":
        return TracerProvider().get_tracer("instrumentor")
    provider = SdkTracerProvider()
    provider.add_span_processor(SpanboxProcessor())
    return provider.get_tracer("instrumentor")


OURS_ONLY = pytest.mark.parametrize("tracer", ["spanbox's provider"], indirect=True)


def client_call(tracer: Any, attributes: dict[str, Any] | None = None, usage: dict[str, Any] | None = None) -> None:
    """As careful instrumentors do it: nothing that goes wrong with a span harms the call."""
    try:
        span = tracer.start_span("chat gpt-5", attributes=CHAT if attributes is None else attributes)
    except Exception:
        span = trace.INVALID_SPAN
    with trace.use_span(span, end_on_exit=True):
        span.set_attributes(usage or {})


def agent(tracer: Any, times: int, **what: Any) -> None:
    for _ in range(times):
        try:
            client_call(tracer, **what)
        except Exception:
            continue


def test_calls_of_instrumented_clients_are_counted_and_stopped(recorded: Any, tracer: Any) -> None:
    with pytest.raises(LimitExceeded, match="3 calls is all") as error, spanbox.limit(calls=3) as used:
        agent(tracer, 100)
    assert error.value.limit is used
    assert used.calls == 3
    assert len(recorded.spans()) == 3


def test_it_is_raised_through_what_catches_every_exception(recorded: Any, tracer: Any) -> None:
    with spanbox.limit(calls=0), pytest.raises(LimitBreak) as error:
        client_call(tracer)
    assert isinstance(error.value.__cause__, LimitExceeded)


@pytest.mark.parametrize(
    "attributes",
    [
        {}, CHAT, {"openinference.span.kind": "LLM"}, {"llm.request.type": "chat"}, {"gen_ai.operation.name": "chat"},
        {"openinference.span.kind": "TOOL"}, {"gen_ai.operation.name": "embeddings"},
    ],
)  # fmt: skip
def test_every_dialect_is_counted(recorded: Any, tracer: Any, attributes: dict[str, Any]) -> None:
    with spanbox.limit(calls=10) as used:
        client_call(tracer, attributes)
    assert used.calls == 1


def test_other_spans_are_not_counted(recorded: Any, tracer: Any) -> None:
    with spanbox.limit(calls=1) as used:
        for _ in range(5):
            with tracer.start_as_current_span("GET /"), tracer.start_as_current_span("invoke_agent x"):
                pass
    assert used.calls == 0


def test_what_they_cost_is_counted(recorded: Any, tracer: Any) -> None:
    with pytest.raises(LimitExceeded, match=r"\$2 \(\$2.5 are spent\)"), spanbox.limit(cost_usd=2.0) as used:
        agent(tracer, 10, usage=USAGE)
    assert (used.cost_usd, used.calls) == (2.5, 2)


def test_a_cost_told_piece_by_piece_counts_once(recorded: Any, tracer: Any) -> None:
    with spanbox.limit(cost_usd=100.0) as used:
        with tracer.start_as_current_span("chat gpt-5") as span:
            for key, value in (CHAT | USAGE).items():
                span.set_attribute(key, value)
        assert used.cost_usd == 1.25


def test_a_frameworks_run_and_its_clients_call_are_one(recorded: Any, tracer: Any) -> None:
    with spanbox.limit(calls=10, cost_usd=100.0) as used:
        with spanbox.span("chat", kind="llm") as run:
            client_call(tracer, usage=USAGE)
            run.set(provider="openai", model="gpt-5", input_tokens=1_000_000, output_tokens=0)
        assert (used.calls, used.cost_usd) == (1, 1.25)
        with tracer.start_as_current_span("outer", attributes={"openinference.span.kind": "LLM"}) as outer:
            client_call(tracer, usage=USAGE)
            client_call(tracer, usage=USAGE)
            outer.set_attributes(CHAT | USAGE)
        assert (used.calls, used.cost_usd) == (3, 3.75)


def test_depth_counts_spans_of_both(recorded: Any, tracer: Any) -> None:
    @observe
    def inner() -> None:
        with tracer.start_as_current_span("too deep"):
            pass

    with pytest.raises(LimitExceeded, match="2 spans inside one another"), spanbox.limit(depth=2):  # noqa: SIM117
        with tracer.start_as_current_span("outer"):
            inner()


def test_limits_outside_are_told_too(recorded: Any, tracer: Any) -> None:
    with spanbox.limit(calls=10) as outer:
        with spanbox.limit(calls=5) as inner:
            client_call(tracer)
        client_call(tracer)
    client_call(tracer)
    assert (inner.calls, outer.calls) == (1, 2)


def test_tasks_and_groups(recorded: Any, tracer: Any) -> None:
    async def one() -> None:
        await asyncio.sleep(0)
        client_call(tracer)

    async def many() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(one())

    async def run() -> None:
        with spanbox.limit(calls=2):
            await many()

    with pytest.raises(LimitExceeded):
        asyncio.run(run())


def test_it_holds_while_recording_is_off(recorded: Any, tracer: Any) -> None:
    spanbox.off()
    try:
        with pytest.raises(LimitExceeded), spanbox.limit(calls=2):
            agent(tracer, 10)
    finally:
        spanbox.on()
    assert recorded.spans() == []


def test_a_run_of_langchain_is_stopped(recorded: Any) -> None:
    from langchain_core.language_models.fake_chat_models import FakeListChatModel
    from spanbox.integrations.langchain import SpanboxCallbackHandler

    model = FakeListChatModel(responses=["yes"])
    with pytest.raises(LimitExceeded), spanbox.limit(calls=2) as used:  # noqa: PT012
        for _ in range(5):
            model.invoke("again?", config={"callbacks": [SpanboxCallbackHandler()]})
    assert used.calls == 2
    assert [span["kind"] for span in recorded.spans()].count("llm") == 2


def test_without_a_limit_nothing_is_kept(recorded: Any, tracer: Any) -> None:
    client_call(tracer, usage=USAGE)
    with spanbox.limit(calls=1):
        pass
    client_call(tracer, usage=USAGE)
    assert len(recorded.spans()) == 2
