"""The page's API: every answer is what api.ts says, and says what is in the store."""

from __future__ import annotations

import http.client
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest
import spanbox
from spanbox._box import Box
from spanbox.server import Page, Server
from spanbox.server.api._columnar import CONTENT_TYPE, JSON_TYPE, column, decode, encode

sys.path.insert(0, str(Path(__file__).parent))  # for ui_client
from ui_client import HOUR, Client

PLAIN = (
    "/api/status",
    "/api/findings",
    "/api/overview/latency",
    "/api/overview/cost",
    "/api/overview/quality",
    "/api/overview/failures",
    "/api/overview/slow",
    "/api/traces",
    "/api/traces/heat",
    "/api/facets",
    "/api/sessions",
    "/api/costs",
    "/api/health",
)
FILTERS = (
    "",
    'feature == "chat" and environment == "prod"',
    "kind == llm and ttft > 2s",
    '"refund" in output',
    'model == "nothing"',
    'status == error or tenant == "acme"',
    "score.faithfulness < 0.5",
)


@pytest.mark.parametrize("path", PLAIN)
@pytest.mark.parametrize("q", FILTERS)
def test_every_answer_is_of_its_type(client: Client, asked: dict[str, str], path: str, q: str) -> None:
    answer = client.get(path, q=q, **asked)
    if path not in ("/api/status", "/api/health"):
        assert answer["basis"]
        assert answer["basis_full"].endswith(".")


@pytest.mark.parametrize("path", PLAIN)
def test_an_empty_store_has_answers_too(box: Box, path: str) -> None:
    with Server(box, port=0, page=Page()) as server:
        Client(server).get(path)


@pytest.mark.parametrize("vs", ["prev", "1d", "none", "-2d..-1d"])
def test_any_time_can_be_compared_with(client: Client, asked: dict[str, str], vs: str) -> None:
    for path in PLAIN[1:6]:
        client.get(path, vs=vs, **asked)


def test_latency_is_that_of_the_spans(client: Client, asked: dict[str, str], week: Any) -> None:
    answer = client.get("/api/overview/latency", **asked)
    [row] = [row for row in answer["rows"] if row["model"] == "gpt-5"]
    begin = int(answer["t_s"][0]) * 1_000_000_000
    spans = week.box.spans('model == "gpt-5"', since=begin, until=week.made.end_ns).columns("ttft_ns", "start_ns")
    values = [(each["ttft_ns"], each["start"]) for each in spans]
    assert row["n"] == len(values)
    assert row["ttft"]["n"] == sum(ttft is not None for ttft, _ in values)
    recent = [ttft for ttft, at in values if ttft is not None and at >= int(answer["recent"]["from_ns"])]
    assert row["ttft"]["recent"]["p50_ns"] == pytest.approx(quantiles(recent, n=100)[49], rel=0.03)
    assert row["ttft"]["worse"] is True
    assert answer["bucket_ns"] == 300_000_000_000
    assert len(answer["t_s"]) == len(row["ttft"]["p99"]) <= 400


def test_a_gap_is_missing_and_said_to_be(client: Client, asked: dict[str, str], week: Any) -> None:
    answer = client.get("/api/overview/latency", **asked)
    [gap] = answer["gaps"]
    begin, end = week.made.gap_ns
    assert abs(int(gap["from_ns"]) - begin) <= 120_000_000_000
    assert abs(int(gap["to_ns"]) - end) <= 120_000_000_000
    inside = [i for i, t in enumerate(answer["t_s"]) if begin <= t * 1e9 and (t + 300) * 1e9 <= end]
    assert inside
    assert all(row["ttft"]["p50"][i] != row["ttft"]["p50"][i] for row in answer["rows"] for i in inside)


