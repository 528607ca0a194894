"""What tracing adds to the caller: A1 (one small call) and A2 (a model call), ours and the peers', in turn.

See spanbox/_bench.py for how it is measured and peers.py for what is traced.

python benchmarks/recording.py small|chat ROUNDS ADDRESS NAME...
    prints {name: {cpu_ns, wall_ns, cpu_min_ns}} as JSON; the NAMEs share one process. ADDRESS: of a sink.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from itertools import repeat

import peers
import spanbox
from spanbox import _bench
from spanbox._bench import Way

CALLS = {"small": 10_000, "chat": 1_000}
SLOW = {"opentelemetry": 4, "langfuse": 20, "mlflow": 50}  # so many times fewer calls a round


def floor_way() -> Way:
    """A ContextVar set and reset and two clock readings, in C; keeps nothing. See floor.c."""
    import floor

    return Way(floor.wrap(_bench.f))


def way(name: str, workload: str, answers: Iterator[str], address: str) -> Way:
    calls = CALLS[workload]
    if name == "python_decorator":
        return _bench.python_decorator(calls)
    if name == "c_wrapper":
        return floor_way()
    if name == "off":
        peer = peers.spanbox(answers, address)
        return Way(getattr(peer, workload), calls, prepare=spanbox.off, settle=spanbox.on)
    peer = getattr(peers, name)(answers, address)
    return Way(getattr(peer, workload), max(20, calls // SLOW.get(name, 1)), settle=peer.flush)


def main() -> None:
    workload, rounds, address, *names = sys.argv[1:]
    spanbox.configure(tempfile.mkdtemp(prefix="spanbox-bench-", dir=os.environ.get("SPANBOX_BENCH_DIR")))
    [(request, answer)] = _bench.Chats(input_bytes=1000, output_bytes=2048, pool_bytes=100_000).make(1)
    answers = repeat(answer)
    ways = {name: way(name, workload, answers, address) for name in names}

    def call_chat(fn: _bench.Traced, calls: int) -> None:
        for _ in range(calls):
            fn(request)

    bare, loop = (_bench.f, _bench.call_f) if workload == "small" else (peers.bare_chat(answers), call_chat)
    figures = _bench.added(bare, ways, loop, rounds=int(rounds))
    print(json.dumps(figures))
    sys.stdout.flush()
    os._exit(0)  # peers' exporters would hold the process


if __name__ == "__main__":
    main()
