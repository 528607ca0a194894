"""Texts of traces are data: 30 payloads in every field, on every view, run nothing and ask for nothing elsewhere.

`make hostile` (SPANBOX_HOSTILE=300) adds those that every tag, event and way of hiding them together make.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterator
from itertools import islice, product

import pytest
import spanbox
from browser_view import View, until
from playwright.sync_api import Browser
from spanbox.server import Page as Files
from spanbox.server import Server

MARK = "globalThis.__ran=1"
TABS = (
    ("b" * 16, "conversation"),
    ("c" * 16, "documents"),
    ("a" * 16, "attributes"),
    ("a" * 16, "scores"),
    ("b" * 16, "raw"),
)
GO = """id => {
  history.pushState(null, '', '/session/' + encodeURIComponent(id));
  dispatchEvent(new PopStateEvent('popstate'));
}"""
PAYLOADS = (
    f"<script>{MARK}</script>",
    f'"><img src=x onerror="{MARK}">',
    f"<svg/onload={MARK}>",
    f"<svg><script>{MARK}</script></svg>",
    f"<math><mtext></form><form><mglyph><style></math><img src onerror={MARK}>",
    f"<iframe srcdoc='<script>parent.{MARK}</script>'></iframe>",
    f"<details open ontoggle={MARK}>x</details>",
    f"<input autofocus onfocus={MARK}>",
    f"<body onload={MARK}>",
    f"<a href='javascript:{MARK}'>click</a>",
    f"javascript:{MARK}",
    f"data:text/html,<script>{MARK}</script>",
    f"<object data='javascript:{MARK}'></object>",
    f"<embed src='javascript:{MARK}'>",
    f"<template><img src=x onerror={MARK}></template>",
    f"<noscript><p title='</noscript><img src=x onerror={MARK}>'>",
    "<style>@import 'http://evil.invalid/x.css';</style><p style='background:url(http://evil.invalid/y)'>",
    "![pixel](http://evil.invalid/z.png) [x](http://evil.invalid)",
    "<img src='http://evil.invalid/i.png'><link rel=stylesheet href='//evil.invalid/c.css'>",
    f"{{{{constructor.constructor('{MARK}')()}}}}",
    f"${{{MARK}}} <%= {MARK} %> #{{{MARK}}}",
    f"</textarea><script>{MARK}</script>",
    f"</title><script>{MARK}</script>",
    f"--><script>{MARK}</script>",
    f"]]><script>{MARK}</script>",
    "__proto__",
    "constructor",
    "\u202e\u2066gnp.exe\u2069\u202c\u200b",
    "\x1b[2J\x07\x00\u2028\u2029",
    f"\ufeff<\u0000script>{MARK}</script>",
)
TAGS = (
    "img src=x",
    "svg",
    "video src=x",
    "body",
    "details open",
    "input autofocus",
    "a href=#",
    "x tabindex=1",
    "style",
)
EVENTS = (
    "onerror",
    "onload",
    "ontoggle",
    "onfocus",
    "onanimationstart",
    "onpointerrawupdate",
    "oncontentvisibilityautostatechange",
)
HIDDEN = (
    lambda text: text,
    lambda text: text.upper().replace(MARK.upper(), MARK),
    lambda text: text.replace(" ", "/"),
    lambda text: text.replace("<", "<\x00"),
    lambda text: html.escape(text),
    lambda text: json.dumps(text),
    lambda text: f"</script></style></textarea></title>{text}",
    lambda text: f"[x]({text})",
    lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
)


def more_payloads(count: int) -> tuple[str, ...]:
    made = (hide(f"<{tag} {event}={MARK}>") for hide, tag, event in product(HIDDEN, TAGS, EVENTS))
    return tuple(islice(made, max(0, count)))


PAYLOADS += more_payloads(int(os.environ.get("SPANBOX_HOSTILE", "0")) - len(PAYLOADS))
NAMED = (
    *("name", "model", "provider", "user_id", "session_id", "tenant", "feature", "release", "environment"),
    *("prompt_name", "prompt_version", "error_type", "error_message"),
)
TRACES = [f"{i + 1:032x}" for i in range(len(PAYLOADS))]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, files: Files) -> Iterator[Server]:
    box = spanbox.open(tmp_path_factory.mktemp("hostile") / ".spanbox", create=True)
    end_ns = 1_773_112_320_000_000_000
    for index, (trace, text) in enumerate(zip(TRACES, PAYLOADS, strict=True)):
        box._store.append(_rows(trace, text, end_ns - (index + 1) * 60_000_000_000))
        box.add_scores(
            [
                {
                    "trace_id": trace,
                    "name": text[:60] or "x",
                    "value": 0.4,
                    "explanation": text,
                    "source": "human",
                    "evaluator": text,
                    "version": text,
                }
            ]
        )
    for index, text in enumerate(PAYLOADS[:20]):
        chart = {"title": text[:120], "value": "count()", "q": f"name == {json.dumps(text)}", "by": "model"}
        box.put_document("chart", f"hostile-{index}", chart)
    with Server(box, port=0, page=files) as running:
        running.end_ns = end_ns  # type: ignore[attr-defined]
        yield running


def _rows(trace: str, text: str, start_ns: int) -> list[dict[str, object]]:
    messages = [
        {"role": text, "name": text, "parts": [{"type": "text", "content": text}, {"type": text, "x": text}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": text, "name": text, "arguments": {text: text}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": text, "response": text}]},
    ]
    span = {
        **dict.fromkeys(NAMED, text),
        "trace_id": trace,
        "start_ns": start_ns,
        "status": "error",
        "input": messages,
        "output": messages,
        "events": [{"name": text, "attributes": {text: text}}],
    }
    call = {"ttft_ns": 500_000_000, "cost_usd": 0.1, "input_tokens": 5}
    documents = [{"id": text, "title": text, "content": text, "score": 0.5}]
    below = {**span, "parent_id": "a" * 16}
    return [
        {**span, "span_id": "a" * 16, "kind": "agent", "duration_ns": 2_000_000_000, f"x{text}": text},
        {**below, "span_id": "b" * 16, "kind": "llm", "duration_ns": 1_000_000_000, **call},
        {
            **below,
            "span_id": "c" * 16,
            "kind": "retriever",
            "duration_ns": 1_000,
            "gen_ai.retrieval.documents": documents,
        },
    ]


@pytest.fixture(scope="module")
def watched(browser: Browser, hostile: Server) -> Iterator[View]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    made = type("Made", (), {"end_ns": hostile.end_ns})  # type: ignore[attr-defined]
    view = View(page, hostile, made)
    page.add_init_script("addEventListener('securitypolicyviolation', event => console.error(event.violatedDirective))")
    page.goto(hostile.page_url)
    page.wait_for_selector("[data-page]")
    yield view
    context.close()


def _clean(view: View) -> None:
    assert view.page.evaluate("globalThis.__ran") is None
    assert view.faults == []


@pytest.mark.parametrize("path", ["/", "/traces", "/sessions", "/costs", "/charts", "/health"])
def test_lists_and_charts_show_hostile_texts_as_texts(watched: View, path: str) -> None:
    page = watched.open(path, settled="[data-page]")
    until(page, "document.querySelectorAll('[data-state=loading]').length === 0")
    _clean(watched)


@pytest.mark.parametrize("index", range(len(PAYLOADS)))
def test_a_trace_shows_a_hostile_text_as_text_in_every_field(watched: View, index: int) -> None:
    for span, tab in TABS:
        page = watched.open(f"/trace/{TRACES[index]}", span=span, tab=tab, settled=f"[role=tabpanel][data-tab={tab}] *")
        page.wait_for_selector(f"[data-span='{span}'][aria-selected=true]")
    other = TRACES[(index + 1) % len(TRACES)]
    watched.open(f"/trace/{TRACES[index]}", vs=other, settled="[data-diff]")
    assert page.locator("[data-page=trace] script, iframe, object, embed, [data-page=trace] style").count() == 0
    _clean(watched)


def test_a_session_and_a_filter_show_hostile_texts_as_texts(watched: View) -> None:
    rows = watched.api("/api/sessions", limit="100")["rows"]
    assert len(rows) >= 20
    for row in rows[:8]:
        watched.page.goto(f"{watched.origin}/sessions")
        watched.page.evaluate(GO, row["session_id"])
        watched.page.wait_for_selector("[data-page=session] [data-turn], .state")
    watched.open("/traces", q=f"input == {json.dumps(PAYLOADS[1])}", settled="[data-page=traces]")
    _clean(watched)
