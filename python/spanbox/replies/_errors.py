"""Errors in bodies and streams, and quotas in headers. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from spanbox._time import length_ns
from spanbox.replies._fields import get, mapping, text
from spanbox.replies._reply import RateLimit, ReplyError

_FIRST_ERROR_STATUS = 400
_LIMIT_HEADERS = (
    re.compile(r"x-ratelimit-(?P<field>limit|remaining|reset)(?:-(?P<of>.+))?"),
    re.compile(r"anthropic-ratelimit-(?P<of>.+)-(?P<field>limit|remaining|reset)"),
)


def error_of(values: Sequence[Any], status: int | None) -> ReplyError | None:
    """The last error that a body or the events of a stream tell."""
    failed = status is not None and status >= _FIRST_ERROR_STATUS
    for value in reversed(values):
        if not isinstance(value, Mapping):
            continue
        told = _told(value, failed)
        if told is not None:
            return _error(told, value, status)
    return ReplyError("", status=status) if failed else None


def _told(value: Mapping[str, Any], failed: bool) -> Any:
    error = value.get("error") or mapping(value, "response").get("error")
    if error:
        return error
    if value.get("type") == "error":
        return value
    message = text(value, "message") or text(value, "detail")
    bare = message and value.keys() <= {"id", "message", "detail", "__type", "code", "status", "type"}
    return value if bare or (failed and message) else None


def _error(told: Any, value: Mapping[str, Any], status: int | None) -> ReplyError:
    if not isinstance(told, Mapping):
        return ReplyError(str(told)[:10_000], status=status)
    kind = text(told, "type") or text(told, "__type") or text(told, "status")
    code = get(told, "code")
    if status is None and isinstance(code, int) and code >= _FIRST_ERROR_STATUS:
        status = code
    message = text(told, "message") or text(told, "detail") or text(value, "message") or ""
    return ReplyError(message, None if kind == "error" else kind, None if code is None else str(code), status)


def rate_limits(headers: Mapping[str, str]) -> tuple[RateLimit, ...]:
    """The quotas that headers tell of; names of headers in lower case."""
    at = _moment(headers.get("date", ""))
    found: dict[str, dict[str, Any]] = {}
    for name, value in headers.items():
        match = next((match for each in _LIMIT_HEADERS if (match := each.fullmatch(name))), None)
        if match is None:
            continue
        quota = found.setdefault(match["of"] or "requests", {})
        if match["field"] == "reset":
            quota["reset_s"] = _seconds(value, at)
        elif value.strip().isdecimal():
            quota[match["field"]] = int(value)
    return tuple(RateLimit(of, **quota) for of, quota in sorted(found.items()) if quota)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long the provider asks to wait."""
    if (ms := headers.get("retry-after-ms", "")).isdecimal():
        return int(ms) / 1_000
    return _seconds(headers.get("retry-after", ""), _moment(headers.get("date", "")))


def _seconds(value: str, at: datetime | None) -> float | None:
    """Seconds, a length such as 6m0s, or a moment."""
    value = value.strip()
    try:
        return float(value) if re.fullmatch(r"\d+(\.\d+)?", value, re.ASCII) else length_ns(value) / 1e9
    except ValueError:
        moment = _moment(value)
    if moment is None or at is None:
        return None
    return max(0.0, (moment - at).total_seconds())


def _moment(text: str) -> datetime | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(text)
        except (ValueError, TypeError, IndexError):
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None
