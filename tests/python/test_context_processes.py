"""Worker processes go on in the span that gave them work, and record into the same store."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import spanbox

START_METHODS = ["fork", "spawn", "forkserver"]

# A program whose functions a worker can import; its store is known to the parent alone.
PROGRAM = """
import concurrent.futures, multiprocessing, os, subprocess, sys, warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import spanbox
from spanbox import observe

@observe(name="leaf")
def leaf(*args):
    return args

def fails():
    raise ValueError("in the worker")

class Worker(multiprocessing.Process):
    def run(self):
        leaf()

def finish(process):
    process.start()
    process.join()
    assert process.exitcode == 0
    process.close()

def main(context):
{body}

if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads
    spanbox.configure(sys.argv[1])
    multiprocessing.set_start_method(sys.argv[2])
    main(multiprocessing.get_context())
"""


def run_program(body: str, recorded: Any, method: str = "spawn", **environment: str) -> str:
    path = recorded.path.parent / "program.py"
    path.write_text(PROGRAM.replace("{body}", body))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SPANBOX_", "TRACEPARENT"))}
    done = subprocess.run(
        [sys.executable, str(path), str(recorded.path), method],
        cwd=path.parent,
        env={**clean, "PYTHONPATH": ":".join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr, done.stderr
    assert not (path.parent / ".spanbox" / ".spanbox").exists()
    return done.stdout


@pytest.mark.parametrize("method", START_METHODS)
def test_process_goes_on_in_the_span_it_was_started_in(recorded: Any, method: str) -> None:
    body = """
    with spanbox.tags(tenant="acme"), spanbox.span("root"):
        process = context.Process(target=leaf, args=(1,))
        process.start()
        assert "run" not in vars(process)
        process.join()
        assert process.exitcode == 0
        finish(Worker())
    finish(context.Process(target=leaf))
"""
    run_program(body, recorded, method)
    assert recorded.shape() == "leaf\nroot\n  leaf x2"
    assert recorded.box.spans('tenant == "acme"').count() == 3


@pytest.mark.parametrize("method", START_METHODS)
def test_process_pool_task_goes_on_in_the_span_that_submitted_it(recorded: Any, method: str) -> None:
    body = """
    with spanbox.span("creator"):
        pool = ProcessPoolExecutor(2, mp_context=context)
        pool.submit(leaf).result()
    with pool:
        with spanbox.span("first"):
            assert list(pool.map(leaf, range(6), chunksize=3)) == [(n,) for n in range(6)]
            error = pool.submit(fails).exception()
            assert type(error) is ValueError and "carried" not in str(error.__cause__)
        with spanbox.span("second"):
            pool.submit(leaf).result()
        pool.submit(leaf).result()
"""
    run_program(body, recorded, method)
    assert recorded.shape() == "creator\n  leaf\nfirst\n  leaf x6\nleaf\nsecond\n  leaf"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_old_process_pool_carries_every_kind_of_task(recorded: Any, method: str) -> None:
    body = """
    with spanbox.span("creator"):
        pool = context.Pool(2)
    with pool:
        with spanbox.span("root"):
            assert pool.apply(leaf, (1,)) == (1,)
            assert pool.map(leaf, [1, 2], chunksize=1) == [(1,), (2,)]
            assert pool.starmap(leaf, [(1, 2)]) == [(1, 2)]
            assert list(pool.imap(leaf, [1])) == [(1,)]
            assert pool.apply_async(func=leaf).get() == ()
        pool.map(leaf, [1])
        pool.close()
        pool.join()
"""
    run_program(body, recorded, method)
    assert recorded.shape() == "creator\nleaf\nroot\n  leaf x6"


def test_unpicklable_work_fails_as_before(recorded: Any) -> None:
    body = """
    with spanbox.span("root"), ProcessPoolExecutor(1, mp_context=context) as pool:
        error = pool.submit(lambda: 1).exception()
        assert "lambda" in str(error), error
        process = context.Process(target=lambda: 1)
        try:
            process.start()
        except Exception as problem:
            assert "lambda" in str(problem), problem
        assert "run" not in vars(process)
