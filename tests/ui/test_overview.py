"""The overview: what it says is what the server answered, and each finding leads to the call that proves it."""

from __future__ import annotations

from browser_view import ARTEFACTS, View, plain, until

READY = "[data-page=overview] .find [data-finding]"


def test_the_verdict_is_the_servers_first_and_in_its_order(view: View) -> None:
    page = view.open("/", settled=READY)
    answer = view.api("/api/findings")
    assert view.text("#verdict") == plain(answer["sentence"])
    shown = page.locator("[data-finding]").evaluate_all("rows => rows.map(row => row.dataset.finding)")
    assert shown == [item["id"] for item in answer["items"][:5]]
    assert len(shown) >= 3  # the planted regression is seen


def test_panels_show_the_numbers_of_the_api(view: View) -> None:
    page = view.open("/", settled=READY)
    until(page, "document.querySelectorAll('section.panel[data-state=loading]').length === 0")
    latency = view.api("/api/overview/latency", px="240")
    rows = page.locator(".lat .model").all_inner_texts()
    timed = [row for row in latency["rows"] if row["ttft"]["n"] or row["tpot"]["n"]]
    for row, shown in zip(timed[:6], rows, strict=True):
        assert plain(shown) == f"{row['model']} {row['n']:,} call{'s' if row['n'] != 1 else ''}"
    failures = view.api("/api/overview/failures", px="240")
    assert f"{failures['failed']:,} of {failures['of']:,}" in view.text(".third:last-child .head")
    cost = view.api("/api/overview/cost", px="240")
    assert view.text(".third .big").startswith("$")
    assert view.text(".third .big") == _money(cost["usd_per_1k"])
    slow = view.api("/api/overview/slow", n="10")
    hrefs = page.locator("table.slow tbody td:first-child a").evaluate_all("all => all.map(a => a.pathname)")
    assert hrefs == [f"/trace/{row['trace_id']}" for row in slow["rows"]]


def _money(usd: float) -> str:
    return f"${usd:.4f}" if usd < 0.99995 else f"${usd:.2f}" if usd < 999.995 else f"${usd:,.0f}"


def test_every_panel_says_where_its_numbers_come_from(view: View) -> None:
    page = view.open("/", settled=READY)
    until(page, "[...document.querySelectorAll('.panel .basis')].every(one => one.textContent.trim() !== '')")
    assert page.locator(".panel .basis").count() == 5
    page.locator(".panel .more").first.click()
    assert len(view.text(".panel .full")) > 40


def test_one_opens_the_proof_of_the_first_finding_and_back_returns(view: View) -> None:
    page = view.open("/", settled=READY)
    first = view.api("/api/findings")["items"][0]
    here = page.evaluate("location.href")
    view.press("1")
    page.wait_for_selector(f"[data-span='{first['proof']['span_id']}'][aria-selected=true]")
    assert page.evaluate("location.pathname") == f"/trace/{first['proof']['trace_id']}"
    page.go_back()
    page.wait_for_selector(READY)
    assert page.evaluate("location.href") == here


def test_a_panel_alone_has_its_own_address(view: View) -> None:
    page = view.open("/", settled=READY)
    page.click("[aria-label='full width: failures']")
    page.wait_for_selector(".page.single")
    assert view.query("chart") == "failures"
    assert page.locator("section.panel").count() == 1
    page.reload()
    page.wait_for_selector(".page.single")


def test_a_drag_offers_and_changes_nothing_by_itself(view: View) -> None:
    page = view.open("/", settled=READY)
    page.wait_for_selector(".third .u-over")
    view.quiet()
    here = page.evaluate("location.href")
    box = page.locator(".third .u-over").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 40, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 40, steps=4)
    page.mouse.up()
    page.wait_for_selector(".verbs")
    assert page.evaluate("location.href") == here
    page.get_by_role("button", name="List these").click()
    page.wait_for_selector("[data-page=traces] tr.row")


def test_a_charts_values_are_a_table_behind_enter(view: View) -> None:
    page = view.open("/", settled=READY)
    page.wait_for_selector(".third .u-over")
    page.locator(".third .chart").first.focus()
    view.press("Enter")
    page.wait_for_selector("dialog[open] table")
    cost = view.api("/api/overview/cost", px="240")
    assert page.locator("dialog[open] tbody tr").count() == len(cost["t_s"])
    view.press("Escape")


def test_both_themes_are_drawn(view: View) -> None:
    page = view.open("/", settled=READY)
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    grounds = set()
    for _ in range(2):
        page.screenshot(path=ARTEFACTS / f"overview-{page.evaluate('document.documentElement.dataset.theme')}.png")
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        view.press("t")
    assert len(grounds) == 2


def test_a_narrow_window_stacks_and_does_not_scroll_sideways(view: View) -> None:
    view.page.set_viewport_size({"width": 420, "height": 800})
    page = view.open("/", settled=READY)
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    assert page.locator("[data-finding] .proof a").first.is_visible()
