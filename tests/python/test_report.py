"""Reports: what they tell, and that no text in them does anything."""

from __future__ import annotations

import base64
import hashlib
import http.server
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox import Box
from spanbox._apart import Trait
from spanbox._finding import Finding, Findings, Mark, Proof

MS = 1_000_000
S = 1_000_000_000
START_NS = 1_700_000_000 * S
TRACE_ID = "7f3a" + "0" * 28
# --- a browser to try texts in that would run, or call home

RUNS = "document.documentElement.setAttribute('data-owned','1')"
OWNED = re.compile(r"<html[^>]*data-owned")


class Home:
    """A server on this machine that remembers what was asked of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[str] = []


@contextmanager
def home() -> Iterator[Home]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Home(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def opened(page: Path, profile: Path) -> str:
    """The page as a browser has it after it has loaded: its elements as text."""
    program = chromium()
    assert program is not None
    command = [
        program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        f"--user-data-dir={profile}", "--virtual-time-budget=3000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=300, check=True)
    return done.stdout


VOID = {"meta", "link", "br", "img", "input", "rect", "line", "path", "circle"}


class Structure(HTMLParser):
    """Elements that are open, and everything that could run or load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.active: list[str] = []
        self.ids: list[str] = []
        self.anchors: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("script", "iframe", "object", "embed", "link", "base", "form", "img", "image", "use"):
            self.active.append(tag)
        for name, value in attrs:
            if name.startswith("on") or name in ("src", "srcdoc", "style", "action", "xlink:href"):
                self.active.append(f"{tag} {name}")
            if name == "href":
                self.anchors.append(str(value))
            if name == "id":
                self.ids.append(str(value))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def structure(html: str) -> Structure:
    found = Structure()
    found.feed(html)
    found.close()
    assert found.open == []
    return found


def span(number: int, parent: int | None = None, *, trace: str = TRACE_ID, **values: Any) -> dict[str, Any]:
    row = {"trace_id": trace, "span_id": f"{number:016x}", "start_ns": START_NS + number * MS, "name": f"s{number}"}
    return {**row, **values} if parent is None else {**row, "parent_id": f"{parent:016x}", **values}


