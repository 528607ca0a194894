"""One HTML file about a trace, or about the spans of a time, for others to read: no server, no script, no address.

Its content security policy lets nothing load and nothing run but the style it brings. Every text is escaped, and what
is hidden in it shown. The file appears when it is complete, readable for its owner only.
Thread rule: as Box.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from spanbox._notebook_html import RULES, text, variables
from spanbox._render import format_time
from spanbox._time import Moment

if TYPE_CHECKING:
    from spanbox._box import Box

_STYLE = (
    f":root{{{variables(1)}}}@media (prefers-color-scheme:dark){{:root{{{variables(0)}}}}}"
    + RULES
    + "body.spanbox.spanbox{margin:0 auto;padding:24px 32px 64px;max-width:1200px;overflow-x:visible}"
    "html{background:var(--sb-bg)}"
    "h1{display:inline-block;font-size:20px;line-height:24px;margin:0 8px 4px 0}"
    "h2{font-size:15px;line-height:20px;margin:32px 0 8px}"
    ".spanbox a{color:var(--sb-acc);text-decoration:none}.spanbox a:hover{text-decoration:underline}"
    ".spanbox .sb-e a{color:inherit}"
    "details{border-top:1px solid var(--sb-line);padding:4px 0}summary{cursor:pointer}"
    "summary:focus-visible,a:focus-visible{outline:2px solid var(--sb-acc);outline-offset:2px}"
    ".spanbox pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0 8px;padding:8px;background:var(--sb-raised);"
    "line-height:20px;border-radius:4px}"
    ".sb-say{display:grid;grid-template-columns:88px 1fr;gap:0 12px;border-top:1px solid var(--sb-line);padding:8px 0}"
    ".sb-say dt{color:var(--sb-t3)}.sb-say dd{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}"
    "@media print{:root{" + variables(1) + "}details:not([open])>*{display:none}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'"


def page(title: str, body_html: str) -> str:
    """A page of its own. `body_html` is escaped already."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="referrer" content="no-referrer"><meta name="viewport" content="width=device-width">\n'
        f'<title>{text(title)}</title><style>{_STYLE}</style></head>\n<body class="spanbox">\n{body_html}\n'
        f'<p class="sb-note">written by spanbox, {text(format_time(time.time_ns()))}</p></body></html>\n'
    )


def write_page(path: Path, content: str) -> None:
    """The file is there with all of this content, or as it was."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_report(
    box: Box,
    path: Path,
    *,
    trace: str | None,
    filter: str,
    since: Moment | None,
    until: Moment | None,
    title: str,
) -> None:
    """See Box.report()."""
    if trace is not None and (filter or since is not None or until is not None):
        raise ValueError("a report is about one trace, or about a filter and a time: give trace= alone")
    if trace is not None:
        from spanbox._report_trace import trace_body

        shown = box.trace(trace)
        write_page(path, page(title or f"{shown.name} {shown.id[:12]}", trace_body(shown)))
        return
    from spanbox._report_range import range_body

    write_page(path, page(title or "Report", range_body(box, filter, since, until, title or "Report")))
