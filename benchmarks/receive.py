"""OTLP over HTTP, received and stored: spanbox's receiver, and one made of what Python has for it (http.server, the
protobuf package, a SQLite table), each in a process of its own, in turns: receive.py BODIES ROUNDS.

A body has 512 spans of model calls with messages of 1 KB, as an exporter sends them. Two connections send, each its
next body when the last is answered; both receivers answer when the spans are on disk.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

SPANS = 512  # a body
SENDERS = 2
START_NS = 1_790_000_000_000_000_000
WORDS = ["order", "sent", "monday", "arrive", "friday", "parcel", "held", "customs", "refund", "policy", "days", "the"]


def attribute(key: str, value: str | int) -> KeyValue:
    told = AnyValue(string_value=value) if isinstance(value, str) else AnyValue(int_value=value)
    return KeyValue(key=key, value=told)


def body(number: int) -> bytes:
    spans = []
    for n in range(number * SPANS, (number + 1) * SPANS):
        said = " ".join(WORDS[(n * 7 + k * k) % len(WORDS)] for k in range(100))
        messages = json.dumps([{"role": "user", "parts": [{"type": "text", "content": f"{said} {n}"}]}])
        attributes = [
            attribute("gen_ai.operation.name", "chat"), attribute("gen_ai.provider.name", "openai"),
            attribute("gen_ai.request.model", "gpt-5-mini"), attribute("gen_ai.response.model", "gpt-5-mini"),
            attribute("gen_ai.usage.input_tokens", 500 + n % 700), attribute("gen_ai.usage.output_tokens", n % 300),
            attribute("gen_ai.conversation.id", f"session-{n % 97}"), attribute("gen_ai.input.messages", messages),
            attribute("gen_ai.output.messages", messages.replace("user", "assistant")),
            attribute("server.address", "api.openai.com"),
        ]  # fmt: skip
        start_ns = START_NS + n * 1_000_000
        trace_id = (n // 8 + 1).to_bytes(16, "big")
        spans.append(
            Span(
                trace_id=trace_id,
                span_id=(n + 1).to_bytes(8, "big"),
                name="chat gpt-5-mini",
                attributes=attributes,
                kind=Span.SPAN_KIND_CLIENT,
                start_time_unix_nano=start_ns,
                end_time_unix_nano=start_ns + 900_000_000,
            )
        )
    scope = ScopeSpans(spans=spans)
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[scope])]).SerializeToString()


# --- the receivers ---------------------------------------------------------------------------------------------------


def serve_spanbox(folder: str) -> None:
    import spanbox
    from spanbox.server import Server

    with Server(spanbox.open(folder, create=True), otlp=True, port=0) as server:
        print(server.port, flush=True)
        signal.pause()


def serve_python(folder: str) -> None:
    path = str(Path(folder) / "spans.db")
    table = sqlite3.connect(path)
    table.execute("pragma journal_mode = wal")
    table.execute("create table spans (trace_id, span_id, parent_id, name, kind, start_ns, end_ns, attributes, "
                  "primary key (trace_id, span_id)) without rowid")  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            self.table = sqlite3.connect(path, timeout=60)

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                content = gzip.decompress(content)
            request = ExportTraceServiceRequest.FromString(content)
            with self.table:
                self.table.executemany("insert or ignore into spans values (?, ?, ?, ?, ?, ?, ?, ?)", rows(request))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


def rows(request: ExportTraceServiceRequest) -> list[tuple[object, ...]]:
    return [
        (
            span.trace_id, span.span_id, span.parent_span_id, span.name, span.kind, span.start_time_unix_nano,
            span.end_time_unix_nano,
            json.dumps({each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}),
        )
        for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
    ]  # fmt: skip


RECEIVERS = {"spanbox": serve_spanbox, "python": serve_python}


# --- the sender ------------------------------------------------------------------------------------------------------


def send(port: int, bodies: Sequence[bytes], headers: dict[str, str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    for each in bodies:
        connection.request("POST", "/v1/traces", each, headers)
        response = connection.getresponse()
        if response.read() or response.status != 200:
            raise RuntimeError(f"not stored: {response.status}")
    connection.close()


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def received(name: str, bodies: Sequence[bytes], headers: dict[str, str]) -> tuple[float, float]:
    """Spans a second, and microseconds of the receiver's CPU a span."""
    folder = tempfile.mkdtemp(prefix="receive-", dir=os.environ.get("SPANBOX_BENCH_DIR"))
    server = subprocess.Popen([sys.executable, __file__, "serve", name, folder], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        send(port, bodies[:1], headers)  # what is loaded with the first
        rest = bodies[1:]
        begin, begin_cpu = time.perf_counter(), cpu_s(server.pid)
        with ThreadPoolExecutor(SENDERS) as pool:
            list(pool.map(lambda n: send(port, rest[n::SENDERS], headers), range(SENDERS)))
        took_s, took_cpu_s = time.perf_counter() - begin, cpu_s(server.pid) - begin_cpu
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder)
    spans = len(rest) * SPANS
    return spans / took_s, took_cpu_s / spans * 1e6


def main() -> None:
    count, rounds = int(sys.argv[1]), int(sys.argv[2])
    plain = [body(number) for number in range(count + 1)]
    kinds = {"plain": (plain, {}), "gzip": ([gzip.compress(each, 6) for each in plain], {"Content-Encoding": "gzip"})}
    measured: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for kind, (bodies, headers) in kinds.items():
            for name in RECEIVERS:
                figures = received(name, bodies, {"Content-Type": "application/x-protobuf", **headers})
                measured.setdefault(f"{kind} {name}", []).append(figures)
    medians = {
        key: dict(zip(("spans_per_s", "cpu_us"), map(statistics.median, zip(*each, strict=True)), strict=True))
        for key, each in measured.items()
    }
    print(json.dumps({"bytes_per_span": sum(map(len, plain)) / len(plain) / SPANS, **medians}))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        RECEIVERS[sys.argv[2]](sys.argv[3])
    else:
        main()
