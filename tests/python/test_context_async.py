"""Tasks, callbacks and task groups go on in the span they were started in, whichever library runs them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import spanbox
from spanbox import observe


@observe(name="leaf")
def leaf() -> None: ...


@observe(name="step")
async def step(n: int = 0) -> int:
    await asyncio.sleep(0)
    leaf()
    return n


def test_tasks_of_every_kind_go_on_in_their_span(recorded: Any) -> None:
    async def main() -> None:
        with spanbox.span("root"):
            await step()
            await asyncio.create_task(step())
            async with asyncio.TaskGroup() as group:
                group.create_task(step())
                group.create_task(step())
            await asyncio.wait_for(step(), 60)
            await asyncio.shield(step())
        await step()

    asyncio.run(main())
    assert recorded.shape() == "root\n  step x6\n    leaf\nstep\n  leaf"


def test_callbacks_go_on_in_their_span(recorded: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        called = asyncio.Event()
        with spanbox.span("root"):
            loop.call_soon(leaf)
            loop.call_later(0, leaf)
            loop.call_later(0.001, called.set)
            task = loop.create_task(step())
            task.add_done_callback(lambda _: leaf())
        await task
        await called.wait()

    asyncio.run(main())
    assert recorded.shape() == "root\n  leaf x3\n  step\n    leaf"


def test_other_threads_reach_the_loop_in_their_span(recorded: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def work() -> None:
            with spanbox.span("thread"):
                asyncio.run_coroutine_threadsafe(step(), loop).result(60)

        with spanbox.span("root"):
            await asyncio.to_thread(work)

    asyncio.run(main())
    assert recorded.shape() == "root\n  thread\n    step\n      leaf"


def test_task_that_outlives_its_parent_stays_its_child(recorded: Any) -> None:
    async def late(parent_has_ended: asyncio.Event) -> None:
        await parent_has_ended.wait()
        await step()
        await step()

    async def main() -> None:
        event = asyncio.Event()
        with spanbox.span("root"):
            task = asyncio.create_task(late(event))
        event.set()
        await task

    asyncio.run(main())
    assert recorded.shape() == "root\n  step x2\n    leaf"


def test_span_left_in_another_task_is_harmless(recorded: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The peers reset a token here: "was created in a different Context", an error for every turn."""
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        with spanbox.span("root"):
            for block in (spanbox.span("span"), spanbox.tags(tenant="acme"), spanbox.attach(spanbox.current_handle())):

                async def enter(block: Any = block) -> None:
                    block.__enter__()
                    await step()

                async def leave(block: Any = block) -> None:
                    block.__exit__(None, None, None)
                    await step()

                await asyncio.create_task(enter())
                await asyncio.create_task(leave())
                leaf()

    asyncio.run(main())
    assert recorded.shape() == "root\n  leaf x3\n  span\n    step\n      leaf\n  step x5\n    leaf"
    assert [record for record in caplog.records if record.name != "asyncio"] == []


def test_async_generator_closed_in_another_task_is_harmless(recorded: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def stream() -> AsyncIterator[int]:
        with spanbox.span("stream"):
            for n in range(3):
                await step(n)
                yield n

    async def main() -> None:
        with spanbox.span("root"):
            generator = stream()
            assert await asyncio.create_task(anext(generator)) == 0
            assert await asyncio.create_task(anext(generator)) == 1
            await asyncio.create_task(generator.aclose())
            leaf()
        leaf()

    asyncio.run(main())
    assert recorded.shape() == "leaf\nroot\n  leaf\n  step\n    leaf\n  stream\n    step\n      leaf"
    assert caplog.records == []


def test_cancelled_task_ends_its_spans(recorded: Any) -> None:
    @observe(name="waits")
    async def waits() -> None:
        with spanbox.span("inner"):
            await asyncio.Event().wait()

    async def main() -> None:
        with spanbox.span("root"):
            task = asyncio.create_task(waits())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            leaf()

    asyncio.run(main())
    assert recorded.shape() == "root\n  leaf\n  waits\n    inner"
    assert "running" not in {span["status"] for span in recorded.spans()}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio_tasks_and_threads_go_on_in_their_span(recorded: Any, backend: str) -> None:
    anyio = pytest.importorskip("anyio", reason="anyio is not installed")
    if backend == "trio":
        pytest.importorskip("trio", reason="trio is not installed")

    @observe(name="task")
    async def task() -> None:
        await anyio.sleep(0)
        await anyio.to_thread.run_sync(leaf)
        await anyio.to_thread.run_sync(lambda: anyio.from_thread.run_sync(leaf))

    async def main() -> None:
        with spanbox.span("first"):
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(task)
        with spanbox.span("second"):
            await task()
        await anyio.to_thread.run_sync(leaf)

    anyio.run(main, backend=backend)
    assert recorded.shape() == "first\n  task x20\n    leaf x2\nleaf\nsecond\n  task\n    leaf x2"


def test_trio_nurseries_and_threads_go_on_in_their_span(recorded: Any) -> None:
    trio = pytest.importorskip("trio", reason="trio is not installed")

    @observe(name="task")
    async def task() -> None:
        await trio.sleep(0)
        await trio.to_thread.run_sync(leaf)

    async def main() -> None:
        async with trio.open_nursery() as outer:
            with spanbox.span("root"):
                outer.start_soon(task)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(task)
        await trio.to_thread.run_sync(leaf)

    trio.run(main)
    # A trio task goes on where start_soon was called, whichever nursery owns it.
    assert recorded.shape() == "leaf\nroot\n  task x2\n    leaf"
