"""OTLP over HTTP, the receiving side: bodies within limits, and the answers its specification wants.

Thread rule: of one event loop; the store is written on its worker threads.
Invariants:
1. No more than Limits.body_bytes of a request are in memory, packed or unpacked, nor Limits.waiting_bytes of all.
2. 200 means stored: what the answer says is durable.
3. Errors that last are 4xx and never tried again; 429 and 503 say when to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from spanbox import _core
from spanbox._protobuf import bytes_field, int_field
from spanbox.server._guard import Headers

__all__ = ["Answer", "Limits", "Problem", "Receiver", "Sink", "status_body"]

PROTOBUF, JSON = "application/x-protobuf", "application/json"
_CHUNK_BYTES = 1 << 16
_FREE_BYTES = 1 << 20  # any text may be as repetitive as it likes up to here

Receive = Callable[[], Awaitable[dict[str, Any]]]
Store = Callable[[bytes, bool], tuple[int, int, int, str]]

# google.rpc.Code
_CODES = {400: 3, 401: 16, 403: 7, 404: 12, 405: 12, 408: 4, 411: 3, 413: 8, 415: 3, 429: 8, 503: 14}


class Sink(Protocol):
    """Where what was received goes: a store."""

    def receive_otlp(self, body: bytes, is_json: bool, /) -> tuple[int, int, int, str]:
        """Stored, duplicates, rejected, and why. ValueError: not OTLP."""

    def append_scores(self, scores: Sequence[dict[str, object]], /) -> int: ...
    def scan(
        self, filter: str, since_ns: None, until_ns: None, columns: Sequence[str], limit: None, order_by: str,
        descending: bool, scores: bool, /,
    ) -> _core.Table: ...  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    body_bytes: int = 64 << 20  # of a request, packed and unpacked
    waiting_bytes: int = 128 << 20  # of all requests that are not answered yet
    ratio: int = 200  # unpacked to packed
    body_s: float = 30.0  # for a whole body to arrive
    skip_s: float = 0.5  # for the rest of a body that is refused
    stores_at_once: int = 4
    retry_after_s: int = 1


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


class NothingKept(Exception):
    """There is nothing in a request that is stored here."""


class Problem(Exception):
    def __init__(self, status: int, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s

    def answer(self, content_type: str) -> Answer:
        retry = () if self.retry_after_s is None else (("retry-after", str(self.retry_after_s)),)
        return Answer(self.status, status_body(self.status, self.message, content_type), content_type, retry)


def status_body(status: int, message: str, content_type: str) -> bytes:
    """A google.rpc.Status."""
    code = _CODES.get(status, 2)
    if content_type == PROTOBUF:
        return int_field(1, code) + bytes_field(2, message.encode("utf-8", "replace"))
    return json.dumps({"code": code, "message": message}).encode()


class Receiver:
    """Takes requests for one store."""

    def __init__(self, sink: Sink, limits: Limits) -> None:
        self._sink = sink
        self._limits = limits
        self._waiting_bytes = 0
        self._turns = asyncio.Semaphore(limits.stores_at_once)

    async def traces(self, headers: Headers, receive: Receive) -> Answer:
        """Answers POST /v1/traces."""
        return await self._take(headers, receive, self._sink.receive_otlp)

    async def logs(self, headers: Headers, receive: Receive) -> Answer:
        """Answers POST /v1/logs."""
        from spanbox.server import _logs

        return await self._take(headers, receive, partial(_logs.receive, self._sink))

    async def _take(self, headers: Headers, receive: Receive, store: Store) -> Answer:
        fields: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            fields.setdefault(name, []).append(value)
        try:
            content_type = _content_type(fields)
        except Problem as problem:
            return problem.answer(JSON)
        body = _Body(self, fields)
        try:
            async with asyncio.timeout(self._limits.body_s):
                content = await body.read(receive)
            return await self._store(content, content_type, store)
        except Problem as problem:
            await body.skip(receive)
            return problem.answer(content_type)
        except TimeoutError:
            return Problem(408, "the request's body did not arrive in time").answer(content_type)
        finally:
            self._waiting_bytes -= body.held_bytes

    def hold(self, size_bytes: int) -> None:
        if self._waiting_bytes + size_bytes > self._limits.waiting_bytes:
            raise Problem(429, "too much is waiting to be stored: try again", self._limits.retry_after_s)
        self._waiting_bytes += size_bytes

    @property
    def limits(self) -> Limits:
        return self._limits

    async def _store(self, content: bytes, content_type: str, store: Store) -> Answer:
        async with self._turns:
            try:
                _, _, rejected, message = await asyncio.to_thread(store, content, content_type == JSON)
            except ValueError as error:
                raise Problem(400, str(error)) from error
            except NothingKept as error:
                raise Problem(404, str(error)) from error
            except _core.StoreFullError as error:
                raise Problem(503, "the disk of the store is full", 30) from error
            except (_core.SpanboxError, MemoryError) as error:
                raise Problem(503, "the store cannot be written now", self._limits.retry_after_s) from error
        return Answer(200, _success(rejected, message, content_type), content_type)


def _content_type(fields: dict[bytes, list[bytes]]) -> str:
    given = fields.get(b"content-type", [])
    name = given[0].split(b";")[0].strip().lower().decode("latin-1") if len(given) == 1 else ""
    if name not in (PROTOBUF, JSON):
        raise Problem(415, f"Content-Type must be {PROTOBUF} or {JSON}")
    return name


def _success(rejected: int, message: str, content_type: str) -> bytes:
    """An ExportTraceServiceResponse, or of logs; without partial_success when there is nothing to say."""
    message = message[:1000]
    if content_type == PROTOBUF:
        said = (int_field(1, rejected) if rejected else b"") + (bytes_field(2, message.encode()) if message else b"")
        return bytes_field(1, said) if said else b""
    partial: dict[str, str] = {}
    if rejected:
        partial["rejectedSpans"] = str(rejected)
    if message:
        partial["errorMessage"] = message
    return json.dumps({"partialSuccess": partial} if partial else {}).encode()


class _Body:
    """One request's body on its way in, unpacked as it comes."""

    def __init__(self, receiver: Receiver, fields: dict[bytes, list[bytes]]) -> None:
        self._receiver = receiver
        self._limits = receiver.limits
        self._fields = fields
        self.held_bytes = 0
        self._more = True

    async def skip(self, receive: Receive) -> None:
        """Throws away what still comes, for a while: a client that is hung up on while it sends sees no answer, and
        would try again."""
        skipped_bytes = 0
        with contextlib.suppress(TimeoutError, Problem):
            async with asyncio.timeout(self._limits.skip_s):
                while self._more and skipped_bytes < self._limits.body_bytes:
                    skipped_bytes += len(await self._next(receive))

    async def _next(self, receive: Receive) -> bytes:
        message = await receive()
        self._more = message["type"] == "http.request" and message.get("more_body", False)
        if message["type"] != "http.request":
            raise Problem(400, "the client has gone")
        chunk: bytes = message.get("body", b"")
        return chunk

    async def read(self, receive: Receive) -> bytes:
        codings = [
            each.strip().lower() for value in self._fields.get(b"content-encoding", []) for each in value.split(b",")
        ]
        if codings not in ([], [b"identity"], [b"gzip"]):
            raise Problem(415, "Content-Encoding must be gzip or identity")
        declared = self._fields.get(b"content-length", [b"0"])[0]
        if declared.isdigit() and int(declared) > self._limits.body_bytes:
            raise self._too_large()
        unpack = _Gunzip() if codings == [b"gzip"] else None
        parts: list[bytes] = []
        packed_bytes = unpacked_bytes = 0
        while self._more:
            chunk = await self._next(receive)
            packed_bytes += len(chunk)
            for part in unpack.feed(chunk) if unpack else (chunk,):
                unpacked_bytes += len(part)
                self._check(packed_bytes, unpacked_bytes)
                self._hold(len(part))
                parts.append(part)
        if unpack is not None and packed_bytes and not unpack.complete:
            raise Problem(400, "the gzip body is cut short")
        return b"".join(parts)

    def _check(self, packed_bytes: int, unpacked_bytes: int) -> None:
        if max(packed_bytes, unpacked_bytes) > self._limits.body_bytes:
            raise self._too_large()
        if unpacked_bytes > max(_FREE_BYTES, packed_bytes * self._limits.ratio):
            raise Problem(413, f"the body is packed more than {self._limits.ratio}:1")

    def _too_large(self) -> Problem:
        return Problem(
            413, f"a request has at most {self._limits.body_bytes} bytes, packed and unpacked: send fewer spans"
        )

    def _hold(self, size_bytes: int) -> None:
        self._receiver.hold(size_bytes)
        self.held_bytes += size_bytes


class _Gunzip:
    """Unpacks gzip, of one or more members, a bounded piece at a time."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)
        self.complete = False

    def feed(self, data: bytes) -> Any:
        while data:
            if self.complete:  # another member follows
                self._inflate, self.complete = zlib.decompressobj(wbits=31), False
            try:
                part = self._inflate.decompress(data, _CHUNK_BYTES)
            except zlib.error as error:
                raise Problem(400, "the body is no gzip") from error
            if part:
                yield part
            self.complete = self._inflate.eof
            data = self._inflate.unused_data if self.complete else self._inflate.unconsumed_tail
            if not part and not self.complete and not data:
                return
