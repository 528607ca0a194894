"""Runs an App with uvicorn, on loopback unless told otherwise; in the foreground or on a thread.

Thread rule: a Server is started and stopped by one thread.
Invariant: a client that does not send the head of a request within seconds is hung up on.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spanbox._box import Box
from spanbox._spans import library
from spanbox.server._app import App
from spanbox.server._guard import LOOPBACK, Access, Sessions
from spanbox.server._otlp import Limits
from spanbox.server._page import Page
from spanbox.server.api import Api

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Server", "read_token"]

_HEAD_S = 10.0
_CONNECTIONS = 512
_INGEST = frozenset({"/v1/traces", "/v1/metrics", "/v1/logs"})
_TOKEN_CHARACTERS = 32  # at least


def read_token(path: Path) -> str:
    """The token in the file, which is made (0600) when there is none."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        token = path.read_text().strip()
        if len(token) < _TOKEN_CHARACTERS:
            raise ValueError(f"the token in {path} has fewer than {_TOKEN_CHARACTERS} characters") from None
        return token
    with os.fdopen(handle, "w") as file:
        file.write(token := secrets.token_urlsafe(32))
    return token


class Server:
    """A server of one store: run() serves until Ctrl-C, `with` serves meanwhile on a thread of its own. With a `page`
    also the page and its API."""

    def __init__(
        self,
        box: Box,
        *,
        otlp: bool = False,
        metrics_labels: Sequence[str] = (),
        host: str = "127.0.0.1",
        port: int = 4318,
        token: str | None = None,
        allowed_hosts: Sequence[str] = (),
        limits: Limits | None = None,
        page: Page | None = None,
        read_only: bool = False,
    ) -> None:
        uvicorn = library("uvicorn", "serve", extra="ui")
        self._socket = socket.create_server((host, port), family=_family(host), backlog=_CONNECTIONS)
        self.host, self.port = self._socket.getsockname()[:2]
        own_name = f"[{host}]" if ":" in host else host
        access = Access(
            port=self.port,
            token=token or secrets.token_urlsafe(32),
            hosts=tuple(dict.fromkeys([*LOOPBACK, own_name, *allowed_hosts])),
            open_paths=_INGEST if otlp and is_loopback(host) else frozenset(),
            sessions=None if page is None else Sessions(self.port),
        )
        self.token = access.token
        metrics = box.metrics(labels=metrics_labels)
        store: Any = box._store
        api = None if page is None else Api(box, access, read_only=read_only, stopping=lambda: self._server.should_exit)
        app = App(access, spans_to=store if otlp else None, metrics=metrics, limits=limits, page=page, api=api)
        config = uvicorn.Config(
            app,
            http=_protocol(),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=5,
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def page_url(self) -> str:
        """With the token in the fragment, which no browser sends: the page exchanges it for a cookie."""
        return f"{self.url}/#token={self.token}"

    def run(self) -> None:
        """Until SIGINT or SIGTERM."""
        self._server.run(sockets=[self._socket])

    def __enter__(self) -> Server:
        self._thread = threading.Thread(target=self.run, name="spanbox-serve", daemon=True)
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            threading.Event().wait(0.01)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()
        self._socket.close()


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _protocol() -> type[Any]:
    """uvicorn's HTTP/1.1 by h11, with a time limit for the head of a request and refusal of absolute targets."""
    h11 = library("h11", "serve", extra="ui")
    h11_impl = library("uvicorn.protocols.http.h11_impl", "serve", extra="ui")

    class Protocol(h11_impl.H11Protocol):  # type: ignore[misc, name-defined]
        _head_timer: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait_for_head()

        def handle_events(self) -> None:
            super().handle_events()
            self._wait_for_head()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
            super().connection_lost(exc)

        def _wait_for_head(self) -> None:
            waits = self.conn.their_state is h11.IDLE
            if waits and self._head_timer is None:
                self._head_timer = self.loop.call_later(_HEAD_S, self.transport.close)
            elif not waits and self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

    return Protocol
