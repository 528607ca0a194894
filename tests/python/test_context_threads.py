"""Threads and thread pools go on in the span that started their work, and nothing else about them changes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import inspect
import subprocess
import sys
import textwrap
import threading
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox import observe


@observe(name="leaf")
def leaf(*args: Any) -> Any:
    return args


@pytest.fixture
def no_propagation(recorded: Any) -> Any:
    spanbox.configure(recorded.path, propagate=False)
    yield
    spanbox.configure(recorded.path, propagate=True)


def test_thread_goes_on_in_the_span_it_was_started_in(recorded: Any) -> None:
    class Worker(threading.Thread):
        def run(self) -> None:
            leaf()

    with spanbox.tags(tenant="acme"), spanbox.span("root") as root:
        threads = [threading.Thread(target=leaf), Worker(), threading.Timer(0, leaf)]
        current: list[Any] = []
        threads.append(threading.Thread(target=lambda: current.append(spanbox.current_span())))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorded.shape() == "leaf x3\nroot"

    with spanbox.attach(root):
        threads = [threading.Thread(target=leaf), Worker(), threading.Timer(0, leaf)]
        threads.append(threading.Thread(target=lambda: current.append(spanbox.current_span())))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert recorded.shape() == "leaf x3\nroot\n  leaf x3"
    assert current == [None, root]
    assert recorded.box.spans('tenant == "acme"').count() == 4


def test_only_our_own_variable_is_carried(recorded: Any) -> None:
    theirs: contextvars.ContextVar[str] = contextvars.ContextVar("theirs", default="unset")
    theirs.set("set")
    seen: list[str] = []
    with spanbox.span("root"), ThreadPoolExecutor(1) as pool:
        thread = threading.Thread(target=lambda: seen.append(theirs.get()))
        thread.start()
        thread.join()
        pool.submit(lambda: seen.append(theirs.get())).result()
    expected = "set" if getattr(sys.flags, "thread_inherit_context", 0) else "unset"
    assert seen == [expected, expected]


def test_threads_own_behaviour_is_unchanged(recorded: Any) -> None:
    caught: list[threading.ExceptHookArgs] = []
    hook, threading.excepthook = threading.excepthook, caught.append
    try:
        with spanbox.span("root"):
            thread = threading.Thread(target=lambda a, b: 1 / (a - b), args=(1,), kwargs={"b": 1}, name="mine")
            before = set(vars(thread))
            gone = weakref.ref(thread)
            thread.start()
            with pytest.raises(RuntimeError, match="only be started once"):
                thread.start()
            thread.join()
            # _target, _args and _kwargs are deleted by Thread itself
            assert set(vars(thread)) <= before
    finally:
        threading.excepthook = hook
    [problem] = caught
    assert problem.exc_type is ZeroDivisionError
    frames = [frame.name for frame in traceback.extract_tb(problem.exc_traceback)]
    assert frames == ["_bootstrap_inner", "run", "<lambda>"]
    caught.clear()
    del thread, problem
    gc.collect()
    assert gone() is None


def test_finished_thread_is_freed_without_the_collector(recorded: Any) -> None:
    gc.disable()
    try:
        with spanbox.span("root"):
            thread = threading.Thread(target=leaf)
            gone = weakref.ref(thread)
            thread.start()
            thread.join()
            del thread
            assert gone() is None
    finally:
        gc.enable()


def test_signatures_and_names_are_the_originals() -> None:
    for method, parameters in (
        (threading.Thread.start, ["self"]),
        (ThreadPoolExecutor.submit, ["self", "fn", "args", "kwargs"]),
        (concurrent.futures.ProcessPoolExecutor.submit, ["self", "fn", "args", "kwargs"]),
        (ThreadPool.apply_async, ["self", "func", "args", "kwds", "callback", "error_callback"]),
    ):
        assert list(inspect.signature(method).parameters) == parameters
        assert method.__module__.split(".")[0] in ("threading", "concurrent", "multiprocessing")


def test_pool_task_goes_on_in_the_span_that_submitted_it(recorded: Any) -> None:
    with ThreadPoolExecutor(2) as pool:
        with spanbox.span("first"):
            pool.submit(leaf, 1, 2).result()
            assert list(pool.map(leaf, range(3))) == [(0,), (1,), (2,)]
        with spanbox.span("second"):
            pool.submit(leaf).result()
        pool.submit(leaf).result()
    assert recorded.shape() == "first\n  leaf x4\nleaf\nsecond\n  leaf"


def test_worker_threads_belong_to_no_span(recorded: Any) -> None:
    """The worker started for the first task kept that task's span: later tasks of nobody became its children."""
    with spanbox.span("root"):
        pool = ThreadPoolExecutor(1)
        pool.submit(leaf).result()
        old = ThreadPool(1)
        assert old.apply(leaf, (1,)) == (1,)
    pool.submit(leaf).result()
    assert old.map(leaf, [1]) == [(1,)]
    pool.shutdown()
    old.close()
    old.join()
    assert recorded.shape() == "leaf x2\nroot\n  leaf x2"