def test_columns_stay_in_their_places_and_what_is_no_number_is_null() -> None:
    nan = float("nan")
    for value, told in ((1.5, 1.5), (nan, None)):
        body, type_ = encode({"a": column([1.0, None]), "b": [value, {"c": column([2.0])}], "d": column([])})
        assert type_ == CONTENT_TYPE
        found = decode(body)
        assert (found["a"][0], found["b"], found["d"]) == (1.0, [told, {"c": [2.0]}], [])
        assert found["a"][1] != found["a"][1]
    assert encode({"a": [nan, 2]}) == (b'{"a":[null,2]}', JSON_TYPE)


def test_health_tells_of_the_gap_that_the_overview_tells_of(client: Client, asked: dict[str, str]) -> None:
    """Of a day it looked at buckets of seven minutes, in which a gap of ten did not show."""
    [gap] = client.get("/api/overview/latency", **asked)["gaps"]
    strip = client.get("/api/health")["strip"]
    assert gap in strip["gaps"]
    assert re.fullmatch(r"nothing recorded for 1[12] min, [34] h ago", strip["worst"])


def test_marks_are_versions_that_were_seen_first(client: Client, asked: dict[str, str], week: Any) -> None:
    found = {(mark["kind"], mark["name"]): int(mark["at_ns"]) for mark in client.get("/api/status", **asked)["marks"]}
    assert 0 <= found["prompt_version", "v7.3"] - week.made.deploy_ns < 300_000_000_000
    assert ("prompt_version", "v7.1") not in found


def test_deploys_and_notes_that_somebody_made_are_marks_too(tmp_path: Path) -> None:
    box = spanbox.open(tmp_path / "store", create=True)
    at_ns = 1_700_000_000_000_000_000
    box.mark("deploy v7.3", at=at_ns)
    box.mark("holiday", at=at_ns + 1)
    with Server(box, port=0, page=Page()) as server:
        found = Client(server).get("/api/status", **{"from": str(at_ns - HOUR), "to": str(at_ns + HOUR)})["marks"]
    assert [(mark["at_ns"], mark["kind"], mark["name"]) for mark in found] == [
        (str(at_ns), "deploy", "v7.3"),
        (str(at_ns + 1), "note", "holiday"),
    ]


def test_failures_add_up_to_the_rate(client: Client, asked: dict[str, str], week: Any) -> None:
    answer = client.get("/api/overview/failures", **asked)
    assert sum(kind["now"] for kind in answer["kinds"]) == pytest.approx(answer["rate"])
    assert answer["rate"] == answer["failed"] / answer["of"]
    since = int(client.get("/api/findings", **asked)["window"]["from_ns"])
    roots = week.box.spans("parent_id == none", since=since, until=week.made.end_ns).columns("trace_id")
    ids = {row["trace_id"] for row in roots}
    failed = week.box.spans("status == error", since=since).columns("trace_id")
    assert (answer["failed"], answer["of"]) == (len(ids & {row["trace_id"] for row in failed}), len(ids))


def test_cost_of_a_thousand_requests_is_spent_over_asked(client: Client, asked: dict[str, str], week: Any) -> None:
    answer = client.get("/api/overview/cost", **asked)
    end, day = week.made.end_ns, 24 * HOUR
    begin = int((answer["t_s"][-1] + answer["bucket_ns"] / 1e9) * 1e9) - day
    spent = sum(row["cost_usd"] for row in week.box.spans("cost != none", since=begin, until=end).columns("cost_usd"))
    requests = week.box.spans("parent_id == none", since=begin, until=end).count()
    assert answer["usd_per_1k"] == pytest.approx(1_000 * spent / requests)


def test_quality_fell(client: Client, asked: dict[str, str]) -> None:
    answer = client.get("/api/overview/quality", score="faithfulness", **asked)
    assert answer["value"] == pytest.approx(0.78, abs=0.03)
    assert answer["before"] == pytest.approx(0.91, abs=0.03)
    assert answer["p"] < 0.001
    assert answer["low"][-2] < answer["mean"][-2] < answer["high"][-2]
    assert (answer["evaluator"], answer["evaluator_version"]) == ("judge", "v3")


