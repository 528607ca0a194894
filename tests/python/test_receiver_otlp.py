"""OTLP from end to end: the SDK's exporter sends to us, we send to others, and hostile bodies harm nobody."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spanbox
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from spanbox._box import Box
from spanbox.export import Forwarder, OtlpSink
from spanbox.server import Server

PROTOBUF, JSON = "application/x-protobuf", "application/json"


@pytest.fixture
def server(box: Box) -> Iterator[Server]:
    with Server(box, otlp=True, port=0) as running:
        yield running


def post(server: Server, body: bytes, content_type: str = PROTOBUF, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("POST", "/v1/traces", body, {"Content-Type": content_type, **headers})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_the_sdk_exporter_sends_to_our_receiver(box: Box, server: Server, compression: Compression) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{server.url}/v1/traces", compression=compression)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("app")
    with tracer.start_as_current_span("agent"):
        for n in range(40):
            with tracer.start_as_current_span("chat gpt-5", kind=SpanKind.CLIENT) as span:
                span.set_attribute("gen_ai.operation.name", "chat")
                span.set_attribute("gen_ai.request.model", "gpt-5")
                span.set_attribute("gen_ai.usage.input_tokens", n)
                if n == 7:
                    span.set_status(Status(StatusCode.ERROR, "no answer"))
    assert provider.force_flush()
    provider.shutdown()
    assert box.spans().count() == 41
    assert box.spans('kind == llm and model_request == "gpt-5"').count() == 40
    assert [row["n"] for row in box.spans("kind == llm").by().agg(n="sum(input_tokens)")] == [780]
    assert box.spans("status == error").count() == 1
    [row] = box.spans('name == "agent"').columns("trace_id")
    assert len(box.trace(row["trace_id"])) == 41


def request(spans: int, first: int = 1) -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    resource = made.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "app"
    scope = resource.scope_spans.add()
    for n in range(first, first + spans):
        span = scope.spans.add(name="chat", trace_id=struct.pack(">QQ", 1, n // 8 + 1), span_id=struct.pack(">Q", n))
        span.start_time_unix_nano = time.time_ns() - 10**9
        span.end_time_unix_nano = span.start_time_unix_nano + 10**8
        span.attributes.add(key="gen_ai.request.model").value.string_value = "gpt-5"
        span.attributes.add(key="my.own").value.int_value = n
    return made


def test_what_is_sent_again_is_stored_once(box: Box, server: Server) -> None:
    body = request(50).SerializeToString()
    for _ in range(3):
        assert post(server, body) == (200, b"")
    assert post(server, gzip.compress(body), **{"Content-Encoding": "gzip"}) == (200, b"")
    assert box.spans().count() == 50


def test_what_was_answered_is_there_for_the_next_process(tmp_path: Path) -> None:
    box = spanbox.open(tmp_path / "store", create=True)
    with Server(box, otlp=True, port=0) as server:
        assert post(server, request(5).SerializeToString())[0] == 200
    del box, server
    assert spanbox.open(tmp_path / "store").spans().count() == 5


def test_from_one_store_to_another(box: Box, tmp_path: Path) -> None:
    """In by OTLP, out by OTLP, in again, in both encodings: nothing is lost on the way."""
    ends = [spanbox.open(tmp_path / name, create=True) for name in ("binary", "json")]
    with Server(box, otlp=True, port=0) as first:
        assert post(first, request(700).SerializeToString())[0] == 200
    with Server(ends[0], otlp=True, port=0) as binary, Server(ends[1], otlp=True, port=0) as text:
        sinks = [OtlpSink(url=binary.url, batch_spans=64), OtlpSink(url=text.url, encoding="json")]
        reports = Forwarder(box, sinks).send()
    assert [(report.sent, report.refused, report.waiting) for report in reports] == [(700, 0, 0)] * 2
    wanted = spans_of(box)
    assert len(wanted) == 700
    for end in ends:
        assert spans_of(end) == wanted


def spans_of(box: Box) -> list[dict[str, Any]]:
    """Without the note from which attribute a column was read: it is the column's own one now."""
    rows = ({name: value for name, value in row.items() if name != "semconv.keys"} for row in box.spans())
    return sorted(rows, key=lambda row: row["span_id"])


