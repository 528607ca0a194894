"""Every key of the page does what the list of keys says."""

from __future__ import annotations

import json

import pytest
import spanbox
from browser_view import View, until

ROW = "[role=treeitem][data-span]"


def _zoom(view: View) -> tuple[float, float]:
    text = view.query("z")
    first, last = text.split(",") if text else ("0", "inf")
    return float(first), float(last)


def _zoomed(view: View, key: str) -> tuple[float, float]:
    before = view.page.evaluate("location.search")
    view.press(key)
    until(view.page, f"location.search !== {before!r} && location.search.includes('z=')")
    return _zoom(view)


def test_w_s_a_d_zoom_and_pan_and_shift_makes_them_faster(view: View) -> None:
    page = view.open(f"/trace/{view.made.failed_trace}", settled=ROW)
    first = _zoomed(view, "w")
    second = _zoomed(view, "w")
    assert second[1] - second[0] < first[1] - first[0]
    third = _zoomed(view, "W")
    assert (third[1] - third[0]) / (second[1] - second[0]) < (second[1] - second[0]) / (first[1] - first[0])
    assert _zoomed(view, "d")[0] > third[0]
    assert _zoomed(view, "a")[0] == pytest.approx(third[0])
    view.press("S", "S")
    until(page, "!location.search.includes('z=')")


def test_z_fits_the_span_and_0_the_trace(view: View) -> None:
    answer = view.api(f"/api/trace/{view.made.failed_trace}")
    span = next(one for one in answer["spans"] if one["name"] == "generate")
    page = view.open(f"/trace/{view.made.failed_trace}", span=span["span_id"], settled=f"{ROW}[aria-selected=true]")
    view.press("z")
    until(page, "location.search.includes('z=')")
    first, last = _zoom(view)
    assert first * 1e6 <= span["offset_ns"]
    assert last * 1e6 >= span["offset_ns"] + span["duration_ns"] - 1e6
    view.press("0")
    until(page, "!location.search.includes('z=')")


def test_a_full_stop_walks_the_critical_path_and_shift_e_walks_failures_back(view: View) -> None:
    answer = view.api(f"/api/trace/{view.made.failed_trace}")
    path = list(dict.fromkeys(step["span_id"] for step in answer["critical_path"]))
    page = view.open(f"/trace/{view.made.failed_trace}", span=path[0], settled=f"{ROW}[aria-selected=true]")
    view.press(".")
    page.wait_for_selector(f"[data-span='{path[1]}'][aria-selected=true]")
    view.press("E")
    failed = [place["span_id"] for place in answer["failures"]]
    until(page, f"{failed!r}.includes(document.querySelector('{ROW}[aria-selected=true]')?.dataset.span)")


def test_b_p_and_c_the_lane_a_pin_and_what_can_be_copied(view: View) -> None:
    answer = view.api(f"/api/trace/{view.made.failed_trace}")
    span = next(one["span_id"] for one in answer["spans"] if one["name"] == "generate")
    page = view.open(f"/trace/{view.made.failed_trace}", span=span, settled=".lane canvas")
    view.press("b")
    page.wait_for_selector(".lane canvas", state="detached")
    view.press("p")
    page.wait_for_selector(".row.pin")
    view.press("p")
    page.wait_for_selector(".row.pin", state="detached")
    view.press("c")
    page.wait_for_selector("[role=dialog][aria-label=Copy]")
    assert page.locator("[role=dialog][aria-label=Copy] button").count() == 4
    view.press("Escape")
    page.wait_for_selector("[role=dialog][aria-label=Copy]", state="detached")


def test_a_call_is_copied_as_a_cassette_with_all_of_its_texts(view: View) -> None:
    trace, span_id, said = "c5" * 16, "7" * 16, "sorry " * 30_000  # more than the first 64 KiB
    box = spanbox.open(view.made.folder)
    box._store.append(
        [
            {
                "trace_id": trace, "span_id": span_id, "name": "ask", "kind": "llm", "provider": "openai",
                "model": "gpt-5", "start_ns": view.made.end_ns - 60_000_000_000, "duration_ns": 2_000_000_000,
                "input_tokens": 9,
                "gen_ai.request.temperature": 0.25, "input": [{"role": "user", "content": "9007199254740993"}],
                "output": said, "status": "error", "error_type": "RateLimitError",
            }
        ]
    )  # fmt: skip
    page = view.open(f"/trace/{trace}", settled="[role=tabpanel] article")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=view.origin)
    view.press("c")
    page.click("[role=dialog][aria-label=Copy] >> text=cassette")
    page.wait_for_selector("text=cassette copied")
    [interaction] = json.loads(page.evaluate("navigator.clipboard.readText()"))["interactions"]
    request, response = interaction["request"], interaction["response"]
    assert (request["provider"], request["model"], request["gen_ai.request.temperature"]) == ("openai", "gpt-5", 0.25)
    assert request["body"] == [{"role": "user", "content": "9007199254740993"}]
    assert (response["body"], response["error_type"], response["input_tokens"]) == (said, "RateLimitError", 9)


def test_enter_goes_into_the_span_and_escape_back_to_the_tree(view: View) -> None:
    page = view.open(f"/trace/{view.made.failed_trace}", settled=f"{ROW}[aria-selected=true]")
    view.press("Enter")
    page.wait_for_selector("[role=tabpanel]:focus")
    view.press("Escape")
    page.wait_for_selector(f"{ROW}:focus")


@pytest.mark.parametrize(
    ("key", "page_name"),
    [("o", "overview"), ("t", "traces"), ("s", "sessions"), ("c", "costs"), ("p", "charts"), ("h", "health")],
)
def test_g_and_a_letter_go_to_a_page(view: View, key: str, page_name: str) -> None:
    start = "/health" if page_name != "health" else "/sessions"
    page = view.open(start, settled="[data-page]")
    view.quiet()
    view.press("g", key)
    page.wait_for_selector(f"[data-page={page_name}]")


def test_r_asks_again_l_follows_and_equals_narrows(view: View) -> None:
    page = view.open("/sessions", settled="[data-page=sessions] tbody tr")
    with page.expect_response(lambda answer: "/api/sessions" in answer.url):
        view.press("r")
    here = page.evaluate("location.href")
    view.press("=")
    until(page, f"location.href !== {here!r}")
    view.press("l")
    until(page, "location.search.includes('live=1')")
    view.press("l")
    until(page, "!location.search.includes('live=1')")


def test_o_opens_a_row_in_a_new_tab(view: View) -> None:
    page = view.open("/traces", settled="tr.row[data-trace]")
    first = view.api("/api/traces", limit="1")["rows"][0]["trace_id"]
    view.press("j")
    page.wait_for_selector(f"tr.on[data-trace='{first}']")
    with page.context.expect_page() as opened:
        view.press("o")
    opened.value.wait_for_url(f"**/trace/{first}*")  # it may be empty before
    opened.value.close()
