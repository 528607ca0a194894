"""One trace: its tree, its walks, its parts, and what was said in it."""

from __future__ import annotations

import pytest
import spanbox
from browser_view import View, plain, until

ROW = "[role=treeitem][data-span]"


@pytest.fixture
def failed(view: View) -> dict[str, object]:
    return dict(view.api(f"/api/trace/{view.made.failed_trace}"))


def test_the_tree_is_the_apis_line_by_line(view: View, failed: dict) -> None:
    page = view.open(f"/trace/{view.made.failed_trace}", settled=ROW)
    shown = page.locator(ROW).evaluate_all("rows => rows.map(row => [row.dataset.span, Number(row.ariaLevel)])")
    assert shown == [[span["span_id"], span["depth"] + 1] for span in failed["spans"][: len(shown)]]
    assert len(shown) >= 8


def test_it_says_that_it_failed_inside_and_e_goes_there(view: View, failed: dict) -> None:
    page = view.open(f"/trace/{view.made.failed_trace}", settled=ROW)
    assert plain(failed["failed"]["sentence"]) in view.text(".banner.bad")
    places = [place["span_id"] for place in failed["failures"]]
    for place in [*places, places[0]]:  # around
        view.press("e")
        page.wait_for_selector(f"[data-span='{place}'][aria-selected=true]")
    assert view.query("span") == places[0]


def test_where_time_and_money_went_adds_up(view: View, failed: dict) -> None:
    page = view.open(f"/trace/{view.made.failed_trace}", settled=ROW)
    page.wait_for_selector(".went rect")
    assert page.locator(".went section").count() == 2
    for section, parts in zip(
        page.locator(".went section").all(), (failed["time_parts"], failed["cost_parts"]), strict=True
    ):
        rects, width = section.locator("svg").evaluate(
            """svg => [
              [...svg.querySelectorAll('rect')].map(one => ['x', 'width'].map(side => Number(one.getAttribute(side)))),
              svg.getBoundingClientRect().width]"""
        )
        assert len(rects) == len(parts)
        end = sum(rects[-1])
        assert width - 2 <= end <= width + 1
    assert sum(part["value"] for part in failed["cost_parts"]) == pytest.approx(failed["totals"]["cost_usd"])


def test_arrows_walk_and_fold_and_the_address_has_it(view: View, failed: dict) -> None:
    page = view.open(f"/trace/{view.made.failed_trace}", settled=ROW)
    spans = failed["spans"]
    parent = next(span for span in spans[1:] if span["child_count"])
    page.click(f"[data-span='{parent['span_id']}']")
    page.wait_for_selector(f"[data-span='{parent['span_id']}'][aria-selected=true]")
    view.press("ArrowLeft")
    page.wait_for_selector(f"[data-span='{parent['span_id']}'][aria-expanded=false]")
    assert view.query("fold") == parent["span_id"]
    child = spans[spans.index(parent) + 1]["span_id"]
    page.wait_for_selector(f"[data-span='{child}']", state="detached")
    page.reload()
    page.wait_for_selector(f"[data-span='{parent['span_id']}'][aria-expanded=false]")
    view.press("ArrowRight")
    page.wait_for_selector(f"[data-span='{child}']")
    view.press("ArrowDown")
    page.wait_for_selector(f"[data-span='{child}'][aria-selected=true]")


def test_zoom_keys_move_the_time_axis_only(view: View) -> None:
    page = view.open(f"/trace/{view.made.failed_trace}", settled=ROW)
    length = page.evaluate("history.length")
    view.press("w", "d", "w")
    until(page, "location.search.includes('z=')")
    assert page.evaluate("history.length") == length  # cursors and zoom replace
    view.press("0")
    until(page, "!location.search.includes('z=')")


def test_a_deep_link_shows_its_span_and_tab(view: View, failed: dict) -> None:
    llm = next(span for span in reversed(failed["spans"]) if span["kind"] == "llm")
    answer = view.api(f"/api/trace/{view.made.failed_trace}/span/{llm['span_id']}")
    page = view.open(
        f"/trace/{view.made.failed_trace}", span=llm["span_id"], tab="attributes", settled="[data-tab=attributes] tr"
    )
    shown = page.locator("[data-tab=attributes] th").all_inner_texts()
    assert sorted(shown) == sorted(one["name"] for one in answer["attributes"][:100])
    page.get_by_role("tab", name="Conversation").click()
    page.wait_for_selector("[data-tab=conversation] article")
    said = [part["text"] for message in answer["messages"] if message["from"] == "output" for part in message["parts"]]
    assert plain(said[0]) in view.text("[data-tab=conversation]")
    page.wait_for_selector(".lane canvas")  # it streamed


def test_what_runs_and_what_was_interrupted_says_so(view: View) -> None:
    for trace, word in ((view.made.running_trace, "Still running"), (view.made.interrupted_trace, "Interrupted")):
        view.open(f"/trace/{trace}", settled=ROW)
        until(view.page, f"document.querySelector('[data-page=trace]').innerText.includes('{word}')")


def test_an_unknown_trace_says_what_to_do(view: View) -> None:
    view.open(f"/trace/{'f' * 32}", settled=".state")
    assert "spanbox ls" in view.text("main")


def test_a_trace_of_100_000_spans_stays_small_and_its_end_is_in_reach(view: View) -> None:
    count, trace = 100_000, "0af7651916cd43dd8448eb211c80319c"
    start = view.made.end_ns - 60 * 1_000_000_000
    rows = [
        {
            "trace_id": trace,
            "span_id": f"{i + 1:016x}",
            "parent_id": None if i == 0 else f"{1 if i % 50 == 1 else i - (i - 2) % 50:016x}",
            "name": f"step {i}",
            "kind": "agent" if i == 0 else "tool",
            "start_ns": start + i * 100_000,
            "duration_ns": 10_000_000_000 if i == 0 else 90_000,
        }
        for i in range(count)
    ]
    box = spanbox.open(view.made.folder)
    for at in range(0, count, 20_000):
        box._store.append(rows[at : at + 20_000])
    page = view.open(f"/trace/{trace}", settled=ROW)
    until(page, "document.querySelector('.title').textContent.startsWith('100,000')")
    assert view.nodes() <= 1500
    last = view.api(f"/api/trace/{trace}", offset=str(count - count % 512))["spans"][-1]
    page.evaluate("document.querySelector('.tree .scroll').scrollTop = 1e9")
    page.wait_for_selector(f"[data-span='{last['span_id']}']")
    assert view.nodes() <= 1500
    page.wait_for_selector(".map")
    middle = f"{count // 2:016x}"
    view.open(f"/trace/{trace}", span=middle, settled=f"[data-span='{middle}'][aria-selected=true]")
