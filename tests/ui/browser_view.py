"""A page of the browser on a server, watched; and the answers of the server's API read without the page's help."""

from __future__ import annotations

import gzip
import importlib.util
import json
import struct
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlencode

from playwright.sync_api import ConsoleMessage, Page, Request
from spanbox.server import Server

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "ui" / "dist"
ARTEFACTS = ROOT / "build" / "ui"
PATIENCE_MS = 60_000  # of waits for a condition: only a broken page uses it up
LOADING = "[data-state=loading], [role=status][aria-label$=loading]"


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


ui_store = _load(ROOT / "tests" / "python" / "ui_store.py")
hostile_texts = _load(ROOT / "tests" / "python" / "hostile_texts.py")


class View:
    """One page of the browser on one server."""

    def __init__(self, page: Page, server: Server, made: Any) -> None:
        self.page, self.server, self.made = page, server, made
        self.faults: list[str] = []
        self.origin = f"http://127.0.0.1:{server.port}"
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", self._asked)

    def _heard(self, message: ConsoleMessage) -> None:
        text = message.text
        expected = "Failed to load resource" in text  # answers of 4xx are tested where they are meant
        if message.type == "error" and not expected:
            self.faults.append(text)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith(self.origin):
            self.faults.append(f"off origin: {request.url}")

    # --- going to pages ---

    def params(self, **more: str) -> dict[str, str]:
        """A fixed time, so that what is on screen does not move."""
        return {"from": str(self.made.end_ns - 6 * ui_store.HOUR), "to": str(self.made.end_ns), **more}

    def open(self, path: str = "/", *, settled: str = "", **more: str) -> Page:
        self.page.goto(f"{self.origin}{path}?{urlencode(self.params(**more))}")
        if settled:
            self.page.wait_for_selector(settled)
        return self.page

    def api(self, path: str, **more: str) -> Any:
        """What the server says to the same browser, decoded without the page's help."""
        answer = self.page.context.request.get(f"{self.origin}{path}?{urlencode(self.params(**more))}")
        assert answer.ok, answer.text()
        if answer.headers["content-type"].startswith("application/vnd.spanbox.columns"):
            return decode(answer.body())
        return answer.json()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def query(self, name: str) -> str:
        """A parameter of the address as the page has it: `page.url` may learn of it later."""
        return parse_qs(self.page.evaluate("location.search.slice(1)")).get(name, [""])[0]

    def quiet(self) -> None:
        """Until nothing is asked for: a drag needs boxes that stay, a key after a key a page that is not busy."""
        until(self.page, f"document.querySelectorAll({LOADING!r}).length === 0")
        self.page.wait_for_load_state("networkidle")

    def nodes(self) -> int:
        return int(self.page.evaluate("document.querySelectorAll('*').length"))

    def text(self, selector: str) -> str:
        return plain(self.page.locator(selector).first.inner_text())


def until(page: Page, condition: str) -> None:
    """Waits for an expression to hold. The browser's own way needs eval(), which the page's policy refuses."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)


def plain(text: str) -> str:
    """With ordinary spaces and minus signs."""
    return " ".join(text.replace("\u2009", " ").replace("\u2212", "-").split())


def decode(body: bytes) -> Any:
    (length,) = struct.unpack_from("<I", body)

    def columns(found: dict[str, Any]) -> Any:
        if set(found) != {"$f64"}:
            return found
        first, count = found["$f64"]
        return list(struct.unpack_from(f"<{count}d", body, 4 + length + 8 * first))

    return json.loads(body[4 : 4 + length], object_hook=columns)


def gzipped(path: Path) -> int:
    return len(gzip.compress(path.read_bytes(), 9))
