"""A loopback server that takes whatever an SDK sends, in a process of its own so that its CPU is nobody's.

GET /spans tells how many spans have arrived in OTLP bodies. Started by `running()`; as a program it prints its port.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    otlp: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("content-type") == "application/x-protobuf":
            self.otlp.append(body)
            self._answer("application/x-protobuf", b"")
        else:
            self._answer("application/json", body if "/mlflow/" in self.path else b"{}")  # MLflow wants its own back

    do_PUT = do_PATCH = do_POST

    def do_GET(self) -> None:
        self._answer("application/json", str(spans_in(self.otlp)).encode() if self.path == "/spans" else b"{}")

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def spans_in(bodies: list[bytes]) -> int:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    requests = map(ExportTraceServiceRequest.FromString, bodies)
    return sum(len(scope.spans) for each in requests for r in each.resource_spans for scope in r.scope_spans)


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The address of a new sink."""
    server = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.kill()
        server.wait()


def arrived(address: str) -> int:
    with urllib.request.urlopen(f"{address}/spans", timeout=60) as answer:
        return int(answer.read())


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
