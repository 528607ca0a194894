"""Moments, lengths of time and sizes as a person writes them, to nanoseconds and bytes.

A moment: "24h" (that long ago), ISO 8601 text, a datetime (naive means local time), or int nanoseconds since 1970 UTC.
A length: "500ms", "5m", "1h30m". A size: 10_000_000, "500MB", "10 GB", "2GiB".
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, tzinfo

Moment = str | int | datetime

_UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d|w)")
_LENGTH = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)(i?)B?", re.ASCII | re.IGNORECASE)
_FRACTION = re.compile(r"(?<=[:\d])[.,](\d+)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def length_ns(text: str, *, what: str = "every") -> int:
    """The nanoseconds of a length such as "5m" or "1h30m"."""
    compact = text.replace(" ", "")
    if not _LENGTH.fullmatch(compact):
        raise ValueError(
            f"{what}={text!r} is no length of time; write a number and a unit: 500ms, 30s, 15m, 24h, 7d, 2w"
        )
    return sum(round(float(number) * _UNIT_NS[unit]) for number, unit in _PART.findall(compact))


def size_bytes(size: int | str, *, what: str = "max_bytes") -> int:
    """The bytes of a size such as "500MB" (powers of 1,000) or "2GiB" (of 1,024); "none" is 0."""
    if isinstance(size, int) and size >= 0:
        return size
    if size == "none":
        return 0
    match = _SIZE.fullmatch(size.replace(" ", "")) if isinstance(size, str) else None
    if match is None:
        raise ValueError(f"{what}={size!r} is no size; write bytes as a number, or 500MB, 10GB, 2GiB")
    power = "KMGT".index(match[2].upper()) + 1 if match[2] else 0
    return round(float(match[1]) * float(1024 if match[3] else 1000) ** power)


def iso_ns(text: str) -> int:
    """ISO 8601 text to nanoseconds, keeping all nine digits of a fraction; without an offset it is local time."""
    fraction_ns = 0
    if match := _FRACTION.search(text):
        fraction_ns = int(match[1][:9].ljust(9, "0"))
        text = text[: match.start()] + text[match.end() :]
    return _datetime_ns(datetime.fromisoformat(text)) + fraction_ns


def _datetime_ns(value: datetime) -> int:
    since_epoch = value.astimezone(UTC) - _EPOCH  # astimezone takes a naive value as local time
    return (since_epoch.days * 86_400 + since_epoch.seconds) * 1_000_000_000 + since_epoch.microseconds * 1_000


def moment_ns(value: Moment | None, *, what: str) -> int | None:
    """Nanoseconds since 1970 of `since=` or `until=`; None stays None."""
    if value is None:
        return None
    if isinstance(value, bool):
        raise TypeError(f"{what}={value!r}: give a text like '24h', a datetime, or int nanoseconds")
    if isinstance(value, int):
        return value
    if isinstance(value, datetime):
        return _datetime_ns(value)
    if not isinstance(value, str):
        raise TypeError(f"{what}={value!r}: give a text like '24h', a datetime, or int nanoseconds")
    text = value.strip()
    if _LENGTH.fullmatch(text.replace(" ", "")):
        return time.time_ns() - length_ns(text, what=what)
    try:
        return iso_ns(text)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{what}={value!r} is no moment; write how long ago (15m, 24h, 7d) "
            "or a date (2026-11-21, 2026-11-21T09:30:00Z)"
        ) from None


def zone_name(zone: str | tzinfo) -> str:
    """The IANA name of a time zone given by name or as a zoneinfo.ZoneInfo; empty: none is asked for."""
    if isinstance(zone, str):
        return zone
    if zone is UTC:
        return "UTC"
    name = getattr(zone, "key", None)
    if isinstance(zone, tzinfo) and isinstance(name, str):
        return name
    raise TypeError(f"tz={zone!r}: give a name such as 'Europe/Berlin', or a zoneinfo.ZoneInfo")
