"""Charts that are saved, and the budget: what the page writes into the store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import spanbox
from browser_view import View, until

READY = "[data-finding]"


@pytest.fixture
def clean(view: View) -> Iterator[View]:
    yield view
    box = spanbox.open(view.made.folder)
    for each in box.documents("chart"):
        box.delete_document("chart", each.name)
    for each in box.documents("budget"):
        box.delete_document("budget", each.name)


def _drag(view: View, selector: str) -> None:
    view.quiet()
    box = view.page.locator(selector).first.bounding_box()
    assert box is not None
    view.page.mouse.move(box["x"] + 40, box["y"] + 20)
    view.page.mouse.down()
    view.page.mouse.move(box["x"] + 120, box["y"] + 24, steps=4)
    view.page.mouse.up()


def test_a_brush_over_a_panel_can_be_saved_as_a_chart(clean: View) -> None:
    page = clean.open("/", settled=READY)
    page.wait_for_selector(".latency .u-over")
    _drag(clean, ".latency .u-over")
    page.get_by_role("button", name="Save as chart").click()
    page.wait_for_selector("[data-page=charts] [data-chart] .u-over")
    [chart] = clean.api("/api/charts")["charts"]
    assert chart["value"] == "p99(ttft)"
    answer = clean.api(f"/api/charts/{chart['id']}", px="240")
    until(page, "document.querySelector('[data-chart] .big') !== null")
    assert answer["total"] is not None
    assert page.inner_text("[data-chart] h2") == chart["title"]


def test_a_filter_of_traces_can_be_saved_and_the_chart_changed_and_deleted(clean: View) -> None:
    page = clean.open("/traces", q='feature == "chat"', settled="tr.row[data-trace]")
    page.get_by_role("button", name="Save as chart").click()
    page.wait_for_selector("[data-chart] .u-over")
    [chart] = clean.api("/api/charts")["charts"]
    assert 'feature == "chat"' in chart["q"]
    page.click("[data-chart] [title^='Change']")
    page.fill("[data-chart] input[name=title]", "how long chats take")
    page.click("[data-chart] >> text=Save")
    until(page, "document.querySelector('[data-chart] h2').textContent === 'how long chats take'")
    page.click("[data-chart] [title^='Change']")
    page.click("[data-chart] >> text=Delete")
    page.wait_for_selector("[data-chart]", state="detached")
    page.wait_for_selector("[data-page=charts] .state")


def test_the_palette_lists_what_a_chart_keeps_the_filter_of(clean: View) -> None:
    q = 'feature == "chat" and tenant == "acme"'
    spanbox.open(clean.made.folder).put_document("chart", "one", {"title": "chats", "value": "count()", "q": q})
    page = clean.open("/health", settled="[data-page=health]")
    clean.press("Control+k")
    page.keyboard.type("saved acme")
    page.wait_for_selector("[role=option]:has-text('tenant ==')")
    clean.press("Enter")
    page.wait_for_selector("[data-page=traces]")
    assert clean.query("q") == q


def test_a_wrong_chart_says_what_is_wrong_and_is_not_kept(clean: View) -> None:
    page = clean.open("/charts", settled="[data-page=charts] .state")
    page.click("[title='Add a chart']")
    page.fill("input[name=value]", "p99(")
    page.click(".pop >> text=Save")
    page.wait_for_selector("[data-page=charts] [role=alert]")
    assert clean.api("/api/charts")["charts"] == []


def test_a_budget_is_a_line_in_the_cost_panel(clean: View) -> None:
    page = clean.open("/", settled=READY)
    page.wait_for_selector(".third .u-over")
    page.click("text=set a budget")
    page.fill("input[name=usd]", "1000000")
    page.click("text=Keep")
    page.wait_for_selector(".third .end:has-text('budget')")
    page.click("[title='Budget']")
    page.fill("input[name=usd]", "0.01")
    page.click("text=Keep")
    page.wait_for_selector(".third .err:has-text('over the budget')")
