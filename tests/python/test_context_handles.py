"""A Handle names a place in a trace; attach, wrap and span(parent=) start spans there."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import spanbox
from spanbox import Handle, observe

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@observe(name="leaf")
def leaf() -> None: ...


def in_thread(work: Callable[[], Any]) -> None:
    """Runs `work` in a thread that nothing is carried into."""
    thread = threading.Thread(target=contextvars.Context().run, args=(work,))
    thread.start()
    thread.join()


def test_handle_names_its_span(recorded: Any) -> None:
    with spanbox.span("root") as span:
        handle = span.handle()
        assert spanbox.current_handle() == handle
        assert (handle.trace_id, handle.span_id) == (span.trace_id, span.span_id)
        assert handle.traceparent == f"00-{span.trace_id}-{span.span_id}-01"
    assert spanbox.current_handle() is None


def test_handle_survives_pickle_with_its_tags(recorded: Any) -> None:
    with spanbox.tags(tenant="acme", tier=3), spanbox.span("root") as span:
        handle = span.handle()
    assert len(pickle.dumps(handle)) < 300
    again = pickle.loads(pickle.dumps(handle))
    assert again == handle
    assert hash(again) == hash(handle)
    with spanbox.attach(again):
        leaf()
    assert recorded.shape() == "root\n  leaf"
    attributes = recorded.spans()[1]["attributes"]
    assert attributes["tenant"] == "acme"
    assert attributes["tier"] == 3


def test_handles_differ_by_span_and_by_tags(recorded: Any) -> None:
    with spanbox.span("root") as root:
        with spanbox.tags(tenant="acme"):
            tagged = spanbox.current_handle()
        with spanbox.span("inner") as inner:
            pass
    assert tagged != root.handle()
    assert inner.handle() != root.handle()
    assert root.handle() != root.handle().traceparent
    assert len({root.handle(), root.handle(), inner.handle()}) == 2


def test_handle_is_immutable(recorded: Any) -> None:
    handle = Handle.from_traceparent(TRACEPARENT)
    for name in ("trace_id", "span_id", "traceparent", "anything"):
        with pytest.raises(AttributeError):
            setattr(handle, name, "x")


def test_handle_from_traceparent_and_back() -> None:
    handle = Handle.from_traceparent(TRACEPARENT)
    assert handle.traceparent == TRACEPARENT
    assert handle.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert handle.span_id == "00f067aa0ba902b7"
    assert repr(handle) == f"<Handle {TRACEPARENT}>"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("nonsense", "too short"),
        (TRACEPARENT[:-1], "too short"),
        (TRACEPARENT.upper(), "digits"),
        (TRACEPARENT.replace("-", "_"), "parts"),
        (TRACEPARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32), "trace id"),
        (TRACEPARENT.replace("00f067aa0ba902b7", "0" * 16), "span id"),
        ("ff" + TRACEPARENT[2:], "version"),
        (TRACEPARENT + "-more", "follows"),
        ("ü" * 55, "parts"),
    ],
)
def test_what_is_no_traceparent_is_refused_with_the_reason(text: str, wrong: str) -> None:
    for use in (Handle.from_traceparent, spanbox.attach, lambda text: spanbox.span("x", parent=text)):
        with pytest.raises(ValueError, match=wrong):
            use(text)


@pytest.mark.parametrize("parent", [5, b"00", object(), ["00"]])
def test_what_is_no_parent_is_refused(parent: Any) -> None:
    for use in (spanbox.attach, lambda parent: spanbox.span("x", parent=parent)):
        with pytest.raises(TypeError, match="a Handle, a Span or a traceparent"):
            use(parent)


@pytest.mark.parametrize("tags", [b"\x00", b"\xff" * 40, b"\x18\x00\x04\xff\xff\xff\xffx", bytes(70_000)])
def test_hostile_tags_are_refused(tags: bytes) -> None:
    with pytest.raises(ValueError, match="no tags"):
        Handle(TRACEPARENT, tags)


def test_span_of_this_process_handle_and_header_are_parents_alike(recorded: Any) -> None:
    with spanbox.span("root") as root:
        pass
    for parent in (root, root.handle(), root.handle().traceparent):
        with spanbox.attach(parent):
            leaf()
        with spanbox.span("given", parent=parent):
            leaf()
        leaf()
    assert recorded.shape() == "leaf x3\nroot\n  given x3\n    leaf\n  leaf x3"


def test_parent_of_another_machine_keeps_its_ids(recorded: Any) -> None:
    with spanbox.span("served", parent=TRACEPARENT):
        leaf()
    served, below = recorded.spans()
    assert {served["trace_id"], below["trace_id"]} == {"4bf92f3577b34da6a3ce929d0e0e4736"}
    assert served["parent_id"] == "00f067aa0ba902b7"
    assert below["parent_id"] == served["span_id"]


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_parent_changes_nothing(recorded: Any, nothing: Any) -> None:
    with spanbox.span("root"), spanbox.attach(nothing), spanbox.span("inner", parent=nothing):
        leaf()
    assert recorded.shape() == "root\n  inner\n    leaf"


def test_given_parent_ends_with_its_span(recorded: Any) -> None:
    with spanbox.span("first") as first:
        pass
    with spanbox.span("second"):
        with spanbox.span("moved", parent=first):
            pass
        leaf()
    assert recorded.shape() == "first\n  moved\nsecond\n  leaf"


def test_tags_around_and_tags_of_the_parent_both_count(recorded: Any) -> None:
    with spanbox.tags(tenant="acme", feature="chat"), spanbox.span("root") as root:
        pass
    with spanbox.tags(tenant="globex", release="r1"), spanbox.attach(root):
        leaf()
        with spanbox.attach(root), spanbox.attach(root):
            leaf()
    for span in recorded.spans()[1:]:
        assert span["attributes"] | {"tenant": "acme", "feature": "chat", "release": "r1"} == span["attributes"]


def test_attached_span_of_this_process_is_current(recorded: Any) -> None:
    with spanbox.span("root") as root:
        handle = root.handle()
    with spanbox.attach(root):
        assert spanbox.current_span() is root
    with spanbox.attach(handle):
        assert spanbox.current_span() is None
        assert spanbox.current_handle() == handle


def test_one_block_serves_many_threads_and_nests(recorded: Any) -> None:
    """A block that kept what it had entered left the last thread's context in every other."""
    with spanbox.span("root") as root:
        pass
    block = spanbox.attach(root)
    ready = threading.Barrier(4)

    def work() -> None:
        with block, block:
            ready.wait(30)
            leaf()
        assert spanbox.current_handle() is None

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorded.shape() == "root\n  leaf x4"