def test_the_slowest_traces_come_first_and_their_parts_add_up(client: Client, asked: dict[str, str]) -> None:
    rows = client.get("/api/overview/slow", **asked)["rows"]
    assert [row["duration_ns"] for row in rows] == sorted((row["duration_ns"] for row in rows), reverse=True)
    assert len(rows) == 10
    for row in rows:
        assert sum(row["parts"].values()) == row["duration_ns"]


# --- traces ---


@pytest.mark.parametrize(
    "sort", ["-start", "start", "-duration", "-cost", "-ttft", "tokens", "-score.faithfulness", "name"]
)
def test_pages_of_the_list_are_the_whole_list(client: Client, asked: dict[str, str], week: Any, sort: str) -> None:
    first = client.get("/api/traces", sort=sort, limit=50, cols="tenant,score.faithfulness", **asked)
    second = client.get("/api/traces", sort=sort, limit=50, offset=50, **asked)
    roots = week.box.spans("parent_id == none", since=int(asked["from"]), until=int(asked["to"]))
    assert first["total"] == second["total"] == roots.count()
    ids = [row["trace_id"] for row in first["rows"] + second["rows"]]
    assert len(set(ids)) == 100
    keys = {"-duration": "duration_ns", "-cost": "cost_usd", "-start": "start_ns"}
    if sort in keys:
        values = [float(row[keys[sort]]) for row in first["rows"] + second["rows"]]
        assert values == sorted(values, reverse=True)
    assert {len(row["cells"]) for row in first["rows"]} == {2}


def test_a_trace_matches_when_one_of_its_spans_does(client: Client, asked: dict[str, str], week: Any) -> None:
    answer = client.get("/api/traces", q='tool_name == "refund_lookup" and status == error', **asked)
    spans = week.box.spans('tool_name == "refund_lookup" and status == error', since=int(asked["from"])).columns(
        "trace_id"
    )
    assert answer["total"] == len({row["trace_id"] for row in spans})


def test_what_is_searched_for_is_shown_where_it_stands(client: Client, asked: dict[str, str]) -> None:
    rows = client.get("/api/traces", q='"14 days" in output and feature == "chat"', limit=20, **asked)["rows"]
    assert rows
    for row in rows:
        text = row["snippet"]["text"]
        [(begin, end)] = row["snippet"]["match"]
        assert text[begin:end] == "14 days"


def test_all_values_are_in_the_strip(client: Client, asked: dict[str, str]) -> None:
    total = client.get("/api/traces", **asked)["total"]
    for y in ("duration", "ttft", "cost", "tokens"):
        answer = client.get("/api/traces/heat", y=y, **asked)
        rows, buckets = len(answer["y_edges"]) - 1, len(answer["t_s"])
        assert len(answer["counts"]) == rows * buckets
        assert rows <= 24
        assert answer["y_edges"] == sorted(answer["y_edges"])
        if y == "duration":
            assert sum(answer["counts"]) == pytest.approx(total, abs=2)  # of running ones no duration is known
    assert max(answer["counts"]) == answer["max_count"]


def test_a_selection_is_counted_listed_and_set_apart(client: Client, asked: dict[str, str], week: Any) -> None:
    sel = f"{week.made.deploy_ns / 1e9:.3f},{week.made.end_ns / 1e9:.3f},6000000000,60000000000"
    selected = client.get("/api/traces/heat", sel=sel, **asked)["selected"]
    assert selected == client.get("/api/traces", sel=sel, **asked)["total"] > 20
    answer = client.get("/api/traces/apart", sel=sel, **asked)
    assert answer["selected"] == selected
    strong = {item["column"] for item in answer["items"] if item["significant"]}
    assert {"prompt_version", "input_tokens"} <= strong
    assert "tenant" not in strong


