"""HTML for notebooks and reports: colours, tables, bars, sparklines. No script, no style attribute, no address.

Thread rule: pure functions. Every text is escaped and cleaned here, or by whoever hands over what is named *_html.
A notebook gets its style with each output, a report once; both follow the theme they are shown in, and bring their own
ground, so that contrast holds where a theme cannot be told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

from spanbox._render import clean

HTML_ROWS = 50
_THIN = "\u2009"
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:ns|µs|ms|s|m|h|K|M|%|points)(?!\w))")
_BAR = (56, 8)
_SPARK = (160, 24)

# token: dark, light
TOKENS = {
    "bg": ("#0E1116", "#FFFFFF"),
    "raised": ("#151920", "#F5F6F8"),
    "line": ("#232933", "#E3E6EB"),
    "line2": ("#343C49", "#C9CFD8"),
    "t1": ("#E7EAF0", "#12161D"),
    "t2": ("#A9B1BF", "#465060"),
    "t3": ("#8993A2", "#626C7B"),
    "acc": ("#7FB2FF", "#175CD3"),
    "err": ("#FF7B6B", "#C0271A"),
    "errfill": ("#FF7B6B", "#D6453A"),
    "errbg": ("#241416", "#FDEFED"),
    "warn": ("#F2B440", "#8A5A00"),
    "k1": ("#CFD5DF", "#2C3542"),
    "k2": ("#98A2B2", "#667183"),
    "k3": ("#667183", "#939DAC"),
    "k4": ("#434D5C", "#C3CAD4"),
    "m1": ("#A2A0FF", "#7C46C6"),
    "m2": ("#2ED6BD", "#054044"),
    "m3": ("#2B80C6", "#3D93F5"),
    "m4": ("#DAF181", "#00727E"),
    "m5": ("#9BFBFF", "#692486"),
    "m6": ("#D24F6F", "#9B89AC"),
}
MODEL_HUES = ("m1", "m2", "m3", "m4", "m5", "m6")  # in order of calls; the next one is k2 with its name


def variables(theme: int) -> str:
    """The tokens of the dark (0) or the light theme (1)."""
    scheme = ("dark", "light")[theme]
    return f"color-scheme:{scheme};" + "".join(f"--sb-{name}:{both[theme]};" for name, both in TOKENS.items())


_RULES = """
.spanbox.spanbox{background:var(--sb-bg);color:var(--sb-t1);font:13px/20px Inter,system-ui,sans-serif;
font-variant-numeric:tabular-nums;overflow-x:auto;text-align:left}
.spanbox.spanbox table.sb-t{border-collapse:collapse;margin:0;border:0;font-size:12px;line-height:20px}
.spanbox.spanbox table.sb-t tr{background:none}
.spanbox.spanbox table.sb-t :is(td,th){padding:1px 12px 1px 0;border:0;border-bottom:1px solid var(--sb-line);
text-align:left;vertical-align:middle;white-space:pre;background:none;color:var(--sb-t1);max-width:none}
.spanbox.spanbox table.sb-t th{color:var(--sb-t3);font-weight:400}
.spanbox.spanbox table.sb-t .sb-r{text-align:right}
.spanbox.spanbox table.sb-t .sb-w{white-space:normal;overflow-wrap:anywhere;min-width:16em}
.spanbox.spanbox table.sb-t caption{caption-side:top;text-align:left;color:var(--sb-t2);padding:0 0 4px}
.spanbox p{margin:0 0 4px}
.spanbox .sb-note{color:var(--sb-t3);font-size:11px;line-height:16px;margin:4px 0 0}
.spanbox code,.spanbox pre,.spanbox .sb-g{font-family:ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;
font-size:12px;font-variant-ligatures:none;background:none;color:inherit;padding:0}
.spanbox .sb-g{color:var(--sb-t3);white-space:pre}
.spanbox .sb-k{font:11px/14px ui-monospace,Menlo,Consolas,monospace;color:var(--sb-t2);border:1px solid var(--sb-line2);
border-radius:4px;padding:0 3px;margin-right:6px}
.spanbox .sb-e{color:var(--sb-err)}.spanbox .sb-m{color:var(--sb-t2)}.spanbox .sb-warn{color:var(--sb-warn)}
.spanbox.spanbox svg{vertical-align:middle;overflow:visible;max-width:none}.spanbox .sb-bar{margin-right:6px}
.spanbox .sb-wf{width:100%;min-width:220px;height:16px;display:block}
.spanbox .sb-facts{display:flex;flex-wrap:wrap;gap:2px 24px;margin:4px 0 8px}
.spanbox .sb-facts span{display:block;font-weight:600}
.spanbox .sb-facts .sb-n{color:var(--sb-t3);font:11px/16px Inter,system-ui,sans-serif}
.spanbox .sb-ax{display:flex;justify-content:space-between}
.spanbox .sb-bad{background:var(--sb-errbg);color:var(--sb-t1);padding:4px 8px;margin:0 0 8px}
.spanbox .sb-part{margin:12px 0 0;max-width:960px}.spanbox .sb-part svg{width:100%;height:12px;display:block}
.spanbox .sb-part ul{display:flex;flex-wrap:wrap;gap:0 20px;list-style:none;margin:4px 0 0;padding:0;font-size:12px}
.spanbox .sb-part li svg{width:8px;height:8px;display:inline;margin-right:6px}
.spanbox .sb-line{fill:none;stroke:var(--sb-t2);stroke-width:1.5;vector-effect:non-scaling-stroke}
.spanbox .sb-mark{stroke:var(--sb-warn);stroke-dasharray:2 2}
.spanbox .sb-grid{stroke:var(--sb-line);vector-effect:non-scaling-stroke}
"""
_FILLS = "".join(f".spanbox .sb-f-{name}{{fill:var(--sb-{name})}}" for name in (*TOKENS,))
RULES = (_RULES + _FILLS + ".spanbox .sb-pale{opacity:.45}").replace("\n", "")

# Who is asked for the theme, in this order: the system, JupyterLab, VS Code.
_NOTEBOOK_STYLE = (
    f".spanbox{{{variables(1)}}}@media (prefers-color-scheme:dark){{.spanbox{{{variables(0)}}}}}"
    f'[data-jp-theme-light="true"] .spanbox,.vscode-light .spanbox{{{variables(1)}}}'
    f'[data-jp-theme-light="false"] .spanbox,.vscode-dark .spanbox{{{variables(0)}}}' + RULES
)


def block(body_html: str) -> str:
    """One output of a notebook."""
    return f'<div class="spanbox"><style>{_NOTEBOOK_STYLE}</style>{body_html}</div>'


def text(value: object) -> str:
    """Any text on one line: escaped, what is hidden in it shown."""
    return escape(clean(str(value)))


def number(cell: str) -> str:
    """A formatted value, its unit behind a thin space."""
    return _BEFORE_UNIT.sub(_THIN, text(cell))


def table(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: set[int],
    bars: Mapping[int, Sequence[float | None]] | None = None,
    wrap: set[int] | None = None,
    drawn: Mapping[int, Sequence[str]] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Cells are texts. `bars`: the values of columns of which each cell shows the share of the largest. `drawn`: the
    HTML of cells, which stands instead of their text."""
    most = {i: max((v for v in values if v is not None), default=0.0) for i, values in (bars or {}).items()}

    def cell(tag: str, row: int, i: int, shown: str) -> str:
        kind = ' class="sb-r"' if i in right else ' class="sb-w"' if i in (wrap or ()) else ""
        bar = _bar((bars or {})[i][row], most[i]) if tag == "td" and most.get(i, 0.0) > 0 else ""
        if tag == "td" and drawn and i in drawn:
            return f"<{tag}{kind}>{drawn[i][row]}</{tag}>"
        return f"<{tag}{kind}>{bar}{number(shown) if i in right else text(shown)}</{tag}>"

    def line(tag: str, row: int, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(cell(tag, row, i, shown) for i, shown in enumerate(cells)) + "</tr>"

    body = "".join(line("td", at, row) for at, row in enumerate(rows))
    caption_html = f"<caption>{text(caption)}</caption>" if caption else ""
    return (
        f'<table class="sb-t">{caption_html}<thead>{line("th", 0, header)}</thead><tbody>{body}</tbody></table>'
        + "".join(f'<p class="sb-note">{text(note)}</p>' for note in notes)
    )


def _bar(value: float | None, most: float) -> str:
    width, height = _BAR
    long = width * max(0.0, value or 0.0) / most
    return (
        f'<svg class="sb-bar" width="{width}" height="{height}" aria-hidden="true">'
        f'<rect x="{width - long:.1f}" width="{long:.1f}" height="{height}" class="sb-f-k4"/></svg>'
    )


def spark(values: Sequence[float | None], label: str, *, mark: int | None = None) -> str:
    """A line through the values, broken where one is missing; dashed at the value `mark`."""
    known = [v for v in values if v is not None]
    if len(known) < 2:
        return ""
    width, height = _SPARK
    low, high = min(known), max(known)
    step, scale = width / (len(values) - 1), (height - 4) / ((high - low) or 1.0)
    points = [None if v is None else (i * step, height - 2 - (v - low) * scale) for i, v in enumerate(values)]
    path = ""
    for there, run in groupby(points, key=lambda point: point is not None):
        if there:
            path += "M" + "L".join(f"{p[0]:.1f} {p[1]:.1f}" for p in run if p is not None)
    at = f'<path d="M{mark * step:.1f} 0V{height}" class="sb-mark"/>' if mark is not None else ""
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" aria-label="{text(label)}">'
        f'{at}<path d="{path}" class="sb-line"/></svg>'
    )


