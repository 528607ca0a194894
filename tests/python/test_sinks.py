"""Sinks: whatever a sink answers, and whatever becomes of the store meanwhile, it gets each span once."""

from __future__ import annotations

import gzip
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import spanbox
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from spanbox._box import Box
from spanbox.export import Forwarder, OtlpSink, load_sinks
from spanbox.export._otlp_http import Connection, from_environment

NOW_NS = 1_790_000_000_000_000_000
OK = (200, b"", {})


class Place:
    """A server that keeps the spans it takes, and answers as it is told."""

    def __init__(self) -> None:
        self.spans: Counter[str] = Counter()
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, bytes, dict[str, str]]] = []  # before it answers 200
        self.always: tuple[int, bytes, dict[str, str]] = OK
        self._lock = threading.Lock()
        place = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, content, headers = place.take(self.path, dict(self.headers), body)
                self.send_response(status)
                for name, value in ({"Content-Type": "application/x-protobuf"} | headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None: ...

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None: ...  # a client that has gone

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        with self._lock:
            self.requests.append((path, headers, body))
            answer = self.answers.pop(0) if self.answers else self.always
            if 200 <= answer[0] < 300:
                self.spans.update(ids_of(headers, body))
            return answer

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def ids_of(headers: dict[str, str], body: bytes) -> list[str]:
    if headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    request = ExportTraceServiceRequest.FromString(body)
    return [span.span_id.hex() for each in request.resource_spans for scope in each.scope_spans for span in scope.spans]


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.close()


@pytest.fixture
def other() -> Iterator[Place]:
    made = Place()
    yield made
    made.close()


def rows(first: int, count: int, **what: Any) -> list[dict[str, Any]]:
    return [
        {
            "trace_id": f"{n // 3 + 1:032x}",
            "span_id": f"{n:016x}",
            "name": "chat",
            "kind": "llm",
            "start_ns": NOW_NS + n,
            "duration_ns": 1_000_000,
            **what,
        }
        for n in range(first, first + count)
    ]


def ids(first: int, count: int) -> Counter[str]:
    return Counter(f"{n:016x}" for n in range(first, first + count))


def test_what_is_stored_is_sent_once(box: Box, place: Place) -> None:
    box._store.append(rows(1, 10))
    forwarder = Forwarder(box, [OtlpSink(url=place.url)])
    [report] = forwarder.send()
    assert (report.sent, report.waiting, report.last_error) == (10, 0, "")
    forwarder.send()
    box._store.append(rows(11, 5))
    Forwarder(box, [OtlpSink(url=place.url)]).send()
    assert place.spans == ids(1, 15)
    path, headers, _ = place.requests[0]
    assert path == "/v1/traces"
    assert headers["Content-Type"] == "application/x-protobuf"
    assert headers["User-Agent"].startswith("spanbox/")
    assert len(place.requests) == 2


def test_a_sink_that_is_down_loses_nothing_and_holds_no_other(box: Box, place: Place, other: Place) -> None:
    place.always = (503, b"", {})
    sinks = [OtlpSink(url=place.url), OtlpSink(url=other.url)]
    for day in range(60):
        box._store.append(rows(day * 20 + 1, 20))
        reports = Forwarder(box, sinks).send()
        assert reports[0].last_error.startswith("503")
        assert (reports[0].waiting, reports[1].waiting) == (20 * (day + 1), 0)
        if day % 5 == 0:
            box._store.merge()
    box.compact()
    assert other.spans == ids(1, 1200)
    assert place.spans == Counter()
    place.always = OK
    [report, _] = Forwarder(box, sinks).send()
    assert (report.sent, report.waiting) == (1200, 0)
    assert place.spans == ids(1, 1200)
    assert other.spans == ids(1, 1200)
    assert box.info()["segments"] <= 4


def test_a_sink_that_does_not_answer_at_all_is_tried_again(box: Box) -> None:
    box._store.append(rows(1, 3))
    gone = Place()
    gone.close()
    [report] = Forwarder(box, [OtlpSink(url=gone.url, timeout_s=5)]).send()
    assert report.last_error.startswith("no answer: ")
    assert report.waiting == 3


def test_a_large_segment_goes_in_parts_and_on_where_it_was(tmp_path: Path, place: Place) -> None:
    box = spanbox.open(tmp_path / "store", create=True)
    box._store.append(rows(1, 1000))
    place.answers = [OK, OK, OK, (429, b"", {"Retry-After": "1"})]
    sink = OtlpSink(url=place.url, batch_spans=100)
    [report] = Forwarder(box, [sink]).send()
    assert (report.sent, report.waiting) == (300, 700)
    del box
    box = spanbox.open(tmp_path / "store")
    box._store.append(rows(1001, 50))
    box.compact()
    [report] = Forwarder(box, [sink]).send()
    assert (report.sent, report.waiting) == (1050, 0)
    assert place.spans == ids(1, 1050)
    assert max(len(ids_of(headers, body)) for _, headers, body in place.requests) == 100


def test_small_segments_go_together(box: Box, place: Place) -> None:
    for n in range(30):
        box._store.append(rows(n + 1, 1))
    Forwarder(box, [OtlpSink(url=place.url)]).send()
    assert place.spans == ids(1, 30)
    assert len(place.requests) == 1


def test_what_is_refused_for_good_is_counted_and_left(box: Box, place: Place) -> None:
    box._store.append(rows(1, 4))
    place.answers = [(400, b"\x08\x03\x12\x07no good", {})]
    [report] = Forwarder(box, [OtlpSink(url=place.url)]).send()
    assert (report.sent, report.refused, report.waiting) == (0, 4, 0)
    box._store.append(rows(5, 1))
    [report] = Forwarder(box, [OtlpSink(url=place.url)]).send()
    assert (report.sent, report.refused) == (1, 4)
    assert place.spans == ids(5, 1)


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_a_sink_that_is_set_up_wrongly_loses_nothing(box: Box, place: Place, status: int) -> None:
    box._store.append(rows(1, 4))
    place.answers = [(status, b"", {"Location": f"{place.url}/elsewhere"})]
    [report] = Forwarder(box, [OtlpSink(url=place.url)]).send()
    assert (report.sent, report.refused, report.waiting) == (0, 0, 4)
    assert len(place.requests) == 1
    Forwarder(box, [OtlpSink(url=place.url)]).send()
    assert place.spans == ids(1, 4)


def test_a_batch_that_is_too_large_is_halved(box: Box, place: Place) -> None:
    for n in range(8):
        box._store.append(rows(n * 8 + 1, 8))
    place.answers = [(413, b"", {})] * 4
    Forwarder(box, [OtlpSink(url=place.url)]).send()
    assert place.spans == ids(1, 64)
    assert [len(ids_of(headers, body)) for _, headers, body in place.requests[:4]] == [64, 32, 16, 8]
    assert box._store.feed(f"sink {OtlpSink(url=place.url).name}")["waiting"] == []


def test_a_span_that_is_too_large_alone_is_refused(box: Box, place: Place) -> None:
    box._store.append(rows(1, 1))
    place.always = (413, b"", {})
    [report] = Forwarder(box, [OtlpSink(url=place.url)]).send()
    assert (report.refused, report.waiting) == (1, 0)


def test_partial_success_counts_what_was_refused(box: Box, place: Place) -> None:
    box._store.append(rows(1, 5))
    place.answers = [(200, b"\x0a\x07\x08\x02\x12\x03why", {})]
    [report] = Forwarder(box, [OtlpSink(url=place.url)]).send()
    assert (report.sent, report.refused, report.waiting) == (3, 2, 0)
    box._store.append(rows(6, 5))
    said = b'{"partialSuccess": {"rejectedSpans": "1", "errorMessage": "why"}}'
    place.answers = [(200, said, {"Content-Type": "application/json"})]
    [report] = Forwarder(box, [OtlpSink(url=place.url)]).send()
    assert (report.sent, report.refused) == (7, 3)


def test_waiting_grows_and_is_never_shorter_than_the_sink_asks(box: Box, place: Place) -> None:
    box._store.append(rows(1, 1))
    place.always = (503, b"", {})
    [sender] = Forwarder(box, [OtlpSink(url=place.url)])._senders
    waits = [sender._drain_once(None) for _ in range(12)]
    assert all(wait is not None for wait in waits)
    for tries, wait in enumerate(waits):
        assert 0.5 * min(300, 2**tries) <= (wait or 0) <= min(300, 2**tries)
    place.always = (429, b"", {"Retry-After": "1000"})
    assert (sender._drain_once(None) or 0) >= 1000
    place.always = (503, b"", {"Retry-After": formatdate(time.time() + 5000, usegmt=True)})
    assert (sender._drain_once(None) or 0) >= 4000
    sender._connection.close()
    assert place.spans == Counter()


def test_a_process_that_dies_before_it_remembers_sends_one_batch_twice(box: Box, place: Place) -> None:
    for n in range(10):
        box._store.append(rows(n * 10 + 1, 10))
    sink = OtlpSink(url=place.url, batch_spans=30)
    [sender] = Forwarder(box, [sink])._senders
    sender._took = died  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        sender._drain_once(None)
    sender._connection.close()
    assert place.spans == ids(1, 30)
    box._store.append(rows(101, 10))
    box.compact()  # while it was dead
    Forwarder(box, [sink]).send()
    assert place.spans.keys() == ids(1, 110).keys()
    assert sum(place.spans.values()) == 110 + 30


def died(*_: object) -> None:
    raise KeyboardInterrupt


def test_of_two_processes_one_serves_a_sink(box: Box, place: Place) -> None:
    from spanbox.export._forwarder import _Turn

    box._store.append(rows(1, 3))
    sink = OtlpSink(url=place.url)
    with _Turn(box, sink.name) as mine:
        assert mine
        [report] = Forwarder(box, [sink]).send()
        assert report.last_error == "another process serves this sink"
    assert place.spans == Counter()
    assert Forwarder(box, [sink]).send()[0].waiting == 0


def test_erased_spans_are_not_sent(box: Box, place: Place) -> None:
    place.answers = [(503, b"", {})]
    box._store.append(rows(1, 10) + rows(11, 10, user_id="u1"))
    sink = OtlpSink(url=place.url)
    Forwarder(box, [sink]).send()
    box.erase('user_id == "u1"')
    Forwarder(box, [sink]).send()
    assert place.spans == ids(1, 10)


def test_a_filter_leaves_spans_out(box: Box, place: Place) -> None:
    box._store.append(rows(1, 600) + rows(601, 10, kind="tool"))
    [report] = Forwarder(box, [OtlpSink(url=place.url, filter="kind == tool", batch_spans=4)]).send()
    assert (report.sent, report.waiting) == (10, 0)
    assert place.spans == ids(601, 10)


def test_scores_and_sampled_out_spans_are_no_spans_to_send(box: Box, place: Place) -> None:
    box._store.append(rows(1, 2))
    box.score("helpful", 1.0, trace_id=f"{1:032x}")
    [report] = Forwarder(box, [OtlpSink(url=place.url, scores=False)]).send()
    assert (report.sent, report.waiting) == (2, 0)
    assert box._store.feed(f"sink {report.sink}")["waiting"] == []


def test_json_headers_and_a_path_of_its_own(box: Box, place: Place) -> None:
    box._store.append(rows(1, 2))

    def keep(path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        place.requests.append((path, headers, body))
        return OK

    place.take = keep  # type: ignore[method-assign]
    sink = OtlpSink(url=f"{place.url}/api/otlp", encoding="json", compress=False, headers={"DD-API-KEY": "s3cret"})
    Forwarder(box, [sink]).send()
    path, headers, body = place.requests[0]
    assert path == "/api/otlp"
    assert headers["Content-Type"] == "application/json"
    assert headers["DD-API-KEY"] == "s3cret"
    assert body.startswith(b"{")
    assert "s3cret" not in repr(sink)


def test_what_comes_meanwhile_is_sent_without_being_asked(box: Box, place: Place) -> None:
    with Forwarder(box, [OtlpSink(url=place.url)], every_s=0.01):
        for n in range(5):
            box._store.append(rows(n * 10 + 1, 10))
            while sum(place.spans.values()) < (n + 1) * 10:
                time.sleep(0.01)
    assert place.spans == ids(1, 50)


class Busy:
    """A store that another process writes to, and merges, whenever a feed of it has been read."""

    def __init__(self, store: Any, times: int) -> None:
        self._store, self._times = store, times
        self.stored = 0

    def feed(self, name: str) -> Any:
        feed = self._store.feed(name)
        if self.stored < self._times:
            self._store.append(rows(self.stored + 1, 1))
            self.stored += 1
            if self.stored % 5 == 0:
                self._store.merge()
        return feed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_what_is_stored_while_a_batch_is_settled_is_sent(box: Box, place: Place) -> None:
    """A segment that came between the reading of two feeds counted as one that had been sent: seven spans of 4,000."""
    busy: Any = Busy(box._store, 200)
    box._store = busy
    while busy.stored < 200:
        Forwarder(box, [OtlpSink(url=place.url, batch_spans=7)]).send()
    Forwarder(box, [OtlpSink(url=place.url, batch_spans=7)]).send()
    assert place.spans == ids(1, 200)


@pytest.mark.parametrize("seed", range(3))
def test_each_span_comes_once_whatever_happens(box: Box, place: Place, seed: int) -> None:
    chance = random.Random(seed)
    sink = OtlpSink(url=place.url, batch_spans=chance.choice([3, 20, 100]))
    stored = 0
    for _ in range(40):
        count = chance.choice([1, 1, 2, 5, 40])
        box._store.append(rows(stored + 1, count))
        stored += count
        if chance.random() < 0.4:
            box._store.merge()
        if chance.random() < 0.05:
            box.compact()
        place.answers = [(chance.choice([503, 429, 413, 200, 200, 502]), b"", {}) for _ in range(chance.randrange(3))]
        if chance.random() < 0.5:
            Forwarder(box, [sink]).send()
    place.answers = []
    Forwarder(box, [sink]).send()
    refused = Forwarder(box, [sink]).reports()[0].refused  # 413 of a single span
    assert sum(place.spans.values()) == len(place.spans) == stored - refused


def test_sinks_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "s3cret")
    (tmp_path / "sinks.toml").write_text(
        '[[sink]]\nname = "datadog"\nurl = "https://otlp.example/v1/traces"\nheaders = {dd-api-key = "$KEY"}\n'
        '[[sink]]\nurl = "http://localhost:6006"\nopeninference = true\nfilter = "kind == llm"\n'
    )
    one, two = load_sinks(tmp_path / "sinks.toml")
    assert (one.name, one.headers) == ("datadog", {"dd-api-key": "s3cret"})
    assert (two.name, two.openinference, two.filter) == ("localhost-6006", True, "kind == llm")
    for wrong, why in (
        ('[[sink]]\nurl = "ftp://x"', "no http or https"),
        ('[[sink]]\nurl = "http://u:p@x"', "as a header"),
        ('[[sink]]\nurl = "http://x"\nfilter = "kind = llm"', "sink 1"),
        ('[[sink]]\nurl = "http://x"\nsurprise = 1', "surprise"),
        ('[[sink]]\nurl = "http://x"\nheaders = {a = "$NOT_SET"}', "NOT_SET"),
        ("", r"no table \[\[sink\]\]"),
    ):
        (tmp_path / "wrong.toml").write_text(wrong)
        with pytest.raises(ValueError, match=why):
            load_sinks(tmp_path / "wrong.toml")
    assert from_environment("plain") == "plain"


def test_hostile_answers_end_nothing(place: Place) -> None:
    for body, type_ in (
        (b"\xff" * 50, "application/x-protobuf"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "application/x-protobuf"),
        (b"[" * 100_000, "application/json"),
        (b'{"partialSuccess": [1]}', "application/json"),
        (b'{"partialSuccess": {"rejectedSpans": {}}}', "application/json"),
        (bytes(5 << 20), "text/html"),
    ):
        for status in (200, 400):
            place.answers = [(status, body, {"Content-Type": type_})]
            connection = Connection(OtlpSink(url=place.url))
            assert connection.post(b"").status == status
            connection.close()