def test_task_that_leaves_a_span_open_does_not_keep_it_for_the_next(recorded: Any) -> None:
    left_open: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        with spanbox.span("root"):
            pool.submit(lambda: left_open.append(spanbox.span("open").__enter__())).result()
        pool.submit(leaf).result()
    left_open.pop().__exit__(None, None, None)
    assert recorded.shape() == "leaf\nroot\n  open"


def test_executors_own_behaviour_is_unchanged(recorded: Any) -> None:
    class Counting(ThreadPoolExecutor):
        submitted = 0

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            self.submitted += 1
            return super().submit(fn, *args, **kwargs)

    def fails(*, fn: str) -> None:
        raise ValueError(fn)

    with spanbox.span("root"), Counting(1) as pool:
        future = pool.submit(fails, fn="keyword")
        assert type(future) is concurrent.futures.Future
        assert pool.submitted == 1
        error = future.exception()
        assert isinstance(error, ValueError)
        assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == ["run", "fails"]
        assert isinstance(pool.submit(5).exception(), TypeError)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(leaf)


def test_old_pools_carry_every_kind_of_task(recorded: Any) -> None:
    with ThreadPool(2) as pool:
        with spanbox.span("root"):
            pool.apply(leaf, (1,))
            pool.apply_async(func=leaf, args=(1,), kwds={}).get()
            assert pool.map(leaf, [1, 2]) == [(1,), (2,)]
            assert pool.starmap(leaf, [(1, 2)], chunksize=1) == [(1, 2)]
            assert list(pool.imap(leaf, [1, 2], chunksize=2)) == [(1,), (2,)]
            assert list(pool.imap_unordered(leaf, [1])) == [(1,)]
        pool.map_async(leaf, [1]).get()
    assert recorded.shape() == "leaf\nroot\n  leaf x8"


def test_event_loops_threads_go_on_in_the_task(recorded: Any) -> None:
    async def main() -> None:
        with spanbox.span("task"):
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, leaf)
            await asyncio.to_thread(leaf)
            with ThreadPoolExecutor(1) as pool:
                await loop.run_in_executor(pool, leaf)

    async def both() -> None:
        await asyncio.gather(main(), main())

    asyncio.run(both())
    assert recorded.shape() == "task x2\n  leaf x3"


@pytest.mark.usefixtures("no_propagation")
def test_configured_off_threads_start_trees_of_their_own(recorded: Any) -> None:
    with spanbox.span("root"), ThreadPoolExecutor(1) as pool:
        pool.submit(leaf).result()
        thread = threading.Thread(target=leaf)
        thread.start()
        thread.join()
        pool.submit(spanbox.wrap(leaf)).result()
    assert recorded.shape() == "leaf x2\nroot\n  leaf"


def test_switching_propagation_keeps_the_store(recorded: Any) -> None:
    for propagate in (False, True):
        spanbox.configure(propagate=propagate)
        assert spanbox.health()["path"] == str(recorded.path)


def run(code: str, tmp_path: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("order", ["import spanbox, concurrent.futures", "import concurrent.futures, spanbox"])
def test_order_of_imports_does_not_matter(order: str, tmp_path: Path) -> None:
    code = f"""
    {order}
    import threading
    from concurrent.futures import ThreadPoolExecutor
    with spanbox.span("root") as root, ThreadPoolExecutor(1) as pool:
        assert pool.submit(spanbox.current_span).result() is root
        thread = threading.Thread(target=lambda: print(spanbox.current_span() is root))
        thread.start()
        thread.join()
    for module in (threading, concurrent.futures.thread):
        assert module.__loader__ is module.__spec__.loader
        assert "spanbox" not in type(module.__loader__).__module__
    """
    assert run(code, tmp_path) == "True\n"


def test_environment_switches_propagation_off(tmp_path: Path) -> None:
    code = """
    import spanbox, threading
    with spanbox.span("root"):
        thread = threading.Thread(target=lambda: print(spanbox.current_span()))
        thread.start()
        thread.join()
    """
    assert run(code, tmp_path, SPANBOX_PROPAGATE="0") == "None\n"


def test_configuring_a_thousand_times_gathers_no_threads_and_no_files(tmp_path: Path) -> None:
    """Enabling a peer again made a batch processor more each time, and stopped none."""
    code = """
    import os, spanbox
    spanbox.configure("store")
    for n in range(1000):
        spanbox.configure("store")
        if n % 100 == 0:
            with spanbox.span("x"): pass
            assert spanbox.flush(10)
            threads, files = os.listdir("/proc/self/task"), os.listdir("/proc/self/fd")
            assert len(threads) < 10 and len(files) < 40, (n, threads, files)  # helpers come and go
    print(spanbox.open("store").spans().count())
    """
    assert run(code, tmp_path) == "10\n"
