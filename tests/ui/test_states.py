"""Every state that a page can be in says what is, what it means for the numbers, and the one thing to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import spanbox
from browser_view import ARTEFACTS, View, plain, ui_store, until
from playwright.sync_api import APIResponse, Browser, Page, Response, Route
from spanbox.server import Page as Files
from spanbox.server import Server
from spanbox.server.api import _slices

MINUTE = 60_000_000_000
HOUR = 60 * MINUTE


def _served(
    browser: Browser, files: Files, box: spanbox.Box, end_ns: int, *, read_only: bool = False
) -> Iterator[View]:
    with Server(box, port=0, page=files, read_only=read_only) as server:
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()
        page.goto(server.page_url)
        page.wait_for_selector("[data-page], main .state")
        view = View(page, server, type("Made", (), {"end_ns": end_ns}))
        yield view
        context.close()
        assert view.faults == []


END_NS = 1_773_112_320_000_000_000


def _steady(box: spanbox.Box, per_minute: int, minutes: int, *, segments: int = 1) -> None:
    """Calls that take the same, minute by minute."""
    rows = []
    for number in range(per_minute * minutes):
        at = END_NS - (number + 1) * MINUTE // per_minute
        ids = {"trace_id": f"{number + 1:032x}", "span_id": f"{number + 1:016x}"}
        call = {"kind": "llm", "model": "m", "ttft_ns": 400_000_000 + number % 50, "cost_usd": 0.01, "input": "hello"}
        rows.append({**ids, "name": "ask", "start_ns": at, "duration_ns": 900_000_000, **call})
    for part in range(segments):
        box._store.append(rows[part::segments])


@pytest.fixture(scope="module")
def steady(browser: Browser, files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    box = spanbox.open(tmp_path_factory.mktemp("steady") / ".spanbox", create=True)
    _steady(box, 4, 24 * 60)
    yield from _served(browser, files, box, END_NS, read_only=True)


def test_all_is_well_is_said_with_the_number_of_comparisons(steady: View) -> None:
    steady.open("/", vs="prev", settled="#verdict")
    answer = steady.api("/api/findings", vs="prev")
    assert answer["items"] == []
    assert answer["checked"] > 0
    assert plain(answer["sentence"]) == steady.text("#verdict")
    assert "Nothing is worse" in steady.text("#verdict")


def test_read_only_is_said_and_nothing_offers_to_write(steady: View) -> None:
    page = steady.open("/traces", settled="tr.row[data-trace]")
    assert "read-only" in steady.text("nav")
    assert page.get_by_role("button", name="Save as chart").count() == 0
    page = steady.open("/health", settled="[data-page=health] .state")
    assert "read-only" in page.inner_text("[data-page=health]")
    page = steady.open("/", settled="#verdict")
    page.wait_for_selector(".third .u-over")
    assert page.locator("text=set a budget").count() == 0


def test_a_panel_waits_as_a_skeleton_of_its_size_and_the_others_do_not(steady: View) -> None:
    held: list[Route] = []
    steady.page.route("**/api/overview/latency*", lambda route: held.append(route))
    page = steady.open("/", settled="#verdict")
    page.wait_for_selector(".latency [data-state=loading]")
    until(page, "document.querySelectorAll('[data-state=loading]').length === 1")  # the others have what they show
    page.wait_for_selector(".third [data-state=ok]")
    before = page.locator(".latency .panel").bounding_box()
    for each in held:
        each.continue_()
    page.wait_for_selector(".latency [data-state=ok]")
    assert page.locator(".latency .panel").bounding_box() == before
    steady.page.unroute("**/api/overview/latency*")


def test_a_panel_fails_alone_and_says_what_to_do(steady: View) -> None:
    damaged = {"code": "damaged", "message": "a part of the store fails its checksum: run `spanbox doctor`"}
    answer = json.dumps(damaged)
    pattern = "**/api/overview/cost*"
    steady.page.route(pattern, lambda route: route.fulfill(status=500, content_type="application/json", body=answer))
    page = steady.open("/", settled=".third [data-state=failed]")
    assert "spanbox doctor" in page.inner_text(".third [data-state=failed]")
    page.wait_for_selector(".latency [data-state=ok]")
    steady.page.unroute(pattern)


def test_a_damaged_segment_costs_what_needs_it_and_says_what_to_do(
    browser: Browser, files: Files, tmp_path: Path
) -> None:
    box = spanbox.open(tmp_path / "whole", create=True)
    _steady(box, 20, 6 * 60, segments=5)
    for view in _served(browser, files, ui_store.damaged_copy(box, tmp_path / "damaged"), END_NS):
        page = view.open("/", settled="[data-page=overview] [data-state=failed]")
        assert "spanbox doctor" in page.inner_text("[data-state=failed] >> nth=0")
        assert page.locator("nav a").count() >= 6
        page.wait_for_selector("footer .strip:has-text('a part of the store is damaged')")
        page.click("footer .strip")
        page.wait_for_selector("[data-page=health] .state:has-text('A part of the store is damaged.')")
        assert "spanbox doctor" in page.inner_text("[data-page=health] .state")
        assert "--repair" not in page.inner_text("[data-page=health]")
        page.screenshot(path=ARTEFACTS / "health-damaged.png")


def _holder(held: list[tuple[Route, APIResponse]]) -> Callable[[Route], None]:
    """Asks the server at once, and keeps the answer from the page."""

    def hold(route: Route) -> None:
        held.append((route, route.fetch()))

    return hold


def test_damage_is_told_though_the_status_was_on_its_way_before(browser: Browser, files: Files, tmp_path: Path) -> None:
    box = spanbox.open(tmp_path / "whole", create=True)
    _steady(box, 20, 60, segments=5)
    for view in _served(browser, files, ui_store.damaged_copy(box, tmp_path / "damaged"), END_NS):
        held: list[tuple[Route, APIResponse]] = []
        view.page.route("**/api/overview?*", _holder(held), times=1)
        page = view.open("/", settled=".panel [data-state=failed], [data-state=failed]")
        for route, answer in held:
            found = answer.json()
            found["status"]["health"] |= {"severity": None, "worst": ""}  # as before the damage was met
            route.fulfill(json=found)
        assert held
        page.wait_for_selector("footer .strip:has-text('a part of the store is damaged')")


def test_dropped_spans_are_the_worst_fact_and_say_what_prevents_them(steady: View) -> None:
    def with_drops(route: Route) -> None:
        found = route.fetch().json()
        found["strip"] |= {"dropped_spans": 7, "severity": "warning", "worst": "7 spans dropped: a ring was full"}
        route.fulfill(json=found)

    steady.page.route("**/api/health", with_drops)
    page = steady.open("/health", settled="[data-page=health] .state")
    assert "7 spans dropped" in page.inner_text("[data-page=health] h1")
    assert "spanbox.configure(" in page.inner_text("[data-page=health]")
    steady.page.unroute("**/api/health")


def test_a_long_search_shows_what_is_read_so_far_the_newest_first(
    steady: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no patience a request reads one slice: the page asks on until all of the range is read."""
    monkeypatch.setattr(_slices, "PATIENCE_S", 0)
    answers: list[Response] = []
    steady.page.on("response", lambda answer: answers.append(answer))
    page = steady.open("/traces", q='"hello" in input', settled="tr.row[data-trace]")
    until(
        page,
        "document.querySelector('[data-partial]') === null && document.querySelector('.head b').textContent !== '…'",
    )
    seen = [answer.json()["read_share"] for answer in answers if "/api/traces?" in answer.url]
    assert len(seen) > 4
    assert seen == sorted(seen)
    assert (seen[0] < 0.1, seen[-1]) == (True, 1)
    monkeypatch.undo()
    total = steady.api("/api/traces", q='"hello" in input', limit="1")["total"]
    assert f"{total:,}" in steady.text("[data-page=traces] .head b")


