"""@observe on coroutines, generators and async generators: the span ends once, with the right status, however they end;
and they stay what they were to everybody who looks."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import threading
import types
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest
import spanbox
from spanbox import observe


@observe(name="stream", kind="llm")
def stream(n: int) -> Iterator[str]:
    for i in range(n):
        yield f"<{i}>"


@observe(name="astream", kind="llm")
async def astream(n: int) -> AsyncIterator[str]:
    for i in range(n):
        await asyncio.sleep(0)
        yield f"<{i}>"


def ended(recorded: Any) -> dict[str, Any]:
    """The one span: ended, and once."""
    span = recorded.only_span()
    health = spanbox.health()
    assert health["open_spans"] == 0
    assert health["recorded_spans"] == health["stored_spans"] == 1
    return dict(span)


# --- What is kept -----------------------------------------------------------------------------------------------------


def test_first_chunk_is_ttft_and_every_arrival_is_kept(recorded: Any) -> None:
    assert list(stream(3)) == ["<0>", "<1>", "<2>"]
    span = ended(recorded)
    attributes = span["attributes"]
    assert attributes["input"] == {"n": 3}
    assert attributes["output"] == "<0><1><2>"
    assert attributes["chunks"] == 3
    deltas = attributes["chunk_deltas_us"]
    assert len(deltas) == 3
    assert deltas[0] == attributes["ttft_ns"] // 1000
    assert sum(deltas) * 1000 <= span["duration_ns"]
    assert 0 <= attributes["longest_stall_ns"] <= span["duration_ns"]


def test_arrivals_take_about_two_bytes_a_chunk_in_the_store(recorded: Any) -> None:
    with spanbox.span("warm"):
        pass
    chunks = 10_000
    for _ in stream(chunks):
        pass
    spanbox.flush()
    [row] = recorded.box.spans('name == "stream"').to_arrow().to_pylist()
    assert row["chunks"] == chunks
    assert len(row["chunk_deltas_us"]) < 4 * chunks  # as text; packed in its block it is smaller still


def test_chunks_that_are_no_text_are_kept_as_a_list(recorded: Any) -> None:
    @observe(name="events")
    def events() -> Iterator[dict[str, Any]]:
        yield {"delta": "a"}
        yield {"delta": "b", "api_key": "sk-1"}

    assert len(list(events())) == 2
    assert ended(recorded)["attributes"]["output"] == [{"delta": "a"}, {"delta": "b", "api_key": "[redacted]"}]


def test_capture_output_false_keeps_the_times_and_not_the_text(recorded: Any) -> None:
    @observe(name="quiet", capture_output=False)
    def quiet() -> Iterator[str]:
        yield "canary"

    list(quiet())
    attributes = ended(recorded)["attributes"]
    assert "output" not in attributes
    assert attributes["chunks"] == 1


def test_a_stream_without_chunks_has_no_first_token(recorded: Any) -> None:
    assert list(stream(0)) == []
    attributes = ended(recorded)["attributes"]
    assert "ttft_ns" not in attributes
    assert "chunks" not in attributes


def test_endless_stream_is_counted_whole_and_kept_in_bounds(recorded: Any) -> None:
    total = 40_000
    for _ in stream(total):
        pass
    attributes = ended(recorded)["attributes"]
    assert attributes["chunks"] == total
    assert len(attributes["chunk_deltas_us"]) <= 16_384
    assert attributes["truncated"] is True


# --- How it ends ------------------------------------------------------------------------------------------------------


def run_out(make: Callable[[int], Any]) -> None:
    for _ in make(3):
        pass


def break_early(make: Callable[[int], Any]) -> None:
    for _ in make(3):
        break


def close_by_hand(make: Callable[[int], Any]) -> None:
    chunks = make(3)
    next(chunks)
    chunks.close()
    chunks.close()


def throw_away(make: Callable[[int], Any]) -> None:
    chunks = make(3)
    next(chunks)
    del chunks
    gc.collect()


def throw_away_in_a_cycle(make: Callable[[int], Any]) -> None:
    chunks = make(3)
    next(chunks)
    cycle: list[Any] = [chunks]
    cycle.append(cycle)
    del chunks, cycle
    gc.collect()


def throw_in(make: Callable[[int], Any]) -> None:
    chunks = make(3)
    next(chunks)
    with pytest.raises(ValueError, match="from outside"):
        chunks.throw(ValueError("from outside"))


def close_in_another_thread(make: Callable[[int], Any]) -> None:
    chunks = make(3)
    next(chunks)
    thread = threading.Thread(target=chunks.close)
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    ("end", "status", "early"),
    [
        (run_out, "ok", None),
        (break_early, "ok", True),
        (close_by_hand, "ok", True),
        (throw_away, "ok", True),
        (throw_away_in_a_cycle, "ok", True),
        (throw_in, "error", None),
        (close_in_another_thread, "ok", True),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_generator_span_ends_once(recorded: Any, end: Callable[[Any], None], status: str, early: bool | None) -> None:
    end(stream)
    span = ended(recorded)
    assert span["status"] == status
    assert span["attributes"].get("closed_early") == early
    assert spanbox.current_span() is None


def test_generator_never_started_records_nothing(recorded: Any) -> None:
    chunks = stream(3)
    chunks.close()
    del chunks
    assert recorded.spans() == []


def test_send_throw_and_return_value_reach_the_generator(recorded: Any) -> None:
    @observe(name="echo")
    def echo() -> Generator[str, str, str]:
        got = yield "ready"
        try:
            got = yield got.upper()
        except KeyError:
            got = yield "caught"
        return got

    chunks = echo()
    assert next(chunks) == "ready"
    assert chunks.send("a") == "A"
    assert chunks.throw(KeyError("x")) == "caught"
    with pytest.raises(StopIteration) as stop:
        chunks.send("last")
    assert stop.value.value == "last"
    span = ended(recorded)
    assert span["status"] == "ok"
    assert span["attributes"]["chunks"] == 3


@pytest.mark.parametrize("value", [(1, 2), StopIteration("x"), None, ValueError("v")], ids=repr)
def test_return_value_of_a_generator_is_not_taken_apart(recorded: Any, value: object) -> None:
    @observe(name="returns")
    def returns() -> Generator[int, None, object]:
        yield 1
        return value

    def outer() -> Generator[int, None, None]:
        assert (yield from returns()) is value

    assert list(outer()) == [1]


async def async_run_out() -> None:
    async for _ in astream(3):
        pass


async def async_break_early() -> None:
    async for _ in astream(3):
        break


async def async_close_by_hand() -> None:
    chunks: Any = astream(3)
    await anext(chunks)
    await chunks.aclose()
    await chunks.aclose()


async def async_throw_in() -> None:
    chunks: Any = astream(3)
    await anext(chunks)
    with pytest.raises(ValueError, match="from outside"):
        await chunks.athrow(ValueError("from outside"))


async def async_cancelled() -> None:
    waiting = asyncio.Event()

    @observe(name="astream")
    async def stuck() -> AsyncIterator[str]:
        yield "one"
        waiting.set()
        await asyncio.Event().wait()

    async def consume() -> None:
        async for _ in stuck():
            pass

    task = asyncio.create_task(consume())
    await waiting.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def async_closed_by_another_task() -> None:
    chunks: Any = astream(3)
    await anext(chunks)

    async def close() -> None:
        await chunks.aclose()

    await asyncio.create_task(close())


async def async_steps_in_different_tasks() -> None:
    chunks: Any = astream(2)
    got = [await asyncio.create_task(_await(chunks.__anext__)) for _ in range(2)]
    assert got == ["<0>", "<1>"]
    with pytest.raises(StopAsyncIteration):
        await asyncio.create_task(_await(chunks.__anext__))


async def _await(step: Any) -> Any:
    return await step()


@pytest.mark.parametrize(
    ("end", "status", "early"),
    [
        (async_run_out, "ok", None),
        (async_break_early, "ok", True),
        (async_close_by_hand, "ok", True),
        (async_throw_in, "error", None),
        (async_cancelled, "error", None),
        (async_closed_by_another_task, "ok", True),
        (async_steps_in_different_tasks, "ok", None),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_async_generator_span_ends_once(recorded: Any, end: Any, status: str, early: bool | None) -> None:
    asyncio.run(end())
    gc.collect()
    span = ended(recorded)
    assert span["status"] == status
    assert span["attributes"].get("closed_early") == early
    if status == "error":
        assert span["attributes"]["error_type"] in ("ValueError", "asyncio.exceptions.CancelledError")


def test_asend_reaches_the_async_generator(recorded: Any) -> None:
    @observe(name="echo")
    async def echo() -> Any:
        got = yield "ready"
        with contextlib.suppress(KeyError):
            got = yield got.upper()
        yield "last"

    async def main() -> None:
        chunks = echo()
        assert await chunks.asend(None) == "ready"
        assert await chunks.asend("a") == "A"
        assert await chunks.athrow(KeyError("x")) == "last"
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)

    asyncio.run(main())
    assert ended(recorded)["attributes"]["chunks"] == 3


async def returns_42() -> int:
    return 42


# --- Context ----------------------------------------------------------------------------------------------------------


def test_the_consumer_is_no_child_of_the_stream(recorded: Any) -> None:
    @observe(name="stream")
    def chunks() -> Iterator[int]:
        with spanbox.span("inside before"):
            yield 1
        with spanbox.span("inside after"):
            pass
        yield 2

    with spanbox.span("root"):
        for n in chunks():
            with spanbox.span(f"consumer {n}"):
                pass
    assert recorded.shape() == ("root\n  consumer 1\n  consumer 2\n  stream\n    inside after\n    inside before")


def test_the_users_own_context_variables_flow_as_before(recorded: Any) -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")

    @observe
    def plain() -> Iterator[str]:
        yield request.get()
        request.set("set by the generator")
        yield request.get()

    chunks = plain()
    assert next(chunks) == "none"
    assert next(chunks) == "set by the generator"
    assert request.get() == "set by the generator"  # as without @observe


def test_generator_consumed_in_another_task_keeps_its_parent(recorded: Any) -> None:
    async def consume(chunks: Any) -> list[str]:
        with spanbox.span("consumer"):
            return [chunk async for chunk in chunks]

    @observe(name="agent")
    async def agent() -> list[str]:
        chunks = astream(2)
        first = await anext(chunks)
        return [first, *await asyncio.create_task(consume(chunks))]

    assert asyncio.run(agent()) == ["<0>", "<1>"]
    assert recorded.shape() == "agent\n  astream\n  consumer"


def test_interleaved_streams_do_not_nest(recorded: Any) -> None:
    with spanbox.span("root"):
        for _ in zip(stream(3), stream(3), strict=True):
            pass
    assert recorded.shape() == "root\n  stream x2"


def test_tags_held_over_a_yield_are_the_streams_own(recorded: Any) -> None:
    @observe(name="stream")
    def chunks() -> Iterator[int]:
        with spanbox.tags(user_id="inside"):
            yield 1
            with spanbox.span("child of the stream"):
                pass

    for _ in chunks():
        with spanbox.span("consumer"):
            pass
    users = {span["name"]: span["attributes"].get("user_id") for span in recorded.spans()}
    assert users == {"stream": None, "child of the stream": "inside", "consumer": None}


# --- What others see --------------------------------------------------------------------------------------------------


def test_types_and_flags_are_those_of_the_function(recorded: Any) -> None:
    assert inspect.isgeneratorfunction(stream)
    assert inspect.isasyncgenfunction(astream)
    assert type(stream(1)) is types.GeneratorType
    assert type(astream(1)) is types.AsyncGeneratorType
    decorated = observe(returns_42)
    assert inspect.iscoroutinefunction(decorated)
    assert asyncio.iscoroutinefunction(decorated)
    coroutine = decorated()
    assert type(coroutine) is types.CoroutineType
    assert asyncio.run(coroutine) == 42
    assert str(inspect.signature(stream)) == str(inspect.signature(inspect.unwrap(stream)))
    assert stream.__name__ == "stream"
    assert stream.__module__ == __name__


def test_context_manager_made_of_an_observed_generator(recorded: Any) -> None:
    @contextlib.contextmanager
    @observe(name="session")
    def session() -> Iterator[str]:
        yield "open"

    with session() as state:
        assert state == "open"
    with pytest.raises(KeyError), session():
        raise KeyError("x")
    assert [span["status"] for span in recorded.spans()] == ["ok", "error"]


def test_yielded_objects_are_not_kept_alive(recorded: Any) -> None:
    class Chunk:
        pass

    @observe
    def chunks() -> Iterator[Chunk]:
        yield Chunk()
        yield Chunk()

    running = chunks()
    first = weakref.ref(next(running))
    gc.collect()
    assert first() is None
    running.close()


def test_observed_class_traces_its_public_methods(recorded: Any) -> None:
    @observe(kind="agent")
    class Agent:
        limit = 3

        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, task: str) -> str:
            return self._step(task)

        def _step(self, task: str) -> str:
            return task.upper()

        @staticmethod
        def plain(x: int) -> int:
            return x

        @classmethod
        def make(cls) -> Agent:
            return cls("made")

        def stream(self) -> Iterator[int]:
            yield 1

        async def wait(self) -> int:
            return 5

        def __call__(self) -> str:
            return self.name

    assert isinstance(Agent("a"), Agent)
    agent = Agent.make()
    assert agent.run("x") == "X"
    assert Agent.plain(2) == 2
    assert list(agent.stream()) == [1]
    assert asyncio.run(agent.wait()) == 5
    assert agent() == "made"
    names = [span["name"].rsplit(".", 2)[-1] for span in recorded.spans()]
    assert names == ["make", "run", "plain", "stream", "wait", "__call__"]
    assert {span["kind"] for span in recorded.spans()} == {"agent"}


def test_off_is_the_function_itself(recorded: Any) -> None:
    spanbox.off()
    try:
        assert list(stream(2)) == ["<0>", "<1>"]
        assert asyncio.run(observe(returns_42)()) == 42
    finally:
        spanbox.on()
    assert recorded.spans() == []
