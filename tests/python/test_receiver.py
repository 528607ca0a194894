"""The receiver: who gets in, what a body may be, and what is answered."""

from __future__ import annotations

import gzip
import http.client
import itertools
import json
import os
import socket
import stat
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox import _core
from spanbox._box import Box
from spanbox.server import Access, Limits, Server, read_token

PROTOBUF, JSON = "application/x-protobuf", "application/json"
LIMITS = Limits(body_bytes=4 << 20, waiting_bytes=8 << 20, body_s=1.0)


class Taken:
    """A store that keeps what it is given to receive: for what happens before a body is decoded."""

    def __init__(self, store: _core.Store) -> None:
        self._store = store
        self.bodies: list[tuple[bytes, bool]] = []
        self.answer: tuple[int, int, int, str] | Exception = (1, 0, 0, "")
        self.gate: threading.Event | None = None
        self.entered = threading.Event()

    def receive_otlp(self, body: bytes, is_json: bool, /) -> tuple[int, int, int, str]:
        self.entered.set()
        if self.gate is not None:
            self.gate.wait(60)
        if isinstance(self.answer, Exception):
            raise self.answer
        self.bodies.append((body, is_json))
        return self.answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def taken(box: Box) -> Taken:
    box._store = Taken(box._store)  # type: ignore[assignment]
    return box._store  # type: ignore[return-value]


@pytest.fixture
def server(box: Box, taken: Taken) -> Iterator[Server]:
    with Server(box, otlp=True, port=0, limits=LIMITS) as running:
        yield running


