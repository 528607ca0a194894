"""What of a polars predicate the store can test by itself, as a filter.

The filter may let rows through that the predicate does not, never the other way round: polars tests all that comes. So
whatever is not certain to mean the same is left to polars, and a predicate in a form not known here costs only time.
"""

from __future__ import annotations

import io
import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from spanbox import _core

if TYPE_CHECKING:
    import polars

_OPERATORS = {"Eq": "==", "NotEq": "!=", "Lt": "<", "LtEq": "<=", "Gt": ">", "GtEq": ">="}
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_AND = ("And", "LogicalAnd")
_OR = ("Or", "LogicalOr")
_MAX_LIST = 1000


class Column(NamedTuple):
    type: str
    is_uniform: bool  # all its values have that type in the store, too


def filter_of(predicate: polars.Expr, columns: dict[str, Column], filter: str) -> str:
    """`filter` and what of the predicate can be said beside it."""
    from polars.exceptions import PolarsError

    try:
        part = _part(json.loads(predicate.meta.serialize(format="json")), columns)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, PolarsError):
        return filter  # another form than that of today's polars
    if part is None:
        return filter
    both = f"({filter}) and {part}" if filter.strip() else part
    return both if _is_filter(both) else filter


def _is_filter(text: str) -> bool:
    try:
        _core.check_filter(text)
    except _core.FilterError:
        return False
    return True


def _part(node: dict[str, Any], columns: dict[str, Column]) -> str | None:
    if "BinaryExpr" in node:
        expression = node["BinaryExpr"]
        operator, left, right = expression["op"], expression["left"], expression["right"]
        if operator in _AND or operator in _OR:
            parts = [_part(left, columns), _part(right, columns)]
            known = [part for part in parts if part is not None]
            if not known or (operator in _OR and len(known) < 2):
                return None
            joint = " and " if operator in _AND else " or "
            return f"({joint.join(known)})"
        if operator not in _OPERATORS:
            return None
        sign = _OPERATORS[operator]
        if "Literal" in left:
            left, right, sign = right, left, _MIRRORED[sign]
        return _comparison(left["Column"], sign, _literal(right), columns) if "Column" in left else None
    if "Function" in node:
        return _function(node["Function"]["input"], node["Function"]["function"]["Boolean"], columns)
    return None


def _function(inputs: list[dict[str, Any]], function: Any, columns: dict[str, Column]) -> str | None:
    name = inputs[0]["Column"]
    if function in ("IsNull", "IsNotNull"):
        return _checked(name, "==" if function == "IsNull" else "!=", "none")
    if isinstance(function, dict) and "IsIn" in function:
        values = list(_literal(inputs[1]))
        if not values or len(values) > _MAX_LIST or not all(isinstance(value, str) for value in values):
            return None
        if columns[name] != Column("string", True):
            return None
        return _checked(name, "in", f"[{', '.join(map(_text, values))}]")
    return None


def _literal(node: dict[str, Any]) -> Any:
    """The value; a moment as nanoseconds in a tuple."""
    import polars

    if "Literal" not in node:
        raise ValueError("no literal")
    expression = polars.Expr.deserialize(io.BytesIO(json.dumps(node).encode()), format="json")
    series = polars.select(expression).to_series()
    if isinstance(series.dtype, polars.Datetime):
        return (series.dt.epoch("ns")[0],)
    return series[0]


def _comparison(name: str, sign: str, value: Any, columns: dict[str, Column]) -> str | None:
    type, is_uniform = columns[name]
    if not is_uniform:
        return None
    if isinstance(value, tuple):
        return _checked(name, sign, _moment(value[0])) if type == "timestamp" else None
    if isinstance(value, bool):
        return _checked(name, sign, str(value).lower()) if type == "bool" and sign in ("==", "!=") else None
    if isinstance(value, str):
        return _checked(name, sign, _text(value)) if type == "string" and sign in ("==", "!=") else None
    if type == "int" and isinstance(value, int):
        return _checked(name, sign, f"{value}ns") or _checked(name, sign, str(value))
    if type == "float" and isinstance(value, (int, float)) and math.isfinite(value):
        # NaN is more than any number to polars, and has no order here.
        opposite = {">": "<=", ">=": "<"}.get(sign)
        if sign == "!=":
            return None
        term = _checked(name, opposite or sign, repr(value))
        return f"(not {term})" if term and opposite else term
    return None


def _moment(ns: int) -> str:
    from datetime import UTC, datetime

    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return '"' + escaped.replace("\r", "\\r") + '"'


def _checked(name: str, sign: str, value: str) -> str | None:
    """The term, when it is one: not every value may stand beside every column."""
    term = f"`{name}` {sign} {value}"
    return term if "`" not in name and _is_filter(term) else None
