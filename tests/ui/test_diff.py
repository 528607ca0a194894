"""Two traces side by side: by key, by address, by a pasted id."""

from __future__ import annotations

import pytest
from browser_view import View, plain, until

ROW = "[role=treeitem][data-span]"
LINE = "[data-diff]"


@pytest.fixture
def typical(view: View) -> str:
    changed = view.api(f"/api/trace/{view.made.slow_trace}/changed")
    return str(changed["typical_trace_id"])


def test_d_compares_with_the_typical_trace_and_takes_it_back(view: View, typical: str) -> None:
    page = view.open(f"/trace/{view.made.slow_trace}", settled=ROW)
    page.wait_for_selector(".banner:has-text('What changed')")
    view.press("D")
    page.wait_for_selector(LINE)
    assert view.query("vs") == typical
    answer = view.api(f"/api/trace/{view.made.slow_trace}/diff", vs=typical)
    shown = page.locator(LINE).evaluate_all(
        "all => all.map(row => [row.dataset.diff, row.querySelector('a').textContent])"
    )
    assert shown == [[row["state"], row["name"]] for row in answer["rows"][: len(shown)]]
    assert f"{answer['matched']} span" in view.text(".sides")
    assert plain(answer["divergence"]["now"])[:40] in view.text(".parts")
    view.press("D")
    page.wait_for_selector(ROW)
    assert view.query("vs") == ""


def test_an_address_with_vs_shows_the_difference_and_the_time_to_compare_with_is_none(view: View, typical: str) -> None:
    page = view.open(f"/trace/{view.made.slow_trace}", vs=typical, settled=LINE)
    page.click("nav >> text=Traces")
    page.wait_for_selector("[data-page=traces]")
    assert view.query("vs") == ""


def test_e_walks_what_differs_and_a_box_hides_the_rest(view: View, typical: str) -> None:
    page = view.open(f"/trace/{view.made.slow_trace}", vs=typical, settled=LINE)
    view.press("e")
    page.wait_for_selector(f"{LINE}.cur:not(.same)")
    page.check("text=only what differs")
    until(page, "document.querySelectorAll('[data-diff=same]').length === 0")
    assert page.locator(LINE).count() > 0
    assert view.nodes() <= 1500


def test_a_pasted_id_is_compared_with(view: View) -> None:
    page = view.open(f"/trace/{view.made.slow_trace}", settled=ROW)
    page.evaluate(
        """id => {
          const data = new DataTransfer();
          data.setData('text/plain', id);
          document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }));
        }""",
        view.made.interrupted_trace,
    )
    page.wait_for_selector(LINE)
    assert view.query("vs") == view.made.interrupted_trace


def test_an_unknown_other_trace_says_what_to_do(view: View) -> None:
    page = view.open(f"/trace/{view.made.slow_trace}", vs="f" * 32, settled=".state")
    page.click("text=This trace alone")
    page.wait_for_selector(ROW)
