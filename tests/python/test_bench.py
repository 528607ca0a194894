"""`spanbox bench`: it measures everything it names and leaves nothing behind. No time is asserted."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox import _bench

pytest.importorskip("typer")

_RUN = """
import sys
from pathlib import Path
from spanbox._bench import Counts
from spanbox.cli import _bench
from spanbox.cli._output import Output
counts = Counts(rounds=1, calls=20, starts=1, spans=200, repeats=1, commits=3)
_bench.run(Output(), Path(sys.argv[1]), json=sys.argv[2] == "json", counts=counts)
"""


def bench(folder: Path, form: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(folder), form],
        env={**os.environ, "COLUMNS": "80", **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for each in value.values() for number in numbers(each)]
    return [value] if isinstance(value, int | float) else []


def test_report_has_every_figure(tmp_path: Path) -> None:
    report = json.loads(bench(tmp_path, "json", SPANBOX_DISABLED="1"))  # measures recording all the same
    assert report["path"] == str(tmp_path)
    assert {"spanbox", "off", "python_decorator"} <= report["call"].keys()
    assert report["start"].keys() == {"import_ms", "first_span_ms"}
    assert report["burst"]["spans"] == 200
    assert report["burst"]["lost_spans"] == 0
    assert report["burst"]["text_bytes_per_span"] > report["burst"]["bytes_per_span"] > 0
    assert len(report["queries_ms"]) == 5
    assert report["commit"]["commits"] == 3
    assert all(map(math.isfinite, numbers(report)))


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    store = tmp_path / ".spanbox"
    spanbox.open(store, create=True)
    bench(tmp_path, "text", SPANBOX_DIR=str(store))
    assert [path.name for path in tmp_path.iterdir()] == [".spanbox"]
    assert spanbox.open(store).spans().count() == 0


def test_text_fits_eighty_columns(tmp_path: Path) -> None:
    lines = bench(tmp_path, "text").splitlines()
    titles = [line for line in lines if line and not line.startswith(" ")]
    assert len(titles) == 7
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80


def test_way_of_tracing_is_measured_against_the_bare_function() -> None:
    """Work that only the traced form does is what is found, whatever the bare function does itself."""

    def bare(question: str, top_k: int) -> str:
        return question * 1000

    def traced(question: str, top_k: int) -> str:
        sum(range(100_000))
        return question * 1000

    found = _bench.added(bare, {"same": _bench.Way(bare, 50), "more": _bench.Way(traced, 50)}, _bench.call_f, rounds=3)
    assert found["more"]["cpu_ns"] > abs(found["same"]["cpu_ns"])


def test_chats_are_the_same_every_time_and_differ_from_each_other() -> None:
    def make() -> list[tuple[dict[str, Any], str]]:
        return _bench.Chats(input_bytes=1000, output_bytes=2000, pool_bytes=100_000).make(50)

    chats = make()
    assert chats == make()
    assert len({text for _, text in chats}) == 50
    assert {len(text) for _, text in chats} == {2000}
    assert all(900 <= len(json.dumps(request)) <= 1100 for request, _ in chats)
