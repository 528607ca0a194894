"""Reading files that others made: bounded, gzip or plain, element by element, each with its place for messages."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, cast

MAX_FILE_BYTES: Final = 4 << 30  # decompressed
MAX_DOCUMENT_BYTES: Final = 512 << 20  # of a file that must be read as a whole
MAX_LINE_BYTES: Final = 64 << 20
_PEEK_BYTES: Final = 1 << 20
_GZIP_MAGIC: Final = b"\x1f\x8b"

# Where files carry no clock, their spans are laid out from here: plainly not a date anything was recorded.
EPOCH_NS: Final = 946_684_800_000_000_000  # 2000-01-01T00:00:00Z


class ImportFileError(ValueError):
    """A file that cannot be imported; the message names the file, the place and the reason."""


class BadElement(ValueError):
    """One line or element that cannot be imported; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Element:
    """One line or array element: where it stands, its text, and its parsed value or why there is none."""

    place: str
    text: str
    value: Any = None
    problem: str = ""


class Source:
    """A file opened for import. Nothing of it stays in memory but what is being read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._is_gzip = file.read(2) == _GZIP_MAGIC
        except IsADirectoryError:
            raise ImportFileError(f"{path}: is a folder: name its files, such as {path / '*.jsonl'}") from None
        except OSError as error:
            raise ImportFileError(f"{path}: cannot be read: {error.strerror}") from None

    def _open(self) -> BufferedReader:
        return cast(BufferedReader, gzip.open(self.path, "rb")) if self._is_gzip else self.path.open("rb")

    def peek(self) -> str:
        """The beginning of the file as text; of a damaged one, as far as it can be read."""
        head = b""
        try:
            with self._open() as file:
                while len(head) < _PEEK_BYTES and (piece := file.read1(_PEEK_BYTES)):
                    head += piece
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            if not head:
                raise ImportFileError(f"{self.path}: damaged gzip file: {error}") from None
        return head.decode("utf-8", "replace").removeprefix("\ufeff")

    def lines(self) -> Iterator[Element]:
        """Lines that are not blank, unparsed. A damaged end of a gzip file comes as a last element with a problem."""
        total, number = 0, 0
        with self._open() as file:
            while True:
                number += 1
                try:
                    line = file.readline(MAX_LINE_BYTES + 1)
                except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                    yield Element(f"line {number}", "", problem=f"damaged gzip data: {error}")
                    return
                if not line:
                    return
                total += len(line)
                if total > MAX_FILE_BYTES:
                    raise ImportFileError(f"{self.path}: more than {MAX_FILE_BYTES >> 30} GiB when unpacked")
                if len(line) > MAX_LINE_BYTES:
                    raise ImportFileError(f"{self.path}: line {number}: longer than {MAX_LINE_BYTES >> 20} MiB")
                if not line.strip():
                    continue
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    yield Element(f"line {number}", "", problem=f"not UTF-8 text: byte {error.start + 1} is wrong")
                else:
                    yield Element(f"line {number}", text)

    def json_lines(self) -> Iterator[Element]:
        for line in self.lines():
            if line.problem:
                yield line
                continue
            try:
                yield Element(line.place, line.text, json.loads(line.text))
            except (ValueError, RecursionError) as error:
                yield Element(line.place, line.text, problem=_json_problem(error))

    def data(self) -> bytes:
        """All of it."""
        try:
            with self._open() as file:
                data = file.read(MAX_DOCUMENT_BYTES + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ImportFileError(f"{self.path}: damaged gzip file: {error}") from None
        if len(data) > MAX_DOCUMENT_BYTES:
            raise ImportFileError(
                f"{self.path}: more than {MAX_DOCUMENT_BYTES >> 20} MiB, too large for a single document"
            )
        return data

    def document(self) -> str:
        """The whole text."""
        data = self.data()
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ImportFileError(f"{self.path}: not UTF-8 text: byte {error.start + 1} is wrong") from None

    def array(self, text: str, *, key: str = "") -> Iterator[Element]:
        """Elements of the JSON array that `text` is, or that it has under `key`; damaged ones are stepped over."""
        start = re.search(rf'"{re.escape(key)}"\s*:\s*\[' if key else r"\[", text)
        if start is None:
            raise ImportFileError(f"{self.path}: no JSON array{f' {key!r}' if key else ''} in it")
        decoder, position, index = json.JSONDecoder(), start.end(), 0
        line, counted = 1, 0
        while True:
            position = _SPACE.match(text, position).end()  # type: ignore[union-attr]
            if text[position : position + 1] == "]":
                return
            index += 1
            begin = position
            line, counted = line + text.count("\n", counted, begin), begin
            place = f"element {index} (line {line}, column {begin - text.rfind(chr(10), 0, begin)})"
            try:
                if begin >= len(text):
                    raise ValueError("the file ends inside the array")
                value, position = decoder.raw_decode(text, begin)
                yield Element(place, text[begin:position], value)
                separator = _SEPARATOR.match(text, position)
                if separator is None:
                    yield Element(f"after {place}", "", problem="expected ',' or ']'")
                    position = self._next_element(text, position)
                else:
                    position = separator.end()
            except (ValueError, RecursionError) as error:
                yield Element(place, "", problem=_json_problem(error))
                position = self._next_element(text, begin)
            if position < 0:
                return

    def _next_element(self, text: str, position: int) -> int:
        """After damage: where the next object seems to begin; -1 when none does."""
        following = _BETWEEN.search(text, position)
        return following.end() if following else -1


_SPACE = re.compile(r"\s*")
_SEPARATOR = re.compile(r"\s*(?:,|(?=\]))")
_BETWEEN = re.compile(r"\}\s*,\s*(?=\{)")


def _json_problem(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON: {error.msg} at column {error.colno}"
    if isinstance(error, RecursionError):
        return "not valid JSON: nested too deep"
    return str(error)


class Ids:
    """Trace and span ids that depend on content only, so that importing again finds them stored."""

    def __init__(self, *parts: str) -> None:
        self._seed = hashlib.blake2b(digest_size=32, person=b"spanbox import")
        for part in parts:
            data = part.encode("utf-8", "surrogatepass")
            self._seed.update(len(data).to_bytes(8, "little") + data)

    def trace(self) -> str:
        return self._digest("trace", 16)

    def span(self, number: int) -> str:
        return self._digest(f"span {number}", 8)

    def _digest(self, label: str, size: int) -> str:
        digest = self._seed.copy()
        digest.update(label.encode())
        return digest.hexdigest()[: 2 * size]


_HEX_IDS: Final = {32: re.compile("[0-9a-f]{32}"), 16: re.compile("[0-9a-f]{16}")}


def trace_id_of(given: str, what: str) -> str:
    """An id of OpenTelemetry or a UUID as it is, any other text as a hash of it."""
    return _id_of(given, 32, what)


def span_id_of(given: str, what: str) -> str:
    """The same for a span; UUIDs are too long for one and are hashed."""
    return _id_of(given, 16, what)


def _id_of(given: str, digits: int, what: str) -> str:
    if not given:
        raise BadElement(f"{what} is missing")
    plain = given.lower().replace("-", "") if digits == 32 else given.lower()
    if _HEX_IDS[digits].fullmatch(plain) and plain.strip("0"):
        return plain
    return hashlib.blake2b(given.encode("utf-8", "surrogatepass"), digest_size=digits // 2).hexdigest()
