"""A newcomer's way, as README gives it: the demo, the command it prints for the page, and one click to its slowest
trace. Two commands and one click is what a minute has room for; how long they took is printed."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import spanbox
from browser_view import PATIENCE_MS, ROOT, plain, until
from playwright.sync_api import Browser


def command(line: str, extra: str = "") -> list[str]:
    """As a shell takes it, by the interpreter of the tests."""
    program, *rest = shlex.split(line)
    assert program.endswith("spanbox")
    return [sys.executable, "-m", "spanbox", *rest, *shlex.split(extra)]


def test_two_commands_and_one_click_lead_to_the_slowest_trace(browser: Browser, tmp_path: Path) -> None:
    assert re.search(r"^make demo", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    environment = {k: v for k, v in os.environ.items() if k not in ("SPANBOX_DIR", "OPENAI_BASE_URL")}
    environment |= {"VIRTUAL_ENV": sys.prefix, "PYTHONUTF8": "1"}
    began_s = time.monotonic()
    demo = subprocess.run(
        command("spanbox demo --requests 30"), cwd=tmp_path, env=environment, capture_output=True,
        encoding="utf-8", timeout=300, check=True,
    ).stdout  # fmt: skip
    [shown] = re.findall(r"^Slowest trace\ntrace ([0-9a-f]{32})", demo, re.MULTILINE)
    [page_command] = re.findall(r"^ +(spanbox ui.*?)(?:  .*)?$", demo, re.MULTILINE)
    with subprocess.Popen(
        command(page_command, "--no-browser"), cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as server:  # fmt: skip
        assert server.stdout is not None
        server.stdout.readline()
        url = server.stdout.readline().strip()
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(url)
        page.locator("table.slow tbody tr").first.get_by_role("link").first.click()
        page.wait_for_selector("[data-page=trace] [role=treeitem]")
        took_s = time.monotonic() - began_s
        assert page.evaluate("location.pathname") == f"/trace/{shown}"
        spans = spanbox.open(tmp_path / ".spanbox").trace(shown)
        until(page, f"document.querySelectorAll('[role=treeitem]').length === {len(spans)}")
        assert "Where" in plain(page.locator("[data-page=trace]").inner_text())
        page.close()
        server.send_signal(signal.SIGINT)
        assert server.wait(60) in (0, 130)
    print(f"from the first command to the slowest trace: {took_s:.1f} s")
