"""A notebook as the trace viewer sees it: a page with anywidget's model, and a kernel that answers its messages.

The page has an origin of its own and a policy that lets nothing load: whatever the viewer shows came by messages."""

from __future__ import annotations

import base64
import json
from typing import Any

from playwright.sync_api import Browser, Page
from spanbox import Box
from spanbox._widget import Questions, script

ORIGIN = "http://notebook.invalid"
POLICY = "default-src 'none'; script-src blob: 'unsafe-inline'; style-src 'unsafe-inline'"
HTML = """<!doctype html><title>notebook</title><body data-jp-theme-light="true"><div id="output"></div><script>
const heard = new Set();
const model = {
  get: (name) => window.state[name],
  on: (event, run) => event === 'msg:custom' && heard.add(run),
  off: (event, run) => heard.delete(run),
  send: async (content) => {
    if (window.isBusy) await new Promise((resolve) => (window.free = resolve));
    const [reply, buffers] = JSON.parse(await window.kernel(JSON.stringify(content)));
    const views = buffers.map((text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer));
    for (const run of heard) run(reply, views);
  },
};
window.listeners = heard;
window.keys = [];
document.addEventListener('keydown', (event) => window.keys.push(event.key));
window.begin = async (text, state) => {
  window.state = state;
  const module = await import(URL.createObjectURL(new Blob([text], { type: 'text/javascript' })));
  window.end = await module.default.render({ model, el: document.getElementById('output') });
};
</script>"""


class Notebook:
    """One output of a notebook, watched."""

    def __init__(self, browser: Browser, box: Box, trace_id: str, **state: Any) -> None:
        self.asked: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self._questions = Questions(box, box.trace(trace_id, limit=1, payloads=False))
        context = browser.new_context(viewport={"width": 1000, "height": 800}, reduced_motion="reduce")
        context.route("**/*", self._serve)
        self.page: Page = context.new_page()
        self.page.on("console", lambda message: message.type == "error" and self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        self.page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.expose_function("kernel", self._answer)
        self.page.goto(f"{ORIGIN}/")
        given = {"trace_id": self._questions._trace_id, "height_px": 640, **state}
        self.page.evaluate("([text, state]) => window.begin(text, state)", [script(), given])

    def _serve(self, route: Any) -> None:
        if route.request.url == f"{ORIGIN}/":
            headers = {"content-security-policy": POLICY}
            route.fulfill(body=HTML, content_type="text/html; charset=utf-8", headers=headers)
        else:
            self.faults.append(f"asked for {route.request.url}")
            route.abort()

    def _answer(self, question: str) -> str:
        content = json.loads(question)
        self.asked.append(content)
        reply, buffers = self._questions.answer(content)
        return json.dumps([reply, [base64.b64encode(each).decode() for each in buffers]])

    def close(self) -> None:
        self.page.context.close()
