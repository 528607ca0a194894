"""The trace viewer of notebooks: what it shows is what the store says, by messages alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spanbox
from browser_view import ARTEFACTS, PATIENCE_MS, hostile_texts, plain, until
from notebook_host import Notebook
from playwright.sync_api import Browser
from spanbox import Box
from spanbox._render import format_cost

START_NS = 1_764_000_000_000_000_000
ROWS = ".widget [role=treeitem]"


class Opened:
    """Notebooks of one test, closed at its end; none of them may have seen a fault."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._opened: list[Notebook] = []

    def __call__(self, box: Box, trace_id: str, **state: Any) -> Notebook:
        notebook = Notebook(self._browser, box, trace_id, **state)
        notebook.page.set_default_timeout(PATIENCE_MS)
        self._opened.append(notebook)
        return notebook


@pytest.fixture
def notebook(browser: Browser) -> Iterator[Opened]:
    opened = Opened(browser)
    yield opened
    for each in opened._opened:
        each.close()
    assert [fault for each in opened._opened for fault in each.faults] == []


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return spanbox.open(tmp_path / ".spanbox", create=True)


def long_trace(box: Box, spans: int) -> str:
    trace_id = "5a" * 16
    rows: list[dict[str, Any]] = []
    for number in range(spans):
        row = {
            "trace_id": trace_id, "span_id": f"{number + 1:016x}", "name": f"step {number}", "kind": "tool",
            "start_ns": START_NS + number * 1_000, "duration_ns": 900,
        }  # fmt: skip
        rows.append(row if number == 0 else {**row, "parent_id": f"{1:016x}"})
    rows[0] |= {"kind": "agent", "duration_ns": spans * 1_000}
    rows[-7] |= {"status": "error", "error_type": "TimeoutError"}
    box._store.append(rows)
    return trace_id


def test_the_viewer_shows_what_the_store_says(notebook: Opened, made: Any) -> None:
    box = spanbox.open(made.folder)
    trace = box.trace(made.failed_trace)
    page = notebook(box, made.failed_trace, height_px=1_400).page
    page.set_viewport_size({"width": 1000, "height": 1_400})
    page.wait_for_selector(f"[data-span='{trace[-1].span_id}']")
    levels = page.locator(ROWS).evaluate_all("rows => rows.map(row => [Number(row.ariaLevel) - 1, row.dataset.span])")
    assert levels == [[span.depth, span.span_id] for span in trace]
    head = plain(page.locator(".widget header").inner_text())
    for part in (trace.name, f"{trace.duration_ns / 1e9:.2f} s", format_cost(trace.cost_usd), f"{len(trace)} spans"):
        assert plain(part) in head
    assert f"{trace.totals.errors} failed" in head
    page.wait_for_selector("[role=tabpanel] article")
    page.screenshot(path=ARTEFACTS / "widget-light.png")
    page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    until(page, "document.querySelector('#output > div').dataset.theme === 'dark'")
    page.screenshot(path=ARTEFACTS / "widget-dark.png")
    page.set_viewport_size({"width": 1440, "height": 1_400})
    page.screenshot(path=ARTEFACTS / "widget-wide.png")


def test_a_span_is_read_when_it_is_selected(notebook: Opened, made: Any) -> None:
    box = spanbox.open(made.folder)
    spans = list(box.trace(made.slow_trace))
    answer = next(span for span in spans if span.name == "generate")
    seen = notebook(box, made.slow_trace)
    page = seen.page
    page.wait_for_selector(ROWS)
    page.locator(".widget").focus()
    for span in spans[1 : spans.index(answer) + 1]:
        page.keyboard.press("ArrowDown")
        page.wait_for_selector(f"[data-span='{span.span_id}'][aria-selected=true]")
    page.wait_for_selector("[role=tabpanel] article[aria-label^=assistant]")
    assert "Refunds of kind 0" in page.locator("[role=tabpanel]").inner_text()
    page.wait_for_selector(".lane canvas")
    page.click("[role=tab] >> text=Attributes")
    page.wait_for_selector("[data-tab=attributes] th")
    assert page.locator("[data-tab=attributes] button").count() == 0, "filters belong to a list of traces"
    page.click("[role=tab] >> text=Raw")
    page.wait_for_selector("[data-tab=raw] pre")
    assert "support agent" in page.locator("[data-tab=raw] pre").first.inner_text()
    paths = {question["path"].split("/", 4)[-1].split("/")[0] for question in seen.asked}
    assert {"span", "chunks"} <= paths


