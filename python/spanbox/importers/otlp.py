"""OTLP files: the Collector's file exporter (an object a line, or messages with their lengths), and single bodies."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from spanbox import _core
from spanbox.importers._source import ImportFileError, Source

_FIELD_1 = 0x0A  # how every message with a ResourceSpans begins


def looks_like_json(head: str) -> bool:
    return head.lstrip().startswith("{") and '"resourceSpans"' in head[:4096]


def looks_like_protobuf(path: Path) -> bool:
    """Whether the file begins like OTLP in protobuf: text may, too, so that whether it can be read decides."""
    with path.open("rb") as file:
        head = file.read(5)
    return head[:1] == bytes([_FIELD_1]) or (len(head) == 5 and head[0] < 4 and head[4] == _FIELD_1)


def bodies(source: Source, *, is_json: bool) -> Iterator[tuple[str, bytes, str]]:
    """Place, body and problem of each."""
    if is_json:
        first = next(source.json_lines(), None)
        if first is not None and first.problem:  # one document over many lines
            yield "document", source.document().encode(), ""
            return
        for line in source.lines():
            yield line.place, line.text.encode(), line.problem
        return
    data = source.data()
    if data[:1] == bytes([_FIELD_1]):
        yield "body", data, ""
        return
    at, number = 0, 0
    while at < len(data):
        number += 1
        size = struct.unpack_from(">I", data, at)[0] if len(data) - at >= 4 else len(data)
        if size > len(data) - at - 4:
            yield f"message {number}", b"", f"ends after {len(data) - at} of {size + 4} bytes"
            return
        yield f"message {number}", data[at + 4 : at + 4 + size], ""
        at += 4 + size


def import_otlp(store: _core.Store, source: Source, *, is_json: bool, skip_bad: bool) -> tuple[int, int, list[str]]:
    """Spans, new ones, and problems."""
    spans, added = 0, 0
    problems: list[str] = []

    def bad(problem: str) -> None:
        if not skip_bad:
            raise ImportFileError(f"{source.path}: {problem}. Skip bad elements to import the rest.")
        problems.append(problem)

    for place, body, problem in bodies(source, is_json=is_json):
        try:
            if problem:
                raise ValueError(problem)
            stored, duplicates, rejected, why = store.receive_otlp(body, is_json)
        except ValueError as error:
            bad(f"{place}: {error}")
            continue
        spans += stored + duplicates
        added += stored
        if rejected:
            bad(f"{place}: {rejected} spans: {why}")
    return spans, added, problems
