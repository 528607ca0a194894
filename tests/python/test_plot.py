"""Charts: what is drawn, with which units, and that altair draws it."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import spanbox
from spanbox import Box
from spanbox._notebook_html import TOKENS

MS = 1_000_000
S = 1_000_000_000
START_NS = 1_700_000_000 * S // (60 * S) * (60 * S)

altair = pytest.importorskip("altair")
converter = pytest.importorskip("vl_convert")


@pytest.fixture
def calls(box: Box) -> Box:
    """Ten minutes of calls of two models; the third minute is missing."""
    rows = []
    for minute in (0, 1, 3, 4, 5, 6, 7, 8, 9):
        for number, model in enumerate(("big", "small", "small")):
            rows.append(
                {
                    "trace_id": f"{minute + 1:016x}{number:016x}",
                    "span_id": "1" * 16,
                    "name": "chat",
                    "kind": "llm",
                    "model": model,
                    "start_ns": START_NS + minute * 60 * S + number * MS,
                    "duration_ns": 2 * S,
                    "ttft_ns": (900 if model == "big" else 100) * MS + minute * MS,
                    "cost_usd": 0.01,
                }
            )
    box._store.append(rows)
    return box


def values(chart: Any) -> list[dict[str, Any]]:
    """The rows that are drawn, wherever altair keeps them."""
    drawn: dict[str, Any] = chart.to_dict()
    found = drawn.get("data") or drawn["spec"]["data"]
    rows: list[dict[str, Any]] = found["values"] if "values" in found else drawn["datasets"][found["name"]]
    return rows


def svg(chart: Any) -> str:
    text: str = converter.vegalite_to_svg(chart.to_dict())
    return text


def test_lines_over_time_have_units_gaps_and_their_basis(calls: Box) -> None:
    result = calls.spans("kind == llm").by("model", every="1m").agg(p50="p50(ttft)", p99="p99(ttft)", n="count()")
    chart = result.plot()
    rows = [row for row in values(chart) if "end" not in row]
    assert {row["figure"] for row in rows} == {"p50", "p99"}, "figures of one unit share an axis"
    big = [row for row in rows if (row["group"], row["figure"]) == ("big", "p50")]
    assert len(big) == 10
    assert big[2]["value"] is None, "the missing minute is a gap"
    assert big[2]["time"] == START_NS // 1_000_000 + 120_000
    assert big[0]["value"] == pytest.approx(900, rel=0.011)
    title = chart.to_dict()["title"]
    assert title["text"] == "p50, p99 by model"
    assert title["subtitle"] == ["kind == llm; buckets of 1 m 00 s (UTC); quantiles by sketch, within 1 %"]
    drawn = svg(chart)
    assert ">500\u2009ms<" in drawn
    assert "small" in drawn
    assert TOKENS["m1"][1].lower() in drawn.lower()


def test_bars_by_group_are_in_the_unit_of_the_column(calls: Box) -> None:
    result = calls.spans().by("model").agg(usd="sum(cost)", failed="rate(status == error)")
    chart = result.plot("usd")
    assert sorted((row["group"], round(row["value"], 6)) for row in values(chart)) == [("big", 0.09), ("small", 0.18)]
    assert ">$0.1<" in svg(chart)
    assert "%<" in svg(result.plot("failed"))


def test_histogram_has_a_logarithmic_axis_with_its_unit(calls: Box) -> None:
    chart = calls.spans().by("model").agg(h="histogram(ttft)").plot()
    rows = values(chart)
    assert sum(row["count"] for row in rows) == 27
    assert all(0 < row["low"] < row["high"] < 1000 for row in rows)
    assert "\u2009ms<" in svg(chart)


def test_colour_is_for_models_alone(calls: Box) -> None:
    chart = calls.spans().by("status", every="1m").agg(n="count()").plot().to_dict()
    assert TOKENS["k2"][1] in str(chart)
    assert TOKENS["m1"][1] not in str(chart)


def test_groups_beyond_six_are_counted_not_drawn(box: Box) -> None:
    box._store.append(
        [
            {"trace_id": f"{n:032x}", "span_id": "1" * 16, "start_ns": START_NS, "name": f"s{n}", "duration_ns": MS}
            for n in range(1, 10)
        ]
    )
    chart = box.spans().by("name", every="1m").agg(n="count()").plot()
    assert chart.to_dict()["title"]["subtitle"][-1] == "3 more groups are not shown"
    assert len({row["group"] for row in values(chart)}) == 6


def test_groups_with_the_most_values_are_drawn(box: Box) -> None:
    """Models of which nothing was measured took the six places, because they came first."""
    for number in range(9):
        measured = {"ttft_ns": 5_000_000 * (number + 1)} if number >= 7 else {}
        row = {"trace_id": f"{number + 1:032x}", "span_id": "1" * 16, "start_ns": 1, "name": "x", "kind": "llm"}
        box._store.append([{**row, "model": f"m{number}", **measured}])
    drawn = svg(box.spans().by("model").agg(ttft="histogram(ttft)").plot())
    assert "m7" in drawn
    assert "m8" in drawn
    assert "m0" not in drawn
    assert "not shown" not in drawn


@pytest.mark.parametrize("name", ["datum.x'];alert(1)", "a.b[c]", "<script>alert(1)</script>", "\x1b[31m\u202e"])
def test_names_from_outside_are_data(box: Box, name: str) -> None:
    row = {
        "trace_id": "1" * 32,
        "span_id": "1" * 16,
        "start_ns": START_NS,
        "name": name,
        "duration_ns": MS,
        "kind": "llm",
    }
    box._store.append(
        [row | {"model": name}, row | {"span_id": "2" * 16, "start_ns": START_NS + 60 * S, "model": name}]
    )
    for result in (
        box.spans().by("model", every="1m").agg(n="count()"),
        box.spans().by("name").agg(h="histogram(duration)"),
        box.spans().by("name").agg(n="count()"),
    ):
        drawn = svg(result.plot())
        assert "<script>" not in drawn
        assert all(character.isprintable() for character in drawn.replace("\n", "").replace("\u2009", ""))


def test_what_cannot_be_drawn_says_why(calls: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    by_model = calls.spans().by("model").agg(n="count()", usd="sum(cost)")
    with pytest.raises(ValueError, match="'nothing' is no figure of this result: it has n, usd"):
        by_model.plot("nothing")
    with pytest.raises(ValueError, match="a line needs time"):
        by_model.plot(kind="line")
    with pytest.raises(ValueError, match="is no histogram"):
        by_model.plot(kind="histogram")
    with pytest.raises(ValueError, match="no rows to plot"):
        calls.spans("kind == tool").by("model").agg(n="count()").plot()
    with pytest.raises(ValueError, match="too many to see"):
        _many(calls).plot()
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(ImportError, match=r"plot\(\) needs altair: pip install 'spanbox\[notebook\]'"):
        by_model.plot()


def _many(box: Box) -> spanbox._spans.Result:
    box._store.append(
        [
            {"trace_id": f"{n:032x}", "span_id": "3" * 16, "start_ns": START_NS + n * S, "name": "x", "duration_ns": MS}
            for n in range(1, 5_002)
        ]
    )
    return box.spans('name == "x"').by(every="1s").agg(n="count()")
