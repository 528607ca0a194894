"""Asks a server as the page does, and holds its answers against openapi.json."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import quote, urlencode

import jsonschema
from spanbox.server import Server
from spanbox.server.api._columnar import CONTENT_TYPE, decode

HOUR = 3_600_000_000_000


class Client:
    """Asks a server as the page does."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._document: Any = None

    def raw(self, path: str, method: str = "GET", body: Any = None, **params: Any) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        headers = {"Authorization": f"Bearer {self.server.token}", "Content-Type": "application/json"}
        try:
            query = f"?{urlencode(params, doseq=True, quote_via=quote)}" if params else ""
            connection.request(method, path + query, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            content, type_ = response.read(), response.headers["Content-Type"]
        finally:
            connection.close()
        return response.status, decode(content) if type_ == CONTENT_TYPE else json.loads(content)

    def get(self, path: str, **params: Any) -> Any:
        """The answer, which is of the type that openapi.json says."""
        status, answer = self.raw(path, **params)
        assert status == 200, (path, answer)
        self.check(path, answer)
        return answer

    def check(self, path: str, answer: Any) -> None:
        if self._document is None:
            self._document = self.raw("/api/openapi.json")[1]
        template = next(each for each in self._document["paths"] if matches(each, path))
        operation = self._document["paths"][template]["get"]
        [content] = operation["responses"]["200"]["content"].values()
        schema = {**content["schema"], "components": self._document["components"]}
        jsonschema.Draft202012Validator(plain(schema)).validate(plain(answer))


def matches(template: str, path: str) -> bool:
    parts, given = template.split("/"), path.split("/")
    return len(parts) == len(given) and all(a == b or a.startswith("{") for a, b in zip(parts, given, strict=True))


def plain(value: Any) -> Any:
    """NaN of columns as null."""
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value
