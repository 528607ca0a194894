"""spanbox.limit(): what runs away is stopped where the next call would start, wherever that is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import spanbox
from spanbox import LimitExceeded, cost, observe


@observe(kind="llm")
def chat(number: int = 0, **told: Any) -> int:
    if told:
        span = spanbox.current_span()
        assert span is not None
        span.set(**told)
    return number


@observe(kind="tool")
async def tool(number: int = 0) -> int:
    return number


@observe(kind="llm")
def stream() -> Iterator[int]:
    yield 1


@observe(kind="llm")
async def async_stream() -> AsyncIterator[int]:
    yield 1


@observe(kind="agent")
def loop(times: int) -> int:
    return sum(chat(1) for _ in range(times))


@observe
def nest(depth: int) -> int:
    return depth if depth == 0 else nest(depth - 1)


def test_an_agent_that_loops_is_stopped(recorded: Any) -> None:
    with spanbox.limit(calls=5) as used, pytest.raises(LimitExceeded, match="5 calls is all that is allowed") as error:
        loop(100)
    assert error.value.limit is used
    assert used.calls == 5
    spans = recorded.spans()
    assert [span["kind"] for span in spans].count("llm") == 5
    [agent] = [span for span in spans if span["kind"] == "agent"]
    assert (agent["status"], agent["attributes"]["error_type"]) == ("error", "spanbox._limit.LimitExceeded")
    assert {span["attributes"]["spanbox.limit"] for span in spans} == {used._token}


def test_what_is_allowed_runs_and_nothing_is_left(recorded: Any) -> None:
    with spanbox.limit(calls=5) as used:
        assert loop(5) == 5
    assert used.calls == 5
    assert loop(50) == 50
    assert "spanbox.limit" not in recorded.spans()[-1]["attributes"]


def test_catching_the_exception_does_not_help(recorded: Any) -> None:
    refused = 0
    with spanbox.limit(calls=3):
        for _ in range(10):
            try:
                chat()
            except LimitExceeded:
                refused += 1
    assert refused == 7


def test_every_way_to_call_is_counted(recorded: Any) -> None:
    async def ask() -> None:
        await tool()
        async for _ in async_stream():
            pass

    with spanbox.limit(calls=5) as used:
        chat()
        asyncio.run(ask())
        list(stream())
        with spanbox.span("by hand", kind="llm"):
            pass
        for call in (chat, stream, tool, async_stream):
            with pytest.raises(LimitExceeded):
                call()
        with pytest.raises(LimitExceeded), spanbox.span("by hand", kind="llm"):
            pass
    assert used.calls == 5


def test_it_reaches_threads_executors_and_tasks(recorded: Any) -> None:
    async def tasks() -> list[Any]:
        return await asyncio.gather(*(tool() for _ in range(4)), return_exceptions=True)

    with spanbox.limit(calls=6) as used:
        thread = threading.Thread(target=chat)
        thread.start()
        thread.join()
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(chat, range(3))) == [0, 1, 2]
        answers = [*asyncio.run(tasks_or_refusals(4))]
    assert used.calls == 6
    assert answers.count(None) == 2


async def tasks_or_refusals(count: int) -> list[int | None]:
    async def one() -> int | None:
        try:
            return await tool()
        except LimitExceeded:
            return None

    return list(await asyncio.gather(*(one() for _ in range(count))))


def test_threads_at_once_are_counted_exactly(recorded: Any) -> None:
    passed = []

    def work() -> None:
        for _ in range(50):
            try:
                passed.append(chat())
            except LimitExceeded:
                continue

    with spanbox.limit(calls=100):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(passed) == 100


def test_depth(recorded: Any) -> None:
    with spanbox.span("outer"), spanbox.limit(depth=3):
        assert nest(2) == 0
        with pytest.raises(LimitExceeded, match="3 spans inside one another"):
            nest(3)
        assert nest(2) == 0


def test_cost_that_spans_tell(recorded: Any) -> None:
    with spanbox.limit(cost_usd=1.0) as used:
        chat(cost_usd=0.6)
        chat(cost_usd=0.6)  # it is known when it has been paid
        with spanbox.span("agent", kind="agent") as span:
            span.set(cost_usd=1.2)  # its calls' sum, which is none of its own
        with pytest.raises(LimitExceeded, match=r"\$1 \(\$1.2 are spent\)"):
            chat()
    assert used.cost_usd == pytest.approx(1.2)


def test_cost_of_tokens_by_their_price(recorded: Any) -> None:
    pytest.importorskip("genai_prices", reason="prices need the extra 'cost'")
    cost.override(model="gpt-x", name="contract", input_per_million=2, output_per_million=10)
    try:
        with spanbox.limit(cost_usd=1.0) as used:
            chat(provider="openai", model="nobody knows", input_tokens=5)
            chat(provider="openai", model="gpt-x", input_tokens=500_000, output_tokens=0)
            with pytest.raises(LimitExceeded):
                chat()
        assert (used.cost_usd, used.unpriced_calls) == (1.0, 1)
    finally:
        cost.clear()


def test_limits_inside_one_another_all_hold(recorded: Any) -> None:
    with spanbox.limit(calls=4) as outer:
        with spanbox.limit(calls=3), pytest.raises(LimitExceeded, match="3 calls"):
            loop(9)
        chat()
        with pytest.raises(LimitExceeded, match="4 calls"):
            chat()
    assert outer.calls == 4


def test_as_a_decorator_each_call_has_its_own(recorded: Any) -> None:
    @spanbox.limit(calls=2)
    @observe(kind="agent")
    def agent(times: int) -> int:
        """Answers."""
        return loop(times)

    @spanbox.limit(calls=2)
    async def async_agent(times: int) -> int:
        return sum([await tool(1) for _ in range(times)])

    assert [agent(2), agent(2), asyncio.run(async_agent(2))] == [2, 2, 2]
    assert (agent.__name__, agent.__doc__) == ("agent", "Answers.")
    with pytest.raises(LimitExceeded):
        agent(3)
    with pytest.raises(LimitExceeded):
        asyncio.run(async_agent(3))
    with pytest.raises(TypeError, match="no generator function"):
        spanbox.limit(calls=2)(stream_plain)


def stream_plain() -> Iterator[int]:
    yield 1


def test_calls_that_are_no_spans_can_be_counted(recorded: Any) -> None:
    with spanbox.limit(calls=2, cost_usd=5) as used:
        used.count()
        used.count(cost_usd=6)
        with pytest.raises(LimitExceeded):
            used.count()


def test_it_holds_while_recording_is_off(recorded: Any) -> None:
    spanbox.off()
    try:
        with spanbox.limit(calls=1):
            chat()
            with pytest.raises(LimitExceeded):
                chat()
    finally:
        spanbox.on()


def test_other_kinds_can_be_counted(recorded: Any) -> None:
    with spanbox.limit(calls=2, kinds=["span"]) as used, pytest.raises(LimitExceeded):
        nest(5)
    assert used.calls == 2


def test_wrong_limits_are_named(recorded: Any) -> None:
    with pytest.raises(ValueError, match="needs calls="):
        spanbox.limit()
    with pytest.raises(ValueError, match="calls=-1 is no limit"):
        spanbox.limit(calls=-1)
    with pytest.raises(ValueError, match="is no limit"):
        spanbox.limit(cost_usd=float("nan"))
    with spanbox.limit(calls=1) as used, pytest.raises(RuntimeError, match="open already"), used:
        pass
    assert repr(used) == "<Limit calls=1: 0 calls, $0>"
