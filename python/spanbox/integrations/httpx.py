"""httpx: model calls of any client that sends them over httpx or httpx2, and of programs that do so themselves.

    from spanbox.integrations import httpx
    httpx.install()                     # instrument() does

A request is a model call when its path and body are: those of OpenAI, whatever the host, of Anthropic, Gemini, Ollama,
Cohere, and of Bedrock. What its reply says is read by spanbox.replies, its usage object is kept, and a stream is read
along as it passes; a long one is read by a thread of its own. The calls of a client whose own instrumentor is on are
left to that one.

Thread rule: install() and uninstall() from one thread at a time. Nothing here raises but what spanbox.limit() does not
allow; requests and replies go on as they are.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import cache, wraps
from importlib.util import find_spec
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from spanbox._core import Span, __version__
from spanbox._imports import when_imported
from spanbox._limit import any_limit
from spanbox.integrations._reader import later

if TYPE_CHECKING:
    from spanbox.replies import Reply

MODULES = ("httpx", "httpx2")
_PATHS = re.compile(
    r"/(?P<openai>chat/completions|fim/completions|completions|responses|embeddings)$"
    r"|/v1/(?P<anthropic>messages)$"
    r"|/models/(?P<gemini>[^/:]+):(?P<does>generateContent|streamGenerateContent|embedContent|batchEmbedContents)$"
    r"|/api/(?P<ollama>chat|generate|embed|embeddings)$"
    r"|/v[12]/(?P<cohere>chat|embed|generate)$"
    r"|/v1(?:beta)?/(?P<google>interactions)$"
    r"|/model/(?P<bedrock>[^/]+)/(?:invoke|converse)(?:-with-response-stream|-stream)?$"
)
_ASKED = ("messages", "input", "prompt", "contents", "content", "requests", "message", "texts")  # that make it a call
_SETTINGS = {
    "temperature": "temperature", "top_p": "top_p", "max_tokens": "max_tokens", "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens", "seed": "seed",
}  # fmt: skip
_PROVIDERS = {
    "openai.azure.com": "azure.ai.openai", "openai.com": "openai", "anthropic.com": "anthropic",
    "mistral.ai": "mistral_ai", "groq.com": "groq", "deepseek.com": "deepseek", "x.ai": "x_ai",
    "perplexity.ai": "perplexity", "cohere.com": "cohere", "cohere.ai": "cohere", "openrouter.ai": "openrouter",
    "together.xyz": "together", "together.ai": "together", "fireworks.ai": "fireworks",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai", "amazonaws.com": "aws.bedrock",
}  # fmt: skip
_USAGE = re.compile(rb'"usage"\s*:\s*\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}')
_END_BYTES = 4 << 10  # of a long answer of vectors, in which its usage stands
_STREAMS = ("event-stream", "ndjson", "eventstream", "x-ndjson")
_MOST_BYTES = 16 << 20  # of a reply
_SHORT_BYTES = 4 << 10  # read at once: a longer one would hold the program up for a millisecond and more
_log = logging.getLogger("spanbox")
_content = True
_left: Callable[[], Iterable[str]] = tuple  # gives the modules of clients whose instrumentors are on
_patched: list[tuple[type, str, Any]] = []
_wanted = False


def install(*, capture_content: bool = True, leave: Callable[[], Iterable[str]] = tuple) -> None:
    """Record the model calls that go over httpx or httpx2, now or as soon as they are imported.

    leave: gives the names of modules whose calls are not recorded, because something else does it.
    """
    global _wanted, _content, _left
    was, _wanted, _content, _left = _wanted, True, capture_content, leave
    if not was:
        for name in MODULES:
            if is_installed(name):
                when_imported(name, _patch)


def uninstall() -> None:
    """Leave httpx as it was."""
    global _wanted
    _wanted = False
    while _patched:
        owner, name, original = _patched.pop()
        setattr(owner, name, original)


def is_installed(name: str) -> bool:
    return name in sys.modules or find_spec(name) is not None


def _patch(module: ModuleType) -> None:
    if not _wanted or any(owner is module.Client for owner, _, _ in _patched):
        return
    tee, async_tee = _tees(module)
    send, send_async = module.Client.send, module.AsyncClient.send

    @wraps(send)
    def traced_send(client: Any, request: Any, **options: Any) -> Any:
        call = _begin(request)
        if call is None:
            return send(client, request, **options)
        try:
            response = send(client, request, **options)
        except BaseException as error:
            call.fail(error)
            raise
        return call.answered(response, tee)

    @wraps(send_async)
    async def traced_send_async(client: Any, request: Any, **options: Any) -> Any:
        call = _begin(request)
        if call is None:
            return await send_async(client, request, **options)
        try:
            response = await send_async(client, request, **options)
        except BaseException as error:
            call.fail(error)
            raise
        return call.answered(response, async_tee)

    for owner, original, traced in (
        (module.Client, send, traced_send), (module.AsyncClient, send_async, traced_send_async),
    ):  # fmt: skip
        _patched.append((owner, "send", original))
        owner.send = traced


# --- the request ---


def _begin(request: Any) -> _Call | None:
    """The span of a request that is a model call."""
    try:
        if request.method != "POST":
            return None
        path = request.url.path
        match = _PATHS.search(path)
        if match is None or _is_left():
            return None
        body = json.loads(request.content)
        model = body.get("model") or body.get("agent") or match["gemini"] or match["bedrock"] or _deployment(path)
        if not isinstance(model, str) or not any(body.get(name) for name in _ASKED):
            return None
        return _start(request, path, model, body)
    except Exception as error:  # a request that is no JSON, or comes in pieces: none of ours
        _log.debug("spanbox: a request over httpx was not looked at: %s", error)
        return None


def _start(request: Any, path: str, model: str, body: dict[str, Any]) -> _Call | None:
    embeds = "embed" in path.rpartition("/")[2].lower()
    operation = "embeddings" if embeds else "text_completion" if path.endswith("/completions") else "chat"
    if path.endswith("/chat/completions"):
        operation = "chat"
    host = str(request.url.host)
    provider = next((name for end, name in _PROVIDERS.items() if host == end or host.endswith("." + end)), None)
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": operation, "gen_ai.request.model": model, "server.address": host,
    }  # fmt: skip
    if provider:
        attributes["gen_ai.provider.name"] = provider
    for name, key in _SETTINGS.items():
        if isinstance(body.get(name), int | float):
            attributes[f"gen_ai.request.{key}"] = body[name]
    span = _tracer().start_span(f"{operation} {model}", kind=_client_kind(), attributes=attributes)
    if not isinstance(span, Span) or not span.is_recording():
        return None
    if _content:
        span.input = _question(body)
    return _Call(span, provider, model, embeds=embeds)


def _question(body: dict[str, Any]) -> Any:
    asked: Any = next((body[name] for name in _ASKED if body.get(name)), None)
    system = body.get("system") or body.get("instructions") or body.get("systemInstruction")
    if isinstance(asked, str) and "messages" not in body and not system:
        return asked
    if isinstance(asked, str):
        asked = [{"role": "user", "content": asked}]
    return [{"role": "system", "content": system}, *asked] if system and isinstance(asked, list) else asked


def _deployment(path: str) -> str | None:
    """Azure's addresses name the model."""
    match = re.search(r"/deployments/([^/]+)/", path)
    return match[1] if match else None


