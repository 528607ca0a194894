"""Names and values as the filter language writes them, so that a value out of a trace stays a value."""

from __future__ import annotations

from typing import Any

_WORDS = {"and", "or", "not", "in", "none", "true", "false", "any", "all", "count"}
_BARE = {"kind", "status"}  # their values need no quotes
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def quoted(text: str) -> str:
    return f'"{text.translate(_ESCAPES)}"'


def literal(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, (int, float)) else quoted(str(value))


def column_name(name: str) -> str:
    """'' for a name that cannot be written."""
    plain = name.replace(".", "").replace("_", "")
    if name.isascii() and plain.isalnum() and not name[0].isdigit() and name[0] != "." and name not in _WORDS:
        return name
    return f"`{name}`" if name and "`" not in name else ""


def equals(name: str, value: Any) -> str:
    """`name == value`; '' when it cannot be said."""
    column = column_name(name)
    if not column:
        return ""
    return f"{column} == {value}" if name in _BARE and value is not None else f"{column} == {literal(value)}"


def one_of(name: str, values: list[str]) -> str:
    """`name in [...]` for at most a thousand texts."""
    return f"{column_name(name)} in [{', '.join(map(quoted, values))}]"
