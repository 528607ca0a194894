"""What a store answers over HTTP: OTLP spans come in at /v1/traces, Prometheus reads /metrics (docs/serve.md); and the
page of `spanbox ui` with its API (docs/ui.md, docs/http_api.md)."""

from __future__ import annotations

from spanbox.server._app import App
from spanbox.server._guard import Access
from spanbox.server._otlp import Limits
from spanbox.server._page import Page
from spanbox.server._run import Server, read_token

__all__ = ["Access", "App", "Limits", "Page", "Server", "read_token"]
