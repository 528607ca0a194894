"""The table of benchmarks/README.md: its rows, and how a measuring program is run for them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUILD = HERE.parent / "build"
WORK = BUILD / "bench"  # stores go here: on the disk of the build, where fsync is real
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


@dataclass(frozen=True)
class Row:
    name: str
    ours: str
    peer: str
    ratio: str
    bar: str
    verdict: str


def verdict(holds: bool) -> str:
    return "reached" if holds else "**not reached**"


def measured(command: list[str], folder: str | None = None) -> Any:
    """What a program prints as JSON in its last line. It makes its stores in `folder`."""
    path = os.pathsep.join(filter(None, [str(WORK), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "SPANBOX_BENCH_DIR": folder or str(WORK)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: list[Row]) -> str:
    lines = ["| row | spanbox | peer | ratio | bar | |", "|---|---|---|---|---|---|"]
    lines += [f"| {r.name} | {r.ours} | {r.peer} | {r.ratio} | {r.bar} | {r.verdict} |" for r in rows]
    return "\n".join(lines)


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}."


def write(text: str, note: str) -> None:
    """Puts the table into the README, in place of the last one."""
    page = HERE / "README.md"
    head, _, rest = page.read_text().partition(BEGIN)
    tail = rest.partition(END)[2]
    page.write_text(f"{head}{BEGIN}\n{' '.join(filter(None, [machine(), note]))}\n\n{text}\n{END}{tail}")
