"""The trace viewer's kernel side: what it answers, what it refuses, and what those see who cannot show it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox._widget import Questions, script
from spanbox.server.api._columnar import decode


@pytest.fixture(scope="module")
def questions(week: Any) -> Questions:
    return Questions(week.box, week.box.trace(week.made.slow_trace))


def ask(questions: Questions, path: str, **params: Any) -> Any:
    message, buffers = questions.answer({"id": 7, "path": path, "params": params})
    assert message["id"] == 7
    json.dumps(message)  # what a message may hold
    if message.get("columns"):
        [body] = buffers
        return decode(body)
    assert buffers == []
    return message.get("data", message.get("error"))


def test_a_page_of_the_tree_is_that_of_the_trace(questions: Questions, week: Any) -> None:
    path = f"/api/trace/{week.made.slow_trace}"
    whole = week.box.trace(week.made.slow_trace)
    page = ask(questions, path, limit=3, offset=3)
    assert [row["span_id"] for row in page["spans"]] == [span.span_id for span in whole[3:6]]
    assert page["line_count"] == len(whole)
    assert page["totals"]["cost_usd"] == pytest.approx(whole.cost_usd)
    assert page["duration_ns"] == whole.duration_ns
    folded = ask(questions, path, collapsed=whole.root.span_id)
    assert folded["line_count"] == 1
    found = ask(questions, path, at=whole[-1].span_id, limit=2)
    assert whole[-1].span_id in [row["span_id"] for row in found["spans"]]


def test_a_span_is_whole_and_leads_nowhere(questions: Questions, week: Any) -> None:
    call = next(span for span in week.box.trace(week.made.slow_trace) if span.name == "generate")
    path = f"/api/trace/{week.made.slow_trace}"
    span = ask(questions, f"{path}/span/{call.span_id}")
    assert "Refunds of kind 0" in json.dumps(span["messages"])
    assert {attribute["filter"] for attribute in span["attributes"]} == {None}
    chunks = ask(questions, f"{path}/chunks/{call.span_id}")
    assert len(chunks["at_ns"]) == chunks["n"] == call.attributes["chunks"]
    payload = ask(questions, f"{path}/span/{call.span_id}/payload", column="input", offset=10)
    assert payload["offset"] == 10
    assert ask(questions, f"{path}/minimap", px=100)["running"]


def test_pictures_are_named_and_not_asked_for(tmp_path: Path) -> None:
    box = spanbox.open(tmp_path, create=True)
    picture = {"type": "image_url", "image_url": {"url": "spanbox-blob:" + "0f" * 32}, "blob": "0f" * 32}
    trace_id = "5a" * 16
    part = {"type": "blob", "mime_type": "image/png", "modality": "image", "content": {"$blob": "0f" * 32}}
    box._store.append(
        [
            {
                "trace_id": trace_id, "span_id": "1" * 16, "start_ns": 1, "name": "see", "kind": "llm",
                "duration_ns": 1, "input": [{"role": "user", "content": [picture], "parts": [part]}],
            }
        ]
    )  # fmt: skip
    span = ask(Questions(box, box.trace(trace_id)), f"/api/trace/{trace_id}/span/{'1' * 16}")
    assert span["messages"]
    assert '"blob": "' not in json.dumps(span["messages"])


@pytest.mark.parametrize(
    "path",
    [
        "/api/status", "/api/traces", "/api/scores", "/api/blob/" + "a" * 64, "/api/trace/" + "0" * 32, "", "/", 7,
        None, "/api/trace/../../etc/passwd",
    ],
)  # fmt: skip
def test_nothing_else_is_answered(questions: Questions, path: Any) -> None:
    message, _ = questions.answer({"id": 1, "path": path, "params": {}})
    assert message["error"]["code"] == "not_found"


@pytest.mark.parametrize("content", [None, [], "x", {}, {"id": {}}, {"id": 1, "path": "/api/trace/x"}])
def test_no_message_ends_the_kernel(questions: Questions, week: Any, content: Any) -> None:
    assert "error" in questions.answer(content)[0]
    path = f"/api/trace/{week.made.slow_trace}"
    assert ask(questions, path, limit="many")["code"] == "bad_request"
    assert ask(questions, f"{path}/span/{'f' * 16}")["code"] == "not_found"
    assert ask(questions, f"{path}/span/{'f' * 16}/payload", column="input")["code"] == "not_found"


def test_the_script_is_one_file_that_asks_nothing_of_a_network() -> None:
    text = script()
    for word in ("fetch(", "XMLHttpRequest", "EventSource", "WebSocket", "import(", "sendBeacon"):
        assert word not in text
    assert "export{" in text.replace(" ", "")


def test_widget_answers_its_model_and_falls_back_to_the_trace(week: Any) -> None:
    pytest.importorskip("anywidget")
    trace = week.box.trace(week.made.slow_trace)
    widget = trace.widget(height_px=500)
    sent: list[Any] = []
    widget.send = lambda content, buffers=None: sent.append((content, buffers))
    widget._handle_custom_msg({"id": 3, "path": f"/api/trace/{trace.id}", "params": {}}, [])
    [(content, buffers)] = sent
    assert content["data"]["name"] == trace.name
    assert buffers is None
    assert (widget.trace_id, widget.height_px) == (trace.id, 500)
    found = widget._repr_mimebundle_()
    bundle = found[0] if isinstance(found, tuple) else found
    assert bundle["text/html"] == trace._repr_html_()
    assert bundle["text/plain"] == repr(trace)
    assert "application/vnd.jupyter.widget-view+json" in bundle
    with pytest.raises(ValueError, match="height_px=3"):
        trace.widget(height_px=3)


def test_without_anywidget_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['anywidget'] = None\n"
        "import spanbox, tempfile\n"
        "box = spanbox.open(tempfile.mkdtemp() + '/s', create=True)\n"
        "box._store.append([{'trace_id': '5a' * 16, 'span_id': '1' * 16, 'start_ns': 1, 'name': 'x'}])\n"
        "trace = box.trace('5a' * 16)\n"
        "assert trace._repr_html_()\n"
        "try: trace.widget()\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "widget() needs anywidget: pip install 'spanbox[notebook]'\n"