def ask(
    server: Server,
    method: str = "POST",
    path: str = "/v1/traces",
    body: bytes = b"",
    /,
    **headers: str,
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Content-Type": PROTOBUF, **given})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def raw(server: Server, request: bytes, *, shut: bool = True) -> bytes:
    """What comes back for these bytes, until the server hangs up."""
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as line:
        try:
            line.sendall(request)
            if shut:
                line.shutdown(socket.SHUT_WR)
            while chunk := line.recv(65_536):
                answer += chunk
        except OSError:  # hung up on before everything was said
            pass
        return answer


# --- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON, "application/json; charset=utf-8", "Application/JSON"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_body_arrives_whole(server: Server, taken: Taken, content_type: str, packed: bool) -> None:
    body = os.urandom(300_000)
    headers = {"Content_Type": content_type} | ({"Content_Encoding": "gzip"} if packed else {})
    status, answer, _ = ask(server, "POST", "/v1/traces", gzip.compress(body) if packed else body, **headers)
    assert status == 200
    assert taken.bodies == [(body, "json" in content_type.lower())]
    assert answer["Content-Type"] == content_type.split(";")[0].lower()
    assert answer["Access-Control-Allow-Origin"] is None
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Server"] is None


def test_gzip_of_several_members_is_one_body(server: Server, taken: Taken) -> None:
    body = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two")
    assert ask(server, "POST", "/v1/traces", body, Content_Encoding="gzip")[0] == 200
    assert taken.bodies == [(b"one two", False)]


def test_an_empty_request_is_a_success(server: Server) -> None:
    assert ask(server)[::2] == (200, b"")
    assert ask(server, Content_Type=JSON)[::2] == (200, b"{}")


def bomb(size_bytes: int) -> bytes:
    return gzip.compress(bytes(size_bytes), mtime=0)


REFUSED: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "larger than the limit": (413, bytes(LIMITS.body_bytes + 1), {}),
    "larger when unpacked": (413, gzip.compress(os.urandom(LIMITS.body_bytes + 1), 1), {"Content_Encoding": "gzip"}),
    "a bomb": (413, bomb(200 << 20), {"Content_Encoding": "gzip"}),
    "a small bomb": (413, bomb(3 << 20), {"Content_Encoding": "gzip"}),
    "gzip cut short": (400, gzip.compress(os.urandom(9_000))[:-20], {"Content_Encoding": "gzip"}),
    "gzip without its head": (400, gzip.compress(b"x" * 99)[3:], {"Content_Encoding": "gzip"}),
    "zlib named gzip": (400, zlib.compress(b"x" * 99), {"Content_Encoding": "gzip"}),
    "text named gzip": (400, b"not packed at all", {"Content_Encoding": "gzip"}),
    "garbage behind gzip": (400, gzip.compress(b"x") + b"garbage", {"Content_Encoding": "gzip"}),
    "br": (415, b"x", {"Content_Encoding": "br"}),
    "zstd": (415, b"x", {"Content_Encoding": "zstd"}),
    "deflate": (415, zlib.compress(b"x"), {"Content_Encoding": "deflate"}),
    "gzip twice": (415, gzip.compress(gzip.compress(b"x")), {"Content_Encoding": "gzip, gzip"}),
    "plain text": (415, b"x", {"Content_Type": "text/plain"}),
    "a form": (415, b"x", {"Content_Type": "application/x-www-form-urlencoded"}),
    "multipart": (415, b"x", {"Content_Type": "multipart/form-data; boundary=x"}),
    "json of another kind": (415, b"{}", {"Content_Type": "application/json+otlp"}),
    "no type": (415, b"x", {"Content_Type": ""}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bodies_that_are_refused(server: Server, taken: Taken, name: str) -> None:
    expected, body, headers = REFUSED[name]
    answer = raw_post(server, body, **headers)
    assert answer.startswith(b"HTTP/1.1 %d " % expected), answer[:200]
    assert taken.bodies == []
    assert ask(server, "POST", "/v1/traces", b"alive")[0] == 200
    assert taken.bodies == [(b"alive", False)]


def raw_post(server: Server, body: bytes, *, shut: bool = True, **headers: str) -> bytes:
    lines = {"Host": f"127.0.0.1:{server.port}", "Content-Type": PROTOBUF, "Content-Length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "POST /v1/traces HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
    return raw(server, head.encode() + body, shut=shut)


def test_a_length_beyond_the_limit_is_refused_before_the_body_comes(server: Server) -> None:
    for length in (str(2 << 30), str(1 << 62)):
        answer = raw_post(server, b"", shut=False, Content_Length=length)
        assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: -1",
        b"Content-Length: 1\r\nContent-Length: 2",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: x",
        b"Content-Length: 0x10",
        b"Bad Header: 1",
        b" folded: 1",
    ],
)
def test_heads_that_can_be_read_in_two_ways_are_refused(server: Server, taken: Taken, head: bytes) -> None:
    host = b"Host: 127.0.0.1:%d\r\nContent-Type: application/x-protobuf\r\n" % server.port
    answer = raw(server, b"POST /v1/traces HTTP/1.1\r\n" + host + head + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    ends_by_chunks = b"chunked" in head and b"gzip" not in head  # RFC 9112: chunks win over a length
    assert ends_by_chunks or answer.split(b" ")[1:2] in ([b"400"], [b"415"]), answer[:100]
    assert [body for body, _ in taken.bodies if body not in (b"hello",)] == []
    assert ask(server)[0] == 200


def test_a_chunked_body_has_the_same_limits(server: Server, taken: Taken) -> None:
    head = b"POST /v1/traces HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/x-protobuf\r\n" % server.port
    chunk = b"%x\r\n%s\r\n" % (1 << 20, bytes(1 << 20))
    answer = raw(server, head + b"Transfer-Encoding: chunked\r\n\r\n" + 6 * chunk + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ") or answer == b""  # an answer may be lost when the rest is not read
    assert taken.bodies == []


def test_a_body_that_does_not_come_is_given_up(server: Server) -> None:
    head = b"POST /v1/traces HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/x-protobuf\r\n" % server.port
    answer = raw(server, head + b"Content-Length: 10\r\n\r\nabc", shut=False)
    assert answer.startswith(b"HTTP/1.1 408 "), answer[:100]


def test_requests_that_come_together_are_answered_in_turn(server: Server, taken: Taken) -> None:
    head = f"POST /v1/traces HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: {PROTOBUF}\r\n"
    one = f"{head}Content-Length: 3\r\n\r\none".encode()
    two = f"{head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()
    two += b"1;x=y\r\nt\r\n2\r\nwo\r\n0\r\nX: y\r\n\r\n"
    answer = raw(server, one + two, shut=False)
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert [body for body, _ in taken.bodies] == [b"one", b"two"]


def test_a_client_that_goes_away_leaves_no_trace(server: Server, taken: Taken) -> None:
    for _ in range(20):
        raw_post(server, b"abc", Content_Length="1000")
    assert ask(server)[0] == 200
    assert len(taken.bodies) == 1


# --- answers ---------------------------------------------------------------------------------------------------------


def test_partial_success_is_said_in_the_type_of_the_request(server: Server, taken: Taken) -> None:
    trace_service = pytest.importorskip(
        "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="reads the answer as a client does"
    )
    taken.answer = (2, 0, 3, "span 4: no trace id")
    status, _, body = ask(server, "POST", "/v1/traces", b"x")
    said = trace_service.ExportTraceServiceResponse.FromString(body).partial_success
    assert (status, said.rejected_spans, said.error_message) == (200, 3, "span 4: no trace id")
    status, _, body = ask(server, "POST", "/v1/traces", b"{}", Content_Type=JSON)
    assert json.loads(body) == {"partialSuccess": {"rejectedSpans": "3", "errorMessage": "span 4: no trace id"}}
    taken.answer = (2, 0, 0, "")
    assert not trace_service.ExportTraceServiceResponse.FromString(ask(server)[2]).HasField("partial_success")


ERRORS: list[tuple[Exception, int, int, str | None]] = [
    (ValueError("byte 7: truncated"), 400, 3, None),
    (_core.StoreFullError("no space"), 503, 14, "30"),
    (_core.StoreError("locked"), 503, 14, "1"),
    (_core.CorruptionError("page 7 of somewhere"), 503, 14, "1"),
]


@pytest.mark.parametrize(("error", "status", "code", "retry_after"), ERRORS, ids=lambda value: str(value)[:20])
def test_errors_are_a_status_and_tell_when_to_try_again(
    server: Server, taken: Taken, error: Exception, status: int, code: int, retry_after: str | None
) -> None:
    taken.answer = error
    got, headers, body = ask(server, "POST", "/v1/traces", b"{}", Content_Type=JSON)
    assert (got, json.loads(body)["code"], headers["Retry-After"]) == (status, code, retry_after)
    assert "somewhere" not in json.loads(body)["message"]
    got, headers, body = ask(server, "POST", "/v1/traces", b"x")
    assert headers["Content-Type"] == PROTOBUF
    assert body.startswith(bytes([0x08, code, 0x12]))


def test_more_than_can_wait_is_to_be_tried_again(box: Box, taken: Taken) -> None:
    limits = Limits(body_bytes=1 << 20, waiting_bytes=1 << 20, stores_at_once=1)
    taken.gate = threading.Event()
    with Server(box, otlp=True, port=0, limits=limits) as server:
        first: list[int] = []
        waiting = threading.Thread(target=lambda: first.append(ask(server, "POST", "/v1/traces", bytes(900_000))[0]))
        waiting.start()
        assert taken.entered.wait(60)
        status, headers, _ = ask(server, "POST", "/v1/traces", bytes(900_000))
        taken.gate.set()
        waiting.join()
        assert (status, headers["Retry-After"]) == (429, "1")
        assert first == [200]
        assert ask(server, "POST", "/v1/traces", bytes(900_000))[0] == 200


@pytest.mark.parametrize("signal", ["metrics", "logs"])
def test_other_signals_are_refused_for_good(server: Server, signal: str) -> None:
    status, _, body = ask(server, "POST", f"/v1/{signal}", b"{}", Content_Type=JSON)
    assert status == 404
    assert f"OTEL_{signal.upper()}_EXPORTER=none" in json.loads(body)["message"]


# --- who gets in -----------------------------------------------------------------------------------------------------

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "MADEUP"]
PATHS = ["/v1/traces", "/v1/metrics", "/metrics", "/", "/index.html", "/v1/traces/", "/v1/../metrics", "//metrics"]
GOOD_HOSTS = ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}", "[::1]:{port}"]
BAD_HOSTS = [
    "evil.example", "evil.example:{port}", "127.0.0.1", "localhost", "localhost.:{port}", "127.0.0.1.:{port}",
    "localhost:1", "user@localhost:{port}", "localhost:{port}@evil.example", "2130706433:{port}", "0x7f000001:{port}",
    "0177.0.0.1:{port}", "127.1:{port}", "0.0.0.0:{port}", "[::ffff:7f00:1]:{port}", "localhost.evil.example:{port}",
    "localhost:{port}.evil.example", "127.0.0.1:{port}, evil.example", "",
]  # fmt: skip
GOOD_ORIGINS = [None, "http://{host}"]
BAD_ORIGINS = [
    "null", "http://evil.example", "https://{host}", "http://{host}.evil.example", "http://evil.example/{host}",
    "http://evil{host}", "http://{host}/", "file://", "",
]  # fmt: skip


def test_only_listed_combinations_of_host_and_origin_get_in() -> None:
    access = Access(port=4318, token="t" * 43, open_paths=frozenset({"/v1/traces", "/v1/metrics"}))
    let_in = 0
    for host, origin, path in itertools.product(GOOD_HOSTS + BAD_HOSTS, GOOD_ORIGINS + BAD_ORIGINS, PATHS):
        host_value = host.format(port=4318)
        headers = [(b"host", host_value.encode())]
        if origin is not None:
            headers.append((b"origin", origin.format(host=host_value).encode()))
        for sites in (None, "same-origin", "none", "cross-site", "same-site"):
            head = headers + ([(b"sec-fetch-site", sites.encode())] if sites else [])
            right = host in GOOD_HOSTS and origin in GOOD_ORIGINS and sites in (None, "same-origin", "none")
            plain, with_token = (
                access.refusal(path, head),
                access.refusal(path, [*head, (b"authorization", b"Bearer " + b"t" * 43)]),
            )
            is_open = path in ("/v1/traces", "/v1/metrics")
            case = (host, origin, sites, path)
            assert (plain is None) == (right and is_open), case
            assert (with_token is None) == right, case
            if not right:
                assert plain is not None, case
                assert plain.status == 403, case
            let_in += plain is None
    assert let_in == len(GOOD_HOSTS) * len(GOOD_ORIGINS) * 3 * 2
    assert access.refusal("/v1/traces", []) is not None
    assert access.refusal("/v1/traces", [(b"host", b"localhost:4318"), (b"host", b"localhost:4318")]) is not None


def test_every_method_and_path_is_guarded_on_the_wire(server: Server, taken: Taken) -> None:
    hosts = ["127.0.0.1:{port}", "evil.example:{port}"]
    for method, path, host in itertools.product(METHODS, [*PATHS, "http://evil.example/v1/traces"], hosts):
        head = f"{method} {path} HTTP/1.1\r\nHost: {host.format(port=server.port)}\r\nContent-Type: {JSON}\r\n"
        answer = raw(server, f"{head}Content-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode(), shut=False)
        status = int(answer.split(b" ")[1])
        case = (method, path, host)
        if host.startswith("evil"):
            assert status == 403, case
        elif path == "/v1/traces":
            assert status == (200 if method == "POST" else 405), case
        elif path == "/v1/metrics":
            assert status == 404, case
        else:
            assert status == 401, case
        assert b"Access-Control" not in answer.title(), case
        assert b"spanbox_" not in answer, case
    assert len(taken.bodies) == 1


@pytest.mark.parametrize("target", [b"http://evil.example/v1/traces", b"evil.example:80", b"*", b"v1/traces"])
def test_targets_that_are_no_path_reach_nothing(server: Server, taken: Taken, target: bytes) -> None:
    head = b"POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n" % (target, server.port)
    answer = raw(server, head + b"Content-Length: 2\r\n\r\n{}")
    assert answer.split(b" ")[1] in (b"400", b"401", b"403", b"404")
    assert taken.bodies == []


def test_without_a_host_nothing_is_served(server: Server, taken: Taken) -> None:
    for request in (
        b"POST /v1/traces HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /v1/traces HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        b"GET /metrics\r\n\r\n",
    ):
        assert raw(server, request).split(b" ")[1] in (b"400", b"403")
    assert taken.bodies == []


def test_metrics_need_the_token_in_the_header(server: Server) -> None:
    token = server.token
    assert len(token) >= 43
    wrong = [
        {},
        {"Authorization": f"Bearer {token[:-1]}"},
        {"Authorization": f"Bearer {token}x"},
        {"Authorization": f"Basic {token}"},
        {"Authorization": token},
        {"Authorization": "Bearer "},
        {"Cookie": f"token={token}"},
    ]
    for headers in wrong:
        status, answer, body = ask(server, "GET", "/metrics", **headers)
        assert (status, answer["WWW-Authenticate"]) == (401, "Bearer")
        assert b"spanbox_" not in body
    assert ask(server, "GET", f"/metrics?token={token}")[0] == 401
    status, _, body = ask(server, "GET", "/metrics", Authorization=f"Bearer {token}")
    assert status == 200
    assert b"spanbox_store_spans 0\n" in body
    assert ask(server, "HEAD", "/metrics", Authorization=f"bearer {token}")[::2] == (200, b"")
    assert ask(server, "POST", "/metrics", Authorization=f"Bearer {token}")[0] == 405


def test_an_idle_head_is_hung_up_on(box: Box, taken: Taken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spanbox.server._run._HEAD_S", 0.2)
    with Server(box, otlp=True, port=0) as server:
        assert raw(server, b"POST /v1/traces HTTP/1.1\r\nHost: 127", shut=False) == b""
        assert ask(server)[0] == 200


def test_errors_tell_nothing_of_the_store(server: Server, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise _core.CorruptionError(f"{box.path}: damaged")

    monkeypatch.setattr("spanbox._metrics.Metrics.collect", fail)
    status, _, body = ask(server, "GET", "/metrics", Authorization=f"Bearer {server.token}")
    assert status == 503
    assert str(box.path).encode() not in body
    assert b"Traceback" not in body


def test_by_default_only_this_machine_is_served(box: Box, taken: Taken) -> None:
    with Server(box, otlp=True, port=0) as server:
        assert server.host == "127.0.0.1"
        assert server.url == f"http://127.0.0.1:{server.port}"


def test_beyond_this_machine_ingest_needs_the_token_too(box: Box, taken: Taken) -> None:
    with Server(box, otlp=True, port=0, host="0.0.0.0", allowed_hosts=["box.example"]) as server:
        name = f"box.example:{server.port}"
        assert ask(server, Host=name)[0] == 401
        assert ask(server, Host=name, Authorization=f"Bearer {server.token}")[0] == 200
        assert ask(server, Host=f"evil.example:{server.port}", Authorization=f"Bearer {server.token}")[0] == 403


def test_another_host_has_to_be_meant(tmp_path: Path) -> None:
    from spanbox.cli._app import app
    from typer.testing import CliRunner

    store = spanbox.open(tmp_path / "store", create=True)
    result = CliRunner().invoke(app, ["serve", "--store", str(store.path), "--host", "0.0.0.0", "--port", "0"])
    assert result.exit_code == 2
    assert "--i-understand" in result.output


def test_the_token_file_is_made_for_its_owner_only(tmp_path: Path) -> None:
    token = read_token(tmp_path / "token")
    assert len(token) == 43
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert read_token(tmp_path / "token") == token
    (tmp_path / "short").write_text("secret")
    with pytest.raises(ValueError, match="fewer than 32 characters"):
        read_token(tmp_path / "short")


def test_keeping_on_with_one_connection(server: Server, taken: Taken) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for number in range(50):
        connection.request("POST", "/v1/traces", b"%d" % number, {"Content-Type": PROTOBUF})
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"")
    connection.close()
    assert [body for body, _ in taken.bodies] == [b"%d" % number for number in range(50)]


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_bombs_take_little_memory(server: Server) -> None:
    packed = bomb(200 << 20)
    ask(server, "POST", "/v1/traces", b"x")
    before = rss_bytes()
    for _ in range(5):
        assert raw_post(server, packed, Content_Encoding="gzip").startswith(b"HTTP/1.1 413 ")
    assert rss_bytes() - before < 64 << 20