def test_leaving_in_another_thread_is_harmless(recorded: Any) -> None:
    with spanbox.span("root") as root:
        pass
    block = spanbox.attach(root)
    block.__enter__()
    in_thread(lambda: block.__exit__(None, None, None))
    leaf()
    block.__exit__(None, None, None)
    leaf()
    assert recorded.shape() == "leaf\nroot\n  leaf"


def test_leaving_a_span_leaves_what_was_entered_inside(recorded: Any) -> None:
    """A generator that is kept but never finished left its span current for ever after."""

    def stream() -> Any:
        with spanbox.span("stream"):
            yield 1
            yield 2

    with spanbox.span("root"):
        kept = stream()
        next(kept)
    leaf()
    kept.close()
    leaf()
    assert recorded.shape() == "leaf x2\nroot\n  stream"


def test_wrap_runs_where_it_was_called(recorded: Any) -> None:
    with spanbox.tags(tenant="acme"), spanbox.span("root"):
        wrapped = spanbox.wrap(leaf)
    for _ in range(3):
        in_thread(wrapped)
    with spanbox.tags(release="r9"), spanbox.span("elsewhere"):
        wrapped()
        leaf()
    assert recorded.shape() == "elsewhere\n  leaf\nroot\n  leaf x4"
    inside = [span["attributes"] for span in recorded.spans() if span["attributes"].get("tenant")]
    assert len(inside) == 5
    assert not any("release" in attributes for attributes in inside)


def test_wrap_outside_of_any_span_runs_outside(recorded: Any) -> None:
    wrapped = spanbox.wrap(leaf)
    with spanbox.span("root"):
        wrapped()
        leaf()
    assert recorded.shape() == "leaf\nroot\n  leaf"


def test_wrap_of_a_coroutine_function(recorded: Any) -> None:
    async def work(x: int) -> int:
        leaf()
        await asyncio.sleep(0)
        leaf()
        assert spanbox.current_span() is root
        return x

    with spanbox.span("root") as root:
        wrapped = spanbox.wrap(work)
        outside = spanbox.wrap(leaf)
    assert inspect.iscoroutinefunction(wrapped)

    async def main() -> list[int]:
        with spanbox.span("elsewhere"):
            results = await asyncio.gather(*(wrapped(n) for n in range(5)))
            leaf()
            outside()
        return results

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]
    assert recorded.shape() == "elsewhere\n  leaf\nroot\n  leaf x11"


def test_wrap_keeps_the_function_as_it_was() -> None:
    def add(a: int, b: int = 2) -> int:
        """Adds."""
        if a < 0:
            raise ValueError(a)
        return a + b

    wrapped = spanbox.wrap(add)
    assert wrapped(1, b=5) == 6
    assert wrapped.__name__ == "add"
    assert wrapped.__doc__ == "Adds."
    assert inspect.signature(wrapped) == inspect.signature(add)
    with pytest.raises(ValueError, match="-1") as caught:
        wrapped(-1)
    assert [entry.name for entry in caught.traceback] == ["test_wrap_keeps_the_function_as_it_was", "add"]


def test_wrap_refuses_what_it_cannot_carry() -> None:
    def stream() -> Any:
        yield 1

    for wrong in (stream, 5):
        with pytest.raises(TypeError, match=r"wrap\(\) takes"):
            spanbox.wrap(wrong)


def test_spans_that_start_one_another_keep_no_ancestors(recorded: Any) -> None:
    """A job that starts its successor inside its own span made a chain of spans that was never let go."""

    class Counted:
        alive = 0

        def __init__(self) -> None:
            Counted.alive += 1

        def __del__(self) -> None:
            Counted.alive -= 1

    def block() -> contextvars.Context:
        with spanbox.span("job"):
            return contextvars.copy_context()

    def job(left: int) -> None:
        with spanbox.tags(job=Counted()):
            successor = [block, observe(contextvars.copy_context)][left % 2]()
        if left:
            waiting.append((successor, left - 1))

    waiting: list[tuple[contextvars.Context, int]] = []
    contextvars.Context().run(job, 200)
    while waiting:
        context, left = waiting.pop()
        context.run(job, left)
        del context
        assert Counted.alive <= 3
    assert Counted.alive == 0
