"""SIGKILL at a random moment: what had ended is in the store exactly once, what was open is there with its input."""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import spanbox

KILLS = 25  # the C++ kill test makes 200; this one shows that the promise holds from Python too
THREADS = 2

CHILD = """
    import mmap, sys, threading
    import spanbox

    with open(sys.argv[2], "r+b") as oracle:
        ended = memoryview(mmap.mmap(oracle.fileno(), 0)).cast("q")  # one store an item: never half written

    @spanbox.observe(name="step")
    def step(thread, n):
        return n

    def work(thread):
        with spanbox.span(f"outer {thread}") as outer:
            outer.input = {"thread": thread}
            n = 0
            while True:
                step(thread, n)
                n += 1
                ended[thread] = n  # step(n - 1) has returned

    spanbox.configure(sys.argv[1], full_ring="block")  # as fast as it goes, so that "dropped" is no excuse
    threads = [threading.Thread(target=work, args=(t,), daemon=True) for t in range(2)]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:
        thread.join()
"""


def test_killed_process_loses_nothing_that_had_ended(tmp_path: Path) -> None:
    rng = random.Random(20261121)
    for kill in range(KILLS):
        store, oracle = tmp_path / f"store{kill}", tmp_path / f"oracle{kill}"
        oracle.write_bytes(bytes(8 * THREADS))
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CHILD), str(store), str(oracle)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            wait_for_steps(oracle, rng.randrange(0, 5_000))
            child.send_signal(signal.SIGKILL)
        check(store, struct.unpack(f"<{THREADS}q", oracle.read_bytes()), kill)


def wait_for_steps(oracle: Path, steps: int) -> None:
    """Until the first thread has made that many: a random moment that depends on progress, not on the clock."""
    with oracle.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as counts:
        while struct.unpack_from("<q", counts, 0)[0] < steps:
            os.sched_yield()


def check(store: Path, ended: tuple[int, ...], kill: int) -> None:
    box = spanbox.open(store)
    for thread in range(THREADS):
        steps = box.spans('name == "step"').columns("output", "status", "input").to_arrow().to_pylist()
        mine = [row for row in steps if f'"thread":{thread},' in row["input"]]
        finished = sorted(int(row["output"]) for row in mine if row["status"] == "ok")
        assert finished[: ended[thread]] == list(range(ended[thread])), f"kill {kill}: lost or doubled"
        # At most one call may have ended without the oracle having heard of it, and at most one was under way.
        assert len(finished) <= ended[thread] + 1
        assert len(mine) - len(finished) <= 1
        assert all(row["status"] == "interrupted" for row in mine if row["status"] != "ok")
        [outer] = box.spans(f'name == "outer {thread}"').columns("status", "input").to_arrow().to_pylist() or [None]
        assert outer == {"status": "interrupted", "input": f'{{"thread":{thread}}}'}
