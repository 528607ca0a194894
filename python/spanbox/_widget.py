"""Trace.widget(): the page's trace view in a notebook. Its questions come as messages of the widget's model and are
answered here as the page's server answers them; there is no server and no request.

A question is {id, path, params}, its answer {id, data} or {id, error}, or {id, columns} with one buffer (the layout is
in ui/src/lib/api.ts, `Columnar`). Thread rule: the kernel's own.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spanbox import _core
from spanbox._spans import library

if TYPE_CHECKING:
    from spanbox._box import Box
    from spanbox._trace import Trace

_FILE = "trace_viewer.js"
_DAY_NS = 86_400_000_000_000
_LEAST_PX, _MOST_PX = 240, 4_000


class Questions:
    """What a viewer may ask: of its own trace, what the page asks of one."""

    def __init__(self, box: Box, trace: Trace) -> None:
        from spanbox.server.api._asked import Answers
        from spanbox.server.api._frame import Colors

        self._answers, self._colors = Answers(box), Colors(box)
        self._trace_id = trace.id
        around = (
            max(_DAY_NS, trace.start_ns - _DAY_NS),
            max(0, trace.start_ns) + (trace.duration_ns or 0) + 2 * _DAY_NS,
        )
        self._range = {"from": [str(around[0])], "to": [str(around[1])], "vs": ["none"]}

    def answer(self, content: Any) -> tuple[dict[str, Any], list[bytes]]:
        """The message, and its buffers. Whatever is asked, nothing is raised."""
        from spanbox.server.api._columnar import JSON_TYPE, encode
        from spanbox.server.api._problem import Problem

        question = content if isinstance(content, dict) else {}
        id_ = question.get("id")
        try:
            body, content_type = encode(self._found(question))
        except Problem as problem:
            return {"id": id_, "error": {**problem.body, "status": problem.status}}, []
        except (_core.SpanboxError, ValueError) as error:
            message = str(error).partition("\n")[0]
            return {"id": id_, "error": {"code": "unavailable", "message": message, "status": 503}}, []
        if content_type == JSON_TYPE:
            import json

            return {"id": id_, "data": json.loads(body)}, []
        return {"id": id_, "columns": True}, [body]

    def _found(self, question: dict[str, Any]) -> Any:
        from spanbox.server.api._asked import ask
        from spanbox.server.api._problem import Problem
        from spanbox.server.api._routes import READS

        path, given = question.get("path"), question.get("params")
        if isinstance(path, str) and isinstance(given, dict) and path.startswith(f"/api/trace/{self._trace_id}"):
            params = {str(name): [str(value)] for name, value in given.items() if value is not None}
            for route in READS:
                if match := re.fullmatch(route.path, path, re.DOTALL):
                    asked = ask(self._answers, {**params, **self._range})
                    return _offline(route.handler(asked, self._colors, **match.groupdict()))
        raise Problem("not_found", "there is nothing here")


def _offline(answer: Any) -> Any:
    """Without what leads out of the viewer: pictures come from a server, and filters belong to a list of traces."""
    if isinstance(answer, dict) and "messages" in answer:
        for part in (part for message in answer["messages"] for part in message["parts"]):
            if part.get("blob") is not None:
                part["blob"] = None
        for attribute in answer["attributes"]:
            attribute["filter"] = None
    return answer


def script() -> str:
    """The viewer, as it is built with the page."""
    package = Path(__file__).parent
    for path in (package / "static" / _FILE, package.parents[1] / "ui" / "dist-widget" / _FILE):
        if path.is_file():
            return path.read_text("utf-8")
    raise FileNotFoundError(
        "this spanbox was installed without its trace viewer, because there was no Node.js when it was built; "
        "the trace itself draws without it"
    )


@cache
def _viewer_class() -> Any:
    anywidget, traitlets = (library(name, "widget()", extra="notebook") for name in ("anywidget", "traitlets"))

    class TraceViewer(anywidget.AnyWidget):  # type: ignore[name-defined, misc]
        """See Trace.widget()."""

        _esm = script()
        trace_id = traitlets.Unicode().tag(sync=True)
        height_px = traitlets.Int().tag(sync=True)

        def __init__(self, box: Box, trace: Trace, *, height_px: int) -> None:
            super().__init__(trace_id=trace.id, height_px=height_px)
            self._trace = trace
            self._questions = Questions(box, trace)
            self.on_msg(self._heard)

        def _heard(self, _widget: Any, content: Any, _buffers: Any) -> None:
            message, buffers = self._questions.answer(content)
            self.send(message, buffers or None)

        def _repr_mimebundle_(self, **kwargs: Any) -> Any:
            """The viewer, and for those who cannot show it the trace as it draws itself."""
            found = super()._repr_mimebundle_(**kwargs)
            bundle = found[0] if isinstance(found, tuple) else found
            if bundle is not None:
                bundle |= {"text/html": self._trace._repr_html_(), "text/plain": repr(self._trace)}
            return found

    return TraceViewer


def viewer(box: Box, trace: Trace, height_px: int) -> Any:
    if not _LEAST_PX <= height_px <= _MOST_PX:
        raise ValueError(f"height_px={height_px} must be from {_LEAST_PX} to {_MOST_PX}")
    return _viewer_class()(box, trace, height_px=height_px)
