"""Texts of traces are data: those of hostile_texts.py in every field, on every view, run nothing and ask for nothing
elsewhere. `make hostile` (SPANBOX_HOSTILE=300) takes more of them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import spanbox
from browser_view import View, hostile_texts, until
from playwright.sync_api import Browser
from spanbox.server import Page as Files
from spanbox.server import Server

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
PAYLOADS = tuple(hostile_texts.hostile_texts("globalThis.__ran=1", "http://evil.invalid"))
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
