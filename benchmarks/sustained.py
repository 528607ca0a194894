"""A5: model calls as fast as the caller can, then a flush: what is lost, and the CPU of the whole process a span.

Every request and answer is different, 1 KB and 2 KB. The process's CPU is the caller's, the exporter's or collector's,
and, of spanbox, the store's; what the calls do without tracing is measured first and taken off.

python benchmarks/sustained.py spanbox|spanbox_block|opentelemetry|opentelemetry_otlp SPANS ADDRESS [CALLS_PER_S]
    prints JSON; with CALLS_PER_S the caller is no faster than that
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time

import peers
import sink
import spanbox
from spanbox import _bench


def main() -> None:
    name, spans, address = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    pace_s = 1 / float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
    folder = tempfile.mkdtemp(prefix="spanbox-bench-", dir=os.environ.get("SPANBOX_BENCH_DIR"))
    if name.startswith("spanbox"):
        spanbox.configure(folder, full_ring="block" if name == "spanbox_block" else "wait")
    chats = _bench.Chats(input_bytes=1000, output_bytes=2048, pool_bytes=24 << 20).make(spans)
    requests, answers = zip(*chats, strict=True)
    gc.freeze()  # collections look at what tracing makes, not at our requests
    bare = peers.bare_chat(iter(answers))
    bare_cpu_s = _bench.cpu_of_process_s()
    for request in requests:
        bare(request)
    bare_cpu_s = _bench.cpu_of_process_s() - bare_cpu_s

    peer = getattr(peers, name.removesuffix("_block"))(iter(answers), address)
    cpu_s, begin = _bench.cpu_of_process_s(), time.perf_counter()
    for number, request in enumerate(requests):
        peer.chat(request)
        if pace_s and number % 32 == 0:
            time.sleep(max(0.0, begin + number * pace_s - time.perf_counter()))
    recorded_s = time.perf_counter() - begin
    spanbox.flush(120) if name.startswith("spanbox") else peer.flush()
    cpu_s, all_s = _bench.cpu_of_process_s() - cpu_s - bare_cpu_s, time.perf_counter() - begin
    figures = {
        "spans": spans,
        "cpu_us_per_span": cpu_s / spans * 1e6,
        "calls_per_s": spans / recorded_s,
        "all_s": all_s,
    }
    if name.startswith("spanbox"):
        figures["lost"] = spans - spanbox.open(folder).spans('name == "chat"').count()
    elif name == "opentelemetry_otlp":
        figures["lost"] = spans - sink.arrived(address)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
