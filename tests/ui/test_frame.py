"""What is on every page: the filter, time, keys, theme, live, health, and the way in."""

from __future__ import annotations

import time
from urllib.parse import unquote

import pytest
import spanbox
from browser_view import PATIENCE_MS, View, plain, until
from playwright.sync_api import Browser, Page, Route
from spanbox.server import Server

ROW = "[data-page=traces] tr.row[data-trace]"


def test_the_token_leaves_the_address_at_once_and_opens_the_page(browser: Browser, server: Server) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.page_url)
    page.wait_for_selector("[data-page=overview]", timeout=PATIENCE_MS)
    until(page, "location.href.includes('#') === false")
    assert page.evaluate("document.cookie") == ""  # scripts do not see it
    context.close()


def test_without_the_token_there_is_no_data_and_it_says_where_the_link_is(browser: Browser, server: Server) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/traces")
    page.wait_for_selector(".alone .state", timeout=PATIENCE_MS)
    assert "spanbox ui" in page.inner_text(".alone")
    context.close()


@pytest.mark.parametrize("path", ["/", "/traces", "/sessions", "/costs", "/charts", "/health"])
def test_every_page_of_the_menu_has_content(view: View, path: str) -> None:
    page = view.open(path, settled="[data-page]")
    view.quiet()
    assert page.locator("[data-state=failed]").count() == 0
    assert view.nodes() <= 1500
    assert page.locator("nav [aria-current=page]").count() == 1


def test_sessions_and_costs_are_the_apis(view: View) -> None:
    page = view.open("/sessions", settled="[data-page=sessions] tbody tr")
    sessions = view.api("/api/sessions", limit="60")["rows"]
    assert page.locator("tbody td:first-child").all_inner_texts() == [row["session_id"] for row in sessions]
    page = view.open("/costs", settled="[data-page=costs] tbody tr", by="tenant")
    costs = view.api("/api/costs", by="tenant")
    shown = page.locator("tbody td:first-child").all_inner_texts()
    assert shown == [str(row["group"][0]) for row in costs["rows"][:100]]
    calls = page.locator("tfoot td").nth(1).inner_text()
    assert calls == f"{costs['total']['calls']:,}"


def test_a_session_is_its_turns(view: View) -> None:
    page = view.open(f"/session/{view.made.session}", settled="[data-turn]")
    answer = view.api(f"/api/session/{view.made.session}")
    assert page.locator("[data-turn]").evaluate_all("all => all.map(one => one.dataset.turn)") == [
        turn["trace_id"] for turn in answer["turns"]
    ]


def test_a_mistake_in_the_filter_is_shown_where_it_is_and_tab_repairs_it(view: View) -> None:
    page = view.open("/traces", settled=ROW)
    view.quiet()
    before = page.locator(ROW).count()
    view.press("/")
    page.keyboard.type('model == "gpt-5" and tfft > 2s')
    view.press("Enter")
    page.wait_for_selector("[role=alert] .fix")
    assert page.locator(".ink .mis").all_inner_texts() == ["tfft"]
    assert page.locator(ROW).count() == before  # the last good answer stays
    fix = page.inner_text(".fix .mono")
    assert fix.startswith("ttft")
    page.wait_for_selector("textarea:focus")
    view.press("Tab")
    until(page, f"document.querySelector('textarea').value.includes('and {fix} > 2s')")
    view.press("Enter")
    until(page, f"location.search.includes('{fix}')")


def test_a_wrong_filter_in_a_link_says_so_beside_the_filter(view: View) -> None:
    page = view.open("/traces", q="tfft > 2s", settled="[role=alert]")
    assert page.locator("textarea").get_attribute("aria-invalid") == "true"


def test_escape_restores_the_last_good_filter(view: View) -> None:
    page = view.open("/traces", q='feature == "chat"', settled=ROW)
    view.press("/")
    page.keyboard.type(" and (")
    view.press("Escape", "Escape")
    until(page, "document.querySelector('textarea').value === 'feature == \"chat\"'")


def test_completion_takes_a_name_by_tab(view: View) -> None:
    page = view.open("/traces", settled=ROW)
    view.press("/")
    page.keyboard.type("prompt_ver")
    page.wait_for_selector("[role=option]")  # of what was typed first, perhaps: Tab is about what stands there
    view.press("Tab")
    until(page, "document.querySelector('textarea').value.startsWith('prompt_version')")


def test_tab_takes_what_fits_now_although_the_list_is_of_what_was_typed_before(view: View) -> None:
    """The list was of less text than the field's: its item was put over a part of it."""
    page = view.open("/traces", settled=ROW)
    held: list[Route] = []
    page.route("**/api/complete?text=pr*", lambda route: held.append(route))
    view.press("/")
    page.keyboard.type("p")
    page.wait_for_selector("[role=option]")
    page.keyboard.type("rompt_ver")
    view.press("Tab")
    _release(page, held)
    until(page, "document.querySelector('textarea').value.startsWith('prompt_version')")


