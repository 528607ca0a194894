"""axe-core finds nothing on any view, in both themes; forced colours and no motion keep the page whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import spanbox
from browser_view import ROOT, View

AXE = ROOT / "ui" / "node_modules" / "axe-core" / "axe.min.js"
RUN = """axe.run(document, {resultTypes: ['violations']}).then(result => result.violations.map(
  found => found.id + ': ' + found.nodes.map(node => node.target.join(' ')).slice(0, 3).join(', ')))"""


CHART = {"title": "TTFT", "value": "p99(ttft)", "q": "kind == llm", "by": "model"}


@pytest.fixture(scope="module", autouse=True)
def chart(made: Any) -> Iterator[None]:
    box = spanbox.open(made.folder)
    box.put_document("chart", "axe", CHART)
    yield
    box.delete_document("chart", "axe")


def _views(view: View) -> list[tuple[str, dict[str, str], str]]:
    trace = f"/trace/{view.made.failed_trace}"
    return [
        ("/", {}, "[data-finding]"),
        ("/traces", {}, "[data-trace]"),
        (trace, {}, "[data-tab=conversation]"),
        (trace, {"tab": "attributes"}, "[data-tab=attributes] tr"),
        ("/sessions", {}, "tbody tr"),
        (f"/session/{view.made.session}", {}, "[data-turn]"),
        ("/costs", {}, "tbody tr"),
        ("/health", {}, "[data-page=health]"),
        ("/charts", {}, "[data-page=charts] .u-over"),
        (trace, {"vs": view.made.slow_trace}, "[data-diff]"),
    ]


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("index", range(10))
def test_axe_finds_nothing(view: View, theme: str, index: int) -> None:
    path, params, settled = _views(view)[index]
    page = view.open(path, settled=settled, **params)
    view.quiet()
    if page.evaluate("document.documentElement.dataset.theme") != theme:
        view.press("t")
    page.wait_for_selector(f"html[data-theme={theme}]")
    page.evaluate(AXE.read_text())
    assert page.evaluate(RUN) == []


def test_forced_colours_keep_what_is_selected_visible(view: View) -> None:
    view.page.emulate_media(forced_colors="active")
    page = view.open("/", settled="[data-finding]")
    style = page.evaluate("getComputedStyle(document.querySelector('nav [aria-current=page]')).outlineStyle")
    assert style == "solid"


def test_the_tree_tells_where_each_row_stands_also_when_most_are_not_there(view: View) -> None:
    page = view.open(f"/trace/{view.made.failed_trace}", settled="[role=treeitem]")
    spans = view.api(f"/api/trace/{view.made.failed_trace}")["spans"]
    shown = page.locator("[role=treeitem]").evaluate_all(
        "all => all.map(one => [one.ariaLevel, one.ariaSetSize, one.ariaPosInSet].map(Number))"
    )
    assert shown == [[span["depth"] + 1, span["set_size"], span["position"]] for span in spans[: len(shown)]]
