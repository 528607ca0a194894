"""Month-end projections, bills beside what was recorded, and runaway traces."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from spanbox import Box, cost
from spanbox._cost_projection import DAY_NS, rest_of

pytest.importorskip("genai_prices", reason="prices need the extra 'cost'")

MS = 1_000_000


def near(value: float) -> Any:
    return pytest.approx(value)


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


@pytest.fixture(autouse=True)
def no_prices() -> Iterator[None]:
    yield
    cost.clear()


def call(number: int, at: str | int, usd: float | None = None, **values: Any) -> dict[str, Any]:
    start_ns = ns(at) if isinstance(at, str) else at
    row = {
        "trace_id": f"{number + 1:032x}", "span_id": f"{number + 1:016x}", "name": "chat", "kind": "llm",
        "start_ns": start_ns, "duration_ns": MS, **values,
    }  # fmt: skip
    return row if usd is None else {**row, "cost_usd": usd}


def days(first: str, costs: list[float], **values: Any) -> list[dict[str, Any]]:
    return [call(at + 1_000, ns(first) + at * DAY_NS, usd, **values) for at, usd in enumerate(costs)]


def test_a_month_of_equal_days_ends_at_their_sum(box: Box) -> None:
    box._store.append(days("2026-03-01", [2.0] * 20, tenant="acme"))
    found = box.project_cost(by=["tenant"], at="2026-03-21T12:00:00Z")
    [row] = found
    assert row.group == {"tenant": "acme"}
    # 20 days, half of the 21st and ten more
    assert (row.spent_usd, row.projected_usd) == (40.0, near(61.0))
    assert (row.low_usd, row.high_usd, row.days) == (near(61.0), near(61.0), 20)
    assert found.total == type(row)({}, *(getattr(row, name) for name in row.__slots__[1:]))
    assert str(found).splitlines()[0].split() == ["tenant", "spent", "end", "of", "2026-03", "low", "high", "days"]
    assert "<table" in found._repr_html_()


def test_history_reaches_into_the_month_before_and_spending_does_not(box: Box) -> None:
    box._store.append(days("2026-02-20", [4.0] * 9))
    row = box.project_cost(at="2026-03-01T00:00:00Z").total
    assert (row.spent_usd, row.projected_usd, row.days) == (0.0, near(4.0 * 31), 9)


def test_weekends_are_known_after_four_weeks() -> None:
    monday = ns("2026-01-05") // DAY_NS
    week = [10.0] * 5 + [1.0] * 2
    history = {monday + at: week[at % 7] for at in range(28)}
    weekend = {monday + 28 + 5: 1.0, monday + 28 + 6: 1.0}
    assert rest_of(history, weekend, 0.9) == (near(2.0), near(0.0))


def test_too_little_history_has_no_interval(box: Box) -> None:
    box._store.append(days("2026-03-01", [2.0, 2.0]))
    row = box.project_cost(at="2026-03-03T00:00:00Z").total
    assert (row.projected_usd, row.low_usd, row.high_usd) == (near(62.0), None, None)
    empty = box.project_cost('model == "x"', at="2026-03-03T00:00:00Z")
    assert (len(empty), empty.total.projected_usd, empty.total.spent_usd) == (0, None, 0.0)
    with pytest.raises(ValueError, match="no share"):
        box.project_cost(level=90)


def test_intervals_cover_what_they_say() -> None:
    """Of independent days nine out of ten intervals hold what comes."""
    seed = random.Random(3)
    inside = 0
    for _ in range(600):

        def day() -> float:
            return seed.gauss(100, 25)

        history = {at: day() for at in range(20)}
        rest, half = rest_of(history, dict.fromkeys(range(20, 31), 1.0), 0.9)
        assert half is not None
        inside += abs(sum(day() for _ in range(11)) - rest) <= half
    assert 0.86 <= inside / 600 <= 0.94


def test_december_ends_with_the_year(box: Box) -> None:
    box._store.append(days("2026-12-01", [1.0] * 30))
    found = box.project_cost(at="2026-12-31T00:00:00Z")
    assert (found.month, found.total.projected_usd) == ("2026-12", near(31.0))


def billed(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_bill_with_a_missing_and_a_double_line(box: Box, tmp_path: Path) -> None:
    """LiteLLM 13280: eight rows were logged, nine were on the bill."""
    for number in range(8):
        box._store.append([call(number, "2026-03-01", 0.01, **{"gen_ai.response.id": f"r{number}"})])
    box._store.append([call(90, "2026-03-01", 0.5)])
    lines = [f'r{number},"$0.01"' for number in range(1, 9)] + ["r3,0.01", "r4,0.02"]
    found = box.reconcile(
        billed(tmp_path / "bill.csv", "Request ID,Cost (USD)\n" + "\n".join(lines)), cost="Cost (USD)"
    )
    assert {each.key: each.state for each in found.differences} == {
        "calls without an id": "surplus", "r0": "surplus", "r3": "duplicate", "r4": "duplicate", "r8": "missing",
    }  # fmt: skip
    assert (found.same, found.count("missing"), found.count("surplus")) == (5, 1, 2)
    assert (found.billed_usd, found.recorded_usd) == (near(0.11), near(0.58))
    assert found.differences[0].key == "calls without an id"
    assert "1 missing, 2 surplus, 2 duplicate, 0 amount, 5 same" in str(found)


def test_a_bill_by_day_and_model(box: Box, tmp_path: Path) -> None:
    rows = [call(1, "2026-03-01T23:59:59", 1.0, model="m"), call(2, "2026-03-01", 1.0, model="m")]
    rows += [call(3, "2026-03-02", 1.0, model="m"), call(4, "2026-03-02", 1.0, model="n")]
    box._store.append(rows)
    text = "date,model,amount\n2026-03-01,m,2.0\n2026-03-02T10:00:00Z,m,1.5\n1772496000,m,3\n"
    found = box.reconcile(billed(tmp_path / "bill.csv", text))
    assert found.on == "day and model"
    assert [(each.key, each.state, each.billed_usd, each.recorded_usd) for each in found.differences] == [
        ("2026-03-03 m", "missing", 3.0, None), ("2026-03-02 n", "surplus", None, 1.0),
        ("2026-03-02 m", "amount", 1.5, 1.0),
    ]  # fmt: skip
    assert found.same == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a,b\n1,2\n", "no column of costs among a, b"),
        ("cost,b\n1,2\n", "no column of request ids, nor of days and models"),
        ("cost,id\n1,a\nlots,b\n", "line 3: 'lots' is no amount"),
        ("cost,id\nNaN,a\n", "is no amount"),
        ("cost,date,model\n1,yesterday,m\n", "'yesterday' is no day"),
        ("", "no column of costs among none"),
    ],
)
def test_a_bill_that_cannot_be_read_says_where(text: str, why: str, box: Box, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=why):
        box.reconcile(billed(tmp_path / "bill.csv", text))


def test_bills_of_any_bytes_are_answered(box: Box, tmp_path: Path) -> None:
    path = tmp_path / "bill.csv"
    seed = random.Random(5)
    for _ in range(50):
        path.write_bytes(b"id,cost\n" + bytes(seed.choice(b'0,\n"ab\x00\xff') for _ in range(60)))
        try:
            box.reconcile(path)
        except ValueError:
            continue


def trace(number: int, name: str, calls: int, usd: float) -> list[dict[str, Any]]:
    root = {**call(number - 1, "2026-03-01"), "span_id": f"{1:016x}", "name": name, "kind": "agent"}
    return [
        root,
        *(
            {**root, "span_id": f"{at + 2:016x}", "parent_id": f"{1:016x}", "kind": "llm", "name": "chat",
             "cost_usd": usd / calls}
            for at in range(calls)
        ),
    ]  # fmt: skip


def test_runaways_depart_from_their_kind(box: Box) -> None:
    seed = random.Random(1)
    rows: list[dict[str, Any]] = []
    for number in range(1, 41):
        rows += trace(number, "answer", seed.randint(3, 6), 0.01 * seed.randint(8, 12))
        rows += trace(100 + number, "research", seed.randint(40, 70), 0.5)
    rows += trace(201, "answer", 60, 0.10) + trace(202, "answer", 4, 3.0) + trace(203, "rare", 500, 9.0)
    box._store.append(rows)
    found = box.runaways()
    assert [(each.trace_id, each.by) for each in found] == [(f"{202:032x}", "cost"), (f"{201:032x}", "calls")]
    assert (found[1].calls, 3 <= found[1].usual_calls <= 6) == (60, True)
    assert (found.traces, found.unjudged) == (83, 1)
    assert [each.trace_id for each in box.runaways(limit=1)] == [f"{202:032x}"]
    assert list(box.runaways('name == "research"')) == []
    assert "2 runaways of 83 traces; 1 are of kinds too rare to judge" in str(found)
    assert "stands out by" in found._repr_html_()
