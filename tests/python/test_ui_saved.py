"""What the page keeps in the store: charts, the budget, the hues of models; and the difference of two traces."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from spanbox._box import Box
from spanbox.server import Page, Server

sys.path.insert(0, str(Path(__file__).parent))  # for ui_client
from ui_client import HOUR, Client

MINUTE = 60_000_000_000


# --- two traces ---


def test_a_trace_and_the_typical_one_differ_where_they_do(client: Client, asked: dict[str, str], week: Any) -> None:
    typical = client.get(f"/api/trace/{week.made.slow_trace}/changed", **asked)["typical_trace_id"]
    answer = client.get(f"/api/trace/{week.made.slow_trace}/diff", vs=typical)
    now, before = week.box.trace(week.made.slow_trace), week.box.trace(typical)
    assert answer["now"]["totals"] == now.totals.as_dict()
    assert answer["before"]["totals"] == before.totals.as_dict()
    assert answer["matched"] + answer["added"] == len(now)
    assert answer["matched"] + answer["removed"] == len(before)
    retrieve = next(row for row in answer["rows"] if row["name"] == "retrieve")
    assert {"name": "retrieve.top_k", "before": 8, "now": 40} in retrieve["changes"]
    assert retrieve["delta_ns"] == retrieve["now"]["duration_ns"] - retrieve["before"]["duration_ns"]
    assert answer["divergence"]["name"] in {span.name for span in now}


def test_a_trace_does_not_differ_from_itself(client: Client, week: Any) -> None:
    answer = client.get(f"/api/trace/{week.made.slow_trace}/diff", vs=week.made.slow_trace)
    assert {row["state"] for row in answer["rows"]} == {"same"}
    assert answer["divergence"] is None
    page = client.get(f"/api/trace/{week.made.slow_trace}/diff", vs=week.made.slow_trace, offset=2, limit=3)
    assert page["rows"] == answer["rows"][2:5]


@pytest.mark.parametrize(("vs", "code"), [("", "bad_request"), ("7d", "bad_request"), ("f" * 32, "not_found")])
def test_what_cannot_be_compared_is_said(client: Client, week: Any, vs: str, code: str) -> None:
    _, error = client.raw(f"/api/trace/{week.made.slow_trace}/diff", vs=vs)
    assert error["code"] == code


def test_of_a_long_trace_what_is_said_of_all_comes_apart(box: Box) -> None:
    trace = "ab" * 16
    box._store.append(
        [
            {
                "trace_id": trace,
                "span_id": f"{i + 1:016x}",
                "parent_id": None if i == 0 else f"{1:016x}",
                "name": f"step {i}",
                "kind": "agent" if i == 0 else "tool",
                "start_ns": 1_000_000 + i * 1_000,
                "duration_ns": 9_000_000 if i == 0 else 900,
                **({"status": "error", "error_type": "late"} if i == 2_500 else {}),
            }
            for i in range(3_000)
        ]
    )
    with Server(box, port=0, page=Page()) as server:
        client = Client(server)
        answer = client.get(f"/api/trace/{trace}")
        assert (answer["complete"], answer["failures"], answer["line_count"]) == (False, [], 3_000)
        rest = client.get(f"/api/trace/{trace}/rest")
        assert rest["complete"] is True
        assert rest["failures"] == [{"span_id": f"{2_501:016x}", "line": 2_500}]
        assert "step 2500 failed" in rest["failed"]["sentence"]
        assert sum(part["value"] for part in rest["time_parts"]) == 9_000_000
        assert rest["idle"] is None  # the end of a trace is no stretch between two spans


def test_most_of_a_trace_with_nothing_in_it_is_said_to_be_idle(box: Box) -> None:
    row = {"trace_id": "ab" * 16, "kind": "tool"}
    box._store.append(
        [
            {**row, "span_id": "1" * 16, "name": "chat", "kind": "agent", "start_ns": 0, "duration_ns": 100 * MINUTE},
            {**row, "span_id": "2" * 16, "parent_id": "1" * 16, "name": "a", "start_ns": 0, "duration_ns": MINUTE},
            {
                **row,
                "span_id": "3" * 16,
                "parent_id": "1" * 16,
                "name": "b",
                "start_ns": 90 * MINUTE,
                "duration_ns": MINUTE,
            },
        ]
    )
    with Server(box, port=0, page=Page()) as server:
        answer = Client(server).get(f"/api/trace/{'ab' * 16}")
    assert answer["idle"] == {"from_ns": MINUTE, "to_ns": 90 * MINUTE}


# --- charts ---


def test_a_chart_is_kept_drawn_changed_and_deleted(client: Client, asked: dict[str, str], week: Any) -> None:
    given = {"title": "slow", "value": "p50(ttft)", "q": "kind == llm", "by": "model"}
    status, stored = client.raw("/api/charts", "POST", given)
    assert (status, stored["version"]) == (200, 1)
    [chart] = client.get("/api/charts")["charts"]
    assert {name: chart[name] for name in given} == given
    answer = client.get(f"/api/charts/{stored['id']}", **asked)
    assert answer["unit"] == "ns"
    spans = week.box.spans('kind == llm and model == "gpt-5"', since=int(asked["from"]), until=int(asked["to"]))
    [line] = [line for line in answer["lines"] if line["label"] == "gpt-5"]
    assert line["total"] == pytest.approx(spans.quantile("ttft", 0.5), rel=0.02)
    assert len(line["values"]) == len(answer["t_s"])
    assert client.raw("/api/charts", "POST", {**given, "id": stored["id"], "by": None})[1]["version"] == 2
    assert len(client.get(f"/api/charts/{stored['id']}", **asked)["lines"]) == 1
    assert client.raw(f"/api/charts/{stored['id']}", "DELETE", {})[0] == 200
    assert client.get("/api/charts")["charts"] == []
    assert client.raw(f"/api/charts/{stored['id']}")[0] == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"title": "x"},
        {"value": "p99("},
        {"value": "p99(ttft)", "q": "ttft >"},
        {"value": "p99(ttft)", "by": 7},
        {"value": "p99(ttft)", "path": "/"},
        {"value": "x" * 500},
        {"value": "p99(ttft)", "id": "nobody"},
    ],
)
def test_a_wrong_chart_is_not_kept(client: Client, wrong: dict[str, Any]) -> None:
    status, error = client.raw("/api/charts", "POST", wrong)
    assert status in (400, 404)
    assert error["code"] in ("bad_request", "filter", "not_found")
    assert client.get("/api/charts")["charts"] == []


def test_documents_of_others_that_are_no_charts_are_left_out(box: Box) -> None:
    box.put_document("chart", "other", {"anything": 1})
    box.put_document("chart", "mine", {"value": "count()"})
    with Server(box, port=0, page=Page()) as server:
        charts = Client(server).get("/api/charts")["charts"]
    assert [(chart["id"], chart["title"], chart["q"], chart["by"]) for chart in charts] == [
        ("mine", "count()", "", None)
    ]


# --- the budget ---


def _calls(end_ns: int, usd_by_hour: list[float]) -> list[dict[str, Any]]:
    """Ten requests an hour, the last hours before `end_ns`, each a call of this many dollars."""
    found = []
    for hour, usd in enumerate(reversed(usd_by_hour)):
        for i in range(10):
            at = end_ns - hour * HOUR - (i + 1) * 6 * MINUTE + MINUTE
            ids = {"trace_id": f"{hour * 10 + i + 1:032x}", "span_id": f"{hour * 10 + i + 1:016x}"}
            found.append({**ids, "name": "ask", "kind": "llm", "model": "m", "start_ns": at, "cost_usd": usd})
    return found


def test_the_budget_is_drawn_and_its_crossing_projected_from_the_last_hour(box: Box) -> None:
    end_ns = 1_773_112_320_000_000_000 // HOUR * HOUR
    box._store.append(_calls(end_ns, [0.01] * 23 + [0.02]))  # $10.42 for 1,000, of which the last hour $20
    with Server(box, port=0, page=Page()) as server:
        client = Client(server)
        params = {"from": str(end_ns - 6 * HOUR), "to": str(end_ns)}
        assert client.get("/api/overview/cost", **params)["budget_usd_per_1k"] is None
        assert client.raw("/api/budget", "POST", {"usd_per_1k": 15})[0] == 200
        answer = client.get("/api/overview/cost", **params)
        assert answer["budget_usd_per_1k"] == 15
        # After n more hours at $20 the mean is 10 + 10 (n + 1) / 24: it reaches 15 with the 11th.
        crossing_h = (int(answer["crossing"]["at_ns"]) - end_ns) / HOUR
        assert 10.9 <= crossing_h <= 11.2
        assert client.raw("/api/budget", "POST", {"usd_per_1k": 9})[0] == 200
        assert client.get("/api/overview/cost", **params)["crossing"] is None  # it has been passed
        assert client.raw("/api/budget", "POST", {"usd_per_1k": None})[0] == 200
        assert client.get("/api/overview/cost", **params)["budget_usd_per_1k"] is None
        for wrong in ({}, {"usd_per_1k": "1"}, {"usd_per_1k": -1}, {"usd_per_1k": True}, {"usd_per_1k": 1, "x": 2}):
            assert client.raw("/api/budget", "POST", wrong)[0] == 400


# --- hues ---


def test_a_model_keeps_its_hue_when_the_server_ends_and_others_get_ahead(box: Box) -> None:
    def store(model: str, calls: int, first: int) -> None:
        box._store.append(
            [
                {
                    "trace_id": f"{i:032x}",
                    "span_id": f"{i:016x}",
                    "name": "x",
                    "kind": "llm",
                    "model": model,
                    "start_ns": i,
                }
                for i in range(first, first + calls)
            ]
        )

    def hues() -> dict[str, int]:
        with Server(box, port=0, page=Page()) as server:
            return {model["name"]: model["color"] for model in Client(server).get("/api/status")["models"]}

    store("a", 3, 1)
    store("b", 2, 100)
    assert hues() == {"a": 0, "b": 1}
    store("c", 50, 200)
    assert hues() == {"a": 0, "b": 1, "c": 2}
    for number in range(8):
        store(f"later {number}", 1, 1_000 + number)
    assert sorted(hues().values()) == [0, 1, 2, 3, 4, 5, 6, 6, 6, 6, 6]


def test_a_read_only_page_writes_nothing(box: Box) -> None:
    box._store.append(
        [{"trace_id": "ab" * 16, "span_id": "cd" * 8, "name": "x", "kind": "llm", "model": "m", "start_ns": 1}]
    )
    with Server(box, port=0, page=Page(), read_only=True) as server:
        client = Client(server)
        client.get("/api/status")
        for path, method in (("/api/charts", "POST"), ("/api/budget", "POST"), ("/api/charts/x", "DELETE")):
            status, error = client.raw(path, method, {"value": "count()"})
            assert (status, error["code"]) == (403, "read_only")
    assert [box.documents(kind) for kind in ("colors", "chart", "budget")] == [[], [], []]


# --- the list ---


def test_nothing_matches_names_the_clause_to_drop_and_what_it_would_give(
    client: Client, asked: dict[str, str], week: Any
) -> None:
    q = 'feature == "chat" and tenant == "nobody"'
    hint = client.get("/api/traces", q=q, **asked)["hint"]
    total = client.get("/api/traces", q='feature == "chat"', **asked)["total"]
    assert hint == {"drop": 'tenant == "nobody"', "q": 'feature == "chat"', "total": total}
    assert client.get("/api/traces", q='feature == "chat"', **asked)["hint"] is None
    nothing = 'tenant == "nobody" and feature == "none of them"'
    assert client.get("/api/traces", q=nothing, **asked)["hint"] is None


def test_the_first_request_brings_the_frame_and_the_verdict(client: Client, asked: dict[str, str]) -> None:
    answer = client.get("/api/overview", **asked)
    assert answer["findings"]["items"] == client.get("/api/findings", **asked)["items"]
    assert answer["status"]["store"] == client.get("/api/status", **asked)["store"]
