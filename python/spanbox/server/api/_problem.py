"""What an answer is when there is none: ApiError of ui/src/lib/api.ts."""

from __future__ import annotations

import re
from typing import Any, Literal

from spanbox import _core

Code = Literal[
    "filter",
    "bad_request",
    "unauthorized",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "unsupported_media_type",
    "too_large",
    "read_only",
    "damaged",
    "unavailable",
]
STATUSES: dict[Code, int] = {
    "filter": 400,
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "unsupported_media_type": 415,
    "too_large": 413,
    "read_only": 403,
    "damaged": 500,
    "unavailable": 503,
}
_PLACED = re.compile(r"column (\d+): ")
_SUGGESTED = re.compile(r"unknown column `(?P<wrong>[^`]+)`.*: did you mean `(?P<right>[^`]+)`")
_WORD = re.compile(r'"(?:\\.|[^"\\])*"?|\'(?:\\.|[^\'\\])*\'?|`[^`]*`?|[\w.$]+|[=!<>~]+|\S')


class Problem(Exception):
    """`at` and `len` count UTF-16 units of the filter, as a browser does."""

    def __init__(self, code: Code, message: str, **where: Any) -> None:
        super().__init__(message)
        self.code: Code = code
        self.body = {"code": code, "message": message, **where}

    @property
    def status(self) -> int:
        return STATUSES[self.code]


def filter_problem(error: _core.FilterError, filter: str) -> Problem:
    """Where in the filter the fault is, and what to put there when the message says so."""
    message, _, _ = str(error).partition("\n")
    if suggested := _SUGGESTED.search(message):
        found = re.search(rf"(?<![\w.]){re.escape(suggested['wrong'])}(?![\w.])", filter)
        where = _span(filter, *found.span()) if found else {}
        told = _PLACED.sub("", message, count=1)  # its place was in a filter that was joined with others
        return Problem("filter", told, **where, fix=suggested["right"])
    placed = _PLACED.match(message)
    if placed is None:
        return Problem("filter", message)
    begin = min(int(placed[1]) - 1, len(filter))
    word = _WORD.match(filter, begin)
    where = _span(filter, begin, word.end() if word else begin)
    return Problem(
        "filter", message[placed.end() :], **where, **_fix(message, filter[begin : word.end() if word else begin])
    )


def _fix(message: str, wrong: str) -> dict[str, str]:
    """`write 2s or 500ms`, `did you mean …`: the first thing that would be right."""
    for pattern in (r"did you mean `([^`]+)`", r"write `([^`]+)`", r"write (\$?[\w.\"']+)"):
        if (found := re.search(pattern, message)) and found[1] != wrong:
            return {"fix": found[1]}
    return {}


def _span(text: str, begin: int, end: int) -> dict[str, int]:
    return {"at": utf16(text[:begin]), "len": utf16(text[begin:end])}


def utf16(text: str) -> int:
    """How many units a browser counts."""
    return len(text) + sum(character > "\uffff" for character in text)


def from_utf16(text: str, units: int) -> int:
    """The place in `text` of a browser's place."""
    for place, character in enumerate(text):
        if units <= 0:
            return place
        units -= 2 if character > "\uffff" else 1
    return len(text)
