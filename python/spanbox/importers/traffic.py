"""Request traffic: Azure LLM inference traces (CSV) and Mooncake traces (JSON lines).

Each request is a trace of one llm span with its arrival time and token counts; how long it took is not in these files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from spanbox._time import iso_ns
from spanbox.importers import FormatName, Row
from spanbox.importers._source import EPOCH_NS, BadElement, Element, Ids, ImportFileError, Source

_AZURE_HEADER = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
_RATES_LINE = re.compile(r"\d+,\d+(?:\.\d+)?(?:,[^,\n]*){5}\s*$", re.ASCII)


class Azure:
    name: ClassVar[FormatName] = "azure"
    note = "durations are not in the file; timestamps are taken as UTC"

    def __init__(self, source: Source) -> None:
        self._source = source

    @staticmethod
    def recognises(head: str, first: Any) -> bool:
        return head.splitlines()[0].split(",") == _AZURE_HEADER

    def elements(self) -> Iterator[Element]:
        lines = self._source.lines()
        header = next(lines, None)
        if header is None or header.text.split(",") != _AZURE_HEADER:
            raise ImportFileError(f"{self._source.path}: line 1: expected the header {','.join(_AZURE_HEADER)}")
        return lines

    def rows(self, element: Element) -> list[Row]:
        cells = element.text.split(",")
        if len(cells) != len(_AZURE_HEADER):
            raise BadElement(f"{len(_AZURE_HEADER)} columns expected, {len(cells)} found")
        try:
            start_ns = iso_ns(cells[0] + "+00:00")
        except ValueError:
            raise BadElement(f"TIMESTAMP {cells[0]!r} is no date and time") from None
        # The place is part of the identity: two requests may look alike.
        ids = Ids(self.name, element.text, element.place)
        return [_request(ids, start_ns, _tokens(cells[1], "ContextTokens"), _tokens(cells[2], "GeneratedTokens"))]


class Mooncake:
    name: ClassVar[FormatName] = "mooncake"
    note = "durations are not in the file; its clock has no date: milliseconds count from 2000-01-01"

    def __init__(self, source: Source) -> None:
        self._source = source

    @staticmethod
    def recognises(head: str, first: Any) -> bool:
        return isinstance(first, dict) and "hash_ids" in first and "timestamp" in first

    def elements(self) -> Iterator[Element]:
        return self._source.json_lines()

    def rows(self, element: Element) -> list[Row]:
        request = element.value
        if not isinstance(request, dict):
            raise BadElement("a request must be a JSON object")
        timestamp = _tokens(request.get("timestamp"), "timestamp")
        row = _request(
            Ids(self.name, element.text, element.place),
            EPOCH_NS + timestamp * 1_000_000,
            _tokens(request.get("input_length"), "input_length"),
            _tokens(request.get("output_length"), "output_length"),
        )
        if request.get("hash_ids") is not None:
            row["hash_ids"] = request["hash_ids"]
        return [row]


def refuse_rates(source: Source, head: str) -> None:
    """ServeGen's rates look like requests and are none."""
    lines = head.splitlines()[:3]
    if lines and all(_RATES_LINE.match(line) for line in lines):
        raise ImportFileError(
            f"{source.path}: these are request rates of clients (ServeGen: client, time, rate, variation, …), sums "
            "over ten minutes and not single requests: there is no span to make of them"
        )


def _request(ids: Ids, start_ns: int, input_tokens: int, output_tokens: int) -> Row:
    return {
        "trace_id": ids.trace(),
        "span_id": ids.span(0),
        "name": "chat",
        "kind": "llm",
        "operation": "chat",
        "start_ns": start_ns,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
    }


def _tokens(value: Any, what: str) -> int:
    if isinstance(value, str) and value.isascii() and value.strip().isdigit() and len(value) < 16:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 53:
        raise BadElement(f"{what} must be a whole number, not {value!r}")
    return value
