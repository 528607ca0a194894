"""What the page is told: one path, one function, one answer (docs/http_api.md; ui/src/lib/api.ts has the types)."""

from __future__ import annotations

from spanbox.server.api._routes import Api, Stream

__all__ = ["Api", "Stream"]
