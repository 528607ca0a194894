"""How values look: durations, costs, counts, and text that came from outside.

Traces hold text that models, users and web pages wrote. Nothing of it reaches a terminal or a page before clean() or
html.escape() has seen it: control characters are shown, never executed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Characters that move the cursor, start escape sequences, or change the direction or visibility of what follows.
_HIDDEN_RANGES = (
    (0x00, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x61C, 0x61C), (0x180E, 0x180E), (0x200B, 0x200C), (0x200E, 0x200F),
    (0x2028, 0x202E), (0x2060, 0x206F), (0xD800, 0xDFFF), (0xFEFF, 0xFEFF), (0xFFF9, 0xFFFB), (0xE0000, 0xE007F),
)  # fmt: skip
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escape_of(code: int) -> str:
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


_ESCAPES = {code: _escape_of(code) for low, high in _HIDDEN_RANGES for code in range(low, high + 1)}
_ESCAPES.update({ord(character): text for character, text in _NAMED.items()})


def clean(text: str) -> str:
    """`text` on one line, with every control, bidirectional and invisible character shown as an escape."""
    return text.translate(_ESCAPES)


def _char_width(character: str) -> int:
    import unicodedata

    if unicodedata.combining(character) or character in "\u200d\ufe0e\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def text_width(text: str) -> int:
    """Terminal cells that cleaned text takes."""
    return len(text) if text.isascii() else sum(map(_char_width, text))


def fit(text: str, width: int) -> str:
    """`text` cut to `width` cells, the cut marked with an ellipsis."""
    if text_width(text) <= width:
        return text
    used = 0
    for position, character in enumerate(text):
        used += _char_width(character)
        if used > width - 1:
            return text[:position] + "…" if width > 0 else ""
    return text


def pad(text: str, width: int, *, right: bool = False) -> str:
    """`text` cut or filled to exactly `width` cells; `right`: filled on the left."""
    text = fit(text, width)
    filling = " " * (width - text_width(text))
    return filling + text if right else text + filling


def terminal_width() -> int:
    import shutil

    return shutil.get_terminal_size((80, 24)).columns


def one_line(value: object, *, limit: int = 2_000) -> str:
    """Any captured value as cleaned text of one line."""
    if isinstance(value, str):
        return clean(value[:limit])
    import json

    return clean(json.dumps(value, ensure_ascii=False, default=str)[:limit])


def format_duration(ns: float | None) -> str:
    """812 ns, 45 µs, 3.2 ms, 1.84 s, 2m05s, 3h20m; an en dash when not known."""
    if ns is None or ns != ns:
        return "–"
    if abs(ns) >= 59_950_000_000:
        seconds = round(ns / 1e9)
        if abs(seconds) >= 3600:
            return f"{seconds // 3600:,}h{seconds % 3600 // 60:02d}m"
        return f"{seconds // 60}m{seconds % 60:02d}s"
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        value = ns / size
        if abs(value) >= 0.9995:
            digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
            if unit == "µs":
                digits = 0
            return f"{value:.{digits}f} {unit}"
    return f"{ns:.0f} ns"


def format_cost(usd: float | None) -> str:
    """$12.40, $0.420, $0.0042, $0.000012: small amounts with two significant digits."""
    if usd is None or usd != usd:
        return "–"
    if usd == 0 or abs(usd) >= 1:
        return f"${usd:,.2f}"
    text = f"{usd:.2g}"
    if "e" in text:
        text = f"{float(text):.12f}".rstrip("0")
    return f"${text}" if abs(usd) < 0.1 else f"${usd:.3f}"


def format_count(number: float | None) -> str:
    return "–" if number is None or number != number else f"{number:,.0f}"


def format_share(share: float | None) -> str:
    return "–" if share is None or share != share else f"{share * 100:.1f} %"


def format_bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_time(ns: int) -> str:
    """Local date and time to the second."""
    from datetime import datetime

    try:
        return datetime.fromtimestamp(ns / 1e9).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{ns} ns"


def short_time(ns: int) -> str:
    """Local time in at most 11 characters: of today to the second, of this year to the minute, else the day."""
    from datetime import datetime

    try:
        moment, now = datetime.fromtimestamp(ns / 1e9), datetime.now()
    except (OverflowError, ValueError, OSError):
        return "–"
    if moment.date() == now.date():
        return moment.strftime("%H:%M:%S")
    return moment.strftime("%m-%d %H:%M" if moment.year == now.year else "%Y-%m-%d")


def short_count(number: float | None) -> str:
    """812, 12,345, 123k, 4.2M."""
    if number is None or number < 100_000:
        return format_count(number)
    return f"{number / 1e3:.0f}k" if number < 999_500 else f"{number / 1e6:,.1f}M"


def distinct_digits(ids: Sequence[str], *, least: int = 12) -> int:
    """How many digits tell these ids apart: two traces may begin in the same millisecond."""
    different = len(set(ids))
    return next((n for n in range(least, 32) if len({i[:n] for i in ids}) == different), 32)


def plural(count: int, noun: str, many: str | None = None) -> str:
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


_MIN_COLUMN = 8


def text_table(
    header: list[str], rows: list[list[str]], *, right: set[int], width: int | None = None, cut: set[int] | None = None
) -> list[str]:
    """Lines of a table of cleaned cells. Columns in `right` are right-aligned; those in `cut` give way to `width`."""
    widths = [max(text_width(row[i]) for row in [header, *rows]) for i in range(len(header))]
    if width is not None:
        while sum(widths) + 2 * (len(widths) - 1) > width:
            widest = max(cut or range(len(widths)), key=lambda i: widths[i])
            if widths[widest] <= _MIN_COLUMN:
                break
            widths[widest] -= 1
    return [
        "  ".join(pad(cell, widths[i], right=i in right) for i, cell in enumerate(row)).rstrip()
        for row in [header, *rows]
    ]


# Inherits text colour and background from the page, so that it reads in dark and light notebooks alike.
_CELL = "padding:2px 10px;text-align:{align};border-bottom:1px solid rgba(128,128,128,.25);white-space:pre"


def html_table(caption: str, header: list[str], rows: list[list[str]], *, right: set[int]) -> str:
    """A table for a notebook. All texts are escaped here."""
    from html import escape

    def cells(tag: str, row: list[str]) -> str:
        return "".join(
            f'<{tag} style="{_CELL.format(align="right" if i in right else "left")}">{escape(cell)}</{tag}>'
            for i, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        '<div style="overflow-x:auto"><table style="border-collapse:collapse;font-variant-numeric:tabular-nums">'
        f'<caption style="caption-side:top;text-align:left;opacity:.75">{escape(caption)}</caption>'
        f"<thead><tr>{cells('th', header)}</tr></thead><tbody>{body}</tbody></table></div>"
    )
