"""Reading values whose shape nobody promises: by name in snake_case or camelCase, and only of the type asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any


@lru_cache(1024)
def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(each.title() for each in others)


def get(source: object, *path: str) -> Any:
    """The value at a path of names, None where there is none."""
    for name in path:
        if not isinstance(source, Mapping):
            return None
        found = source.get(name)
        source = source.get(_camel(name)) if found is None else found
    return source


def text(source: object, *path: str) -> str | None:
    """A text that is there and not empty; of a number its digits."""
    value = get(source, *path)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def place(source: object, *path: str) -> int | str | None:
    """What tells the parts of a stream apart: an index, or an id."""
    value = get(source, *path)
    return value if isinstance(value, int | str) else None


def mapping(source: object, *path: str) -> Mapping[str, Any]:
    value = get(source, *path)
    return value if isinstance(value, Mapping) else {}


def mappings(source: object, *path: str) -> Iterator[Mapping[str, Any]]:
    value = get(source, *path) if path else source
    return (each for each in value if isinstance(each, Mapping)) if isinstance(value, list) else iter(())


def parsed(arguments: Any) -> Any:
    """The arguments of a tool call, as JSON where they are."""
    if isinstance(arguments, str):
        try:
            return json.loads(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError):
            return arguments
    return {} if arguments is None else arguments