def _is_left() -> bool:
    """Whether the caller of httpx is a client that is recorded by its own instrumentor."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module != __name__ and module.partition(".")[0] not in MODULES:
            return any(module == each or module.startswith(f"{each}.") for each in _left())
        frame = frame.f_back
    return False


@cache
def _tracer() -> Any:
    from spanbox.otel import TracerProvider

    return TracerProvider().get_tracer("spanbox.integrations.httpx", __version__)


@cache
def _client_kind() -> Any:
    from opentelemetry.trace import SpanKind

    return SpanKind.CLIENT


# --- the reply ---


class _Call:
    """A model call that is under way."""

    def __init__(self, span: Span, provider: str | None, model: str, *, embeds: bool) -> None:
        self._span = span
        self._provider = provider
        self._model = model
        self._response: Any = None
        self._embeds = embeds
        self._parts: list[bytes] = []
        self._bytes = 0
        self._open = True

    def fail(self, error: BaseException) -> None:
        self._quietly(lambda: self._end(error))

    def answered(self, response: Any, tee: Callable[[Any, _Call], Any]) -> Any:
        """The response; its span ends now, or with its stream."""

        def look() -> None:
            if response.is_closed or response.is_stream_consumed:
                content = response.content
                self._finish(len(content), lambda: self._read(content, response))
            else:
                self._response = response
                response.stream = tee(response.stream, self)

        self._quietly(look)
        return response

    def passes(self, chunk: bytes) -> None:
        """A piece of the stream, on its way to the program."""
        if not self._open:
            return
        if not self._parts and any(each in self._response.headers.get("content-type", "") for each in _STREAMS):
            self._span.first_token()
        self._bytes += len(chunk)
        if self._bytes <= _MOST_BYTES:
            self._parts.append(chunk)

    def close(self, error: BaseException | None = None) -> None:
        """The stream has ended, or is not read any further."""
        if not self._open:
            return

        self._open = False
        parts, response = self._parts, self._response

        def look() -> None:
            whole = type(response)(200, headers=response.headers, content=b"".join(parts))
            self._read(whole.content, response)  # unpacked by httpx

        self._quietly(lambda: self._finish(self._bytes, look, error if isinstance(error, Exception) else None))

    def _finish(self, size_bytes: int, read: Callable[[], None], error: BaseException | None = None) -> None:
        """Reads the reply, and ends the span as of now. An open limit wants to know at once what the call cost."""
        end_ns = time.time_ns()

        def finish() -> None:
            self._quietly(read)
            self._quietly(lambda: self._end(error, end_ns))

        if size_bytes <= _SHORT_BYTES or any_limit():
            finish()
        else:
            later(finish)

    def _read(self, content: bytes, response: Any) -> None:
        from spanbox.replies import parse  # loads the price list's units: with the first reply, not with the program

        status = response.status_code
        if self._embeds and len(content) > _END_BYTES:
            content = _without_vectors(content)
        reply = parse(self._provider, content, model=self._model, status=status, headers=response.headers)
        if not reply.known:
            self._span.set(reply_not_read=reply.reason)
        self._span.set(**reply.columns())
        if reply.id:
            self._span.set_attribute("gen_ai.response.id", reply.id)
        if _content and (said := _said(reply)):
            self._span.output = said
        if reply.error is not None or status >= 400:
            self._refused(reply, status)

    def _refused(self, reply: Reply, status: int) -> None:
        from opentelemetry.trace import Status, StatusCode

        error = reply.error
        kind = (error.type or error.code) if error else None
        self._span.set_attribute("error.type", kind or str(status))
        self._span.set_attribute("http.response.status_code", status)
        self._span.set_status(Status(StatusCode.ERROR, error.message if error else f"HTTP {status}"))

    def _end(self, error: BaseException | None = None, end_ns: int | None = None) -> None:
        self._open = False
        self._parts = []
        if error is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.record_exception(error)
            self._span.set_attribute("error.type", f"{type(error).__module__}.{type(error).__qualname__}")
            self._span.set_status(Status(StatusCode.ERROR, str(error)))
        self._span.end(end_ns)

    def _quietly(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # the program's reply is what counts
            _log.debug("spanbox: a reply over httpx was not read: %s", error)


def _without_vectors(content: bytes) -> bytes:
    """An answer of embeddings with its usage alone: millions of numbers take longer to read than anything else here."""
    usage = _USAGE.search(content, len(content) - _END_BYTES)
    return b'{"object":"list","data":[{"embedding":[]}]%b}' % (b"," + usage[0] if usage else b"")


def _said(reply: Reply) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"type": "text", "content": reply.text}] if reply.text else []
    parts += [{"type": "refusal", "content": reply.refusal}] if reply.refusal and not reply.text else []
    parts += [
        {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments}
        for call in reply.tool_calls
    ]
    return [{"role": "assistant", "parts": parts, "finish_reason": reply.finish_reason}] if parts else []


def _tees(module: Any) -> tuple[Any, Any]:
    """Streams of this httpx that tell a call of what passes."""

    class Tee(module.SyncByteStream):  # type: ignore[misc]
        def __init__(self, stream: Any, call: _Call) -> None:
            self._stream, self._call = stream, call

        def __iter__(self) -> Iterator[bytes]:
            try:
                for chunk in self._stream:
                    self._call.passes(chunk)
                    yield chunk
            except BaseException as error:
                self._call.close(error)
                raise
            self._call.close()

        def close(self) -> None:
            self._call.close()
            self._stream.close()

    class AsyncTee(module.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, stream: Any, call: _Call) -> None:
            self._stream, self._call = stream, call

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for chunk in self._stream:
                    self._call.passes(chunk)
                    yield chunk
            except BaseException as error:
                self._call.close(error)
                raise
            self._call.close()

        async def aclose(self) -> None:
            self._call.close()
            await self._stream.aclose()

    return Tee, AsyncTee
