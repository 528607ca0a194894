"""The list of traces: what is shown, where it is scrolled to, and what a click writes."""

from __future__ import annotations

from browser_view import View, until
from playwright.sync_api import Page, expect

ROW = "[data-page=traces] tr.row[data-trace]"


def _whole(view: View, **params: str) -> Page:
    """The list when all of its time has been read: a slow machine shows it slice by slice."""
    page = view.open("/traces", settled=ROW, **params)
    until(page, "document.querySelector('[data-partial]') === null")
    return page


def test_the_list_is_the_apis_and_its_length_is_true(view: View) -> None:
    page = _whole(view)
    answer = view.api("/api/traces", limit="200")
    shown = page.locator(ROW).evaluate_all("rows => rows.map(row => row.dataset.trace)")
    assert shown == [row["trace_id"] for row in answer["rows"][: len(shown)]]
    assert page.locator("table[aria-label=Traces]").get_attribute("aria-rowcount") == str(answer["total"] + 1)
    until(page, f"document.querySelector('.head b').textContent.includes('{answer['total']:,}')")


def test_scrolling_to_the_end_shows_the_last_trace(view: View) -> None:
    page = _whole(view)
    total = view.api("/api/traces", limit="1")["total"]
    last = view.api("/api/traces", offset=str(total - 1), limit="1")["rows"][0]["trace_id"]
    page.evaluate("document.querySelector('[data-page=traces] .scroll').scrollTop = 1e9")
    page.wait_for_selector(f"tr[data-trace='{last}']")
    assert view.nodes() <= 1500


def test_the_same_address_gives_the_same_rows(view: View) -> None:
    page = _whole(view, q="feature == 'chat' and kind == agent", sort="-duration")
    first = page.locator(ROW).evaluate_all("rows => rows.map(row => row.dataset.trace)")
    page.reload()
    page.wait_for_selector(ROW)
    until(page, "document.querySelector('[data-partial]') === null")
    assert page.locator(ROW).evaluate_all("rows => rows.map(row => row.dataset.trace)") == first
    assert page.input_value("textarea") == "feature == 'chat' and kind == agent"


def test_a_facet_writes_the_filter_and_back_undoes_it(view: View) -> None:
    page = view.open("/traces", settled=ROW)
    page.wait_for_selector("aside .value")
    all_of_them = view.api("/api/traces", limit="1")["total"]
    page.locator("section[aria-label=feature] .value", has_text="summarise").click()
    until(page, "document.querySelector('textarea').value !== ''")
    assert view.query("q") == 'feature == "summarise"'
    total = view.api("/api/traces", limit="1", q='feature == "summarise"')["total"]
    assert 0 < total < all_of_them
    until(page, f"document.querySelector('[data-page=traces] .head b').textContent.startsWith('{total:,} ')")
    page.go_back()
    until(page, "document.querySelector('textarea').value === ''")


def test_a_brush_says_what_sets_it_apart_and_f_keeps_only_that(view: View) -> None:
    page = _whole(view, q='feature == "chat" and kind == agent')
    page.wait_for_selector(".heat canvas")
    view.quiet()
    box = page.locator(".heat").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.86, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 20, steps=4)
    page.mouse.up()
    page.wait_for_selector(".apart li")
    apart = view.api("/api/traces/apart", q='feature == "chat" and kind == agent', sel=view.query("sel"))
    assert page.locator(".apart li button").first.inner_text() == apart["items"][0]["text"]
    best = next(item["text"] for item in apart["items"] if item["significant"])
    view.press("f")
    until(page, "!location.search.includes('sel=')")
    assert best in view.query("q")


def test_the_keyboard_walks_opens_and_comes_back_to_the_same_row(view: View) -> None:
    page = _whole(view)
    third = view.api("/api/traces", limit="3")["rows"][2]["trace_id"]
    view.press("j", "j", "j")
    page.wait_for_selector(f"tr.on[data-trace='{third}']")
    view.press("Enter")
    page.wait_for_selector("[data-page=trace] [role=treeitem]")
    assert third in page.evaluate("location.pathname")
    page.wait_for_selector("[aria-label='next of the list']")
    page.go_back()
    page.wait_for_selector(f"tr.on[data-trace='{third}']")


def test_brackets_walk_the_list_the_trace_came_from(view: View) -> None:
    page = _whole(view)
    rows = view.api("/api/traces", limit="3")["rows"]
    view.press("j", "Enter")
    page.wait_for_selector("[aria-label='next of the list']")
    view.press("]")
    until(page, f"location.pathname.endsWith('{rows[1]['trace_id']}')")


def test_nothing_matches_says_what_to_do(view: View) -> None:
    page = view.open("/traces", q='tenant == "nobody"', settled="[data-page=traces] .state")
    expect(page.get_by_role("button", name="Without the filter").first).to_be_visible()
    assert "—" not in view.text("[data-page=traces] .main .pad")