def test_our_exporter_sends_what_others_decode(box: Box) -> None:
    from spanbox import _core

    box._store.append(
        [
            {
                "trace_id": f"{7:032x}",
                "span_id": f"{9:016x}",
                "name": "chat",
                "kind": "llm",
                "start_ns": 10**18,
                "duration_ns": 10**9,
                "model_request": "gpt-5",
                "input_tokens": 12,
            }
        ]
    )
    table = box._store.scan("", None, None, [], None, "", False)
    sent = ExportTraceServiceRequest.FromString(_core.encode_otlp(table, False, False))
    [span] = sent.resource_spans[0].scope_spans[0].spans
    assert span.end_time_unix_nano - span.start_time_unix_nano == 10**9
    attributes = {each.key: each.value for each in span.attributes}
    assert attributes["gen_ai.request.model"].string_value == "gpt-5"
    assert attributes["gen_ai.usage.input_tokens"].int_value == 12
    both = ExportTraceServiceRequest.FromString(_core.encode_otlp(table, False, True))
    names = {each.key for each in both.resource_spans[0].scope_spans[0].spans[0].attributes}
    assert {"gen_ai.request.model", "openinference.span.kind"} <= names


def test_threads_and_processes_that_have_encoded_end_in_peace(tmp_path: Path) -> None:
    """A parser of JSON was destroyed as if it were another: the process died when the thread ended."""
    script = """if True:
        import sys, threading, spanbox
        from spanbox import _core
        box = spanbox.open(sys.argv[1], create=True)
        ids = [dict(trace_id=f"{n:032x}", span_id=f"{n:016x}", start_ns=1) for n in (1, 2)]
        box._store.append([ids[0] | {"input": [{"role": "user"}], "x": {"a": 1}}, ids[1] | {"x": "text"}])
        rows = box._store.scan("", None, None, [], None, "", False)
        def send():
            for as_json in (False, True):
                box._store.receive_otlp(_core.encode_otlp(rows, as_json, True), as_json)
        thread = threading.Thread(target=send)
        thread.start()
        thread.join()
        send()
    """
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "store")], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("ends_by", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_and_sends_until_it_is_told_to_end(
    tmp_path: Path, box: Box, ends_by: signal.Signals
) -> None:
    sinks, token = tmp_path / "sinks.toml", tmp_path / "token"
    with Server(box, otlp=True, port=0) as server:
        sinks.write_text(f'[[sink]]\nname = "next"\nurl = "{server.url}"\n')
        command = [
            sys.executable,
            "-m",
            "spanbox",
            "serve",
            "--otlp",
            "--port",
            "0",
            "--store",
            str(tmp_path / "s"),
        ]
        command += ["--sinks", str(sinks), "--token-file", str(token)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        serving = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert serving.stdout is not None
        said = [serving.stdout.readline() for _ in range(4)]
        url = said[1].split()[1].removesuffix("/v1/traces")
        assert token.read_text() not in "".join(said)
        client = OtlpSink(url=url)
        source = spanbox.open(tmp_path / "source", create=True)
        source._store.receive_otlp(request(20).SerializeToString(), False)
        while Forwarder(source, [client]).send()[0].waiting:  # it is starting
            time.sleep(0.1)
        while box.spans().count() < 20:
            time.sleep(0.1)
        serving.send_signal(ends_by)
        serving.communicate(timeout=60)
    assert serving.returncode in (0, 130, -ends_by)
    assert spanbox.open(tmp_path / "s").spans().count() == 20


# --- hostile bodies --------------------------------------------------------------------------------------------------


def field(number: int, wire_type: int, content: bytes = b"") -> bytes:
    return varint(number << 3 | wire_type) + (varint(len(content)) + content if wire_type == 2 else content)


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def nested(depth: int) -> bytes:
    """A span with an attribute that is a list of a list of ..."""
    value = b""
    for _ in range(depth):
        value = field(5, 2, field(1, 2, value))
    attribute = field(1, 2, b"deep") + field(2, 2, value)
    ids = field(1, 2, b"t" * 16) + field(2, 2, b"s" * 8)
    return field(1, 2, field(2, 2, field(2, 2, ids + field(9, 2, attribute))))


def hostile_binary() -> Iterator[bytes]:
    good = request(3).SerializeToString()
    yield from (good[:cut] for cut in range(1, len(good), max(1, len(good) // 24)))
    yield from (field(1, 2, b"")[:1] + varint(size) for size in (1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1))
    yield from (b"\x0a" + b"\xff" * n + end for n in (9, 10, 11, 100) for end in (b"", b"\x01", b"\x7f"))
    yield from (bytes([1 << 3 | wire_type]) + b"\x00" * 20 for wire_type in (3, 4, 6, 7))
    yield from (b"\x0b" * depth for depth in (10, 1_000, 100_000))
    yield from (nested(depth) for depth in (33, 100, 5_000))
    yield b"\x00" * 1_000
    yield b"PK\x03\x04" + os.urandom(500)
    yield b"<html>" * 50
    chance = random.Random(5)
    for _ in range(40):
        broken = bytearray(good)
        for _ in range(chance.randrange(1, 6)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        yield bytes(broken)


def hostile_json() -> Iterator[bytes]:
    span = '{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"%s","spanId":"%s","name":"x"%s}]}]}]}'
    ids = ("0" * 31 + "1", "0" * 15 + "1")
    yield from (b"[" * depth for depth in (10, 1_000, 100_000, 1_000_000))
    yield from (b'{"a":' * depth for depth in (10, 1_000, 100_000))
    yield from (text.encode() for text in ("nul", "{", '{"resourceSpans":', "[]", '"x"', "7", "{}}", "{} {}", "'x'"))
    yield from ((span % (*ids, ""))[:cut].encode() for cut in range(1, len(span % ("", "", "")), 9))
    yield (span % (*ids, ',"startTimeUnixNano":NaN')).encode()
    yield (span % (*ids, ',"startTimeUnixNano":Infinity')).encode()
    yield (span % (*ids, ',"startTimeUnixNano":1e999')).encode()
    yield (span % (*ids, "")).encode() + b"\xff\xfe"
    yield (span % (*ids, ',"name":"\xff"')).encode("latin-1")
    yield (span % (*ids, ',"name":"\\ud800"')).encode()
    yield (span % (*ids, ',"name":"\\u00"')).encode()
    yield b"\xef\xbb\xbf{}"
    yield "{}".encode("utf-16")
    yield b"\x00" * 100


def test_bodies_that_do_not_decode_are_refused_and_harm_nothing(box: Box, server: Server) -> None:
    assert post(server, request(1, first=10_000).SerializeToString())[0] == 200
    before = rss_bytes()
    seen: dict[int, int] = {}
    for content_type, bodies in ((PROTOBUF, hostile_binary()), (JSON, hostile_json())):
        for body in bodies:
            status, answer = post(server, body, content_type)
            assert status in (200, 400), (content_type, body[:60])
            seen[status] = seen.get(status, 0) + 1
            if status == 400 and content_type == JSON:
                assert json.loads(answer)["code"] == 3
    assert sum(seen.values()) >= 120
    assert seen[400] >= 60
    assert rss_bytes() - before < 64 << 20
    assert post(server, request(1, first=20_000).SerializeToString()) == (200, b"")
    assert box.spans("`my.own` in [10000, 20000]").count() == 2
    assert box.verify()["problems"] == []


def test_a_body_of_a_million_attributes_is_answered(box: Box, server: Server) -> None:
    attribute = field(1, 2, b"k") + field(2, 2, field(1, 2, b"v"))
    ids = field(1, 2, b"t" * 16) + field(2, 2, b"s" * 8)
    body = field(1, 2, field(2, 2, field(2, 2, ids + field(9, 2, attribute) * 1_000_000)))
    before = rss_bytes()
    status, _ = post(server, gzip.compress(body, 1), **{"Content-Encoding": "gzip"})
    assert status in (200, 400, 413)
    assert rss_bytes() - before < 128 << 20
    assert post(server, request(1).SerializeToString())[0] == 200


def test_keys_of_attributes_are_data(box: Box, server: Server) -> None:
    made = request(1)
    names = ["__proto__", "constructor", "prototype", "a.__class__", "$where", "x'; drop table spans; --"]
    for name in names:
        made.resource_spans[0].scope_spans[0].spans[0].attributes.add(key=name).value.string_value = "v"
    assert post(server, made.SerializeToString())[0] == 200
    [row] = box.spans()
    assert {name: row[name] for name in names} == dict.fromkeys(names, "v")


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
