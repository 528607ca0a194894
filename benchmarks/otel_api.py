"""One span by OpenTelemetry's API, on the SDK and on spanbox's TracerProvider, in one process, in turns:
otel_api.py ROUNDS.

`call` is what an instrumentor does for a model call: a span with five attributes at its start and five at its end.
`empty` has none. The SDK has a batch processor whose exporter throws the spans away.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any

import spanbox
from spanbox import _bench, otel

AT_START = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.request.temperature": 0.2,
    "gen_ai.request.max_tokens": 512,
}
AT_END = {
    "gen_ai.response.model": "gpt-5-2025-08-07",
    "gen_ai.response.id": "chatcmpl-123",
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.usage.input_tokens": 1200,
    "gen_ai.usage.output_tokens": 300,
}
CALLS = 3_000


def bare(question: str, top_k: int) -> str:
    return question


def call(tracer: Any) -> Any:
    def traced(question: str, top_k: int) -> str:
        with tracer.start_as_current_span("chat gpt-5", attributes=AT_START) as span:
            span.set_attributes(AT_END)
            return question

    return traced


def empty(tracer: Any) -> Any:
    def traced(question: str, top_k: int) -> str:
        with tracer.start_as_current_span("work"):
            return question

    return traced


def main() -> None:
    rounds = int(sys.argv[1])
    spanbox.configure(tempfile.mkdtemp(prefix="spanbox-bench-", dir=os.environ.get("SPANBOX_BENCH_DIR")))
    sdk, flush_sdk = _bench.otel_tracer()
    ours = otel.TracerProvider(share_context=False).get_tracer("bench")
    ways = {
        f"{workload.__name__} {name}": _bench.Way(workload(tracer), CALLS, settle=flush)
        for workload in (call, empty)
        for name, tracer, flush in (("sdk", sdk, flush_sdk), ("spanbox", ours, spanbox.flush))
    }
    ways["observe"] = _bench.spanbox_way(CALLS)
    print(json.dumps(_bench.added(bare, ways, _bench.call_f, rounds=rounds)))


if __name__ == "__main__":
    main()
