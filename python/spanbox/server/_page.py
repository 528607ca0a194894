"""The page's files: a fixed table of paths, filled when the server starts. No path of a request reaches the file
system.

Thread rule: immutable after construction. None of these files holds data: they need no token.
"""

from __future__ import annotations

import re
from pathlib import Path

from spanbox.server._otlp import Answer

__all__ = ["Page"]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types svelte-trusted-html"
)
ROUTES = re.compile(  # of the one HTML file
    r"/|/(?:traces|sessions|costs|charts|evals|drift|agents|experiments|datasets|review|alerts|health)"
    r"|/trace/[0-9a-f]{4,32}|/session/[^/]{1,1024}"
)
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".webmanifest": "application/manifest+json",
}
_NOT_BUILT = (
    b"<!doctype html><html lang=en><meta charset=utf-8><title>spanbox</title><p>This spanbox was installed without its "
    b"page, because there was no Node.js when it was built. In a checkout <code>make ui</code> builds it; with pip, "
    b"<code>pip install --no-binary spanbox --force-reinstall spanbox</code> does where Node.js is installed."
)


def folder() -> Path:
    """Where the built files are: in the package, or in the source tree it runs from."""
    package = Path(__file__).parent
    built = package.parents[2] / "ui" / "dist"
    return built if not (package / "static").is_dir() and built.is_dir() else package / "static"


class Page:
    """The files of one folder, in memory."""

    def __init__(self, where: Path | None = None) -> None:
        self._files: dict[str, Answer] = {}
        where = folder() if where is None else where
        for path in sorted(where.rglob("*")) if where.is_dir() else ():
            type_ = _TYPES.get(path.suffix)
            if type_ is None or path.is_symlink() or not path.is_file():
                continue
            name = f"/{path.relative_to(where).as_posix()}"
            lasts = name.startswith("/assets/")  # its name has a hash of its content
            headers = (("cache-control", "max-age=31536000, immutable" if lasts else "no-cache"),)
            self._files[name] = Answer(200, path.read_bytes(), type_, headers)
        policy = ("content-security-policy", POLICY)
        index = self._files.pop("/index.html", None)
        self.is_built = index is not None
        if index is None:
            self._index = Answer(503, _NOT_BUILT, _TYPES[".html"], (policy,))
        else:
            self._index = Answer(200, index.body, index.content_type, (*index.headers, policy))

    def find(self, path: str) -> Answer | None:
        """What is at the path; None: it is no path of the page."""
        return self._index if ROUTES.fullmatch(path) else self._files.get(path)