def test_facets_count_without_their_own_clause(client: Client, asked: dict[str, str], week: Any) -> None:
    q = 'feature == "chat" and tenant == "acme"'
    facets = {facet["column"]: facet for facet in client.get("/api/facets", q=q, **asked)["facets"]}
    tenants = {value["value"]: value["count"] for value in facets["tenant"]["values"]}
    window = {"since": int(asked["from"]), "until": int(asked["to"])}
    roots = week.box.spans('parent_id == none and feature == "chat"', **window).columns("tenant")
    assert tenants == dict(Counter(row["tenant"] for row in roots).most_common(8))
    assert [value["value"] for value in facets["tenant"]["values"] if value["selected"]] == ["acme"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mod", "model"),
        ("model", "model"),
        ("model ", "=="),
        ("model =", "=="),
        ("model == ", '"gpt-5"'),
        ('model == "gp', '"gpt-5"'),
        ("kind == l", "llm"),
        ("status in [e", "error"),
        ('model == "gpt-5" ', "and"),
        ('model == "gpt-5" and tt', "ttft"),
        ('tenant == "', '"acme"'),
        ("score.fa", "score.faithfulness"),
        ("retrieve.t", "retrieve.top_k"),
    ],
)
def test_completion_offers_what_can_follow(client: Client, asked: dict[str, str], text: str, expected: str) -> None:
    answer = client.get("/api/complete", text=text, at=len(text), **asked)
    assert expected in [item["text"] for item in answer["items"]]
    completed = text[: answer["from"]] + expected + text[answer["to"] :]
    assert completed.startswith(text[: answer["from"]])


def test_a_wrong_filter_says_where_and_what_instead(client: Client, asked: dict[str, str]) -> None:
    q = 'model == "gpt-5" and tfft > 2s'
    status, error = client.raw("/api/traces", q=q, **asked)
    assert status == 400
    assert error["code"] == "filter"
    assert q[error["at"] : error["at"] + error["len"]] == "tfft"
    assert error["fix"] == "ttft"
    assert not re.search(r"column \d", error["message"]), "its place is in no filter that the reader sees"
    status, error = client.raw("/api/overview/latency", q="ttft > 2", **asked)
    assert (status, error["at"], error["len"], error["fix"]) == (400, 7, 1, "2s")
    _, error = client.raw("/api/traces", q='"😀" in input and ttft > 2', **asked)
    assert error["at"] == len('"xx" in input and ttft > ')  # UTF-16 units


@pytest.mark.parametrize("q", ["1 == 1) or (2 == 2", "model ==", "(", '"', "x" * 70_000, "not " * 40 + "a == 1"])
def test_filters_cannot_reach_beyond_themselves(client: Client, asked: dict[str, str], q: str) -> None:
    status, error = client.raw("/api/traces", q=q, **asked)
    assert status in (400, 414)
    assert error["code"] in ("filter", "bad_request")


# --- one trace ---


def test_a_trace_comes_with_all_that_is_said_of_it(client: Client, week: Any) -> None:
    answer = client.get(f"/api/trace/{week.made.failed_trace}")
    trace = week.box.trace(week.made.failed_trace)
    assert [span["span_id"] for span in answer["spans"]] == [span.span_id for span in trace]
    assert answer["totals"] == trace.totals.as_dict()
    assert sum(part["value"] for part in answer["time_parts"]) == trace.root.duration_ns
    assert sum(part["value"] for part in answer["cost_parts"]) == pytest.approx(trace.cost_usd)
    assert "refund_lookup failed 3 times" in answer["failed"]["sentence"]
    assert {"failed", "back_off", "waiting", "streaming"} <= {part["kind"] for part in answer["time_parts"]}
    assert len(answer["failures"]) == 3
    assert sum(step["duration_ns"] for step in answer["critical_path"]) == trace.root.duration_ns
    assert answer["head"]["turn"] >= 1
    for span in answer["spans"]:
        siblings = [each for each in answer["spans"] if each["parent_id"] == span["parent_id"]]
        assert span["set_size"] == len(siblings)
        assert span["position"] == siblings.index(span) + 1