@pytest.fixture
def support(box: Box) -> Box:
    """One trace of an agent: a retriever, a failing tool, a streamed model call."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "where is my refund?"}]
    answer = {"role": "assistant", "content": "It is late.\nWe are sorry."}
    box._store.append(
        [
            span(1, name="answer", kind="agent", duration_ns=1_840 * MS, user_id="ann", prompt_version="v7"),
            span(2, 1, name="retrieve", kind="retriever", duration_ns=200 * MS),
            span(
                3, 1, name="lookup", kind="tool", duration_ns=100 * MS, status="error", error_type="TimeoutError",
                error_message="no answer", start_ns=START_NS + 201 * MS,
            ),
            span(
                4, 1, name="chat gpt-x", kind="llm", model="gpt-x", duration_ns=1_500 * MS, ttft_ns=900 * MS,
                start_ns=START_NS + 310 * MS, input=messages, output=answer, input_tokens=812, output_tokens=141,
                cost_usd=0.0034,
            ),
        ]
    )  # fmt: skip
    box.score("helpful", 0.25, trace_id=TRACE_ID, source="human", explanation="came too late")
    return box


def test_report_of_a_trace_tells_its_story(support: Box, tmp_path: Path) -> None:
    path = support.report(tmp_path / "trace.html", trace="7f3a")
    html = path.read_text("utf-8")
    found = structure(html)
    for part in (
        "Failed inside</strong> lookup: TimeoutError: no answer", "Where 1.84\u2009s went", "Where $0.0034 went",
        "waiting for gpt-x", "gpt-x streaming", "where is my refund?", "It is late.\nWe are sorry.", "came too late",
        "812 in → 141 out", "prompt",
    ):  # fmt: skip
        assert part in html.replace("&#x27;", "'"), part
    assert found.active == []
    assert {anchor.removeprefix("#") for anchor in found.anchors} <= set(found.ids)
    assert len(found.anchors) == 4


def test_report_of_a_time_tells_what_changed(box: Box, tmp_path: Path) -> None:
    hour = 3_600 * S
    rows = []
    for number in range(480):
        after = number >= 240
        trace = f"{number + 1:032x}"
        start = START_NS + (hour if after else 0) + (number % 240) * 15 * S
        failed = (
            {"status": "error", "error_type": "RateLimit", "error_message": "429"} if after and number % 3 == 0 else {}
        )
        long = 3 * S if after else S
        common = {"trace": trace, "duration_ns": long}
        rows += [
            span(1, name="answer", kind="agent", **common) | {"start_ns": start},
            span(2, 1, name="chat", kind="llm", model="gpt-x", ttft_ns=long // 2, cost_usd=0.01, **common, **failed)
            | {"start_ns": start},
        ]
    box._store.append(rows)
    path = box.report(tmp_path / "range.html", since=START_NS + hour, until=START_NS + 2 * hour, title="Tuesday")
    html = path.read_text("utf-8")
    assert structure(html).active == []
    text = re.sub(r"<[^>]+>", "|", html).replace("\u2009", " ")
    found = box.findings(since=START_NS + hour, until=START_NS + 2 * hour)
    assert [finding.group for finding in found] == ["failing", "slow"]
    assert found.sentence in text
    for finding in found:
        assert finding.what in text
    assert "▲ Failing|" in text
    assert "▲ Slow|" in text
    assert "×3.0" in text
    assert "80 failures" in text
    assert "Slowest traces" in text
    assert "Tuesday" in html.split("</title>")[0]
    quiet = box.report(tmp_path / "quiet.html", since=START_NS, until=START_NS + hour).read_text("utf-8")
    assert "There is too little data to compare with." in quiet
    empty = box.report(tmp_path / "empty.html", 'name == "nobody"').read_text("utf-8")
    assert "No spans match." in empty


def test_report_is_its_owners_and_whole_or_not_there(support: Box, tmp_path: Path) -> None:
    path = support.report(tmp_path / "trace.html", trace=TRACE_ID)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    with pytest.raises(spanbox.FilterError):
        support.report(path, "no such thing")
    with pytest.raises(ValueError, match="give trace= alone"):
        support.report(path, "kind == llm", trace=TRACE_ID)
    with pytest.raises(spanbox.NotFoundError):
        support.report(path, trace="abcd")
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.glob("*.html")] == ["trace.html"]
    assert list(tmp_path.glob(".trace*")) == []


def test_policy_lets_nothing_but_the_style_of_the_page_in(support: Box, tmp_path: Path) -> None:
    html = support.report(tmp_path / "trace.html", trace=TRACE_ID).read_text("utf-8")
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    [style] = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "http" not in html.replace("http-equiv", "")


def findings_of(texts: list[str]) -> Findings:
    items = [
        Finding(
            group="failing", what=text, unit="rate", now=0.5, before=0.1, p=0.001, since_ns=START_NS, bucket_ns=1,
            spark=(0.1, 0.5), spark_mark=1, differs=Trait(text, "==", text, text, 1.0, 0.0, 0.001),
            proof=Proof(text, text, START_NS, "newest", None, text), n=1, of=2, filter=text,
        )
        for text in texts
    ]  # fmt: skip
    around = (START_NS, START_NS + S)
    marks = [Mark(START_NS, text, "deploy") for text in texts[:3]]
    return Findings(items, checked=len(items), too_few=0, now=around, before=around, marks=marks)


def test_no_text_of_a_trace_becomes_an_element(box: Box, tmp_path: Path, hostile: Any) -> None:
    texts = hostile.hostile_texts(RUNS, "https://example.invalid")
    assert len(texts) >= 30
    hostile.hostile_store(box, texts)
    pages = [
        box.report(tmp_path / "trace.html", trace=TRACE_ID),
        box.report(tmp_path / "range.html", title=texts[4]),
        tmp_path / "cost.html",
    ]
    box.cost(by=["model", "user_id"]).to_html(pages[-1], title=texts[0])
    outputs = [page.read_text("utf-8") for page in pages]
    trace = box.trace(TRACE_ID)
    shown: list[Any] = [
        trace, box.spans(), box.scores(), box.sessions(), box.cost(by=["model"]), box.session(texts[0]),
        box.spans().by("model", every="1s").agg(n="count()", p="p50(duration)", h="histogram(duration)"),
        findings_of(texts),
    ]  # fmt: skip
    outputs += [each._repr_html_() for each in shown]
    for html in outputs:
        found = structure(html)
        assert found.active == []
        assert all(anchor.startswith("#s-") for anchor in found.anchors)
        assert not re.search("[\x00-\x08\x0b-\x1f\u2028-\u202e]", html)


@pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")
def test_nothing_runs_and_nothing_is_fetched_in_a_browser(box: Box, tmp_path: Path, hostile: Any) -> None:
    with home() as server:
        texts = hostile.hostile_texts(RUNS, server.url)
        control = tmp_path / "control.html"
        control.write_text("<!doctype html><title>x</title>" + "".join(texts[:20]), "utf-8")
        assert OWNED.search(opened(control, tmp_path / "profile")), "the texts do not even run where they may"
        assert server.asked, "the texts call home where they may"
        server.asked.clear()
        hostile.hostile_store(box, texts)
        for page in (
            box.report(tmp_path / "trace.html", trace=TRACE_ID),
            box.report(tmp_path / "range.html", title=texts[4]),
        ):
            dom = opened(page, tmp_path / "profile")
            assert "</html>" in dom
            assert not OWNED.search(dom)
        assert server.asked == []


def test_command_writes_a_report(support: Box, tmp_path: Path) -> None:
    pytest.importorskip("typer")
    command = [sys.executable, "-m", "spanbox", "report", "--out", "r.html", "--store", str(support.path)]
    done = subprocess.run([*command, "--trace", "7f3a"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "written to r.html: open it in a browser\n", "")
    assert "where is my refund?" in (tmp_path / "r.html").read_text("utf-8")
    wrong = subprocess.run([*command, "kind = llm"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "^" in wrong.stderr
