"""The API as OpenAPI 3.1. Its schemas are read from the page's own types, ui/src/lib/api.ts, which is part of the
package: there is one description of an answer, and the test of the answers against the schemas holds all three
together.

What is read is the TypeScript that api.ts uses: interfaces with extends, unions, literals, arrays, tuples, inline
objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from spanbox import _core

Json = dict[str, Any]
_COLUMNAR = "Columnar"
_TOKEN = re.compile(r"\s+|//[^\n]*|/\*.*?\*/|(?P<word>'[^']*'|[\w$.-]+|[{}\[\]();:,|?=<>]|=>)", re.DOTALL)
_BASIC: dict[str, Json] = {
    "string": {"type": "string"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "null": {"type": "null"},
    "Float64Array": {
        "type": "array",
        "items": {"type": ["number", "null"]},
        "description": "a column of doubles; NaN is null",
    },
    "never": {"not": {}},
}
_SHARED = ("q", "from", "to", "vs", "tz", "px")
_OWN = {
    "/api/overview/quality": ("score",),
    "/api/overview/slow": ("n",),
    "/api/traces": ("sort", "cols", "offset", "limit", "sel", "y"),
    "/api/traces/heat": ("sel", "y"),
    "/api/traces/apart": ("sel", "y"),
    "/api/complete": ("text", "at"),
    "/api/trace/{trace_id}": ("offset", "limit", "collapsed", "at"),
    "/api/trace/{trace_id}/diff": ("offset", "limit"),
    "/api/trace/{trace_id}/find": ("text",),
    "/api/trace/{trace_id}/span/{span_id}/payload": ("column", "offset"),
    "/api/sessions": ("sort", "offset", "limit"),
    "/api/costs": ("by",),
    "/api/live": ("since",),
}


def source() -> Path:
    """api.ts, in the package or in the source tree it runs from."""
    packaged = Path(__file__).with_name("api.ts")
    return packaged if packaged.is_file() else Path(__file__).parents[4] / "ui" / "src" / "lib" / "api.ts"


@cache
def schemas() -> dict[str, Json]:
    """A JSON schema for every exported type."""
    return _Reader(source().read_text("utf-8")).types()


def document(operations: Iterable[tuple[str, str, str, str]]) -> Json:
    """The whole document; of each operation the method, the path, the type of its answer and of its body."""
    paths: dict[str, Json] = {}
    for method, path, answer, body in operations:
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, answer, body)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "spanbox",
            "version": _core.__version__,
            "description": "What the page of `spanbox ui` asks its server.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "spanbox_PORT"},
            },
        },
        "security": [{"token": []}, {"cookie": []}],
    }


def _operation(method: str, path: str, answer: str, body: str) -> Json:
    columnar = {"$ref": f"#/components/schemas/{_COLUMNAR}"} in schemas()[answer].get("allOf", [])
    media = (
        "application/vnd.spanbox.columns"
        if columnar
        else "text/event-stream"
        if path == "/api/live"
        else "application/json"
    )
    named = re.findall(r"\{(\w+)\}", path)
    asked = (*_SHARED, *_OWN.get(path, ())) if method == "GET" else ()
    parameters = [
        *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in named),
        *({"name": name, "in": "query", "schema": {"type": "string"}} for name in asked),
    ]
    error = {"description": "no answer", "content": {"application/json": {"schema": _ref("ApiError")}}}
    found: Json = {
        "parameters": parameters,
        "responses": {"200": {"description": answer, "content": {media: {"schema": _ref(answer)}}}, "default": error},
    }
    if body:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(body)}}}
    return found


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


class _Reader:
    """Recursive descent over the words of api.ts."""

    def __init__(self, text: str) -> None:
        self._words = [match["word"] for match in _TOKEN.finditer(text) if match["word"]]
        self._at = 0

    def types(self) -> dict[str, Json]:
        found: dict[str, Json] = {}
        while self._at < len(self._words):
            if self._take() != "export":
                raise ValueError(f"api.ts: `export` expected before {self._words[self._at - 1 :][:3]}")
            kind, name = self._take(), self._take()
            found[name] = self._interface() if kind == "interface" else self._alias()
        return found

    def _peek(self) -> str:
        return self._words[self._at] if self._at < len(self._words) else ""

    def _take(self, expected: str = "") -> str:
        word = self._peek()
        if expected and word != expected:
            raise ValueError(
                f"api.ts: {expected!r} expected, {word!r} found after {' '.join(self._words[self._at - 6 : self._at])}"
            )
        self._at += 1
        return word

    def _accept(self, word: str) -> bool:
        if self._peek() != word:
            return False
        self._at += 1
        return True

    def _alias(self) -> Json:
        self._take("=")
        found = self._union()
        self._take(";")
        return found

    def _interface(self) -> Json:
        above = []
        if self._accept("extends"):
            above = [_ref(self._take())]
            while self._accept(","):
                above.append(_ref(self._take()))
        own = self._object()
        return {"allOf": [*above, own]} if above else own

    def _object(self) -> Json:
        self._take("{")
        properties, required = {}, []
        while not self._accept("}"):
            self._accept("readonly")
            name = self._take()
            if not self._accept("?"):
                required.append(name)
            self._take(":")
            properties[name] = self._union()
            self._accept(";")
        return {"type": "object", "properties": properties, "required": required}

    def _union(self) -> Json:
        self._accept("|")
        options = [self._array()]
        while self._accept("|"):
            options.append(self._array())
        if len(options) == 1:
            return options[0]
        if all(option.keys() == {"const"} for option in options):
            return {"enum": [option["const"] for option in options]}
        return {"anyOf": options}

    def _array(self) -> Json:
        found = self._single()
        while self._peek() == "[":
            self._take("[")
            self._take("]")
            found = {"type": "array", "items": found}
        return found

    def _single(self) -> Json:
        word = self._peek()
        if word == "{":
            return self._object()
        self._take()
        if word == "(":
            found = self._union()
            self._take(")")
            return found
        if word == "[":
            items = [self._union()]
            while self._accept(","):
                items.append(self._union())
            self._take("]")
            return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
        if word.startswith("'"):
            return {"const": word[1:-1]}
        return _BASIC.get(word) or _ref(word)
