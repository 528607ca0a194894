"""Whole trees, as text, where users of other tracers lost parents to threads or to "Failed to detach context"."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import spanbox
from spanbox import observe


@pytest.fixture(autouse=True)
def silence(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Any:
    """Nothing is logged or printed by any of these programs."""
    caplog.set_level(logging.INFO)
    yield
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


@observe(name="leaf")
def leaf(n: int = 0) -> int:
    return n


def only_trace(recorded: Any) -> str:
    """The one trace with its one root, or a failure."""
    spans = recorded.spans()
    assert len({span["trace_id"] for span in spans}) == 1
    assert [span["name"] for span in spans if span["parent_id"] is None] == ["root"]
    assert {span["status"] for span in spans} == {"ok"}
    shape: str = recorded.shape()
    return shape


def test_nested_sync_and_async(recorded: Any) -> None:
    @observe(name="inner")
    async def inner() -> None:
        leaf()
        await asyncio.sleep(0)
        with spanbox.span("block"):
            leaf()

    @observe(name="blocking")
    def blocking() -> None:
        asyncio.run(inner())
        leaf()

    @observe(name="root")
    async def root() -> None:
        await inner()
        await asyncio.to_thread(blocking)
        leaf()

    asyncio.run(root())
    inner_tree = "{0}inner\n{0}  block\n{0}    leaf\n{0}  leaf\n"
    assert only_trace(recorded) == (
        "root\n  blocking\n" + inner_tree.format("    ") + "    leaf\n" + inner_tree.format("  ") + "  leaf"
    )


def test_gather_of_a_thousand_tasks(recorded: Any) -> None:
    @observe(name="task")
    async def task(n: int) -> int:
        await asyncio.sleep(0)
        leaf(n)
        await asyncio.sleep(0)
        return leaf(n)

    @observe(name="root")
    async def root() -> list[int]:
        return await asyncio.gather(*(task(n) for n in range(1000)))

    assert asyncio.run(root()) == list(range(1000))
    assert only_trace(recorded) == "root\n  task x1000\n    leaf x2"


def test_pool_of_64_threads_under_eight_nested_spans(recorded: Any) -> None:
    with ThreadPoolExecutor(64) as pool, ExitStack() as stack:
        futures = []
        for depth in range(8):
            stack.enter_context(spanbox.span("root" if depth == 0 else f"level {depth}"))
            futures += [pool.submit(leaf, n) for n in range(64)]
        assert [future.result() for future in futures] == 8 * list(range(64))
    lines = ["root"]
    for depth in range(1, 8):
        lines += ["  " * depth + "leaf x64", "  " * depth + f"level {depth}"]
    assert only_trace(recorded) == "\n".join([*lines, "  " * 8 + "leaf x64"])


def test_pools_inside_tasks_inside_pools(recorded: Any) -> None:
    def outer(n: int) -> int:
        with spanbox.span("outer"), ThreadPoolExecutor(4) as pool:
            return sum(pool.map(leaf, range(n)))

    with spanbox.span("root"), ThreadPoolExecutor(4) as pool:
        assert list(pool.map(outer, [8] * 8)) == [28] * 8
    assert only_trace(recorded) == "root\n  outer x8\n    leaf x8"


def test_graph_with_super_steps_in_a_pool_of_copied_contexts(recorded: Any) -> None:
    """As LangGraph runs a graph: each super-step's nodes in a pool, under copies of the caller's context."""

    @observe(name="tool", kind="tool")
    def tool(n: int) -> int:
        return leaf(n)

    def node(name: str) -> None:
        with spanbox.span(name, kind="chain"), ThreadPoolExecutor(2) as tools:
            contexts = [contextvars.copy_context() for _ in range(3)]
            list(tools.map(lambda context, n: context.run(tool, n), contexts, range(3)))

    with spanbox.span("root", kind="agent"), ThreadPoolExecutor(8) as pool:
        for super_step in (["plan"], ["search", "search", "search"], ["write"]):
            futures = [pool.submit(contextvars.copy_context().run, node, name) for name in super_step]
            for future in futures:
                future.result()
    below = "\n    tool x3\n      leaf"
    assert only_trace(recorded) == f"root\n  plan{below}\n  search x3{below}\n  write{below}"


def test_graph_invoked_asynchronously_with_tools_in_threads(recorded: Any) -> None:
    """As `ainvoke`: nodes are tasks with contexts of their own, sync tools go to the loop's threads in a copy."""

    @observe(name="tool", kind="tool")
    def tool(n: int) -> int:
        return leaf(n)

    async def run_in_executor(n: int) -> int:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, contextvars.copy_context().run, tool, n)

    @observe(name="node", kind="chain")
    async def node() -> None:
        assert await asyncio.gather(*(run_in_executor(n) for n in range(4))) == [0, 1, 2, 3]

    @observe(name="root", kind="agent")
    async def ainvoke() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            tasks = [loop.create_task(node(), context=contextvars.copy_context()) for _ in range(5)]
            await asyncio.wait(tasks)

    asyncio.run(ainvoke())
    assert only_trace(recorded) == "root\n  node x15\n    tool x4\n      leaf"


def test_turns_of_a_chat_with_callbacks_in_other_contexts(recorded: Any) -> None:
    """Start and end callbacks of one span run in different contexts: the peers log an error for every turn."""
    open_spans: dict[int, Any] = {}

    def on_start(turn: int) -> None:
        open_spans[turn] = spanbox.span("turn").__enter__()

    def on_end(turn: int) -> None:
        open_spans.pop(turn).__exit__(None, None, None)

    async def main() -> None:
        with spanbox.span("root"):
            for turn in range(20):
                contextvars.copy_context().run(on_start, turn)
                with spanbox.attach(open_spans[turn]):
                    leaf(turn)
                contextvars.copy_context().run(on_end, turn)

    asyncio.run(main())
    assert only_trace(recorded) == "root\n  turn x20\n    leaf"
