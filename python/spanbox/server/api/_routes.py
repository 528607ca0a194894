"""The table of paths, and how a request becomes an answer.

Thread rule: Api is of one event loop; answers are computed on worker threads. Invariants: what a path does not list is
refused; every error is an ApiError without a traceback; nothing is written when the server is read-only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs

from spanbox import _core
from spanbox._box import Box
from spanbox.server._guard import Access, Headers
from spanbox.server._otlp import Answer, Receive
from spanbox.server.api import (
    _chart,
    _diff,
    _facets,
    _live,
    _money,
    _overview,
    _quality,
    _sessions,
    _span,
    _status,
    _traces,
    _tree,
    _tree_parts,
    _worse,
    _writes,
)
from spanbox.server.api._asked import Answers, ask
from spanbox.server.api._columnar import JSON_TYPE, encode
from spanbox.server.api._frame import Colors, Json
from spanbox.server.api._openapi import document
from spanbox.server.api._problem import Problem, filter_problem

_log = logging.getLogger("spanbox")
_BODY_BYTES = 1 << 16
_BODY_S = 10.0
_STREAMS = 16
_CHART_ID = r"(?P<chart_id>[\w.:-]{1,64})"
_ID, _SPAN = r"(?P<trace_id>[0-9a-fA-F]{4,32})", r"(?P<span_id>[0-9a-fA-F]{16})"
_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}
_DAMAGED = "a part of the store fails its checksum: run `spanbox doctor`"
Handler = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Route:
    """`answers`: the type in api.ts."""

    path: str  # a regular expression; what is named in it is given to the handler
    handler: Handler
    answers: str
    method: str = "GET"
    own: tuple[str, ...] = ()  # shared parameters that mean something else here

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it."""
        return re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", self.path)


def _route(path: str, handler: Handler, answers: str, *own: str) -> Route:
    path = path.replace("{trace_id}", _ID).replace("{span_id}", _SPAN).replace("{chart_id}", _CHART_ID)
    path = path.replace("{id}", "(?P<session_id>.{1,1024})")
    return Route(path, handler, answers, own=own)


