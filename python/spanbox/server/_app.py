"""The server as an ASGI application: what is asked, by whom, and who answers.

Thread rule: of one event loop. Invariants: every request passes Access first; a path has a list of methods, and every
other one is refused; no answer has a CORS header, a traceback, or the store's path.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from spanbox._exposition import CONTENT_TYPES, choose_format, render
from spanbox._metrics import Metrics
from spanbox.server._guard import Access
from spanbox.server._otlp import JSON, PROTOBUF, Answer, Limits, Receive, Receiver, Sink, status_body

__all__ = ["App"]

Scope = MutableMapping[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_log = logging.getLogger("spanbox")

_HEADERS = (
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
)
_NOT_KEPT = "spanbox stores traces only: set OTEL_{}_EXPORTER=none, or send them elsewhere"


class App:
    """ASGI. `spans_to` (a store) and `metrics` are None where that is not served."""

    def __init__(
        self, access: Access, *, spans_to: Sink | None, metrics: Metrics | None, limits: Limits | None = None
    ) -> None:
        self._access = access
        self._metrics = metrics
        self._receiver = Receiver(spans_to, limits or Limits()) if spans_to is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await _send(send, await self._answer(scope, receive), head=scope["method"] == "HEAD")
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path, method, headers = scope["path"], scope["method"], scope["headers"]
        content_type = next((value for name, value in headers if name == b"content-type"), b"")
        errors_as = PROTOBUF if content_type.split(b";")[0].strip().lower() == PROTOBUF.encode() else JSON
        refusal = self._access.refusal(path, headers)
        if refusal is not None:
            return _error(refusal.status, refusal.message, errors_as)
        if path == "/v1/traces" and self._receiver is not None:
            if method != "POST":
                return _error(405, "use POST", errors_as, allow="POST")
            return await self._receiver.traces(headers, receive)
        if path in ("/v1/metrics", "/v1/logs") and self._receiver is not None:
            return _error(404, _NOT_KEPT.format(path.removeprefix("/v1/").upper()), errors_as)
        if path == "/metrics" and self._metrics is not None:
            if method not in ("GET", "HEAD"):
                return _error(405, "use GET", errors_as, allow="GET, HEAD")
            return await self._scrape(self._metrics, headers)
        return _error(404, "there is nothing here", errors_as)

    async def _scrape(self, metrics: Metrics, headers: list[tuple[bytes, bytes]]) -> Answer:
        accept = b",".join(value for name, value in headers if name == b"accept").decode("latin-1")
        format = choose_format(accept)
        try:
            body = await asyncio.to_thread(lambda: render(metrics.collect(), format))
        except Exception:
            _log.exception("metrics could not be collected")
            return _error(503, "the store cannot be read now", JSON)
        return Answer(200, body, CONTENT_TYPES[format])


def _error(status: int, message: str, content_type: str, *, allow: str = "") -> Answer:
    headers = (("allow", allow),) if allow else ()
    if status == 401:
        headers = (("www-authenticate", "Bearer"),)
    return Answer(status, status_body(status, message, content_type), content_type, headers)


async def _send(send: Send, answer: Answer, *, head: bool) -> None:
    headers = [
        *_HEADERS,
        *answer.headers,
        ("content-type", answer.content_type),
        ("content-length", str(len(answer.body))),
    ]
    if answer.status >= 400:  # what is left of the body is not read
        headers.append(("connection", "close"))
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