def test_pages_collapsed_spans_and_the_page_of_a_span(client: Client, week: Any) -> None:
    path = f"/api/trace/{week.made.slow_trace}"
    whole = client.get(path)["spans"]
    paged = [span for offset in range(0, len(whole), 4) for span in client.get(path, offset=offset, limit=4)["spans"]]
    assert [span["span_id"] for span in paged] == [span["span_id"] for span in whole]
    folded = next(span for span in whole if span["child_count"] and span["depth"] == 1)
    answer = client.get(path, collapsed=folded["span_id"])
    assert answer["line_count"] == len(whole) - folded["totals"]["spans"] + 1
    child = next(span for span in whole if span["parent_id"] == folded["span_id"])
    shown = client.get(path, at=child["span_id"], collapsed=folded["span_id"], limit=4)["spans"]
    assert child["span_id"] in [span["span_id"] for span in shown]


def test_what_changed_is_said_against_good_traces_before(client: Client, asked: dict[str, str], week: Any) -> None:
    answer = client.get(f"/api/trace/{week.made.slow_trace}/changed", **asked)
    assert answer["against"].endswith("before v7.3") or "before 2f1c9ab" in answer["against"]
    assert {"retrieve.top_k", "input_tokens"} & {item["column"] for item in answer["items"]}
    assert week.box.trace(answer["typical_trace_id"]).name == "answer"


def test_a_span_has_its_conversation_chunks_and_documents(client: Client, week: Any) -> None:
    spans = client.get(f"/api/trace/{week.made.slow_trace}")["spans"]
    generate = next(span["span_id"] for span in spans if span["name"] == "generate")
    answer = client.get(f"/api/trace/{week.made.slow_trace}/span/{generate}")
    assert [message["role"] for message in answer["messages"]] == ["system", "user", "assistant"]
    assert answer["messages"][0]["same_in"] > 100
    chunks = client.get(f"/api/trace/{week.made.slow_trace}/chunks/{generate}")
    assert chunks["n"] == len(chunks["at_ns"]) > 2
    assert chunks["at_ns"] == sorted(chunks["at_ns"])
    retrieve = next(span["span_id"] for span in spans if span["name"] == "retrieve")
    documents = client.get(f"/api/trace/{week.made.slow_trace}/span/{retrieve}")["documents"]
    assert [document["rank"] for document in documents] == list(range(1, len(documents) + 1))
    assert documents[0]["used"] is True
    assert documents[5]["used"] is False


def test_running_and_interrupted_traces_are_readable(client: Client, week: Any) -> None:
    for trace_id, status in ((week.made.running_trace, "running"), (week.made.interrupted_trace, "interrupted")):
        answer = client.get(f"/api/trace/{trace_id}")
        assert answer["status"] == status
        assert len(answer["spans"]) == 2


def test_a_long_payload_comes_in_pages_of_whole_characters(box: Box) -> None:
    text = "π" * 700_000
    ids = {"trace_id": "ab" * 16, "span_id": "cd" * 8}
    box._store.append([{**ids, "name": "x", "start_ns": 1, "input": text}])
    with Server(box, port=0, page=Page()) as server:
        client = Client(server)
        [payload] = client.get(f"/api/trace/{'ab' * 16}/span/{'cd' * 8}")["payloads"]
        assert len(payload["text"].encode()) <= 65_536
        assert payload["size_bytes"] == 1_400_000
        read, offset = payload["text"], payload["next_offset"]
        while offset is not None:
            page = client.get(f"/api/trace/{'ab' * 16}/span/{'cd' * 8}/payload", column="input", offset=offset)
            read, offset = read + page["text"], page["next_offset"]
        assert read == text


def test_hostile_texts_come_back_as_they_are(client: Client, week: Any) -> None:
    answer = client.get(f"/api/trace/{week.made.hostile_trace}")
    names = {span["name"] for span in answer["spans"]}
    assert {text.replace("\x00", "") for text in week.hostile} <= names | {week.hostile[0]}
    for span in answer["spans"]:
        detail = client.get(f"/api/trace/{week.made.hostile_trace}/span/{span['span_id']}")
        assert detail["span"]["name"] == span["name"]
        for attribute in detail["attributes"]:
            if attribute["filter"]:
                q = f'{attribute["filter"]} and trace_id == "{week.made.hostile_trace}"'
                status, found = client.raw("/api/traces", q=q, **{"from": "-30d"})
                assert status == 200, (q, found)


