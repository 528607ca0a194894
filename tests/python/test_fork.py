"""Forked, spawned and replaced processes: no deadlock, nothing lost, nothing stored twice.

Each test runs its program as a process of its own with a time limit: a deadlock fails it.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest
import spanbox

TIMEOUT_S = 120


def run_program(folder: Path, code: str, *arguments: str) -> Path:
    """Runs it as a file (spawn imports it again) in `folder`, with the path of a new store first; gives that path."""
    program, store = folder / "program.py", folder / "store"
    program.write_text(textwrap.dedent(code), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(program), str(store), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return store


def statuses(store: Path) -> Counter[tuple[str, str]]:
    """How many spans there are of each name and status; a span stored twice would count twice."""
    rows = spanbox.open(store).spans().columns("name", "status").to_arrow().to_pylist()
    return Counter((row["name"], row["status"]) for row in rows)


PREFORK = """
    import os, sys
    import spanbox

    spanbox.configure(sys.argv[1], full_ring="block")

    @spanbox.observe(name="in master")
    def prepare(n): ...

    @spanbox.observe(name="in worker")
    def serve(worker, n): ...

    for n in range(50):
        prepare(n)
    open_spans = [spanbox.span("open in master", n=n).__enter__() for n in range(100)]
    workers = []
    for worker in range(8):
        pid = os.fork()
        if pid == 0:
            for n in range(200):
                serve(worker, n)
            os._exit(0)  # as gunicorn's workers do: no atexit, no flush
        workers.append(pid)
    for pid in workers:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for span in reversed(open_spans):
        span.__exit__(None, None, None)
    prepare(50)
"""


def test_complaint_1_workers_of_a_preloaded_server_lose_nothing(tmp_path: Path) -> None:
    """Peers' clients keep their threads in the master; workers forked after import never send (COMPLAINTS row 1)."""
    assert statuses(run_program(tmp_path, PREFORK)) == {
        ("in master", "ok"): 51,
        ("open in master", "ok"): 100,
        ("in worker", "ok"): 1600,
    }


def test_workers_spans_are_children_of_the_span_open_at_the_fork(tmp_path: Path) -> None:
    box = spanbox.open(run_program(tmp_path, PREFORK))
    rows = box.spans().columns("name", "parent_id", "span_id", "n").to_arrow().to_pylist()
    [innermost] = [row["span_id"] for row in rows if row["name"] == "open in master" and row["n"] == 99]
    assert {row["parent_id"] for row in rows if row["name"] == "in worker"} == {innermost}


def test_complaint_4_spans_of_a_killed_worker_are_there_and_marked(tmp_path: Path) -> None:
    """Peers lose calls in long-lived workers: export waits for a shutdown that never comes (COMPLAINTS row 4)."""
    store = run_program(
        tmp_path,
        """
        import os, signal, sys
        import spanbox

        spanbox.configure(sys.argv[1])
        pid = os.fork()
        if pid == 0:
            with spanbox.span("finished"):
                pass
            with spanbox.span("call") as span:
                span.input = "what was asked"
                os.kill(os.getpid(), signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        """,
    )
    assert statuses(store) == {("finished", "ok"): 1, ("call", "interrupted"): 1}
    [row] = spanbox.open(store).spans("status == interrupted").columns("input").to_arrow().to_pylist()
    assert row["input"] == "what was asked"


def test_complaint_5_an_open_span_is_seen_by_another_process_while_it_runs(tmp_path: Path) -> None:
    """Peers show a long agent only when it has ended (COMPLAINTS row 5)."""
    program = """
        import sys
        import spanbox

        spanbox.configure(sys.argv[1])
        with spanbox.span("agent") as agent:
            agent.input = "a long task"
            print("running", flush=True)
            sys.stdin.read()  # runs until the test lets go
    """
    store = tmp_path / "store"
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"running\n"
        box = spanbox.open(store, create=True)
        running = box.spans("status == running").columns("name", "input")
        while not (seen := running.to_arrow().to_pylist()):
            assert child.poll() is None  # the test's own limit of time is the child's life
        assert seen == [{"name": "agent", "input": "a long task"}]
        child.communicate(timeout=TIMEOUT_S)
    assert statuses(store) == {("agent", "ok"): 1}


FORK_WHILE_THREADS_RECORD = """
    import os, sys, threading
    import spanbox

    sys.setswitchinterval(0.0002)  # or the forking thread waits 40 ms for its turn
    spanbox.configure(sys.argv[1], full_ring="block")
    stopping = False
    made = [0] * 8

    @spanbox.observe(name="in parent")
    def step(): ...

    def write(thread):
        while not stopping:
            step()
            made[thread] += 1

    def child(n):
        with spanbox.span("in child"):
            pass
        if n % 3 == 1:
            os.execv("/bin/sh", ["sh", "-c", "exit 0"])
        if n % 3 == 2:
            pid = os.fork()
            if pid == 0:
                with spanbox.span("in grandchild"):
                    pass
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        os._exit(0)

    threads = [threading.Thread(target=write, args=(t,)) for t in range(8)]
    for thread in threads:
        thread.start()
    for n in range(int(sys.argv[2])):
        pid = os.fork()
        if pid == 0:
            child(n)
        assert os.waitpid(pid, 0)[1] == 0
    stopping = True
    for thread in threads:
        thread.join()
    with open("made", "w") as file:
        print(sum(made), file=file)
"""


def test_forks_while_threads_record_lose_nothing(tmp_path: Path) -> None:
    forks = 30  # the C++ test makes twice 200
    counts = statuses(run_program(tmp_path, FORK_WHILE_THREADS_RECORD, str(forks)))
    made = int((tmp_path / "made").read_text())
    assert made > 0
    assert counts == {("in parent", "ok"): made, ("in child", "ok"): forks, ("in grandchild", "ok"): forks // 3}


POOLS = """
    import concurrent.futures, multiprocessing, sys
    import spanbox

    @spanbox.observe(name="task")
    def task(n):
        return n * n

    def main():
        store, method, kind = sys.argv[1:]
        spanbox.configure(store, full_ring="block")
        context = multiprocessing.get_context(method)
        squares = [n * n for n in range(200)]
        for round in range(2):  # the second pool is forked from a process that has recorded
            with spanbox.span("round"):
                if kind == "pool":
                    with context.Pool(4) as pool:
                        assert pool.map(task, range(200), chunksize=10) == squares
                        pool.close()
                        pool.join()
                else:
                    with concurrent.futures.ProcessPoolExecutor(4, mp_context=context) as pool:
                        assert list(pool.map(task, range(200), chunksize=10)) == squares

    if __name__ == "__main__":
        main()
    else:
        spanbox.configure(sys.argv[1])  # spawn imports this file again
"""


@pytest.mark.parametrize("kind", ["pool", "executor"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_of_processes_lose_nothing(method: str, kind: str, tmp_path: Path) -> None:
    assert statuses(run_program(tmp_path, POOLS, method, kind)) == {("round", "ok"): 2, ("task", "ok"): 400}


def test_terminated_pool_loses_nothing_that_has_returned(tmp_path: Path) -> None:
    """Pool.__exit__ sends SIGTERM to its workers: they have no chance to flush."""
    store = run_program(
        tmp_path,
        """
        import multiprocessing, sys
        import spanbox

        @spanbox.observe(name="task")
        def task(n):
            return n

        spanbox.configure(sys.argv[1], full_ring="block")
        with multiprocessing.get_context("fork").Pool(4) as pool:
            assert sum(pool.map(task, range(200))) == sum(range(200))
        """,
    )
    assert statuses(store) == {("task", "ok"): 200}
