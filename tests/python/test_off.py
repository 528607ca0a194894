"""spanbox.off() and SPANBOX_DISABLED: nothing is recorded or opened, and programs do what they did."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox import observe


@pytest.fixture
def switched_off() -> Iterator[None]:
    spanbox.off()
    yield
    spanbox.on()


@observe(name="add")
def add(a: int, b: int = 2) -> int:
    """Adds."""
    if a < 0:
        raise ValueError(a)
    return a + b


@observe
async def add_later(a: int, b: int = 2) -> int:
    return a + b


class Agent:
    @observe
    def run(self, task: str) -> tuple[Agent, str]:
        return self, task


def facts(fn: Any) -> dict[str, Any]:
    """What can be seen of a function from outside."""
    return {
        "signature": str(inspect.signature(fn)),
        "coroutine function": inspect.iscoroutinefunction(fn),
        "names": (fn.__name__, fn.__qualname__, fn.__module__, fn.__doc__),
        "repr": repr(fn),
        "type": type(fn),
        "wrapped": fn.__wrapped__,
        "pickled": pickle.dumps(fn),
        "attributes": sorted(dir(fn)),
    }


def test_introspection_is_the_same_on_and_off() -> None:
    for fn in (add, add_later, Agent.run):
        while_on = facts(fn)
        spanbox.off()
        try:
            assert facts(fn) == while_on
        finally:
            spanbox.on()


def test_function_decorated_while_off_records_once_on(recorded: Any, switched_off: None) -> None:
    @observe(name="decorated while off")
    def work() -> int:
        return 1

    assert work() == 1
    spanbox.on()
    assert work() == 1
    assert recorded.shape() == "decorated while off"


def test_functions_behave_as_undecorated(recorded: Any, switched_off: None) -> None:
    assert add(1) == 3
    assert asyncio.run(add_later(1, b=5)) == 6
    agent = Agent()
    assert agent.run("x") == (agent, "x")
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        add()
    with pytest.raises(ValueError, match="-1") as caught:
        add(-1)
    assert [entry.name for entry in caught.traceback] == ["test_functions_behave_as_undecorated", "add"]
    assert recorded.spans() == []


def test_everything_else_works_and_records_nothing(recorded: Any, switched_off: None) -> None:
    with spanbox.tags(tenant="acme"), spanbox.span("root", kind="agent", top_k=3) as span:
        span.set(top_k=5)
        span.input, span.output = "in", "out"
        span.first_token()
        handle = span.handle()
        assert handle.traceparent == ""
        assert pickle.loads(pickle.dumps(handle)) == handle
        with spanbox.attach(span), spanbox.attach(handle), spanbox.span("inner", parent=handle):
            assert spanbox.wrap(add)(1) == 3
        assert "TRACEPARENT" not in spanbox.environ()
    assert spanbox.current_span() is None
    assert spanbox.flush()
    spanbox.on()
    assert recorded.spans() == []
    assert spanbox.health()["dropped_spans"] == 0


def test_span_that_is_open_still_ends(recorded: Any, switched_off: None) -> None:
    spanbox.on()

    @observe(name="call")
    def call() -> int:
        spanbox.off()
        return 7

    with spanbox.span("root") as root:
        call()
        add(1)
        root.set(top_k=5)
        root.output = "out"
    spanbox.on()
    add(1)
    root_span, call_span, add_span = recorded.spans()
    assert (root_span["name"], root_span["status"], root_span["attributes"]["output"]) == ("root", "ok", "out")
    assert root_span["attributes"]["top_k"] == 5
    assert (call_span["name"], call_span["status"], call_span["attributes"]["output"]) == ("call", "ok", 7)
    assert (add_span["name"], add_span["parent_id"]) == ("add", None)


def run(code: str, tmp_path: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        env={**os.environ, "SPANBOX_DIR": "", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


USE_EVERYTHING = """
    import os, spanbox
    @spanbox.observe
    def work():
        with spanbox.span("inner"), spanbox.tags(a=1):
            return len(os.listdir("/proc/self/task"))
    assert work() == 1  # one thread
    spanbox.configure("chosen")
    assert work() == 1
    assert spanbox.flush()
    health = spanbox.health()
    assert health["recorded_spans"] == health["dropped_spans"] == 0
"""


@pytest.mark.parametrize("value", ["1", "true", "YES", " on "])
def test_disabled_from_the_start_makes_no_file_and_no_thread(tmp_path: Path, value: str) -> None:
    run(USE_EVERYTHING, tmp_path, SPANBOX_DISABLED=value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["", "0", "false", "No"])
def test_not_disabled_records(tmp_path: Path, value: str) -> None:
    run("import spanbox\nwith spanbox.span('x'): pass", tmp_path, SPANBOX_DISABLED=value)
    assert [path.name for path in tmp_path.iterdir()] == [".spanbox"]


def test_switched_on_records_where_it_was_told(tmp_path: Path) -> None:
    code = USE_EVERYTHING + "    spanbox.on()\n    work()\n"
    run(code, tmp_path, SPANBOX_DISABLED="1")
    assert [path.name for path in tmp_path.iterdir()] == ["chosen"]
    assert spanbox.open(tmp_path / "chosen").spans().count() == 2


def test_wrong_folder_is_told_when_it_is_used(tmp_path: Path) -> None:
    code = """
    import spanbox
    open("file", "w").close()
    spanbox.configure("file")
    spanbox.on()
    with spanbox.span("x"): pass
    health = spanbox.health()
    print(health["dropped_spans"], bool(health["last_error"]))
    """
    assert run(code, tmp_path, SPANBOX_DISABLED="1") == "1 True\n"
