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


def fold(text: str, width: int) -> list[str]:
    """Cleaned `text` in lines of at most `width` cells, broken at spaces where there are some."""
    lines: list[str] = []
    while text_width(text) > width:
        end, used = 0, 0
        while (used := used + _char_width(text[end])) <= width:
            end += 1
        at = text.rfind(" ", width // 3, end + 1)
        cut = at if at > 0 else max(1, end)
        lines.append(text[:cut])
        text = text[cut + 1 :] if at > 0 else text[cut:]
    return [*lines, text]


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


MISSING = "—"
_MINUS = "\u2212"
_UNITS = (("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9))
_MINUTES_FROM_NS = 59_950_000_000


def _unit_at(ns: float) -> int:
    return next((i for i, (_, size) in enumerate(_UNITS) if ns < 999.5 * size), len(_UNITS) - 1)


def duration_unit(largest_ns: float) -> tuple[str, float]:
    """The unit of values up to this one, and its nanoseconds; from a minute on still seconds."""
    return _UNITS[_unit_at(largest_ns)]


def significant(value: float) -> str:
    """Three digits that count, never an exponent: 5.90, 17.7, 280."""
    return f"{value:#.3g}".rstrip(".") if 0 < abs(value) < 999.5 else f"{value:,.0f}"


def format_duration(ns: float | None) -> str:
    """870 ns, 14.3 µs, 17.7 ms, 280 ms, 5.90 s, 2 m 04 s, 1 h 12 m; an em dash when not known."""
    if ns is None or ns != ns:
        return MISSING
    sign, size = _MINUS if ns < 0 else "", abs(ns)
    if size >= _MINUTES_FROM_NS:
        small, (large, little) = (60e9, "hm") if size >= 3_599.5e9 else (1e9, "ms")
        whole, part = divmod(round(size / small), 60)
        return f"{sign}{whole:,} {large} {part:02d} {little}"
    unit, of = _UNITS[_unit_at(size)]
    return f"{sign}{size:.0f} ns" if unit == "ns" else f"{sign}{significant(size / of)} {unit}"


def duration_column(values: Sequence[float | None]) -> list[str]:
    """Durations that stand below each other: in the unit of the largest, from a minute on each in its own."""
    known = [abs(ns) for ns in values if ns is not None and ns == ns]
    largest = max(known, default=0.0)
    if largest >= _MINUTES_FROM_NS:
        return [format_duration(ns) for ns in values]
    unit, of = _UNITS[_unit_at(largest)]
    return [MISSING if ns is None or ns != ns else f"{_in_unit(ns / of)} {unit}" for ns in values]


def _in_unit(value: float) -> str:
    size = abs(value)
    if 0 < size < 0.0005:
        return "<0.001"
    places = 0 if size >= 99.95 or size == int(size) == 0 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    return f"{_MINUS if value < 0 else ''}{size:,.{places}f}"


def format_cost(usd: float | None) -> str:
    """$0.0239, $20.80, $1,204: four decimals below a dollar, none from a thousand on; an em dash when not known."""
    if usd is None or usd != usd:
        return MISSING
    sign, size = _MINUS if usd < 0 else "", abs(usd)
    if size == 0:
        return "$0"
    if size < 0.00005:
        return f"{sign}<$0.0001"
    return f"{sign}${size:,.{4 if size < 0.99995 else 2 if size < 999.995 else 0}f}"


def format_count(number: float | None) -> str:
    if number is None or number != number:
        return MISSING
    return f"{_MINUS if number < 0 else ''}{abs(number):,.0f}"


def format_share(share: float | None) -> str:
    """0 %, 0.05 %, 6.1 %, 50 %, 99.9 %."""
    if share is None or share != share:
        return MISSING
    percent = abs(share) * 100
    if 0 < percent < 0.005:
        return "<0.01 %"
    digits = 0 if percent in (0, 100) else 2 if percent < 0.095 else 1 if percent < 9.95 or 99 < percent < 100 else 0
    shown = min(percent, 99.9) if digits and percent < 100 else percent
    return f"{_MINUS if share < 0 else ''}{shown:,.{digits}f} %"


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
        return MISSING
    if moment.date() == now.date():
        return moment.strftime("%H:%M:%S")
    return moment.strftime("%m-%d %H:%M" if moment.year == now.year else "%Y-%m-%d")


def short_count(number: float | None) -> str:
    """812, 12,345, 123 K, 4.2 M."""
    if number is None or number < 100_000:
        return format_count(number)
    return f"{number / 1e3:.0f} K" if number < 999_500 else f"{number / 1e6:,.1f} M"


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
    """Lines of a table of cleaned cells. Columns in `right` are right-aligned; those in `cut` give way to `width`. What
    still does not fit is left out on the right, and an ellipsis in the header says so."""
    widths = [max(text_width(row[i]) for row in [header, *rows]) for i in range(len(header))]
    if width is not None:
        while sum(widths) + 2 * (len(widths) - 1) > width:
            widest = max(cut or range(len(widths)), key=lambda i: widths[i])
            if widths[widest] <= _MIN_COLUMN:
                break
            widths[widest] -= 1
    shown = len(widths)
    if width is not None and sum(widths) + 2 * (shown - 1) > width:
        while shown > 1 and sum(widths[:shown]) + 2 * shown + 1 > width:
            shown -= 1
    lines = [
        "  ".join(pad(cell, widths[i], right=i in right) for i, cell in enumerate(row[:shown])).rstrip()
        for row in [header, *rows]
    ]
    return [f"{lines[0]}  …", *lines[1:]] if shown < len(widths) else lines
