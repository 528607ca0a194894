"""The interpreter exits with a full ring: it does exit, and everything acknowledged is in the store afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import lmdb
import pytest
import spanbox

TIMEOUT_S = 120
SPANS = 20_000

BURST = f"""
    import sys
    import spanbox

    @spanbox.observe(name="step")
    def step(n): ...

    spanbox.configure(sys.argv[1], full_ring="block")
    for n in range({SPANS}):
        step(n)
"""


def run_program(code: str, *arguments: str) -> str:
    """What it printed; a process that does not exit in time fails the test."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def steps(store: Path) -> list[int]:
    rows = spanbox.open(store).spans('name == "step" and status == ok').columns("input").to_arrow().to_pylist()
    return sorted(number_of(row) for row in rows)


def number_of(row: dict[str, Any]) -> int:
    number: int = json.loads(row["input"])["n"]
    return number


def test_exit_right_after_a_burst_stores_all_of_it(tmp_path: Path) -> None:
    said = run_program(BURST + "    print(spanbox.health()['waiting_bytes'])\n", str(tmp_path / "store"))
    assert int(said) > 0, "the ring was empty already: the test has tested nothing"
    assert steps(tmp_path / "store") == list(range(SPANS))
    assert list((tmp_path / "store" / "rings").glob("*.ring")) == []


def test_exit_while_the_store_cannot_be_written_leaves_the_ring_to_the_next(tmp_path: Path) -> None:
    """Another process holds the store's write lock: as slow as a commit can be."""
    store = tmp_path / "store"
    spanbox.open(store, create=True)
    environment = lmdb.open(str(store), max_dbs=16, map_size=1 << 30)
    blocker = environment.begin(write=True)
    try:
        run_program(BURST, str(store))
    finally:
        blocker.abort()
        environment.close()
    assert steps(store) == list(range(SPANS))
    assert list((store / "rings").glob("*.ring")) == []


@pytest.mark.parametrize(
    "ending",
    [
        "sys.exit()",
        "raise SystemExit(0)",
        "threading.Thread(target=step, args=(1,)).start()",
    ],
)
def test_every_way_to_come_to_the_end_exits_and_stores(ending: str, tmp_path: Path) -> None:
    code = f"""
        import sys, threading
        import spanbox

        @spanbox.observe(name="step")
        def step(n): ...

        spanbox.configure(sys.argv[1], full_ring="block")
        step(0)
        {ending}
    """
    run_program(code, str(tmp_path / "store"))
    assert steps(tmp_path / "store") == ([0, 1] if "target=step" in ending else [0])


def test_daemon_thread_that_records_through_the_exit_loses_nothing(tmp_path: Path) -> None:
    code = """
        import sys, threading
        import spanbox

        @spanbox.observe(name="step")
        def step(n): ...

        spanbox.configure(sys.argv[1], full_ring="block")
        step(0)
        threading.Thread(target=lambda: [step(n) for n in range(1, 10**9)], daemon=True).start()
    """
    run_program(code, str(tmp_path / "store"))
    rows = spanbox.open(tmp_path / "store").spans().columns("input", "status").to_arrow().to_pylist()
    assert sorted(number_of(row) for row in rows) == list(range(len(rows)))
    # What was under way when the recorder closed, and when the thread stopped, is interrupted.
    assert sum(row["status"] != "ok" for row in rows) <= 2


def test_spans_of_exit_handlers_are_stored(tmp_path: Path) -> None:
    code = """
        import atexit, sys
        import spanbox

        @spanbox.observe(name="step")
        def step(n): ...

        atexit.register(step, 0)
        spanbox.configure(sys.argv[1])
        step(1)
    """
    run_program(code, str(tmp_path / "store"))
    assert steps(tmp_path / "store") == [0, 1]