def test_too_little_data_is_said_as_such(browser: Browser, files: Files, tmp_path: Path) -> None:
    box = spanbox.open(tmp_path / ".spanbox", create=True)
    _steady(box, 1, 5)
    box.add_scores(
        [{"trace_id": f"{1:032x}", "name": "helpful", "value": 1.0, "source": "human", "at_ns": END_NS - MINUTE}]
    )
    for view in _served(browser, files, box, END_NS):
        page = view.open("/", settled="#verdict")
        answer = view.api("/api/findings")
        assert answer["state"] == "few"
        assert plain(answer["sentence"]) == view.text("#verdict")
        page.wait_for_selector(".third [data-state=few]")


def test_nothing_matches_names_the_clause_to_drop(steady: View) -> None:
    page: Page = steady.open(
        "/traces", q='kind == llm and model == "none of them"', settled="[data-page=traces] .state"
    )
    page.wait_for_selector("[data-page=traces] .main .pad .state")
    total = steady.api("/api/traces", q="kind == llm", limit="1")["total"]
    assert f"it would give {total:,} traces" in steady.text("[data-page=traces] .main .pad")
    page.get_by_role("button", name="Drop").click()
    page.wait_for_selector("tr.row[data-trace]")
    assert page.input_value("textarea") == "kind == llm"
