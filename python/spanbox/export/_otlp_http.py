"""One place that spans are sent to, and one request to it: OTLP over HTTP with the standard library.

Thread rule: a sink is immutable; a Connection belongs to one thread.
Invariants: redirects are not followed; what the sink's headers say is in no log, message or store.
"""

from __future__ import annotations

import email.utils
import gzip
import http.client
import json
import os
import re
import ssl
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from spanbox import _core

__all__ = ["Connection", "OtlpSink", "Reply", "from_environment", "load_sinks"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_REPLY_BYTES = 4 << 20
_MAX_BATCH = 65_536


@dataclass(frozen=True, kw_only=True)
class OtlpSink:
    """Where spans go: a Collector, Tempo, Datadog, Phoenix, another spanbox.

    url: without a path, /v1/traces is meant. openinference: also with OpenInference's attribute names. filter: only
    spans that match. scores: as log records, to /v1/logs beside it. name: under which the store remembers what has been
    sent; a sink of a new name gets everything.
    """

    url: str
    name: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    encoding: Literal["protobuf", "json"] = "protobuf"
    compress: bool = True
    openinference: bool = False
    filter: str = ""
    scores: bool = True
    batch_spans: int = 512
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url={self.url!r} is no http or https address")
        if parts.username or parts.password:
            raise ValueError("url: give names and passwords as a header, such as Authorization")
        if not self.name:
            place = parts.path.removesuffix("/v1/traces").strip("/")
            made = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(filter(None, [parts.netloc, place])))
            object.__setattr__(self, "name", made[:64])
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name={self.name!r} must be 1 to 64 of A-Z a-z 0-9 . _ -")
        if self.encoding not in ("protobuf", "json"):
            raise ValueError(f"encoding={self.encoding!r} is neither 'protobuf' nor 'json'")
        if not 1 <= self.batch_spans <= _MAX_BATCH:
            raise ValueError(f"batch_spans={self.batch_spans} must be 1 to {_MAX_BATCH:,}")
        _core.check_filter(self.filter)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a sink answered. status 0: nothing, because of `message`."""

    status: int
    message: str = ""
    rejected: int = 0
    retry_after_s: float | None = None


class Connection:
    """To one sink, kept open between requests."""

    def __init__(self, sink: OtlpSink) -> None:
        parts = urlsplit(sink.url)
        self._sink = sink
        path = parts.path if parts.path.strip("/") else "/v1/traces"
        query = f"?{parts.query}" if parts.query else ""
        self._path = path + query
        self._logs_path = path.removesuffix("/v1/traces") + "/v1/logs" + query if path.endswith("/v1/traces") else ""
        self._http: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._http = http.client.HTTPSConnection(
                str(parts.hostname), parts.port, timeout=sink.timeout_s, context=context
            )
        else:
            self._http = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=sink.timeout_s)

    @property
    def takes_logs(self) -> bool:
        """Whether it is known where logs go."""
        return bool(self._logs_path)

    def post(self, body: bytes, *, logs: bool = False) -> Reply:
        sink = self._sink
        headers = {"User-Agent": f"spanbox/{_core.__version__}", **sink.headers}
        headers["Content-Type"] = "application/json" if sink.encoding == "json" else "application/x-protobuf"
        if sink.compress:
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, compresslevel=5, mtime=0)
        try:
            self._http.request("POST", self._logs_path if logs else self._path, body, headers)
            response = self._http.getresponse()
            content = response.read(_REPLY_BYTES)
            if response.read(1):
                self.close()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Reply(0, f"{type(error).__name__}: {error}")
        if response.will_close:
            self.close()
        retry_after_s = _retry_after(response.headers.get("Retry-After"))
        is_json = response.headers.get_content_type() == "application/json"
        if not 200 <= response.status < 300:
            message = _status_message(content, is_json=is_json)
            return Reply(response.status, message or response.reason, retry_after_s=retry_after_s)
        rejected, message = _partial_success(content, is_json=is_json)
        return Reply(response.status, message, rejected)

    def close(self) -> None:
        self._http.close()


def _retry_after(value: str | None) -> float | None:
    """Seconds, or an HTTP date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _fields(message: bytes) -> dict[int, int | bytes]:
    """The last value of each field of a protobuf message; what does not decode is left out."""
    found: dict[int, int | bytes] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    try:
        while at < len(message):
            key = varint()
            if key & 7 == 0:
                found[key >> 3] = varint()
            elif key & 7 == 2:
                size = varint()
                found[key >> 3] = message[at : at + size]
                at += size
            else:
                return found
    except IndexError:
        pass
    return found


def _partial_success(content: bytes, *, is_json: bool) -> tuple[int, str]:
    if is_json:
        said = _json_object(content).get("partialSuccess")
        said = said if isinstance(said, dict) else {}
        rejected = said.get("rejectedSpans") or said.get("rejectedLogRecords") or 0
        message = said.get("errorMessage", "")
        return (int(rejected) if str(rejected).isdigit() else 0), str(message)
    inner = _fields(content).get(1, b"")
    fields = _fields(inner) if isinstance(inner, bytes) else {}
    rejected, message = fields.get(1, 0), fields.get(2, b"")
    text = message.decode("utf-8", "replace") if isinstance(message, bytes) else ""
    return (rejected if isinstance(rejected, int) else 0), text


def _status_message(content: bytes, *, is_json: bool) -> str:
    """Of a google.rpc.Status."""
    if is_json:
        return str(_json_object(content).get("message", ""))[:500]
    message = _fields(content).get(2, b"")
    return message.decode("utf-8", "replace")[:500] if isinstance(message, bytes) else ""


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def load_sinks(path: str | os.PathLike[str]) -> list[OtlpSink]:
    """The sinks of a TOML file: a table [[sink]] each. A header's value "$NAME" is that environment variable's."""
    content = tomllib.loads(Path(path).read_text())
    sinks = []
    for number, table in enumerate(content.get("sink", []), start=1):
        headers = {name: from_environment(value) for name, value in table.pop("headers", {}).items()}
        try:
            sinks.append(OtlpSink(headers=headers, **table))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: sink {number}: {error}") from error
    if not sinks:
        raise ValueError(f"{path} has no table [[sink]]")
    return sinks


def from_environment(value: str) -> str:
    """The value itself, or of "$NAME" that environment variable's."""
    if not value.startswith("$"):
        return value
    if value[1:] not in os.environ:
        raise ValueError(f"the environment variable {value} is not set")
    return os.environ[value[1:]]
