"""A real store behind the real server, seen by a real browser. Every page that a test opens is watched: a script of a
trace that runs, a request that leaves, a broken policy or an uncaught error fails the test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spanbox
from playwright.sync_api import Browser, BrowserContext, sync_playwright
from spanbox.server import Page as Files
from spanbox.server import Server

sys.path.insert(0, str(Path(__file__).parent))  # for browser_view
from browser_view import DIST, PATIENCE_MS, View, ui_store

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def files() -> Files:
    found = Files(DIST)
    assert found.is_built, "ui/dist is missing: make ui"
    return found


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("ui") / ".spanbox"
    found = ui_store.fill(folder, per_hour=200, days=7)
    found.folder = folder
    return found


@pytest.fixture(scope="session")
def server(made: Any, files: Files) -> Iterator[Server]:
    with Server(spanbox.open(made.folder), port=0, page=files) as running:
        yield running


@pytest.fixture(scope="session")
def signed_in(browser: Browser, server: Server) -> Iterator[BrowserContext]:
    """A browser that has given the token for the cookie once, as a reader does."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="dark", reduced_motion="reduce")
    page = context.new_page()
    page.goto(server.page_url)
    page.wait_for_selector("[data-page]", timeout=PATIENCE_MS)
    page.close()
    yield context
    context.close()


@pytest.fixture
def view(signed_in: BrowserContext, server: Server, made: Any) -> Iterator[View]:
    page = signed_in.new_page()
    found = View(page, server, made)
    yield found
    page.close()
    assert found.faults == []
