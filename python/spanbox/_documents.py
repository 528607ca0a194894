"""Documents of a store: JSON values with versions, for what changes beside spans; and deploy marks, which are some.

Thread rule: as Box. Loaded when a question of _document_questions is asked.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

from spanbox import _core
from spanbox._paths import resolve_store
from spanbox._time import Moment, moment_ns

__all__ = ["Document", "Mark", "delete", "mark", "marks_between", "of_tuple", "put", "put_mark"]

_MARK = "mark"  # their kind


@dataclass(frozen=True, slots=True)
class Document:
    """One version of a document. `value` is None in a version that deleted it."""

    kind: str
    name: str
    version: int
    at_ns: int  # when it was put
    value: Any


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a moment, such as a deploy, to be seen beside what spans tell."""

    at_ns: int
    name: str
    text: str = ""


def put(store: _core.Store, kind: str, name: str, value: Any, expected_version: int | None = None) -> int:
    return store.put_document(kind, name, _to_json(value), time.time_ns(), expected_version)


def delete(store: _core.Store, kind: str, name: str, expected_version: int | None) -> int:
    return store.put_document(kind, name, None, time.time_ns(), expected_version)


def put_mark(store: _core.Store, name: str, text: str, at: Moment | None) -> Mark:
    at_ns = moment_ns(at, what="at")
    made = Mark(time.time_ns() if at_ns is None else at_ns, name, text)
    if not name:
        raise ValueError("a mark needs a name, such as 'deploy v7.3'")
    if made.at_ns < 0:
        raise ValueError(f"at={at!r} lies before 1970")
    # Names sort as their moments do.
    key = f"{made.at_ns:019d}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    put(store, _MARK, key, {"at_ns": made.at_ns, "name": name, "text": text})
    return made


def marks_between(store: _core.Store, since: Moment | None, until: Moment | None) -> list[Mark]:
    since_ns, until_ns = moment_ns(since, what="since"), moment_ns(until, what="until")
    all_marks = (Mark(**of_tuple(_MARK, each).value) for each in store.documents(_MARK))
    return [
        each
        for each in all_marks
        if (since_ns is None or each.at_ns >= since_ns) and (until_ns is None or each.at_ns < until_ns)
    ]


def mark(name: str, *, text: str = "", at: Moment | None = None) -> Mark:
    """Box.mark in the store that this process records into."""
    from spanbox._box import open

    return open(_core.recording_path() or resolve_store(), create=True).mark(name, text=text, at=at)


def of_tuple(kind: str, found: tuple[str, int, int, str | None]) -> Document:
    name, version, at_ns, text = found
    return Document(kind, name, version, at_ns, None if text is None else json.loads(text))


def _to_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"a document is a JSON value: {error}") from error
