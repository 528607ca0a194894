"""Scores as OpenTelemetry has them: log records gen_ai.evaluation.result, of the span that was evaluated.

Who evaluated is not in the conventions: that goes under spanbox.evaluation, so that another spanbox reads it back.
Thread rule: functions; call from any thread.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from spanbox import _core
from spanbox._protobuf import bytes_field, double_field, fixed64_field, int_field, text_field

EVENT = "gen_ai.evaluation.result"
_SCOPE = "spanbox"
_INFO = 9  # a severity
_KEYS = {
    "label": "gen_ai.evaluation.score.label",
    "explanation": "gen_ai.evaluation.explanation",
    "source": "spanbox.evaluation.kind",
    "evaluator": "spanbox.evaluation.evaluator",
    "version": "spanbox.evaluation.version",
}
_NOT_METADATA = {"trace_id", "span_id", "name", "at", "start", "start_ns", "value", *_KEYS}
Row = dict[str, Any]


def rows_of(scores: _core.Table) -> Iterator[Row]:
    """The scores of a table, without what they have not."""
    columns = {name: scores.column(name) for name in scores.column_names}
    for at in range(scores.rows):
        yield {name: values[at] for name, values in columns.items() if values[at] is not None}


def encode_logs(scores: list[Row], *, is_json: bool) -> bytes:
    """An ExportLogsServiceRequest."""
    return _as_json(scores) if is_json else _as_protobuf(scores)


def _attributes(score: Row) -> dict[str, Any]:
    named: Row = {"gen_ai.evaluation.name": score["name"]}
    value = score.get("value")
    if isinstance(value, str):  # numbers and truth values in one column are texts
        value = json.loads(value)
    if value is not None:
        named["gen_ai.evaluation.score.value"] = float(value)
    named |= {key: str(score[name]) for name, key in _KEYS.items() if name in score}
    metadata = {key: value for key, value in score.items() if key not in _NOT_METADATA}
    return named | {key: value if _is_scalar(value) else str(value) for key, value in metadata.items()}


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | bool | float) or (isinstance(value, int) and -(2**63) <= value < 2**63)


def _time(score: Row) -> int:
    return next((int(score[key]) for key in ("at", "start", "start_ns") if key in score), 0)


def _as_json(scores: list[Row]) -> bytes:
    records = [
        {
            "timeUnixNano": str(_time(score)),
            "severityNumber": _INFO,
            "eventName": EVENT,
            "traceId": score["trace_id"],
            "spanId": score.get("span_id", ""),
            "attributes": [{"key": key, "value": _json_value(value)} for key, value in _attributes(score).items()],
        }
        for score in scores
    ]
    scope = {"scope": {"name": _SCOPE, "version": _core.__version__}, "logRecords": records}
    return json.dumps({"resourceLogs": [{"resource": {}, "scopeLogs": [scope]}]}).encode()


def _json_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}


def _as_protobuf(scores: list[Row]) -> bytes:
    records = b"".join(bytes_field(2, _record(score)) for score in scores)
    scope = bytes_field(1, text_field(1, _SCOPE) + text_field(2, _core.__version__))
    return bytes_field(1, bytes_field(1, b"") + bytes_field(2, scope + records))


def _record(score: Row) -> bytes:
    attributes = b"".join(
        bytes_field(6, text_field(1, key) + bytes_field(2, _any_value(value)))
        for key, value in _attributes(score).items()
    )
    span = base64.b16decode(score["span_id"], casefold=True) if "span_id" in score else b""
    return (
        fixed64_field(1, _time(score))
        + int_field(2, _INFO)
        + attributes
        + bytes_field(9, base64.b16decode(score["trace_id"], casefold=True))
        + (bytes_field(10, span) if span else b"")
        + text_field(12, EVENT)
    )


def _any_value(value: Any) -> bytes:
    if isinstance(value, bool):
        return int_field(2, int(value))
    if isinstance(value, int):
        return int_field(3, value & (1 << 64) - 1)
    return double_field(4, value) if isinstance(value, float) else text_field(1, value)
