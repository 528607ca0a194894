"""Coroutines of observed functions: a span from the first step to the last, and nothing of ours in between."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import traceback
from typing import Any

import pytest
import spanbox
from spanbox import observe


def ended(recorded: Any) -> dict[str, Any]:
    """The one span: ended, and once."""
    span = recorded.only_span()
    health = spanbox.health()
    assert health["open_spans"] == 0
    assert health["recorded_spans"] == health["stored_spans"] == 1
    return dict(span)


async def returns_42() -> int:
    return 42


def _drop(function: Any) -> None:
    function()
    gc.collect()


def test_coroutine_cancelled_while_it_waits(recorded: Any) -> None:
    @observe(name="waits")
    async def waits() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waits(), 0.001)

    asyncio.run(main())
    span = ended(recorded)
    assert span["status"] == "error"
    assert span["attributes"]["error_type"] == "asyncio.exceptions.CancelledError"


def test_coroutine_thrown_away_in_the_middle(recorded: Any) -> None:
    @observe(name="waits")
    async def waits() -> None:
        await asyncio.sleep(0)

    coroutine = waits()
    coroutine.send(None)
    del coroutine
    gc.collect()
    assert ended(recorded)["attributes"]["closed_early"] is True


def test_coroutine_never_awaited_records_nothing_and_warns_as_always(recorded: Any) -> None:
    with pytest.warns(RuntimeWarning, match="returns_42.*never awaited"):
        _drop(observe(returns_42))
    assert recorded.spans() == []


def test_coroutine_result_and_error_pass_unchanged(recorded: Any) -> None:
    error = LookupError("the very one")

    @observe(name="fails")
    async def fails() -> None:
        await asyncio.sleep(0)
        raise error

    async def main() -> None:
        with pytest.raises(LookupError) as caught:
            await fails()
        assert caught.value is error
        assert [frame.name for frame in traceback.extract_tb(error.__traceback__)][-1] == "fails"
        assert error.__context__ is None
        assert error.__cause__ is None

    asyncio.run(main())
    assert ended(recorded)["attributes"]["error_message"] == "the very one"


def test_error_stack_has_the_frames_of_the_user_only(recorded: Any) -> None:
    @observe(name="inner")
    async def inner() -> None:
        await asyncio.sleep(0)
        raise LookupError

    @observe(name="outer")
    async def outer() -> None:
        await inner()

    with pytest.raises(LookupError):
        asyncio.run(outer())
    stacks = {span["name"]: span["attributes"]["error_stack"] for span in recorded.spans()}
    names = {name: [line.rsplit(" in ", 1)[1] for line in stack.splitlines()] for name, stack in stacks.items()}
    assert names == {"inner": ["inner"], "outer": ["outer", "inner"]}


def test_waiting_coroutine_shows_what_it_waits_in(recorded: Any) -> None:
    @observe
    async def waits() -> None:
        await asyncio.sleep(0)

    coroutine: Any = waits()
    coroutine.send(None)
    assert coroutine.cr_await.cr_code.co_name == "waits"
    coroutine.close()


def test_coroutine_driven_in_several_contexts_ends_once(recorded: Any) -> None:
    @observe(name="waits")
    async def waits() -> int:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return 42

    def to_the_end() -> tuple[object, object]:
        with pytest.raises(StopIteration) as stopped:
            coroutine.send(None)
        return stopped.value.value, spanbox.current_span()

    first, second, third = (contextvars.copy_context() for _ in range(3))
    coroutine = waits()
    first.run(coroutine.send, None)
    second.run(coroutine.send, None)
    assert third.run(to_the_end) == (42, None)
    assert spanbox.current_span() is None
    assert ended(recorded)["attributes"]["output"] == 42