"""
    run_program(body, recorded)
    assert recorded.shape() == "root"


def test_configured_off_processes_start_trees_of_their_own(recorded: Any) -> None:
    body = """
    with spanbox.span("root"), ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(leaf).result()
        finish(context.Process(target=leaf))
"""
    run_program(body, recorded, SPANBOX_PROPAGATE="0", SPANBOX_DIR=str(recorded.path))
    assert recorded.shape() == "leaf x2\nroot"


def test_child_process_by_environment_continues_the_trace(recorded: Any) -> None:
    code = "import spanbox\nwith spanbox.span('child'): pass\nwith spanbox.span('again'): pass"
    before = dict(os.environ)
    with spanbox.tags(tenant="acme", tier=3), spanbox.span("root") as root:
        environment = spanbox.environ()
        subprocess.run([sys.executable, "-c", code], env=environment, cwd=recorded.path.parent, check=True)
    assert dict(os.environ) == before
    assert environment["TRACEPARENT"] == root.handle().traceparent
    assert recorded.shape() == "root\n  again\n  child"
    assert recorded.box.spans('tenant == "acme" and tier == 3').count() == 3


def test_grandchild_continues_too_with_a_span_between_or_without(recorded: Any) -> None:
    grandchild = "import spanbox\nwith spanbox.span('grandchild'): pass"
    child = (
        "import spanbox, subprocess, sys\n"
        f"run = lambda: subprocess.run([sys.executable, '-c', {grandchild!r}], env=spanbox.environ(), check=True)\n"
        "run()\n"
        "with spanbox.span('child'): run()"
    )
    with spanbox.span("root"):
        subprocess.run([sys.executable, "-c", child], env=spanbox.environ(), cwd=recorded.path.parent, check=True)
    assert recorded.shape() == "root\n  child\n    grandchild\n  grandchild"


def test_environment_outside_of_any_span_names_the_store_only(recorded: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv("TRACEPARENT", raising=False)
    assert spanbox.environ() == {**os.environ, "SPANBOX_DIR": str(recorded.path)}


def test_environment_of_a_parent_without_tags_drops_older_tags(recorded: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("SPANBOX_TAGS", base64.b64encode(b"old").decode())
    with spanbox.span("root"):
        assert "SPANBOX_TAGS" not in spanbox.environ()


@pytest.mark.parametrize(
    ("parent", "tags"),
    [
        ("nonsense", ""),
        ("00-" + "0" * 32 + "-" + "0" * 16 + "-01", ""),
        ("\udcff", ""),
        ("", "%%%"),
        ("", base64.b64encode(b"\x12\x00\x04\xff\xff\xff\xff").decode()),
        ("", "é"),
    ],
)
def test_damaged_environment_is_ignored(tmp_path: Path, parent: str, tags: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import spanbox\nprint(spanbox.current_handle())"],
        env={**os.environ, "TRACEPARENT": parent, "SPANBOX_TAGS": tags},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("None\n", "")


def test_foreign_parent_in_the_environment_is_taken(recorded: Any) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    run_program("    leaf()", recorded, TRACEPARENT=parent)
    assert recorded.only_span()["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert recorded.only_span()["parent_id"] == "00f067aa0ba902b7"
    run_program("    leaf()", recorded, TRACEPARENT=parent, SPANBOX_PROPAGATE="0")
    assert recorded.spans()[1]["parent_id"] is None


def test_handle_in_a_queue_is_a_parent(recorded: Any) -> None:
    body = """
    queue = context.Queue()
    with spanbox.span("root"):
        queue.put((spanbox.current_handle(), "task"))
    handle, _ = queue.get()
    with spanbox.attach(handle):
        leaf()
    queue.close()
"""
    run_program(body, recorded)
    assert recorded.shape() == "root\n  leaf"