READS = (
    _route("/api/findings", _worse.findings, "FindingsAnswer"),
    _route("/api/overview/latency", _overview.latency, "LatencyAnswer"),
    _route("/api/overview/cost", _money.cost, "CostAnswer"),
    _route("/api/overview/quality", _quality.quality, "QualityAnswer"),
    _route("/api/overview/failures", _overview.failures, "FailuresAnswer"),
    _route("/api/overview/slow", _overview.slow, "SlowAnswer"),
    _route("/api/traces", _traces.traces, "TracesAnswer"),
    _route("/api/traces/heat", _traces.heat, "HeatAnswer"),
    _route("/api/traces/apart", _worse.apart, "ApartAnswer"),
    _route("/api/facets", _facets.facets, "FacetsAnswer"),
    _route("/api/complete", _facets.complete, "CompleteAnswer", "q"),
    _route("/api/trace/{trace_id}", _tree.trace, "TraceAnswer"),
    _route("/api/trace/{trace_id}/rest", _tree_parts.rest, "TraceRest"),
    _route("/api/trace/{trace_id}/changed", _worse.changed, "ChangedAnswer"),
    _route("/api/trace/{trace_id}/diff", _diff.diff, "TraceDiffAnswer", "vs"),
    _route("/api/trace/{trace_id}/minimap", _tree.minimap, "MinimapAnswer"),
    _route("/api/trace/{trace_id}/find", _tree.find, "FindAnswer"),
    _route("/api/trace/{trace_id}/span/{span_id}", _span.span, "SpanAnswer"),
    _route("/api/trace/{trace_id}/span/{span_id}/payload", _span.payload, "PayloadPage"),
    _route("/api/trace/{trace_id}/chunks/{span_id}", _span.chunks, "ChunksAnswer"),
    _route("/api/sessions", _sessions.sessions, "SessionsAnswer"),
    _route("/api/session/{id}", _sessions.session, "SessionAnswer"),
    _route("/api/costs", _money.costs, "CostsAnswer"),
    _route("/api/charts/{chart_id}", _chart.chart, "ChartAnswer"),
)


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that goes on."""

    content_type: str
    chunks: Callable[[asyncio.Event], AsyncIterator[bytes]]  # the event: whoever asked is gone


class Api:
    """The answers about one store."""

    def __init__(self, box: Box, access: Access, *, read_only: bool, stopping: Callable[[], bool]) -> None:
        self._answers = Answers(box)
        self._access = access
        self._read_only = read_only
        self._stopping = stopping
        self._colors = Colors(box, is_kept=not read_only)
        self._checks = _status.Checks()
        self._streams = 0

    async def answer(self, method: str, path: str, query: bytes, headers: Headers, receive: Receive) -> Answer | Stream:
        """Of a request that Access lets in. HEAD is answered as GET."""
        method = "GET" if method == "HEAD" else method
        try:
            params = parse_qs(
                query.decode("utf-8", "strict"), keep_blank_values=True, max_num_fields=64, errors="strict"
            )
            found = await self._found(method, path, params, headers, receive)
        except Problem as problem:
            return problem_answer(problem)
        except (UnicodeError, ValueError):
            return problem_answer(Problem("bad_request", "the query of the URL cannot be read"))
        if isinstance(found, (Answer, Stream)):
            return found
        body, content_type = await asyncio.to_thread(encode, found)
        return Answer(200, body, content_type)

    async def _found(
        self, method: str, path: str, params: Mapping[str, Sequence[str]], headers: Headers, receive: Receive
    ) -> Any:
        own: dict[str, dict[str, Callable[[], Any]]] = {
            "/api/session": {"POST": lambda: self._start(headers)},
            "/api/status": {"GET": lambda: self._status(params, headers)},
            "/api/health": {"GET": lambda: self._compute(_status.health, params, {}, self._checks)},
            "/api/health/check": {"POST": lambda: self._check(params, headers, receive)},
            "/api/live": {"GET": lambda: self._live(params)},
            "/api/overview": {"GET": lambda: self._first_screen(params, headers)},
            "/api/scores": {"POST": lambda: self._write(headers, receive, _writes.score)},
            "/api/budget": {"POST": lambda: self._write(headers, receive, _writes.set_budget)},
            "/api/charts": {
                "GET": lambda: asyncio.to_thread(self._guarded, lambda: {"charts": _writes.charts(self._answers.box)}),
                "POST": lambda: self._write(headers, receive, _writes.save_chart),
            },
            "/api/openapi.json": {"GET": lambda: asyncio.to_thread(document, OPERATIONS)},
        }
        if path in own:
            make = own[path].get(method)
            if make is None:
                raise _NotAllowed(", ".join(own[path]))
            return await make()
        if (saved := re.fullmatch(f"/api/charts/{_CHART_ID}", path)) and method == "DELETE":
            return await self._write(headers, receive, lambda box, _: _writes.delete_chart(box, saved["chart_id"]))
        if blob := re.fullmatch(r"/api/blob/([0-9a-f]{16,128})", path):
            return await asyncio.to_thread(self._blob, blob[1])
        for route in READS:
            if match := re.fullmatch(route.path, path, re.DOTALL):
                if method != "GET":
                    raise _NotAllowed("GET, HEAD, DELETE" if route.handler is _chart.chart else "GET, HEAD")
                return await self._compute(route.handler, params, match.groupdict(), own=route.own)
        raise Problem("not_found", "there is nothing here")

    async def _compute(
        self,
        handler: Handler,
        params: Mapping[str, Sequence[str]],
        named: Mapping[str, str],
        *more: Any,
        own: Sequence[str] = (),
    ) -> Any:
        def run() -> Any:
            shared = ask(self._answers, {name: value for name, value in params.items() if name not in own})
            asked = replace(shared, params=params)
            try:
                return handler(asked, self._colors, *more, **named)
            except _core.FilterError as error:  # in `sort=`, `by=` and the like
                raise (
                    filter_problem(error, asked.q) if asked.q else Problem("bad_request", str(error).split("\n")[0])
                ) from None

        return await asyncio.to_thread(self._guarded, run)

    # --- what is no question -----------------------------------------------------------------------------------------

    async def _start(self, headers: Headers) -> Answer:
        """The token for a cookie."""
        sessions = self._access.sessions
        if sessions is None or not self._access.has_token(headers):
            raise Problem("unauthorized", "the token is missing or wrong")
        cookie, write_token = sessions.start()
        return Answer(200, json.dumps({"write_token": write_token}).encode(), JSON_TYPE, (("set-cookie", cookie),))

    async def _first_screen(self, params: Mapping[str, Sequence[str]], headers: Headers) -> Any:
        """The frame and the verdict at once: the first thing that a reader waits for."""
        findings = self._compute(_worse.findings, params, {})
        status, found = await asyncio.gather(self._status(params, headers), findings)
        return {"status": status, "findings": found}

    async def _status(self, params: Mapping[str, Sequence[str]], headers: Headers) -> Any:
        token = (self._access.sessions.write_token(headers) if self._access.sessions else None) or ""

        def run() -> Json:
            asked = ask(self._answers, {name: value for name, value in params.items() if name != "q"})
            return _status.status(asked, self._colors, read_only=self._read_only, write_token=token)

        return await asyncio.to_thread(self._guarded, run)

    async def _check(self, params: Mapping[str, Sequence[str]], headers: Headers, receive: Receive) -> Any:
        await _json_body(headers, receive)
        await asyncio.to_thread(self._guarded, lambda: self._checks.run(ask(self._answers, {})))
        return await self._compute(_status.health, params, {}, self._checks)

    async def _live(self, params: Mapping[str, Sequence[str]]) -> Stream:
        asked = await asyncio.to_thread(self._guarded, lambda: ask(self._answers, params))
        since = asked.param("since", "0")
        if not since.isascii() or not since.isdigit() or len(since) > 19:
            raise Problem("bad_request", "since must be nanoseconds since 1970")
        if self._streams >= _STREAMS:
            raise Problem("unavailable", f"{_STREAMS} pages are live already")

        async def chunks(gone: asyncio.Event) -> AsyncIterator[bytes]:
            self._streams += 1
            try:
                async for each in _live.events(lambda: ask(self._answers, params), int(since), gone, self._stopping):
                    yield each
            finally:
                self._streams -= 1

        return Stream("text/event-stream", chunks)

    async def _write(self, headers: Headers, receive: Receive, store: Callable[[Box, Json], Json]) -> Json:
        """What `store` makes of the body."""
        if self._read_only:
            raise Problem("read_only", "this page was opened read-only")
        body = await _json_body(headers, receive)
        found: Json = await asyncio.to_thread(self._guarded, lambda: store(self._answers.box, body))
        return found

    def _blob(self, id_: str) -> Answer:
        content = self._guarded(lambda: self._answers.box.blob(id_))
        type_ = next((each for start, each in _IMAGES.items() if content.startswith(start)), "application/octet-stream")
        if type_ == "image/webp" and content[8:12] != b"WEBP":
            type_ = "application/octet-stream"
        disposition = () if type_.startswith("image/") else (("content-disposition", "attachment"),)
        return Answer(200, content, type_, disposition)

    def _guarded(self, run: Callable[[], Any]) -> Any:
        """What it gives; every way to fail as a Problem that tells no more than it should."""
        try:
            return run()
        except Problem:
            raise
        except _core.NotFoundError:
            raise Problem("not_found", "there is no such thing in the store") from None
        except _core.CorruptionError as error:
            self._answers.saw(error)
            _log.exception("the store is damaged")
            raise Problem("damaged", _DAMAGED) from None
        except _core.StoreError:
            _log.exception("the store cannot be read")
            raise Problem("unavailable", "the store cannot be read now: try again") from None
        except ValueError as error:
            raise Problem("bad_request", str(error).split("\n")[0][:500]) from None
        except Exception:
            _log.exception("an answer could not be made")
            raise Problem("unavailable", "this answer could not be made; the server's log says why") from None


class _NotAllowed(Problem):
    def __init__(self, allowed: str) -> None:
        super().__init__("method_not_allowed", f"use {allowed}")
        self.allowed = allowed


def problem_answer(problem: Problem) -> Answer:
    headers = (("allow", problem.allowed),) if isinstance(problem, _NotAllowed) else ()
    return Answer(problem.status, json.dumps(problem.body).encode(), JSON_TYPE, headers)


async def _json_body(headers: Headers, receive: Receive) -> dict[str, Any]:
    types = [value.split(b";")[0].strip().lower() for name, value in headers if name == b"content-type"]
    if types != [b"application/json"]:
        raise Problem("unsupported_media_type", "use content-type: application/json")
    body = b""
    try:
        async with asyncio.timeout(_BODY_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Problem("bad_request", "the body did not arrive")
                body += message.get("body", b"")
                if len(body) > _BODY_BYTES:
                    raise Problem("too_large", f"the body has more than {_BODY_BYTES >> 10} KiB")
                if not message.get("more_body"):
                    break
        found = json.loads(body or b"{}")
    except TimeoutError:
        raise Problem("bad_request", "the body did not arrive in time") from None
    except (ValueError, RecursionError):
        raise Problem("bad_request", "the body is no JSON") from None
    if not isinstance(found, dict):
        raise Problem("bad_request", "the body must be a JSON object")
    return found


OPERATIONS = (
    *((route.method, route.template, route.answers, "") for route in READS),
    ("POST", "/api/session", "SessionStarted", ""),
    ("GET", "/api/status", "Status", ""),
    ("GET", "/api/health", "HealthAnswer", ""),
    ("POST", "/api/health/check", "HealthAnswer", ""),
    ("GET", "/api/live", "LiveTick", ""),
    ("GET", "/api/overview", "OverviewAnswer", ""),
    ("POST", "/api/scores", "ScoreStored", "NewScore"),
    ("POST", "/api/budget", "Budget", "Budget"),
    ("GET", "/api/charts", "ChartsAnswer", ""),
    ("POST", "/api/charts", "ChartStored", "NewChart"),
    ("DELETE", "/api/charts/{chart_id}", "ChartStored", ""),
)
