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
from spanbox.server._page import Page
from spanbox.server.api import Api, Stream
from spanbox.server.api._problem import Problem
from spanbox.server.api._routes import problem_answer

__all__ = ["App"]

Scope = MutableMapping[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_log = logging.getLogger("spanbox")

_HEADERS = {  # an answer may have others instead
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_NOT_KEPT = "spanbox stores no metrics: set OTEL_METRICS_EXPORTER=none, or send them elsewhere"


class App:
    """ASGI. `spans_to` (a store), `metrics`, `page` and `api` are None where that is not served."""

    def __init__(
        self,
        access: Access,
        *,
        spans_to: Sink | None,
        metrics: Metrics | None,
        limits: Limits | None = None,
        page: Page | None = None,
        api: Api | None = None,
    ) -> None:
        self._access = access
        self._metrics = metrics
        self._page = page
        self._api = api
        self._receiver = Receiver(spans_to, limits or Limits()) if spans_to is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            answer, head = await self._answer(scope, receive), scope["method"] == "HEAD"
            if isinstance(answer, Stream):
                await _send_stream(send, answer, receive, head=head)
            else:
                await _send(send, answer, head=head)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer | Stream:
        path, method, headers = scope["path"], scope["method"], scope["headers"]
        if self._api is not None and path.startswith("/api/"):
            return await self._answer_api(self._api, scope, receive)
        file = self._page.find(path) if self._page is not None else None
        content_type = next((value for name, value in headers if name == b"content-type"), b"")
        errors_as = PROTOBUF if content_type.split(b";")[0].strip().lower() == PROTOBUF.encode() else JSON
        refusal = self._access.refusal(path, headers, method=method, public=file is not None)
        if refusal is not None:
            return _error(refusal.status, refusal.message, errors_as)
        if file is not None:
            return file if method in ("GET", "HEAD") else _error(405, "use GET", errors_as, allow="GET, HEAD")
        if path in ("/v1/traces", "/v1/logs") and self._receiver is not None:
            if method != "POST":
                return _error(405, "use POST", errors_as, allow="POST")
            take = self._receiver.traces if path == "/v1/traces" else self._receiver.logs
            return await take(headers, receive)
        if path == "/v1/metrics" and self._receiver is not None:
            return _error(404, _NOT_KEPT, errors_as)
        if path == "/metrics" and self._metrics is not None:
            if method not in ("GET", "HEAD"):
                return _error(405, "use GET", errors_as, allow="GET, HEAD")
            return await self._scrape(self._metrics, headers)
        return _error(404, "there is nothing here", errors_as)

    async def _answer_api(self, api: Api, scope: Scope, receive: Receive) -> Answer | Stream:
        path, method, headers = scope["path"], scope["method"], scope["headers"]
        refusal = self._access.refusal(path, headers, method=method)
        if refusal is not None:
            return problem_answer(Problem("unauthorized" if refusal.status == 401 else "forbidden", refusal.message))
        return await api.answer(method, path, scope["query_string"], headers, receive)

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


def _head(answer: Answer | Stream) -> list[tuple[bytes, bytes]]:
    own = answer.headers if isinstance(answer, Answer) else ()
    fields = [*(_HEADERS | dict(own)).items(), ("content-type", answer.content_type)]
    if isinstance(answer, Answer):
        fields.append(("content-length", str(len(answer.body))))
        if answer.status >= 400:  # what is left of the body is not read
            fields.append(("connection", "close"))
    return [(name.encode(), value.encode("latin-1")) for name, value in fields]


async def _send(send: Send, answer: Answer, *, head: bool) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": _head(answer)})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})


async def _send_stream(send: Send, answer: Stream, receive: Receive, *, head: bool) -> None:
    """Until it ends, or whoever asked is gone."""
    await send({"type": "http.response.start", "status": 200, "headers": _head(answer)})
    gone = asyncio.Event()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    watching = asyncio.create_task(watch())
    try:
        if not head:
            async for chunk in answer.chunks(gone):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        watching.cancel()


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
