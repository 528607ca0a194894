"""A thread that waits for room in the ring holds up neither other threads nor the end of the program."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import lmdb
import spanbox

TIMEOUT_S = 120

# `step` is called as fast as can be by a thread that is not waited for; nothing can be stored meanwhile.
PROGRAM = """
    import sys, threading, time
    import spanbox

    @spanbox.observe(name="step")
    def step(n): ...

    spanbox.configure(sys.argv[1], full_ring="block", max_ring_bytes=1 << 20)
    step(0)
    writer = threading.Thread(target=lambda: [step(n) for n in range(1, 10**9)], daemon=True)
    writer.start()
    before, now = -1, spanbox.health()["recorded_spans"]
    while now == 0 or now != before:  # until it has come to a stop
        time.sleep(0.2)
        before, now = now, spanbox.health()["recorded_spans"]
    print(writer.is_alive(), now)
"""


def test_threads_and_the_end_of_the_program_do_not_wait_for_one_that_waits_for_room(tmp_path: Path) -> None:
    """It kept the interpreter's lock while it waited, and nobody else went on."""
    store = tmp_path / "store"
    spanbox.open(store, create=True)
    environment = lmdb.open(str(store), max_dbs=16, map_size=1 << 30)
    blocker = environment.begin(write=True)
    try:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), str(store)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    finally:
        blocker.abort()
        environment.close()
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    alive, recorded = done.stdout.split()
    assert alive == "True"
    assert spanbox.open(store).spans('name == "step" and status == ok').count() >= int(recorded) > 1000