@pytest.mark.parametrize("more", ["", "in"], ids=["the list of this text", "the list of less text"])
def test_enter_right_after_tab_applies_the_completed_filter(view: View, more: str) -> None:
    """The question that Tab asked after Enter's made Enter read an older answer: that half a filter is wrong."""
    page = view.open("/traces", settled=ROW)
    view.press("/")
    with page.expect_response(lambda answer: "gpt-5-m" in unquote(answer.url)):
        page.keyboard.type('model == "gpt-5-m')
    page.wait_for_selector("[role=option] >> text=gpt-5-mini")
    held: list[Route] = []
    page.route("**/api/complete*", lambda route: held.append(route))
    page.keyboard.type(more)
    page.evaluate(
        """for (const key of ['Tab', 'Enter']) {
          const event = new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true });
          document.querySelector('textarea').dispatchEvent(event);
        }"""
    )
    _release(page, held)
    until(page, "location.search.includes('gpt-5-mini')")


def _release(page: Page, held: list[Route]) -> None:
    """Answers what was asked up to the next frame."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    for each in held:
        each.continue_()
    page.unroute_all()


def test_question_mark_lists_what_the_keys_of_this_page_do(view: View) -> None:
    page = view.open("/traces", settled=ROW)
    view.press("?")
    page.wait_for_selector("dialog[open]")
    assert "what sets the selection apart" in page.inner_text("dialog[open]")
    view.press("Escape")
    page.wait_for_selector("dialog[open]", state="detached")


def test_the_palette_goes_to_pages_and_ids(view: View) -> None:
    page = view.open("/", settled="[data-page=overview]")
    view.press("Control+k")
    page.keyboard.type(view.made.failed_trace)
    view.press("Enter")
    page.wait_for_selector("[data-page=trace]")
    view.quiet()
    view.press("g", "c")
    page.wait_for_selector("[data-page=costs]")


def test_minus_widens_the_time_and_pushes_history(view: View) -> None:
    page = view.open("/traces", settled=ROW)
    here = page.evaluate("location.href")
    view.press("-")
    until(page, f"location.href !== {here!r}")
    assert view.query("from").endswith("Z")  # absolute: live is off
    page.go_back()
    until(page, f"location.href === {here!r}")


def test_the_theme_is_of_the_browser_and_not_of_the_address(view: View) -> None:
    page = view.open("/", settled="[data-page=overview]")
    first = page.evaluate("document.documentElement.dataset.theme")
    here = page.evaluate("location.href")
    view.press("t")
    until(page, f"document.documentElement.dataset.theme !== {first!r}")
    assert page.evaluate("location.href") == here
    page.reload()
    page.wait_for_selector("[data-page=overview]")
    assert page.evaluate("document.documentElement.dataset.theme") != first
    view.press("t")


def test_new_traces_wait_until_they_are_asked_for(view: View) -> None:
    page = view.page
    with page.expect_response(lambda answer: "/api/traces?" in answer.url) as listed:
        page.goto(f"{view.origin}/traces?from=-6h&to=now&live=1")
    page.wait_for_selector(ROW)
    until(page, "document.querySelector('[data-partial]') === null")
    while time.time_ns() <= int(listed.value.json()["range"]["to_ns"]):  # the list ends with the second that runs
        page.wait_for_timeout(20)
    before = page.locator(ROW).first.get_attribute("data-trace")
    trace = f"{time.time_ns() // 1_000_000:012x}{'5' * 20}"
    row = {
        "trace_id": trace,
        "span_id": "5" * 16,
        "name": "new one",
        "kind": "agent",
        "start_ns": time.time_ns(),
        "duration_ns": 1_000_000,
    }
    spanbox.open(view.made.folder)._store.append([row])
    page.wait_for_selector(".pill")
    assert page.locator(ROW).first.get_attribute("data-trace") == before
    view.press("n")
    page.wait_for_selector(f"tr[data-trace='{trace}']")


def test_the_health_strip_has_the_servers_numbers(view: View) -> None:
    view.open("/health", settled="[data-page=health]")
    health = view.api("/api/health")
    assert f"dropped {health['strip']['dropped_spans']:,}" in plain(view.text("footer .strip"))
    assert f"{health['store']['spans']:,}" in view.text("[data-page=health] dl")


def test_a_server_that_goes_away_leaves_the_page_readable(browser: Browser, made, files, tmp_path) -> None:
    with Server(spanbox.open(made.folder), port=0, page=files) as leaving:
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(leaving.page_url)
        page.wait_for_selector("[data-finding], .verdict .sentence")
    page.keyboard.press("r")
    until(page, "document.querySelector('footer .strip').innerText.includes('server gone')")
    assert page.locator("#verdict").is_visible()
    context.close()


def test_an_empty_store_says_how_it_fills(browser: Browser, files, tmp_path) -> None:
    with Server(spanbox.open(tmp_path / ".spanbox", create=True), port=0, page=files) as empty:
        context = browser.new_context()
        page = context.new_page()
        page.goto(empty.page_url)
        page.wait_for_selector("main .state", timeout=PATIENCE_MS)
        assert "spanbox demo" in page.inner_text("main")
        context.close()
