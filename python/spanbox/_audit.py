"""Are there values in a store that should not be there: every byte of its files, and every text that is packed in them.

Files are read as they are: rings, what a crash has left, and pages of the database that nothing names any more. A text
block is compressed, so that spans, scores and blobs are unpacked and looked at as well. What cannot be seen: compressed
blocks on free pages, which `erase --secure` overwrites.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from spanbox._box import Box

MIN_BYTES = 6  # a shorter value is found by chance
_CHUNK_BYTES = 1 << 20
_ZEROS = bytes(_CHUNK_BYTES)
_BLOB = re.compile(r'"\$blob": ?"([0-9a-f]{32})"')


class Hit(NamedTuple):
    """One place where a value stands. `canary`: its number, from 1; the value itself is told to nobody."""

    canary: int
    form: str
    place: str


class Audit(NamedTuple):
    """What was looked at, and what was found."""

    canaries: int
    files: int
    bytes: int
    spans: int
    scores: int
    blobs: int
    hits: tuple[Hit, ...]


def read_canaries(path: Path) -> list[str]:
    """A value a line; empty lines are none."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    canaries = [line for line in lines if line]
    if not canaries:
        raise ValueError(f"{path} has no values: give one a line")
    for number, line in enumerate(lines, 1):
        if line and len(line.encode()) < MIN_BYTES:
            raise ValueError(f"{path}, line {number}: a value has at least {MIN_BYTES} bytes, or is found by chance")
    return canaries


def audit(box: Box, canaries: Sequence[str]) -> Audit:
    """Looks for each of the values, in the forms that texts take on their way, in the store of `box`."""
    hunt = _Hunt(canaries)
    files, size = 0, 0
    hits: dict[Hit, None] = {}
    for path in sorted(box.path.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        files += 1
        size += path.stat().st_size
        hits.update(dict.fromkeys(hunt.in_file(path, str(path.relative_to(box.path)))))
    spans, blobs = 0, set[str]()
    for place, text in _span_texts(box):
        spans += 1
        hits.update(dict.fromkeys(hunt.in_bytes(text.encode(errors="surrogatepass"), place)))
        blobs.update(_BLOB.findall(text))
    for blob in sorted(blobs):
        hits.update(dict.fromkeys(hunt.in_bytes(box.blob(blob), f"blob {blob}")))
    scores = 0
    for row in box.scores():
        scores += 1
        text = json.dumps(row, ensure_ascii=False, default=str)
        place = f"score {row.get('name', '')!r} of trace {row.get('trace_id', '')}"
        hits.update(dict.fromkeys(hunt.in_bytes(text.encode(errors="surrogatepass"), place)))
    return Audit(len(canaries), files, size, spans, scores, len(blobs), tuple(hits))


def _span_texts(box: Box) -> Iterator[tuple[str, str]]:
    store = box._fresh_store()
    for trace_id in dict.fromkeys(row["trace_id"] for row in box.spans().columns("trace_id")):
        for span in store.trace(trace_id):
            yield f"span {span['span_id']} of trace {trace_id}", json.dumps(span, ensure_ascii=False, default=str)


class _Hunt:
    def __init__(self, canaries: Sequence[str]) -> None:
        forms: dict[bytes, tuple[int, str]] = {}
        for number, canary in enumerate(canaries, 1):
            for form, value in _forms(canary):
                forms.setdefault(value, (number, form))
        self._forms = forms
        self._longest = max(map(len, forms))

    def in_bytes(self, content: bytes, place: str) -> Iterator[Hit]:
        for value, (number, form) in self._forms.items():
            if value in content:
                yield Hit(number, form, place)

    def in_file(self, path: Path, name: str) -> Iterator[Hit]:
        with path.open("rb") as file:
            before = b""
            while chunk := file.read(_CHUNK_BYTES):
                if chunk != _ZEROS[: len(chunk)]:  # of a sparse file, such as a ring
                    yield from self.in_bytes(before + chunk, f"file {name}")
                before = chunk[-self._longest :]


def _forms(canary: str) -> Iterator[tuple[str, bytes]]:
    """The value as it is, as JSON and addresses write it, and within base64, wherever in it it begins."""
    plain = canary.encode()
    yield "as it is", plain
    yield "in JSON", json.dumps(canary)[1:-1].encode()
    yield "in an address", quote(canary, safe="").encode()
    for shift in range(3):
        packed = base64.b64encode(b"\0" * shift + plain)
        # The first and last characters depend on the neighbours.
        first, last = (shift * 8 + 5) // 6, (shift + len(plain)) * 8 // 6
        yield "in base64", packed[first:last]
