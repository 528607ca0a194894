"""How long the interpreter's exit takes with spans still in the ring, and with none: prints medians in ms as JSON.

Measured from the program's last statement until its parent has waited for it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 15
SPANS = 20_000

PROGRAM = """
import sys, time
import spanbox

@spanbox.observe
def step(n): ...

spanbox.configure(sys.argv[1])
for n in range(int(sys.argv[2])):
    step(n)
waiting = spanbox.health()["waiting_bytes"]
print(time.monotonic_ns(), waiting, flush=True)
"""


def exit_ms(folder: Path, spans: int) -> tuple[float, int]:
    """Time of the exit, and bytes in the ring when it began."""
    command = [sys.executable, "-c", PROGRAM, str(folder), str(spans)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    end_ns = time.monotonic_ns()
    began_ns, waiting = map(int, done.stdout.split())
    return (end_ns - began_ns) / 1e6, waiting


def main() -> None:
    full, empty, waiting = [], [], []
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        for n in range(ROUNDS):  # in turns, so that the machine's moods meet both
            empty.append(exit_ms(Path(folder, f"empty{n}"), 0)[0])
            ms, bytes_ = exit_ms(Path(folder, f"full{n}"), SPANS)
            full.append(ms)
            waiting.append(bytes_)
    print(
        json.dumps(
            {
                "full_ms": statistics.median(full),
                "empty_ms": statistics.median(empty),
                "waiting_bytes": statistics.median(waiting),
            }
        )
    )


if __name__ == "__main__":
    main()