def facts(named: Sequence[tuple[str, str]]) -> str:
    """Name over value, side by side."""
    pairs = "".join(
        f'<div><span class="sb-n">{text(name)} </span><span>{number(value)}</span></div>'
        for name, value in named
        if value
    )
    return f'<div class="sb-facts">{pairs}</div>'


def parts_bar(title: str, parts: Sequence[tuple[str, str, float]], shown: Sequence[str]) -> str:
    """One bar whose parts (label, classes of colour, value) add up; `shown` are the values as texts."""
    total = sum(value for _, _, value in parts)
    if total <= 0:
        return ""
    rects, entries, at = "", "", 0.0
    for (label, fill, value), said in zip(parts, shown, strict=True):
        width = 1000 * value / total
        rects += f'<rect x="{at:.2f}" width="{max(0.0, width - 2):.2f}" height="12" class="{fill}"/>'
        swatch = f'<svg viewBox="0 0 8 8" aria-hidden="true"><rect width="8" height="8" class="{fill}"/></svg>'
        entries += f'<li>{swatch}{number(said)} <span class="sb-m">{text(label)}</span></li>'
        at += width
    bar = f'<svg viewBox="0 0 1000 12" preserveAspectRatio="none" aria-hidden="true">{rects}</svg>'
    return f'<div class="sb-part"><strong>{number(title)}</strong>{bar}<ul>{entries}</ul></div>'
