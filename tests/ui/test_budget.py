"""The page stays small: what is sent, and how much is asked for the first screen."""

from __future__ import annotations

import re

from browser_view import DIST, ROOT, View, gzipped, until

ALL_BYTES = 150_000
FIRST_BYTES = 80_000


def test_everything_is_less_than_150_kb_and_the_first_route_less_than_80() -> None:
    files = [path for path in DIST.rglob("*") if path.is_file()]
    assert sum(gzipped(path) for path in files) < ALL_BYTES
    index = (DIST / "index.html").read_text()
    first = [DIST / "index.html", *(DIST / name for name in re.findall(r'(?:src|href)="/([^"]+)"', index))]
    assert len(first) >= 3
    assert sum(gzipped(path) for path in first) < FIRST_BYTES


def test_nothing_is_inlined_and_nothing_comes_from_elsewhere() -> None:
    index = (DIST / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|style=", index)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', index)


def test_sources_use_no_way_to_make_markup_of_text() -> None:
    banned = re.compile(
        r"\{@html|\.(?:inner|outer)HTML\b|insertAdjacentHTML|document\.write|\beval\(|new Function\b|\bstyle=\""
    )
    for path in (ROOT / "ui" / "src").rglob("*"):
        if path.suffix in (".svelte", ".ts"):
            assert not banned.search(path.read_text()), path


def test_the_lock_names_no_registry() -> None:
    assert "resolved" not in (ROOT / "ui" / "package-lock.json").read_text()


def test_the_first_screen_asks_little(view: View) -> None:
    asked: list[str] = []
    view.page.on("request", lambda request: asked.append(request.url) if "/api/" in request.url else None)
    page = view.open("/", settled="[data-finding]")
    until(page, "document.querySelectorAll('[data-state=loading]').length === 0")
    assert len(asked) <= 6, asked  # the frame and the verdict at once, and one for each panel
    assert "/api/overview?" in asked[0]
    assert len(asked) == len(set(asked)), "one question was asked twice"
