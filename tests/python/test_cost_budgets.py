"""Budgets: how far each group is, what is left, and that findings tell of those that are nearly spent."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox import Box, LimitExceeded, observe

MS = 1_000_000


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


def call(number: int, at: str | int, usd: float, **values: Any) -> dict[str, Any]:
    start_ns = ns(at) if isinstance(at, str) else at
    return {
        "trace_id": f"{number + 1:032x}", "span_id": f"{number + 1:016x}", "name": "chat", "kind": "llm",
        "start_ns": start_ns, "duration_ns": MS, "cost_usd": usd, **values,
    }  # fmt: skip


def test_each_group_of_a_budget_has_its_own_amount_and_period(box: Box) -> None:
    box._store.append(
        [
            call(1, "2026-02-28 23:59:59", 70.0, tenant="acme"),  # another month
            call(2, "2026-03-01 00:00:00", 60.0, tenant="acme"),
            call(3, "2026-03-05 00:00:00", 23.0, tenant="acme"),
            call(4, "2026-03-05 00:00:00", 96.0, tenant="globex", feature="chat"),
            call(5, "2026-03-10 12:00:00", 5.0, feature="chat"),
        ]
    )
    box.set_budget("tenants", 100, by=["tenant"])
    box.set_budget("chat", 4, per="day", filter='feature == "chat"')
    box.set_budget("week", 50, per="week")
    found = box.budgets(at="2026-03-11T00:00:00Z")
    assert [(row.what, row.spent_usd, row.level) for row in found] == [
        ("tenants, tenant globex", 96.0, "alert"),
        ("tenants, tenant acme", 83.0, "warning"),
        ("week", 5.0, "ok"),
        ("tenants, tenant —", 5.0, "ok"),
        ("chat", 0.0, "ok"),  # the day has just begun
    ]
    assert box.budgets(at="2026-03-10T13:00:00Z")[0].level == "over"  # chat
    assert box.budgets(at="2026-03-09T00:00:00Z")[2].begin_ns == ns("2026-03-09")  # the week, on a Monday
    assert found[0].end_ns == ns("2026-04-01")
    # 83 dollars in ten days: the other 17 take two more days and some minutes
    assert found[1].used_up_ns is not None
    assert abs(found[1].used_up_ns - (ns("2026-03-01") + 10 * 86_400_000_000_000 * 100 // 83)) < 10
    assert (found[3].used_up_ns, found[3].left_usd) == (None, 95.0)
    assert box.spans(found[1].filter).count() == 3


def test_what_is_left_of_a_budget_is_the_limit_of_a_block(box: Box) -> None:
    box._store.append([call(1, "2026-03-01 00:00:00", 99.0, tenant="acme")])
    box.set_budget("tenants", 99, by=["tenant"])
    found = box.budgets(at="2026-03-02T00:00:00Z")
    assert (found.left_usd("tenants", tenant="acme"), found.left_usd("tenants", tenant="new")) == (0.0, 99.0)
    with pytest.raises(KeyError, match="no budget 'x'; there are tenants"):
        found.left_usd("x")
    with pytest.raises(TypeError, match=r"by \['tenant'\]"):
        found.left_usd("tenants")

    @observe(kind="llm")
    def ask() -> None:
        raise AssertionError("it has started")

    with pytest.raises(LimitExceeded), spanbox.limit(cost_usd=found.left_usd("tenants", tenant="acme")):
        ask()


def test_what_a_thousand_requests_may_cost_is_told_with_them(box: Box) -> None:
    now = time.time_ns()
    box._store.append([call(number, now - MS * (number + 1), 0.02) for number in range(10)])
    box.put_document("budget", "cost", {"usd_per_1k": 19})  # as the page keeps it
    [row] = box.budgets()
    assert (row.budget.per, row.spent_usd, row.level) == ("1k requests", pytest.approx(20.0), "over")
    with pytest.raises(ValueError, match="which the page sets"):
        box.set_budget("cost", 5)
    box.put_document("budget", "cost", {"usd_per_1k": None})
    assert list(box.budgets()) == []


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"usd": 0}, "more than 0"),
        ({"usd": float("nan")}, "more than 0"),
        ({"usd": True}, "more than 0"),
        ({"usd": 1, "per": "year"}, "per='year': a budget is for a day, week or month"),
        ({"usd": 1, "filter": "no such"}, "filter"),
        ({"usd": 1, "by": "tenant"}, r"by=\['tenant'\]"),
    ],
)
def test_what_is_no_budget_says_why(wrong: dict[str, Any], why: str, box: Box) -> None:
    with pytest.raises((ValueError, TypeError), match=why if why != "filter" else None):
        box.set_budget("x", **wrong)
    assert box.documents("budget") == []


def test_a_document_that_is_no_budget_is_left_out(box: Box) -> None:
    for name, value in (("a", 5), ("b", {"usd": "5"}), ("c", {"usd": 5, "per": "day", "by": [["x"]], "filter": 5})):
        box.put_document("budget", name, value)
    assert list(box.budgets()) == []


def test_budgets_that_are_nearly_spent_are_findings(box: Box) -> None:
    usd = {"acme": 81.0, "<b>globex": 120.0, "small": 79.0}
    box._store.append([call(at, "2026-03-11 11:30:00", usd[name], tenant=name) for at, name in enumerate(usd)])
    box.set_budget("tenants", 100, per="week", by=["tenant"])
    hour = {"since": "2026-03-11T11:00:00Z", "until": "2026-03-11T12:00:00Z"}
    found = box.findings(**hour)
    assert [(each.what, each.now, each.before, each.severity) for each in found if each.group == "budget"] == [
        ("tenants, tenant <b>globex, per week", 120.0, 100.0, "error"),
        ("tenants, tenant acme, per week", 81.0, 100.0, "warning"),
    ]
    assert "2 budgets are spent to 80 % and more" in found.sentence
    assert "81 % of it" in str(found)
    assert "<b>globex" not in found._repr_html_()
    assert [each for each in box.findings('tenant == "acme"', **hour) if each.group == "budget"] == []


def run(*arguments: str, store: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spanbox", *arguments, "--store", str(store)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_on_the_command_line(box: Box) -> None:
    pytest.importorskip("typer")
    assert "no budget is set" in run("budget", store=box.path).stdout
    assert run("budget", "chat", "--usd", "1", store=box.path).stdout == "budget chat is set\n"
    box._store.append([call(1, time.time_ns(), 2.0)])
    shown = run("budget", "--json", store=box.path)
    [row] = json.loads(shown.stdout)["rows"]
    assert (shown.returncode, row["name"], row["per"], row["level"]) == (1, "chat", "month", "over")
    for incomplete in (("chat",), ("chat", "--usd", "1", "--remove"), ("--usd", "1"), ("--remove",)):
        assert run("budget", *incomplete, store=box.path).returncode == 2
    assert run("budget", "chat", "--remove", store=box.path).stdout == "budget chat is gone\n"
    assert run("budget", "chat", "--remove", store=box.path).returncode == 1