def test_a_long_trace_comes_in_pages(notebook: Opened, box: Box) -> None:
    trace_id = long_trace(box, 5_000)
    seen = notebook(box, trace_id)
    page = seen.page
    page.wait_for_selector(ROWS)
    page.locator(".widget .scroll").evaluate("place => { place.scrollTop = place.scrollHeight; }")
    page.wait_for_selector(f"[data-span='{5_000:016x}']")
    offsets = {int(question["params"].get("offset", 0)) for question in seen.asked if question["path"].count("/") == 3}
    assert {offset % 256 for offset in offsets} == {0}
    assert max(offsets) == 4_864
    assert len(offsets) <= 4, "only what is looked at is asked for"
    assert page.locator(".widget *").count() < 1_500
    page.keyboard.press("Tab")
    page.locator(".widget").focus()
    page.keyboard.press("e")
    page.wait_for_selector(f"[data-span='{5_000 - 6:016x}'][aria-selected=true]")


def test_keys_stay_in_the_viewer(notebook: Opened, made: Any) -> None:
    box = spanbox.open(made.folder)
    seen = notebook(box, made.failed_trace)
    page = seen.page
    page.wait_for_selector(ROWS)
    page.locator(".widget").focus()
    order = [span.span_id for span in box.trace(made.failed_trace)]
    for key, at in (("ArrowDown", 1), ("j", 2), ("k", 1), ("ArrowUp", 0), ("ArrowRight", 1)):
        page.keyboard.press(key)
        page.wait_for_selector(f"[data-span='{order[at]}'][aria-selected=true]")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(f"[data-span='{order[0]}'][aria-selected=true]")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(f"[data-span='{order[0]}'][aria-expanded=false]")
    until(page, "document.querySelector('#output > div').shadowRoot.querySelectorAll('[role=treeitem]').length === 1")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f"[data-span='{order[1]}']")
    assert page.evaluate("window.keys") == []
    assert page.evaluate("document.querySelector('#output > div').dataset.lmSuppressShortcuts") == "true"


def test_a_running_trace_grows(notebook: Opened, box: Box) -> None:
    root = {"trace_id": "6b" * 16, "span_id": "1" * 16, "name": "answer", "kind": "agent", "start_ns": START_NS}
    box._store.append([{**root, "status": "running"}])
    page = notebook(box, root["trace_id"]).page
    page.wait_for_selector(ROWS)
    assert page.locator(ROWS).count() == 1
    box._store.append([{**root, "span_id": "2" * 16, "parent_id": "1" * 16, "name": "lookup", "duration_ns": 5}])
    page.wait_for_selector(f"[data-span='{'2' * 16}']")


def test_a_busy_kernel_is_said_to_be_busy(notebook: Opened, made: Any) -> None:
    seen = notebook(spanbox.open(made.folder), made.failed_trace)
    page = seen.page
    page.wait_for_selector(ROWS)
    page.wait_for_selector("[role=tabpanel] article")
    page.evaluate("window.isBusy = true")
    page.locator(".widget").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("text=waiting for the kernel")
    page.evaluate("window.isBusy = false; window.free()")
    page.wait_for_selector("text=waiting for the kernel", state="detached")


def test_a_viewer_that_is_gone_hears_nothing(notebook: Opened, made: Any) -> None:
    page = notebook(spanbox.open(made.folder), made.failed_trace).page
    page.wait_for_selector(ROWS)
    assert page.evaluate("window.listeners.size") == 1
    page.evaluate("window.end()")
    assert page.evaluate("window.listeners.size") == 0


def test_no_text_of_a_trace_runs_in_a_notebook(notebook: Opened, box: Box) -> None:
    """In every field of a trace, on every tab."""
    texts = hostile_texts.hostile_texts("globalThis.__ran=1", "http://evil.invalid")
    assert len(texts) >= 30
    hostile_texts.hostile_store(box, texts)
    page = notebook(box, hostile_texts.TRACE_ID, height_px=4_000).page
    page.set_viewport_size({"width": 1000, "height": 4_000})
    page.wait_for_selector(ROWS)
    for number in range(len(texts)):
        span_id = f"{number + 2:016x}"
        page.locator(".widget").focus()
        page.wait_for_selector(f"[data-span='{span_id}'][aria-selected=true]")
        for tab in ("Documents", "Scores", "Attributes", "Raw", "Conversation"):
            page.click(f"[role=tab] >> text={tab}")
            page.wait_for_selector(f"[data-tab={tab.lower()}] :is(article, section, table, p, div, li)")
        page.keyboard.press("ArrowDown")
    assert page.evaluate("globalThis.__ran") is None
    assert page.locator(".widget :is(img, iframe, script, style, object, embed, a[href])").count() == 0
