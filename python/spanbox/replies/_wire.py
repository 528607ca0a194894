"""What came over the wire, to JSON values: one whole body, or the events of a stream in their order.

JSON, JSON lines, server-sent events, AWS event streams, objects of client libraries, and lists of any of them.
Pure functions. Hostile bytes give fewer values, never an error: what is cut off or broken is named in `problems`.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_PRELUDE_BYTES = 12  # length of the frame, of its headers, and a checksum of both
_FRAME_BYTES = 16  # of an empty frame
_TEXT_HEADER = 7
_LONGEST_BODY = 256_000_000
_DEEPEST = 64


@dataclass(slots=True)
class Body:
    """Either one value (`streamed` False) or the events of a stream."""

    values: list[Any] = field(default_factory=list)
    streamed: bool = False
    problems: list[str] = field(default_factory=list)


def read_body(body: object) -> Body:
    """The values of a body of any form."""
    if isinstance(body, bytes | bytearray | memoryview):
        raw = bytes(body)
        if len(raw) > _LONGEST_BODY:
            return Body(problems=[f"{len(raw):,} bytes are no reply"])
        if _is_frame(raw, 0):
            return _frames(raw)
        return _text(raw.decode("utf-8", "replace"))
    if isinstance(body, str):
        if len(body) > _LONGEST_BODY:
            return Body(problems=[f"{len(body):,} characters are no reply"])
        return _text(body)
    value = plain(body)
    if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
        if len(value) == 1 and "generated_text" in value[0]:
            return Body(value)
        return Body(value, streamed=True)
    return Body([] if value is None else [value], problems=["there is no body"] if value is None else [])


def plain(value: Any, depth: int = 0) -> Any:
    """The same without objects: models of client libraries become mappings."""
    if depth > _DEEPEST:
        return None
    if not isinstance(value, Mapping) and callable(dump := getattr(value, "model_dump", None)):
        try:
            value = dump()
        except Exception:  # of somebody's class
            return None
    if isinstance(value, Mapping):
        return {str(key): plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, depth + 1) for each in value]
    return value


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _text(text: str) -> Body:
    text = text.lstrip("\ufeff").strip()
    if not text:
        return Body(problems=["the body is empty"])
    if text[0] in "{[":
        whole = _loads(text)
        if whole is not None:
            return read_body(whole)
        return _lines(text)
    if any(line.startswith(("data:", "event:", ":")) for line in text.splitlines()[:5]):
        return _events(text)
    return Body(problems=["the body is neither JSON nor a stream of events"])


def _lines(text: str) -> Body:
    body = Body(streamed=True)
    broken = 0
    for line in text.splitlines():
        if not line.strip():
            continue
        value = _loads(line)
        if isinstance(value, dict):
            body.values.append(value)
        else:
            broken += 1
    if not body.values:
        return Body(problems=["the body is no complete JSON"])
    if broken:
        body.problems.append(f"{broken:,} lines are no complete JSON")
    return body


def _events(text: str) -> Body:
    body = Body(streamed=True)
    name, data = "", list[str]()
    broken = 0
    for line in [*text.splitlines(), ""]:
        if not line.strip():
            if data:
                event = _event(name, "\n".join(data))
                if event is None:
                    broken += 1
                elif event:
                    body.values.append(event)
            name, data = "", []
        elif line.startswith("event:"):
            name = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
    if broken:
        body.problems.append(f"{broken:,} events are no complete JSON")
    return body


def _event(name: str, data: str) -> dict[str, Any] | None:
    """{} for the sign that a stream ends."""
    if data.strip() == "[DONE]":
        return {}
    if name in ("output", "done", "logs"):  # of Replicate, whose data are text
        return {"event": name, "data": data}
    value = _loads(data)
    if not isinstance(value, dict):
        return None
    if name == "error" and "error" not in value:
        return {"error": value}
    return value


def _is_frame(raw: bytes, at: int) -> bool:
    if len(raw) - at < _FRAME_BYTES:
        return False
    length = int.from_bytes(raw[at : at + 4], "big")
    headers = int.from_bytes(raw[at + 4 : at + 8], "big")
    checked = zlib.crc32(raw[at : at + 8]) == int.from_bytes(raw[at + 8 : at + _PRELUDE_BYTES], "big")
    return checked and _FRAME_BYTES + headers <= length <= len(raw) - at


def _frames(raw: bytes) -> Body:
    body, at = Body(streamed=True), 0
    while at < len(raw):
        if not _is_frame(raw, at):
            body.problems.append(f"the event stream is broken at byte {at:,}")
            break
        length = int.from_bytes(raw[at : at + 4], "big")
        headers_end = at + _PRELUDE_BYTES + int.from_bytes(raw[at + 4 : at + 8], "big")
        if zlib.crc32(raw[at : at + length - 4]) != int.from_bytes(raw[at + length - 4 : at + length], "big"):
            body.problems.append(f"the checksum of the event at byte {at:,} is wrong")
            break
        headers = _headers(raw[at + _PRELUDE_BYTES : headers_end])
        payload = _loads(raw[headers_end : at + length - 4].decode("utf-8", "replace"))
        if isinstance(payload, dict):
            body.values.append(_framed(headers, payload))
        at += length
    return body


def _framed(headers: Mapping[str, str], payload: dict[str, Any]) -> dict[str, Any]:
    kind = headers.get(":event-type") or headers.get(":exception-type") or ""
    if headers.get(":message-type") in ("exception", "error"):
        return {"error": {"type": kind, **payload}}
    if kind == "chunk" and isinstance(payload.get("bytes"), str):  # of InvokeModelWithResponseStream: a body within
        try:
            inner = _loads(base64.b64decode(payload["bytes"], validate=True).decode("utf-8", "replace"))
        except binascii.Error:
            inner = None
        return inner if isinstance(inner, dict) else {}
    return {kind: payload}


def _headers(raw: bytes) -> dict[str, str]:
    """Those that are text: what others hold says nothing of a reply."""
    found, at = dict[str, str](), 0
    while at < len(raw):
        name_end = at + 1 + raw[at]
        if name_end + 3 > len(raw) or raw[name_end] != _TEXT_HEADER:
            break
        length = int.from_bytes(raw[name_end + 1 : name_end + 3], "big")
        value = raw[name_end + 3 : name_end + 3 + length]
        found[raw[at + 1 : name_end].decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        at = name_end + 3 + length
    return found
