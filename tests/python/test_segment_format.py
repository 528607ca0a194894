"""A reader of stores that follows docs/segment_format.md and nothing else: what spanbox writes, it finds."""

from __future__ import annotations

import json
import lzma
import math
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lmdb
import pytest
import xxhash
import zstandard

DOCUMENT = Path(__file__).parents[2] / "docs" / "segment_format.md"
# Of former versions, one a format: they are read for ever.
STORE_WITH_A_RUN = Path(__file__).parents[1] / "data" / "store-with-run.mdb.xz"  # 17 segments of 1,500 spans
OLD_STORES = sorted((Path(__file__).parents[1] / "data").glob("store-format-*.mdb.xz"))

TRACE_ID, SPAN_ID, INT, FLOAT, BOOL, STRING, TEXT = range(1, 8)


def column_names() -> dict[int, str]:
    block = re.search(r"```columns\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    return {int(number): name for number, name in re.findall(r"(\d+) (\w+)", block[1])}


NAMES = column_names()


def checked(data: bytes, checksum: int) -> bytes:
    assert xxhash.xxh3_64_intdigest(data) == checksum
    return data


def signed(value: int) -> int:
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


@dataclass
class Reader:
    data: bytes
    at: int = 0

    def take(self, size: int) -> bytes:
        part = self.data[self.at : self.at + size]
        assert len(part) == size
        self.at += size
        return part

    def number(self, form: str) -> Any:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def varint(self) -> int:
        value, shift = 0, 0
        while True:
            byte = self.number("B")
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def zigzag(self) -> int:
        value = self.varint()
        return value >> 1 if value % 2 == 0 else -(value >> 1) - 1

    def text(self) -> bytes:
        return self.take(self.varint())

    def packed(self, width: int, base: int, count: int) -> list[int]:
        bits = int.from_bytes(self.take((count * width + 7) // 8), "little")
        mask = (1 << width) - 1
        return [signed(base + (bits >> (i * width) & mask)) for i in range(count)]

    def sequence(self, count: int) -> list[int]:
        width = self.number("B")
        return self.packed(width, self.zigzag(), count)

    def runs(self, width: int, base: int, count: int) -> list[int]:
        lengths = self.sequence(self.varint())
        values = [v for v, n in zip(self.packed(width, base, len(lengths)), lengths, strict=True) for _ in range(n)]
        assert len(values) == count
        return values

    def done(self) -> None:
        assert self.at == len(self.data)


@dataclass
class Chunk:
    column: int
    name: str
    type: int
    encoding: int
    validity: int
    low: Any = None
    high: Any = None
    ids: int = 0  # trace ids: how many, and their checksums
    id_checksums: list[int] = field(default_factory=list)
    id_bytes: bytes = b""
    place: bytes = b""


@dataclass
class TextBlock:
    stored: int
    raw: int
    codec: int
    checksum: int


class Segment:
    """The columns value of one segment; `load_block` gives the stored bytes of a text block."""

    def __init__(self, data: bytes, load_block: Callable[[int], bytes]) -> None:
        header = Reader(data)
        assert header.take(4) == b"SPSG"
        assert header.number("H") == 2
        header.number("H")
        self.checksum = header.number("Q")
        self.rows: int = header.number("I")
        directory_bytes = header.number("I")
        self.min_start: int = header.number("q")
        self.max_start: int = header.number("q")
        checked(data[16 : 40 + directory_bytes], self.checksum)
        self._data = data
        self._end = 40 + directory_bytes
        self._load_block = load_block
        self._unpacked: dict[int, bytes] = {}
        self._read_directory(Reader(data[40 : 40 + directory_bytes]))
        assert self._end == len(data)

    def _reserve(self, size: int) -> bytes:
        begin = (self._end + 7) // 8 * 8
        self._end = begin + size
        assert self._end <= len(self._data)
        return self._data[begin : self._end]

    def _place(self, directory: Reader) -> bytes:
        size = directory.varint()
        if size == 0:
            return b""
        checksum = directory.number("Q")
        return checked(self._reserve(size), checksum)

    def _read_directory(self, directory: Reader) -> None:
        self.valid: list[list[int]] = [list(range(self.rows))]
        for _ in range(directory.varint()):
            kind, count = directory.number("B"), directory.varint()
            place = Reader(self._place(directory))
            if kind == 0:
                bits = place.packed(1, 0, self.rows)
                rows = [row for row, bit in enumerate(bits) if bit]
            else:
                rows = place.packed((self.rows - 1).bit_length(), 0, count)
            place.done()
            assert len(rows) == count
            self.valid.append(rows)
        self.blocks = [
            TextBlock(directory.varint(), directory.varint(), directory.number("B"), directory.number("Q"))
            for _ in range(directory.varint())
        ]
        self.chunks = [self._read_chunk(directory) for _ in range(directory.varint())]
        directory.done()

    def _read_chunk(self, directory: Reader) -> Chunk:
        column = directory.varint()
        name = directory.text().decode() if column == 0 else NAMES[column]
        chunk = Chunk(column, name, directory.number("B"), directory.number("B"), directory.varint())
        constant = chunk.encoding == 0
        if chunk.type in (INT, BOOL):
            chunk.low = directory.zigzag()
            chunk.high = chunk.low if constant else chunk.low + directory.varint()
        elif chunk.type == FLOAT:
            chunk.low = directory.take(8)
            chunk.high = chunk.low if constant else directory.take(8)
        elif chunk.type == STRING:
            if constant or directory.number("B") == 1:
                chunk.low = directory.text()
                chunk.high = chunk.low if constant else directory.text()
        elif chunk.type == TRACE_ID:
            chunk.ids = directory.varint()
            chunk.low, chunk.high = directory.number("Q"), directory.number("Q")
            chunk.id_checksums = [directory.number("Q") for _ in range((chunk.ids + 255) // 256)]
            chunk.id_bytes = self._reserve(chunk.ids * 16)
        chunk.place = self._place(directory)
        return chunk

    def _block(self, number: int) -> bytes:
        if number not in self._unpacked:
            block = self.blocks[number]
            stored = checked(self._load_block(number), block.checksum)
            assert len(stored) == block.stored
            raw = stored if block.codec == 0 else self._decompressor(block.codec).decompress(stored)
            assert len(raw) == block.raw
            self._unpacked[number] = raw
        return self._unpacked[number]

    def _decompressor(self, codec: int) -> zstandard.ZstdDecompressor:
        if codec == 1:
            return zstandard.ZstdDecompressor()
        assert codec == 2
        base = zstandard.ZstdCompressionDict(self._block(0), dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        return zstandard.ZstdDecompressor(dict_data=base)

    def check_filter(self, data: bytes) -> float:
        """Every gram of every block has its bit; gives the share of bits that are set."""
        reader = Reader(checked(data[8:], struct.unpack("<Q", data[:8])[0]))
        sizes = [reader.varint() for _ in range(reader.varint())]
        assert len(sizes) == len(self.blocks)
        ones = 0
        for number, size in enumerate(sizes):
            bitmap = int.from_bytes(reader.take(size // 8), "little")
            ones += bitmap.bit_count()
            text = self._block(number).lower()  # bytes: A to Z only
            for gram in {text[i : i + 4] for i in range(len(text) - 3)}:
                product = int.from_bytes(gram, "big") * 0x9E3779B1 % 2**32
                assert bitmap >> ((product >> 10) * size >> 22) & 1
        reader.done()
        return ones / sum(sizes)

    def column(self, chunk: Chunk) -> dict[int, Any]:
        """Row to value."""
        rows = self.valid[chunk.validity]
        place = Reader(chunk.place)
        values = self._values(chunk, place, rows)
        place.done()
        return dict(zip(rows, values, strict=True))

    def _values(self, chunk: Chunk, place: Reader, rows: list[int]) -> list[Any]:
        n = len(rows)
        if chunk.type in (INT, BOOL):
            ints = self._ints(chunk, place, n)
            assert min(ints) == chunk.low
            assert max(ints) == chunk.high
            return [bool(v) for v in ints] if chunk.type == BOOL else ints
        if chunk.type == FLOAT:
            return [struct.unpack("<d", bits)[0] for bits in self._floats(chunk, place, n)]
        if chunk.type == STRING:
            return self._strings(chunk, place, n)
        if chunk.type == TRACE_ID:
            return self._traces(chunk, place)
        if chunk.type == SPAN_ID:
            return self._span_ids(chunk, place, rows)
        assert chunk.encoding == 8
        is_json, blocks, offsets, sizes = (place.sequence(n) for _ in range(4))
        texts = [self._block(b)[o : o + s] for b, o, s in zip(blocks, offsets, sizes, strict=True)]
        return [(text, bool(j)) for text, j in zip(texts, is_json, strict=True)]

    def _ints(self, chunk: Chunk, place: Reader, n: int) -> list[int]:
        width = (chunk.high - chunk.low).bit_length()
        if chunk.encoding == 0:
            return [chunk.low] * n
        if chunk.encoding == 1:
            return place.packed(width, chunk.low, n)
        if chunk.encoding == 2:
            return place.runs(width, chunk.low, n)
        if chunk.encoding == 9:
            lowest = place.sequence((n + 127) // 128)
            return [signed(lowest[i // 128] + above) for i, above in enumerate(place.packed(place.number("B"), 0, n))]
        assert chunk.encoding == 3
        values = [place.zigzag()]
        for difference in place.sequence(n - 1):
            values.append(signed(values[-1] + difference))
        return values

    def _floats(self, chunk: Chunk, place: Reader, n: int) -> list[bytes]:
        if chunk.encoding == 0:
            return [chunk.low] * n
        if chunk.encoding == 1:
            return [struct.pack("<q", bits) for bits in place.sequence(n)]
        assert chunk.encoding == 4
        dictionary = [place.take(8) for _ in range(place.varint())]
        return [dictionary[code] for code in place.packed((len(dictionary) - 1).bit_length(), 0, n)]

    def _strings(self, chunk: Chunk, place: Reader, n: int) -> list[bytes]:
        if chunk.encoding == 0:
            return [chunk.low] * n
        sizes = [place.varint() for _ in range(place.varint())]
        dictionary = [place.take(size) for size in sizes]
        assert dictionary == sorted(set(dictionary))
        if chunk.low is not None:
            assert (chunk.low, chunk.high) == (dictionary[0], dictionary[-1])
        width = (len(dictionary) - 1).bit_length()
        assert chunk.encoding in (4, 5)
        codes = place.packed(width, 0, n) if chunk.encoding == 4 else place.runs(width, 0, n)
        return [dictionary[code] for code in codes]

    def _traces(self, chunk: Chunk, place: Reader) -> list[str]:
        for i, checksum in enumerate(chunk.id_checksums):
            checked(chunk.id_bytes[i * 4096 : (i + 1) * 4096], checksum)
        ids = [chunk.id_bytes[i : i + 16] for i in range(0, len(chunk.id_bytes), 16)]
        assert ids == sorted(set(ids))
        assert (chunk.low, chunk.high) == (int.from_bytes(ids[0][:8], "big"), int.from_bytes(ids[-1][:8], "big"))
        lengths, runs = place.sequence(chunk.ids), place.sequence(chunk.ids)
        by_run = dict(zip(runs, ids, strict=True))
        return [by_run[run].hex() for run, length in enumerate(lengths) for _ in range(length)]

    def _span_ids(self, chunk: Chunk, place: Reader, rows: list[int]) -> list[str]:
        if chunk.encoding == 1:
            return [f"{place.number('Q'):016x}" for _ in rows]
        assert chunk.encoding == 6
        spans = self.column(next(c for c in self.chunks if c.name == "span_id"))
        distances = [Reader(encode_varint(code)).zigzag() for code in place.sequence(len(rows))]
        return [
            spans[row - distance] if distance else f"{place.number('Q'):016x}"
            for row, distance in zip(rows, distances, strict=True)
        ]

    def spans(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [{} for _ in range(self.rows)]
        for chunk in self.chunks:
            for row, value in self.column(chunk).items():
                assert chunk.name not in found[row]
                found[row][chunk.name] = value
        starts = [span["start_ns"] for span in found]
        assert (min(starts), max(starts)) == (self.min_start, self.max_start)
        return found


def encode_varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def unsealed(value: bytes) -> Reader:
    content = checked(value[:-8], struct.unpack("<Q", value[-8:])[0])
    reader = Reader(content)
    assert reader.number("I") == 1
    return reader


def read_store(
    folder: Path, table: str = "segments", runs: dict[int, list[dict[str, Any]]] | None = None
) -> Iterator[dict[str, Any]]:
    """Every finished span of the store, or every cell of its rollups, or every score; `runs` gets them by segment."""
    with lmdb.open(str(folder), max_dbs=6, readonly=True, lock=False) as env:
        tables = {name: env.open_db(name.encode(), create=False) for name in ("meta", table, "chunks")}
        with env.begin() as txn:
            assert txn.get(b"format", db=tables["meta"]) == struct.pack("<Q", 4)
            assert len(txn.get(b"uuid", db=tables["meta"])) == 16
            (last,) = struct.unpack("<Q", txn.get(b"last_segment", default=bytes(8), db=tables["meta"]))
            for key, value in txn.cursor(tables[table]):
                assert struct.unpack(">Q", key)[0] <= last
                record = unsealed(value)
                rows, low, high = record.number("I"), record.number("q"), record.number("q")
                record.take(16)
                column_bytes, text_bytes, raw_bytes = (record.number("Q") for _ in range(3))
                columns_checksum, text_blocks = record.number("Q"), record.number("I")
                record.take(record.number("I") * 36)
                filter_bytes = record.number("Q") if record.at < len(record.data) else 0
                cells_bytes = record.number("Q") if record.at < len(record.data) else 0
                record.done()

                def load(n: int, key: bytes = key) -> bytes:
                    return bytes(txn.get(key + struct.pack(">I", n + 1), db=tables["chunks"]))

                data = bytes(txn.get(key + bytes(4), db=tables["chunks"]))
                segment = Segment(data, load)
                assert (segment.rows, segment.min_start, segment.max_start) == (rows, low, high)
                assert (len(data), segment.checksum) == (column_bytes, columns_checksum)
                assert len(segment.blocks) == text_blocks
                assert sum(block.stored for block in segment.blocks) == text_bytes
                assert sum(block.raw for block in segment.blocks) == raw_bytes
                if filter_bytes:
                    search_filter = bytes(txn.get(key + b"\xff" * 4, db=tables["chunks"]))
                    assert len(search_filter) == filter_bytes
                    assert 0.3 < segment.check_filter(search_filter) < 0.7
                spans = segment.spans()
                if cells_bytes:
                    cells = bytes(txn.get(key + b"\xff\xff\xff\xfe", db=tables["chunks"]))
                    assert len(cells) == cells_bytes
                    check_cells(cells, spans)
                if runs is not None:
                    runs[struct.unpack(">Q", key)[0]] = spans
                yield from spans


def check_runs(folder: Path) -> list[int]:
    """How many segments each of the store's runs has, whose cells are those of these segments' spans."""
    by_segment: dict[int, list[dict[str, Any]]] = {}
    assert list(read_store(folder, runs=by_segment))
    with lmdb.open(str(folder), max_dbs=6, readonly=True, lock=False) as env:
        table = env.open_db(b"runs", create=False)
        sizes = []
        with env.begin() as txn:
            for key, value in txn.cursor(table):
                reader = Reader(bytes(value))
                assert reader.number("I") == 1
                ids = [reader.number("Q") for _ in range(reader.number("I"))]
                end = reader.at
                checked(reader.data[:end], reader.number("Q"))
                assert bytes(key) == struct.pack(">QI", ids[0], len(ids))
                assert all(id in by_segment for id in ids), "nothing of what is gone is left"
                first = [min(span["start_ns"] for span in by_segment[id]) for id in ids]
                assert list(zip(first, ids, strict=True)) == sorted(zip(first, ids, strict=True))
                check_cells(reader.data[reader.at :], [span for id in ids for span in by_segment[id]])
                sizes.append(len(ids))
    return sizes


def check_cells(data: bytes, spans: list[dict[str, Any]]) -> None:
    """They count, add up and sketch the spans."""
    measures = ("duration_ns", "ttft_ns", "tpot_ns")
    reader = Reader(checked(data[8:], struct.unpack("<Q", data[:8])[0]))
    for buckets in range(reader.number("I")):
        column_bytes, *count_bytes = (reader.number("I") for _ in range(4))
        cells = Segment(reader.take(column_bytes), lambda _: b"").spans()
        counts = {}
        for m, size in zip(measures, count_bytes, strict=True):
            part = Reader(reader.take(size))
            counts[m] = part.sequence(part.varint())
            part.done()
        rows_of: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in (*spans, *cells):
            key = (*(row.get(name) for name in ("kind", "status", "model")), *(m in row for m in measures))
            bucket = row["start_ns"] // 300_000_000_000 * 300_000_000_000 if buckets else 0
            rows_of.setdefault((*key, bucket), []).append(row)
        assert len(rows_of) == len(cells), "one of each"
        for cell in cells:
            [rows] = [rows for rows in rows_of.values() if rows[-1] is cell]
            assert not buckets or cell["start_ns"] % 300_000_000_000 == 0
            assert buckets or cell["start_ns"] == min(span["start_ns"] for span in spans)
            assert rows.pop() is cell
            assert len(rows) == cell["count"]
            for m in measures:
                if m not in cell:
                    continue
                values = [row[m] for row in rows]
                assert (cell[f"{m}.count"], cell[f"{m}.sum"]) == (len(values), sum(values))
                assert (cell[f"{m}.min"], cell[f"{m}.max"]) == (min(values), max(values))
                if buckets and m == "duration_ns":
                    assert f"{m}.at" not in cell
                    continue
                sketched = counts[m][cell[f"{m}.at"] :][: cell[f"{m}.size"]]
                assert sum(sketched) == sum(value > 0 for value in values)
        assert sum(cell["count"] for cell in cells) == len(spans)
    reader.done()


def plain(value: Any) -> Any:
    """What was written: text as str, JSON parsed."""
    if isinstance(value, tuple):
        text, is_json = value
        return json.loads(text) if is_json else text.decode()
    return value.decode() if isinstance(value, bytes) else value


def test_worked_example_reads_as_its_table_says() -> None:
    block = re.search(r"```hexdump\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    data = b"".join(bytes.fromhex("".join(line.split("|")[0].split()[1:])) for line in block[1].splitlines())
    spans = Segment(data, lambda _: b"hi{}").spans()
    a, b = "0" * 31 + "a", "0" * 31 + "b"
    assert [{name: plain(value) for name, value in span.items()} for span in spans] == [
        {"trace_id": a, "span_id": "0" * 15 + "1", "name": "ask", "kind": "agent", "status": "ok", "start_ns": 1000,
         "duration_ns": 500, "input": "hi"},
        {"trace_id": a, "span_id": "0" * 15 + "2", "parent_id": "0" * 15 + "1", "name": "ask", "kind": "llm",
         "status": "ok", "start_ns": 1010, "duration_ns": 200, "model": "gpt-5", "input_tokens": 120},
        {"trace_id": b, "span_id": "0" * 15 + "3", "parent_id": "0" * 14 + "63", "name": "find", "kind": "tool",
         "status": "ok", "start_ns": 1250, "input": {}},
    ]  # fmt: skip


def make_rows(count: int) -> list[dict[str, Any]]:
    rows = []
    for i in range(count):
        row: dict[str, Any] = {
            "trace_id": f"{i // 7 * 0x9E3779B97F4A7C15 % 2**64 + 1:032x}",
            "span_id": f"{i + 1:016x}",
            "name": ["ask", "search", "answer"][i % 3],
            "kind": ["llm", "retriever", "agent"][i % 3],
            "status": "error" if i % 50 == 0 else "ok",
            "start_ns": 1_700_000_000_000_000_000 + i * 1_234_567,
            "duration_ns": i * i,
            "tenant": f"tenant-{i // 7 % 5}",
            "input": "what is " + "the answer to " * (i % 40) + str(i),
            "score": [0.5, 3, "high", True][i % 4],
            "cost_usd": i * 1.25e-6,
            "steps": list(range(i % 5)),
        }
        if i % 7:
            row["parent_id"] = f"{i:016x}"
        if i % 3 == 0:
            row |= {"model": f"model-{i % 11}", "output": "x" * (i % 13 * 200), "input_tokens": i, "flag": i % 2 == 0}
        if i == 5:
            row["output"] = "long " * 300_000
        rows.append(row)
    return rows


def test_a_reader_without_spanbox_finds_the_cells_of_a_settled_segment(tmp_path: Path) -> None:
    from spanbox import _core

    rows = [
        row | {"input": "", "ttft_ns": i % 7 * 1000, "model": f"model-{i % 2}"}
        for i, row in enumerate(make_rows(6000))
        if i != 5
    ]
    store = _core.Store(str(tmp_path / "s"), True)
    assert store.append(rows) == len(rows)
    before = store.info()["column_bytes"]
    store.compact()
    assert store.info()["column_bytes"] > before  # with cells
    assert len(list(read_store(tmp_path / "s"))) == len(rows)


def test_a_reader_without_spanbox_finds_the_cells_of_a_run_of_segments(tmp_path: Path) -> None:
    import spanbox

    folder = unpack(STORE_WITH_A_RUN, tmp_path / "s")
    assert check_runs(folder) == [16]
    box = spanbox.open(folder, create=False)
    assert box.spans().count() == 17 * 1500
    by_kind = list(box.spans().by("kind").agg(n="count()", most="max(duration)"))
    assert by_kind == [
        {"kind": "llm", "n": 17_000, "most": 2_075_000},
        {"kind": "tool", "n": 8_500, "most": 2_075_000},
    ]
    assert box.verify()["problems"] == []
    [trace] = box.spans("user_id ~ 'number 7000 '").columns("trace_id").to_arrow().column("trace_id").to_pylist()
    assert box.erase(f"trace_id == '{trace}'")
    assert check_runs(folder) == [], "what is erased is in no run"


@pytest.mark.parametrize("state", ["committed", "merged", "settled"])
def test_a_reader_without_spanbox_finds_every_value(tmp_path: Path, state: str) -> None:
    from spanbox import _core

    rows = make_rows(700)
    store = _core.Store(str(tmp_path / "s"), True)
    for begin in range(0, len(rows), 20):
        assert store.append(rows[begin : begin + 20]) == 20
    if state == "merged":
        assert store.merge() > 0
    if state == "settled":
        store.compact()
    found = [{name: plain(value) for name, value in span.items()} for span in read_store(tmp_path / "s")]
    assert sorted(found, key=lambda span: span["span_id"]) == rows


def sketch_quantile(data: bytes, q: float) -> float:
    """Of positive numbers."""
    reader = Reader(data)
    assert reader.number("B") == 1
    assert reader.number("d") == 0.01
    count, zeros = reader.number("Q"), reader.number("Q")
    reader.take(24)
    first = reader.number("i")
    counts = [reader.number("Q") for _ in range(reader.number("I"))]
    assert (sum(counts), zeros) == (count, 0)
    rank, seen, index = math.floor(q * (count - 1)), 0, first - 1
    while seen <= rank:
        index += 1
        seen += counts[index - first]
    a = 0.01 * (1 - 1e-9)
    step = 7 / (10 * math.log((1 + a) / (1 - a)))

    def log(v: float) -> float:
        mantissa, exponent = math.frexp(v)
        s = 2 * mantissa - 1
        return exponent - 1 + ((6 / 35 * s - 3 / 5) * s + 10 / 7) * s

    low, high = 1.0, 2.0**63
    for _ in range(200):  # the number whose index begins here
        middle = (low + high) / 2
        low, high = (low, middle) if math.floor(log(middle) * step) >= index else (middle, high)
    return high * 1.01


def test_a_reader_without_spanbox_finds_what_sampling_left(tmp_path: Path) -> None:
    import spanbox

    spanbox.configure(tmp_path / "s", sampling=spanbox.Sampling(0), full_ring="block")
    for i in range(90):
        with spanbox.span(f"step {i % 3}", kind="llm", model="m", output_tokens=i, cost_usd=0.25):
            pass
    assert spanbox.flush(60)
    assert spanbox.flush(60)
    spanbox.configure(tmp_path / "elsewhere", sampling=spanbox.Sampling(), full_ring="wait")
    median = spanbox.open(tmp_path / "s").spans().quantile("duration", 0.5)

    cells = list(read_store(tmp_path / "s", "rollups"))
    assert sum(cell["count"] for cell in cells) == 90
    assert {plain(cell["name"]) for cell in cells} == {"step 0", "step 1", "step 2"}
    assert sum(cell["output_tokens.sum"] for cell in cells) == sum(range(90))
    assert min(cell["output_tokens.min"] for cell in cells) == 0
    assert max(cell["output_tokens.max"] for cell in cells) == 89
    assert sum(cell["cost_usd.sum"] for cell in cells) == 22.5
    for cell in cells:
        assert (plain(cell["kind"]), plain(cell["model"]), cell["start_ns"] % 300_000_000_000) == ("llm", "m", 0)
        assert cell["duration_ns.count"] == cell["count"]
        for q in (0, 0.5, 1):
            value = sketch_quantile(cell["duration_ns.sketch"][0], q)
            assert 0.97 * cell["duration_ns.min"] <= value <= 1.03 * cell["duration_ns.max"]
    if len(cells) == 3:  # all of a commit: the medians lie around the whole's
        medians = sorted(sketch_quantile(cell["duration_ns.sketch"][0], 0.5) for cell in cells)
        assert 0.97 * medians[0] <= median <= 1.03 * medians[-1]


def test_a_reader_without_spanbox_finds_the_scores(tmp_path: Path) -> None:
    import spanbox

    box = spanbox.open(tmp_path / "s", create=True)
    trace, span, why = "0a" * 16, "0b" * 8, " ".join(map(str, range(700)))
    box.score("q", 0.5, trace_id=trace, span_id=span, label="good", explanation=why, at_ns=7, metadata={"k": 3})
    box.score("q", True, trace_id=trace, source="human", evaluator="me", version="1", at_ns=8)
    box.compact()
    of_span, of_trace = sorted(read_store(tmp_path / "s", "scores"), key=lambda score: score["start_ns"])
    told = {name: plain(value) for name, value in of_span.items()}
    assert (told["name"], told["value"], told["label"], told["k"], told["source"]) == ("q", 0.5, "good", 3, "rule")
    assert told["explanation"] == why
    assert (of_span["start_ns"], of_trace["start_ns"]) == (7, 8)
    assert (of_span["span_id"], of_trace["span_id"]) == (span, "0" * 16)
    assert of_span["trace_id"] == of_trace["trace_id"] == trace
    told = {name: plain(value) for name, value in of_trace.items()}
    assert (told["value"], told["source"], told["evaluator"], told["version"]) == (True, "human", "me", "1")


def rows_of_old_store(packed: Path) -> list[dict[str, Any]]:
    """What it holds: 140 rows, and where segments have cells as many calls as these need."""
    rows = make_rows(140)
    rows[5]["output"] = "long " * 600
    if packed.name < "store-format-4":
        return rows
    calls: list[dict[str, Any]] = [
        {
            "trace_id": f"{i // 2 + 1_000_000:032x}",
            "span_id": f"{i + 10_000:016x}",
            "name": "call",
            "kind": "llm" if i % 2 else "tool",
            "status": "ok",
            "start_ns": 1_700_000_000_000_000_000 + i * 200_000_000,
            "duration_ns": i * 0x9E3779B97F4A7C15 % 2**36,
        }
        for i in range(4000)
    ]
    for i, call in enumerate(calls):
        if i % 2:
            call |= {"model": "model-1", "ttft_ns": call["duration_ns"] % 1_000_003}
    return rows + calls


def unpack(packed: Path, folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    data = folder / "data.mdb"
    data.write_bytes(lzma.decompress(packed.read_bytes()))
    data.chmod(0o600)
    return folder


def test_there_is_an_old_store_of_the_format_that_is_written(tmp_path: Path) -> None:
    from spanbox import _core

    newest = _core.Store(str(tmp_path / "s"), True).info()["format"]
    assert OLD_STORES[-1].name == f"store-format-{newest}.mdb.xz"
    folder = unpack(OLD_STORES[-1], tmp_path / "old")
    assert len(list(read_store(folder))) == len(rows_of_old_store(OLD_STORES[-1]))
    with lmdb.open(str(folder), max_dbs=9, readonly=True) as environment, environment.begin() as txn:
        chunks = environment.open_db(b"chunks", txn, create=False)
        assert any(key.endswith(b"\xff\xff\xff\xfe") for key, _ in txn.cursor(chunks))  # cells


@pytest.mark.parametrize("packed", OLD_STORES, ids=lambda path: path.name)
def test_every_value_of_an_old_store_is_read_and_can_be_packed_anew(packed: Path, tmp_path: Path) -> None:
    import spanbox
    from spanbox import _core

    store = _core.Store(str(unpack(packed, tmp_path / "s")), False)
    expected = rows_of_old_store(packed)
    for change in (lambda: None, store.merge, store.compact):
        change()
        box = spanbox.open(tmp_path / "s", create=False)
        table = box.spans().to_arrow().to_pylist()
        assert len(table) == len(expected)
        for got, row in zip(sorted(table, key=lambda r: r["span_id"]), expected, strict=True):
            assert got["output"] == row.get("output")
            assert (got["trace_id"], got["name"], got["duration_ns"]) == (
                row["trace_id"],
                row["name"],
                row["duration_ns"],
            )
        assert store.verify()["problems"] == []
