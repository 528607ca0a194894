"""What the page writes: scores by people, saved charts, the budget. Each is checked whole before anything is stored.

Thread rule: functions of a Box; any thread. Charts and the budget are documents (kinds `chart` and `budget`): other
programs read and write them with Box.documents and Box.put_document. Invariant: a wrong body stores nothing.
"""

from __future__ import annotations

import math
import secrets
from typing import Any

from spanbox import _core
from spanbox._box import Box
from spanbox.server.api._frame import Json
from spanbox.server.api._problem import Problem, filter_problem

CHART, BUDGET, COST = "chart", "budget", "cost"
MOST_CHARTS = 200
_SCORE: dict[str, Any] = {
    "trace_id": str,
    "span_id": str,
    "name": str,
    "value": (int, float, bool),
    "label": str,
    "explanation": str,
    "source": str,
}
_CHART_CHARACTERS = {"title": 120, "q": 16_384, "value": 400, "by": 200}


def score(box: Box, given: Json) -> Json:
    row = {name: value for name, value in given.items() if value is not None}
    for name, value in row.items():
        if name not in _SCORE or not isinstance(value, _SCORE[name]):
            raise Problem(
                "bad_request", f"{name[:60]!r} is unknown or of the wrong type: see NewScore in /api/openapi.json"
            )
    if row.get("source") not in ("human", "feedback"):
        raise Problem("bad_request", "source must be human or feedback")
    if "value" not in row and "label" not in row:
        raise Problem("bad_request", "give a value or a label")
    return {"stored": box.add_scores([{**row, "evaluator": "page"}])}


# --- saved charts ---


def charts(box: Box) -> list[Json]:
    """Those that can be drawn, oldest first."""
    found = [
        {"id": each.name, "version": each.version, "at_ns": str(each.at_ns), **spec}
        for each in box.documents(CHART)
        if (spec := _spec(each.value)) is not None
    ]
    return sorted(found, key=lambda each: (int(each["at_ns"]), each["id"]))


def chart(box: Box, id_: str) -> Json:
    found = next((each for each in charts(box) if each["id"] == id_), None)
    if found is None:
        raise Problem("not_found", "no chart has this id")
    return found


def save_chart(box: Box, given: Json) -> Json:
    """A new one, or with `id` a new version of one."""
    spec = _spec({name: value for name, value in given.items() if name != "id"})
    if spec is None or set(given) - {*_CHART_CHARACTERS, "id"}:
        raise Problem("bad_request", "a chart has title, value, q and by: see NewChart in /api/openapi.json")
    _check_question(box, spec)
    known = {each.name for each in box.documents(CHART)}
    id_ = given.get("id") or secrets.token_hex(8)
    if given.get("id") and id_ not in known:
        raise Problem("not_found", "no chart has this id")
    if id_ not in known and len(known) >= MOST_CHARTS:
        raise Problem("bad_request", f"there are {MOST_CHARTS} charts already: delete one first")
    return {"id": id_, "version": box.put_document(CHART, id_, spec)}


def delete_chart(box: Box, id_: str) -> Json:
    chart(box, id_)
    return {"id": id_, "version": box.delete_document(CHART, id_)}


def _spec(value: Any) -> Json | None:
    """A document of anybody as a chart; None when it is none."""
    if not isinstance(value, dict) or not value.get("value"):
        return None
    spec = {"title": value.get("title") or value["value"], "q": value.get("q") or "", "value": value["value"]}
    spec["by"] = value.get("by") or None
    texts = [(name, text) for name, text in spec.items() if text is not None]
    return spec if all(isinstance(text, str) and len(text) <= _CHART_CHARACTERS[name] for name, text in texts) else None


def _check_question(box: Box, spec: Json) -> None:
    """Asked of a nanosecond long ago: what is wrong is told before it is stored."""
    try:
        _core.check_filter(spec["q"])
    except _core.FilterError as error:
        raise filter_problem(error, spec["q"]) from None
    try:
        list(box.spans(spec["q"], since=0, until=1).by(*filter(None, [spec["by"]])).agg(spanbox_value=spec["value"]))
    except (_core.FilterError, ValueError) as error:
        raise Problem("bad_request", str(error).split("\n")[0][:500]) from None


# --- the budget ---


def budget_usd_per_1k(box: Box) -> float | None:
    """Of 1,000 requests; None: none is set."""
    found = next((each.value for each in box.documents(BUDGET) if each.name == COST), None)
    usd = found.get("usd_per_1k") if isinstance(found, dict) else None
    return float(usd) if isinstance(usd, (int, float)) and not isinstance(usd, bool) and usd > 0 else None


def set_budget(box: Box, given: Json) -> Json:
    usd = given.get("usd_per_1k")
    if set(given) != {"usd_per_1k"} or isinstance(usd, bool) or not isinstance(usd, (int, float, type(None))):
        raise Problem("bad_request", "give usd_per_1k: a number of US dollars, or null")
    if usd is not None and not (math.isfinite(usd) and 0 < usd < 1e9):
        raise Problem("bad_request", "usd_per_1k must be more than 0")
    if usd is not None or budget_usd_per_1k(box) is not None:
        box.put_document(BUDGET, COST, {"usd_per_1k": usd})
    return {"usd_per_1k": usd}
