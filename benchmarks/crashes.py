"""How many finished spans are kept when the process that recorded them ends badly: spanbox and the OpenTelemetry SDK.

Both at their defaults. The SDK sends OTLP to a loopback sink, which is asked what arrived; spanbox's store is opened by
another process, which saves what waits in the dead one's ring. A span is f(str, int) -> str.

python benchmarks/crashes.py   prints {ending: {spans, spanbox, opentelemetry}} as JSON: spans kept
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import peers
import sink
import spanbox

SPANS = {"SIGKILL": 1_000, "SIGTERM": 1_000, "fork": 1_000, "burst": 30_000}


def end_badly(name: str, ending: str, address: str) -> None:
    """Runs in a process of its own: records, and ends as told."""
    peer = getattr(peers, name)(itertools.repeat(""), address)
    if ending == "fork":
        peer.small("in the parent", 0)
        child = os.fork()
        if child != 0:
            os.waitpid(child, 0)
            return
    for number in range(SPANS[ending]):
        peer.small("what is the answer?", number)
    if ending == "fork":
        os._exit(0)
    if ending != "burst":
        os.kill(os.getpid(), getattr(signal, ending))


def kept(name: str, ending: str) -> int:
    folder = tempfile.mkdtemp(prefix="spanbox-bench-", dir=os.environ.get("SPANBOX_BENCH_DIR"))
    store = Path(folder) / "store"
    with sink.running() as address:
        command = [sys.executable, __file__, name, ending, address]
        # The exit status is the crash's; the SDK tells on standard error how many spans it has thrown away.
        subprocess.run(
            command, env={**os.environ, "SPANBOX_DIR": str(store)}, stderr=subprocess.DEVNULL, check=False, timeout=120
        )
        found = spanbox.open(store).spans().count() if name == "spanbox" else sink.arrived(address)
    return found - (ending == "fork")  # less the parent's one


def main() -> None:
    if len(sys.argv) == 4:
        end_badly(*sys.argv[1:])
        return
    found = {
        ending: {
            "spans": spans,
            "spanbox": kept("spanbox", ending),
            "opentelemetry": kept("opentelemetry_otlp", ending),
        }
        for ending, spans in SPANS.items()
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
