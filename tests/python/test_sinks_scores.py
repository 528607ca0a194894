"""Scores go to sinks as OpenTelemetry has evaluations, each once, and come back through /v1/logs."""

from __future__ import annotations

import gzip
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import spanbox
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from spanbox._box import Box
from spanbox.export import Forwarder, OtlpSink
from spanbox.server import Server

NOW_NS = 1_790_000_000_000_000_000


class Place:
    """A server that keeps what scores it is sent, and answers requests of logs as it is told."""

    def __init__(self) -> None:
        self.scores: Counter[tuple[Any, ...]] = Counter()
        self.paths: list[str] = []
        self.logs_answers: list[int] = []
        place = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
                place.paths.append(self.path)
                logs = self.path.endswith("/v1/logs")
                status = place.logs_answers.pop(0) if logs and place.logs_answers else 200
                if logs and status == 200:
                    place.take(ExportLogsServiceRequest.FromString(body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def take(self, request: ExportLogsServiceRequest) -> None:
        for resource in request.resource_logs:
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    told = {each.key: each.value for each in record.attributes}
                    assert record.event_name == "gen_ai.evaluation.result"
                    name = told["gen_ai.evaluation.name"].string_value
                    value = told.get("gen_ai.evaluation.score.value")
                    number = value.double_value if value is not None else None
                    self.scores[name, record.trace_id.hex(), record.span_id.hex(), number] += 1

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.close()


def spans(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {"trace_id": f"{n // 3 + 1:032x}", "span_id": f"{n:016x}", "name": "chat", "kind": "llm" if n % 2 else "tool",
         "start_ns": NOW_NS + n, "duration_ns": 1_000_000}
        for n in range(first, first + count)
    ]  # fmt: skip


def scores(rows: list[dict[str, Any]], **what: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": "helpful",
            "value": 0.5,
            "trace_id": row["trace_id"],
            "span_id": row["span_id"],
            "at_ns": NOW_NS,
            **what,
        }
        for row in rows
    ]


def test_scores_are_sent_once_and_after_their_spans(box: Box, place: Place) -> None:
    rows = spans(1, 6)
    box._store.append(rows)
    box.add_scores(scores(rows))
    forwarder = Forwarder(box, [OtlpSink(url=place.url)])
    for _ in range(3):
        [report] = forwarder.send()
    assert (report.sent, report.sent_scores, report.refused_scores, report.waiting) == (6, 6, 0, 0)
    assert place.paths == ["/v1/traces", "/v1/logs"]
    assert place.scores == Counter({("helpful", row["trace_id"], row["span_id"], 0.5): 1 for row in rows})


def test_what_is_down_gets_them_when_it_is_back_whatever_is_merged(box: Box, place: Place) -> None:
    place.logs_answers = [503, 429] * 10
    sink = OtlpSink(url=place.url, batch_spans=4)
    for n in range(20):
        rows = spans(n * 3 + 1, 3)
        box._store.append(rows)
        box.add_scores(scores(rows, value=n))
        Forwarder(box, [sink]).send()
        if n % 5 == 0:
            box._store.merge()
    while place.logs_answers:
        Forwarder(box, [sink]).send()
    [report] = Forwarder(box, [sink]).send()
    assert (report.sent, report.sent_scores) == (60, 60)
    assert len(place.scores) == 60
    assert set(place.scores.values()) == {1}


def test_large_batches_of_scores_are_sent_in_parts(box: Box, place: Place) -> None:
    rows = spans(1, 30)
    box._store.append(rows)
    box.add_scores(scores(rows))
    [report] = Forwarder(box, [OtlpSink(url=place.url, batch_spans=7)]).send()
    assert (report.sent, report.sent_scores) == (30, 30)
    assert set(place.scores.values()) == {1}


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_sink_without_logs_gets_spans_alone(box: Box, place: Place, status: int) -> None:
    rows = spans(1, 3)
    place.logs_answers = [status]
    box._store.append(rows)
    box.add_scores(scores(rows))
    [report] = Forwarder(box, [OtlpSink(url=place.url)]).send()
    assert (report.sent, report.sent_scores, report.refused_scores) == (3, 0, 3)
    assert report.last_error.startswith("400: it takes no scores")
    box._store.append(spans(4, 2))
    assert Forwarder(box, [OtlpSink(url=place.url)]).send()[0].sent == 5


@pytest.mark.parametrize("sink", [{"scores": False}, {"url": "/custom"}])
def test_they_are_not_sent_where_that_is_said_or_no_place_is_known(
    box: Box, place: Place, sink: dict[str, Any]
) -> None:
    rows = spans(1, 3)
    box._store.append(rows)
    box.add_scores(scores(rows))
    given = {**sink, "url": place.url + sink.get("url", "")}
    [report] = Forwarder(box, [OtlpSink(**given)]).send()
    assert (report.sent, report.sent_scores, report.refused_scores) == (3, 0, 0)
    assert [path for path in place.paths if path.endswith("logs")] == []


def test_a_filter_lets_scores_of_its_spans_pass(box: Box, place: Place) -> None:
    rows = spans(1, 6)
    box._store.append(rows)
    box.add_scores([*scores(rows), *scores([rows[0]], name="trace", span_id=None)])
    box.add_scores(scores([{"trace_id": "ab" * 16, "span_id": "cd" * 8}]))
    [report] = Forwarder(box, [OtlpSink(url=place.url, filter="kind == llm")]).send()
    assert (report.sent, report.sent_scores) == (3, 4)
    wanted = {row["span_id"] for row in rows if row["kind"] == "llm"} | {""}
    assert {span for _, _, span, _ in place.scores} == wanted


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_another_spanbox_has_them_as_they_were(box: Box, tmp_path: Path, encoding: Any) -> None:
    rows = spans(1, 4)
    box._store.append(rows)
    told = {"source": "human", "evaluator": "ann", "version": "3", "explanation": "cites\nthe page", "label": "good"}
    box.add_scores(scores(rows[:2], **told))
    box.add_scores(scores(rows[2:3], value=None, label="bad"))
    box.add_scores(scores([rows[3]], span_id=None, value=2))
    other = spanbox.open(tmp_path / "other", create=True)
    with Server(other, otlp=True, port=0) as server:
        for name in ("once", "again"):
            [report] = Forwarder(box, [OtlpSink(url=server.url, encoding=encoding, name=name)]).send()
            assert (report.sent_scores, report.last_error) == (4, "")
    columns = ("trace_id", "span_id", "name", "value", "label", "explanation", "source", "evaluator", "version", "at")

    def of(store: Box) -> list[str]:
        return sorted(str(list(row.values())) for row in store.scores().columns(*columns))

    assert of(other) == of(box)
