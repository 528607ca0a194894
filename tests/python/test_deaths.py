"""A program may die in many ways; what had ended is stored once after each of them, what was open is interrupted."""

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

import pytest
import spanbox

ROOT = Path(__file__).parents[2]
KILLS = 25  # the C++ tests make 300, and 10 of each other death; these show that the promise holds from Python too
LIVES = 4
THREADS = 2

# Writes into the file argv[2] how many steps of each thread have returned; runs die(), which the test puts in front,
# in thread 0 after argv[3] steps. `stop` ends the other thread first.
PROGRAM = """
import mmap, sys, threading
import spanbox

with open(sys.argv[2], "r+b") as oracle:
    ended = memoryview(mmap.mmap(oracle.fileno(), 0)).cast("q")  # one store an item: never half written
stopping = False

@spanbox.observe(name="step")
def step(thread, n):
    return n

def work(thread):
    with spanbox.span(f"outer {thread}") as outer:
        outer.input = {"thread": thread}
        n = 0
        while not stopping:
            step(thread, n)
            n += 1
            ended[thread] = n  # step(n - 1) has returned
            if thread == 0 and n == int(sys.argv[3]):
                die()

other = threading.Thread(target=work, args=(1,), daemon=True)

def stop():
    global stopping
    stopping = True
    other.join()

spanbox.configure(sys.argv[1], full_ring="block")  # as fast as it goes, so that "dropped" is no excuse
other.start()
print("ready", flush=True)
work(0)
"""


# death -> (body of die(), exit code, statuses of the two outer spans)
BY_FORCE = ("interrupted", "interrupted")
DEATHS: dict[str, tuple[str, int, tuple[str, str]]] = {
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, BY_FORCE),
    "SIGHUP": ("os.kill(os.getpid(), signal.SIGHUP)", -signal.SIGHUP, BY_FORCE),
    "SIGSEGV": ("os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV, BY_FORCE),
    "abort": ("os.abort()", -signal.SIGABRT, BY_FORCE),
    "_exit": ("os._exit(3)", 3, BY_FORCE),
    "exec": ("os.execv('/bin/sh', ['sh', '-c', 'exit 4'])", 4, BY_FORCE),
    # Python turns these into exceptions, which end the span they leave, and the interpreter exits in order.
    "SIGINT": ("stop(); os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT, ("error", "ok")),
    "exception": ("stop(); raise ValueError('nobody catches this')", 1, ("error", "ok")),
    "sys.exit": ("stop(); sys.exit(5)", 5, ("error", "ok")),
    "out of memory": ("stop(); limit_memory(); bytearray(4 << 30)", 1, ("error", "ok")),
}

DIE = """
import os, resource, signal, sys

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

def limit_memory():
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (512 << 20),) * 2)  # room to exit

def die():
    {body}
"""


def new_oracle(path: Path) -> Path:
    path.write_bytes(bytes(8 * THREADS))
    return path


def check(store: Path, oracle: Path, outer_statuses: tuple[str, str] = ("interrupted", "interrupted")) -> None:
    """Every step that has returned is stored once, and the spans around them are there with their input."""
    ended = struct.unpack(f"<{THREADS}q", oracle.read_bytes())
    box = spanbox.open(store)
    steps = box.spans('name == "step"').columns("output", "status", "input").to_arrow().to_pylist()
    for thread in range(THREADS):
        mine = [row for row in steps if f'"thread":{thread},' in row["input"]]
        finished = sorted(int(row["output"]) for row in mine if row["status"] == "ok")
        assert finished[: ended[thread]] == list(range(ended[thread])), "lost or doubled"
        # At most one call may have ended without the oracle having heard of it, and at most one was under way.
        assert len(finished) <= ended[thread] + 1
        assert len(mine) - len(finished) <= 1
        assert all(row["status"] == "interrupted" for row in mine if row["status"] != "ok")
        [outer] = box.spans(f'name == "outer {thread}"').columns("status", "input").to_arrow().to_pylist() or [None]
        assert outer == {"status": outer_statuses[thread], "input": f'{{"thread":{thread}}}'}


def test_killed_process_loses_nothing_that_had_ended(tmp_path: Path) -> None:
    rng = random.Random(20261121)
    for kill in range(KILLS):
        store, oracle = tmp_path / f"store{kill}", new_oracle(tmp_path / f"oracle{kill}")
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(store), str(oracle), "-1"], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            wait_for_steps(oracle, rng.randrange(0, 5_000))
            child.send_signal(signal.SIGKILL)
        check(store, oracle)


def wait_for_steps(oracle: Path, steps: int) -> None:
    """Until the first thread has made that many: a random moment that depends on progress, not on the clock."""
    with oracle.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as counts:
        while struct.unpack_from("<q", counts, 0)[0] < max(steps, 1):
            os.sched_yield()


@pytest.mark.parametrize("death", DEATHS)
def test_what_had_ended_is_stored_once_after(death: str, tmp_path: Path) -> None:
    body, exit_code, outer_statuses = DEATHS[death]
    rng = random.Random(death)
    for life in range(LIVES):
        store, oracle = tmp_path / f"store{life}", new_oracle(tmp_path / f"oracle{life}")
        program = textwrap.dedent(DIE).format(body=body) + PROGRAM
        died = subprocess.run(
            [sys.executable, "-c", program, str(store), str(oracle), str(rng.randrange(1, 3_000))],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert died.returncode == exit_code, died.stderr
        check(store, oracle, outer_statuses)


def test_seeded_bugs_still_fit_the_sources() -> None:
    """`make seeded-bugs` breaks the sources in known places; when those change, the list must follow."""
    checked = subprocess.run(
        [sys.executable, ROOT / "scripts" / "seeded_bugs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
