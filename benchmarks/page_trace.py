"""What a browser needs for a trace of 100,000 spans: first paint, tasks while it scrolls, nodes, memory.

python benchmarks/page_trace.py FOLDER   prints one JSON line. Needs ui/dist (`make ui`), Playwright and Chromium.
Times are the browser's own: from the start of the navigation, server included, to the frame after the first row stands
in the document; the longest task that PerformanceObserver saw; from a key to the frame after what it changed. A page
that was opened before has loaded the scripts: files are not what is measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import spanbox
from playwright.sync_api import Page, sync_playwright
from spanbox.server import Page as Files
from spanbox.server import Server

SPANS = 100_000
TRACE, OTHER = "0af7651916cd43dd8448eb211c80319c", "1af7651916cd43dd8448eb211c80319c"
START_NS = 1_773_112_320_000_000_000
ROUNDS = 5
ROW = "[role=treeitem][data-span]"
FLAGS = ["--no-sandbox", "--disable-gpu", "--enable-precise-memory-info"]
WATCH = f"""
  window.__tasks = [];
  new PerformanceObserver(list => list.getEntries().forEach(each => window.__tasks.push(each.duration)))
    .observe({{ type: 'longtask', buffered: true }});
  const look = () => document.querySelector('{ROW}')
    ? requestAnimationFrame(() => requestAnimationFrame(() => window.__painted ??= performance.now()))
    : requestAnimationFrame(look);
  look();
"""
SCROLL = """() => new Promise(done => {
  const scroller = document.querySelector('.tree .scroll');
  const height = scroller.scrollHeight; // asked for once: it lays the page out
  window.__tasks.length = 0;
  let step = 0, at = 0;
  const next = () => {
    scroller.scrollTop = at = step < 120 ? at + 240 : (height * (step - 120)) / 60;
    if (++step < 180) requestAnimationFrame(next);
    else setTimeout(() => done(Math.max(0, ...window.__tasks)), 300);
  };
  next();
})"""
KEY = """key => new Promise(done => {
  const began = performance.now();
  window.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began)));
})"""


def rows(trace: str, count: int) -> Iterator[dict[str, object]]:
    for i in range(count):
        yield {
            "trace_id": trace,
            "span_id": f"{i + 1:016x}",
            "parent_id": None if i == 0 else f"{1 if i % 50 == 1 else i - (i - 2) % 50:016x}",
            "name": f"step {i}",
            "kind": "agent" if i == 0 else "llm" if i % 50 == 2 else "tool",
            "model": "gpt-x" if i % 50 == 2 else None,
            "start_ns": START_NS + i * 100_000,
            "duration_ns": 10_000_000_000 if i == 0 else 90_000,
            "status": "error" if i % 997 == 3 else "ok",
        }


def main() -> None:
    box = spanbox.open(Path(sys.argv[1]) / "trace", create=True)
    for trace, count in ((TRACE, SPANS), (OTHER, 10)):
        all_rows = list(rows(trace, count))
        for at in range(0, count, 20_000):
            box._store.append(all_rows[at : at + 20_000])
    files = Files(Path(__file__).parents[1] / "ui" / "dist")
    with Server(box, port=0, page=files) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(server.page_url)
        page.wait_for_selector("[data-page]")
        page.add_init_script(WATCH)
        first, again = paints(page, f"http://127.0.0.1:{server.port}")
        longest = page.evaluate(SCROLL)
        found = {
            "first paint, nothing kept": first,
            "first paint": again,
            "longest task while it scrolls": longest,
            "key to paint": min(page.evaluate(KEY, "w") for _ in range(ROUNDS)),
            "nodes": page.evaluate("document.querySelectorAll('*').length"),
            "heap_mb": page.evaluate("performance.memory.usedJSHeapSize / 1e6"),
        }
        browser.close()
    print(json.dumps(found))


def paints(page: Page, origin: str) -> tuple[float, float]:
    """Of the first opening, for which the server reads the trace; the least of some more."""
    at = f"?from={START_NS - 3_600_000_000_000}&to={START_NS + 3_600_000_000_000}"
    times = []
    for _ in range(1 + ROUNDS):
        page.goto(f"{origin}/trace/{OTHER}{at}")
        page.wait_for_selector(ROW)
        page.goto(f"{origin}/trace/{TRACE}{at}")
        page.wait_for_selector(ROW)
        times.append(page.evaluate("new Promise(done => setTimeout(() => done(window.__painted), 500))"))
    page.wait_for_selector(".map")
    page.wait_for_selector(".went rect")  # all that is said of the trace is there
    return times[0], min(times[1:])


if __name__ == "__main__":
    main()