def test_sessions_are_conversations(client: Client, asked: dict[str, str], week: Any) -> None:
    assert len(client.get("/api/sessions", limit=10, **asked)["rows"]) == 10
    answer = client.get(f"/api/session/{week.made.session}")
    assert answer["totals"]["cost_usd"] == pytest.approx(week.box.session(week.made.session).cost_usd)
    assert answer["turns"][0]["messages"][0]["role"] == "user"


def test_costs_by_any_columns(client: Client, asked: dict[str, str], week: Any) -> None:
    answer = client.get("/api/costs", by=["model", "tenant"], **asked)
    assert answer["by"] == ["model", "tenant"]
    assert sum(row["cost_usd"] or 0 for row in answer["rows"]) == pytest.approx(answer["total"]["cost_usd"])
    assert sum(sum(area["usd"]) for area in answer["areas"]) == pytest.approx(answer["total"]["cost_usd"])


def test_a_score_of_a_person_is_stored(box: Box) -> None:
    box._store.append([{"trace_id": "ab" * 16, "span_id": "cd" * 8, "name": "x", "start_ns": time.time_ns()}])
    with Server(box, port=0, page=Page()) as server:
        client = Client(server)
        given = {
            "trace_id": "ab" * 16,
            "name": "helpful",
            "value": True,
            "source": "human",
            "explanation": "<b>yes</b>",
        }
        assert client.raw("/api/scores", "POST", given) == (200, {"stored": 1})
        assert client.get(f"/api/trace/{'ab' * 16}")["scores"][0]["explanation"] == "<b>yes</b>"
        for wrong in (
            {},
            {**given, "source": "judge"},
            {**given, "trace_id": "x"},
            {**given, "value": [1]},
            {**given, "path": "/"},
        ):
            status, error = client.raw("/api/scores", "POST", wrong)
            assert (status, error["code"]) == (400, "bad_request")
    assert box.scores().count() == 1


def test_live_tells_within_a_second_what_runs_and_what_is_new(tmp_path: Any) -> None:
    """Ticks are asked for until one tells: nothing depends on how long that takes."""
    box = spanbox.open(tmp_path / "store", create=True)
    with Server(box, port=0, page=Page()) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request(
            "GET", f"/api/live?since={time.time_ns()}", headers={"Authorization": f"Bearer {server.token}"}
        )
        response = connection.getresponse()
        assert response.headers["Content-Type"] == "text/event-stream"
        client = Client(server)
        assert tick(response, client)["running"] == []
        ids = {"trace_id": "ab" * 16, "span_id": "cd" * 8}
        box._store.append([{**ids, "name": "generate", "start_ns": time.time_ns(), "status": "running"}])
        found = tick(response, client)
        assert found["changed"] is True
        assert found["new_traces"] == 1
        assert [each["name"] for each in found["running"]] == ["generate"]
        connection.close()


def test_the_newest_trace_that_is_shown_is_not_new(tmp_path: Any) -> None:
    box = spanbox.open(tmp_path / "store", create=True)
    start_ns = time.time_ns()
    box._store.append([{"trace_id": "ab" * 16, "span_id": "cd" * 8, "name": "a", "start_ns": start_ns}])
    with Server(box, port=0, page=Page()) as server:
        for since_ns, new in ((start_ns, 0), (start_ns - 1, 1)):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            connection.request(
                "GET", f"/api/live?since={since_ns}", headers={"Authorization": f"Bearer {server.token}"}
            )
            assert tick(connection.getresponse(), Client(server))["new_traces"] == new
            connection.close()


def tick(response: http.client.HTTPResponse, client: Client) -> Any:
    while not (line := response.readline()).startswith(b"data: "):
        assert line
    found = json.loads(line.removeprefix(b"data: "))
    client.check("/api/live", found)
    return found
