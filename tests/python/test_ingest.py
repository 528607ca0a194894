"""Box.ingest(): tables of pyarrow, polars, pandas and DuckDB, Parquet and JSON lines become spans, once each."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import spanbox
from spanbox import Box

START_NS = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z
START = datetime(2026, 1, 1, tzinfo=UTC)


def table(rows: int, **columns: Any) -> pa.Table:
    """A table of spans with the least that spans need, and `columns`."""
    return pa.table({"start_ns": pa.array(range(START_NS, START_NS + rows), pa.int64()), **columns})


def rows_of(box: Box, filter: str = "") -> list[dict[str, Any]]:
    return list(box.spans(filter))


def attribute(box: Box, values: pa.Array) -> list[Any]:
    """What a column of these values comes back as."""
    box.ingest(table(len(values), x=values))
    return [row.get("x") for row in box.spans().columns("x")]


def test_canonical_columns_become_the_parts_of_a_span(box: Box) -> None:
    report = box.ingest(
        pa.table(
            {
                "trace_id": ["0af7651916cd43dd8448eb211c80319c", "0AF7651916CD43DD8448EB211C80319C"],
                "span_id": pa.array([b"\x00\xf0\x67\xaa\x0b\xa9\x02\xb7", b"\x01" * 8], pa.binary(8)),
                "parent_id": ["0000000000000000", "00f067aa0ba902b7"],
                "name": pa.array(["agent", "chat"]).dictionary_encode(),
                "kind": ["agent", "LLM"],
                "status": ["unset", "ERROR"],
                "start": pa.array([START, START + timedelta(seconds=1)], pa.timestamp("ms", "Europe/Berlin")),
                "end": pa.array(
                    [START + timedelta(seconds=3), START + timedelta(seconds=2.5)], pa.timestamp("us", "UTC")
                ),
                "ttft": pa.array([None, timedelta(milliseconds=250)], pa.duration("ms")),
                "input_tokens": pa.array([None, 12.0], pa.float64()),
                "cost": pa.array([None, 1], pa.int32()),
                "user_id": pa.array([7, None], pa.int16()),
                "input": pa.array([None, [{"role": "user", "content": "hé"}]]),
                "retries": pa.array([0, 3], pa.uint8()),
            }
        )
    )
    assert (report.rows, report.skipped, report.bad) == (2, 0, 0)
    root, child = box._store.trace("0af7651916cd43dd8448eb211c80319c")
    assert (root["span_id"], root["parent_id"], root["kind"], root["status"]) == (
        "00f067aa0ba902b7",
        None,
        "agent",
        "ok",
    )
    assert (root["start_ns"], root["duration_ns"]) == (START_NS, 3_000_000_000)
    assert root["attributes"] == {"user_id": "7", "retries": 0}
    assert (child["depth"], child["kind"], child["status"]) == (1, "llm", "error")
    assert child["duration_ns"] == 1_500_000_000
    assert child["attributes"] == {
        "ttft_ns": 250_000_000,
        "input_tokens": 12,
        "cost_usd": 1.0,
        "input": [{"role": "user", "content": "hé"}],
        "retries": 3,
    }


LAYOUTS = [
    (pa.array([1, None, -3], pa.int8()), [1, None, -3]),
    (pa.array([2**63 - 1, None], pa.uint64()), [2**63 - 1, None]),
    (pa.array([2**64 - 1], pa.uint64()), [str(2**64 - 1)]),
    (pa.array(np.array([1.5, -2.0, 65504.0, 6e-8], np.float16)), [1.5, -2.0, 65504.0, 5.960464477539063e-08]),
    (pa.array([1.5, None], pa.float32()), [1.5, None]),
    (pa.array([True, None, False]), [True, None, False]),
    (pa.array(["a", None, "é" * 40, ""]), ["a", None, "é" * 40, ""]),
    (pa.array(["a", None, "too long to be inline"], pa.string_view()), ["a", None, "too long to be inline"]),
    (pa.array(["a", None], pa.large_string()), ["a", None]),
    (pa.array([b"text", b"\xff\x00"], pa.binary()), ["text", '{"$bytes":"/wA="}']),
    (pa.array([b"in a view that is not short"], pa.binary_view()), ["in a view that is not short"]),
    (pa.array(["x", None, "y", "x"]).dictionary_encode(), ["x", None, "y", "x"]),
    (pa.array([5, 6, 5], pa.int64()).dictionary_encode(), [5, 6, 5]),
    (pa.DictionaryArray.from_arrays(pa.array([0, 1, None], pa.uint8()), pa.array([None, "v"])), [None, "v", None]),
    (pa.array([1_500], pa.timestamp("ms", "UTC")), ["1970-01-01T00:00:01.5Z"]),
    (pa.array([-1], pa.timestamp("ns")), ["1969-12-31T23:59:59.999999999"]),
    (pa.array([2], pa.duration("s")), [2_000_000_000]),
    (pa.array([date(2026, 2, 28)], pa.date32()), ["2026-02-28"]),
    (pa.array([date(1969, 2, 28)], pa.date64()), ["1969-02-28"]),
    (pa.array([3_601_000], pa.time32("ms")), ["01:00:01"]),
    (pa.array([None, None], pa.null()), [None, None]),
    (pa.array([Decimal("12"), Decimal("-7")], pa.decimal128(20, 0)), [12, -7]),
    (pa.array([Decimal("12.50")], pa.decimal128(5, 2)), [12.5]),
    (pa.array([[1, None], [], None]), ["[1,null]", "[]", None]),
    (pa.array([[1.0, 2.5]], pa.list_(pa.float64(), 2)), ["[1.0,2.5]"]),
    (pa.array([["a"], ["b", "c"]], pa.large_list(pa.string())), ['["a"]', '["b","c"]']),
    (pa.array([{"a": 1, "b": None}, None]), ['{"a":1,"b":null}', None]),
    (pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())), ['{"k":1}', "{}"]),
    (pa.array([[(1, True)]], pa.map_(pa.int64(), pa.bool_())), ['{"1":true}']),
    (pa.array([{"at": [START]}]), ['{"at":["2026-01-01T00:00:00Z"]}']),
]  # fmt: skip


@pytest.mark.parametrize(("values", "expected"), LAYOUTS, ids=[str(values.type) for values, _ in LAYOUTS])
def test_every_layout_is_read(box: Box, values: pa.Array, expected: list[Any]) -> None:
    assert attribute(box, values) == expected


@pytest.mark.parametrize(("values", "expected"), LAYOUTS, ids=[str(values.type) for values, _ in LAYOUTS])
def test_every_layout_is_read_from_the_middle_of_an_array(box: Box, values: pa.Array, expected: list[Any]) -> None:
    """An array may begin anywhere in its buffers, and so may the struct around it."""
    padded = pa.concat_arrays([values] * 11).slice(len(values) * 10)
    batch = pa.RecordBatch.from_pydict({"start_ns": pa.array(range(len(values)), pa.int64()), "x": padded})
    box.ingest(pa.Table.from_batches([batch.slice(len(values) - 1)]))
    assert [row.get("x") for row in box.spans().columns("x")] == expected[-1:]


REFUSED = [
    (pa.array([1]), "start", r'column "start" holds no moments: cast it to a timestamp, or name it start_ns'),
    (pa.array([1.5]), "duration", r'column "duration" holds no lengths of time: cast it to a duration, or name it'),
    (pa.array([250]), "ttft", r'column "ttft" has no unit: cast it to a duration, or name it ttft_ns'),
    (pa.array(["noon"]), "start", r'column "start": "noon" is no moment: write 2026-'),
    (pa.array(["abc"]), "trace_id", r'column "trace_id": an id is 32 hexadecimal digits or 16 bytes, not "abc"'),
    (pa.array([5]), "span_id", r'column "span_id": an id is 16 hexadecimal digits or 8 bytes'),
    (pa.array(["robot"]), "kind", r'column "kind": "robot" is none of span, llm, embedding'),
    (pa.array(["fine"]), "status", r'column "status": "fine" is none of ok, error, running, interrupted'),
    (pa.array([2**62], pa.timestamp("s")), "start", r'column "start": the value is out of range of nanoseconds'),
]  # fmt: skip


@pytest.mark.parametrize(("values", "name", "message"), REFUSED)
def test_value_that_cannot_be_meant_is_refused_with_its_place(
    box: Box, values: pa.Array, name: str, message: str
) -> None:
    columns = {"start_ns": pa.array([1], pa.int64()), name: values}
    if name == "start":
        del columns["start_ns"]
    with pytest.raises(ValueError, match="^row 0: " + message):
        box.ingest(pa.table(columns))
    assert box.spans().count() == 0


def test_wrong_row_is_named_and_its_commit_is_not_stored(box: Box) -> None:
    kinds = ["llm"] * 70_000
    kinds[66_000] = "robot"
    with pytest.raises(ValueError, match=r'^row 66000: column "kind"'):
        box.ingest(table(70_000, kind=kinds))
    assert box.spans().count() == 65_536
    other = spanbox.open(box.path.parent / "other", create=True)
    report = other.ingest(table(70_000, kind=kinds), skip_bad=True)
    assert (report.rows, report.bad, len(report.problems)) == (69_999, 1, 1)
    assert other.spans().count() == 69_999


UNREADABLE = [
    (pa.array([Decimal("1.5")], pa.decimal256(50, 1)), r'"x" has the Arrow type decimal .*: cast it to float64'),
    (pa.RunEndEncodedArray.from_arrays([1], [5]), r'"x" has the Arrow type run-end .*: cast it to the type'),
    (pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]), r'"x" has the Arrow type union'),
    (pa.array([(1, 2, 3)], pa.month_day_nano_interval()), r'"x" has the Arrow type interval .*a duration'),
]  # fmt: skip


@pytest.mark.parametrize(("values", "message"), UNREADABLE, ids=lambda value: getattr(value, "type", ""))
def test_type_that_is_not_read_is_an_error_that_says_what_to_cast_to(box: Box, values: pa.Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        box.ingest(table(1, x=values))


def test_table_without_a_start_is_refused(box: Box) -> None:
    with pytest.raises(ValueError, match=r"needs a column `start` \(timestamp\) or `start_ns`; it has name, kind"):
        box.ingest(pa.table({"name": ["a"], "kind": ["llm"]}))
    with pytest.raises(ValueError, match='two columns that mean the same as "start"'):
        box.ingest(pa.table({"start_ns": [1], "start": [START]}))
    box.ingest(pa.table({"end": [START], "duration": [timedelta(seconds=1)]}))
    assert rows_of(box)[0]["start"] == START_NS - 1_000_000_000


def test_what_is_no_table_is_a_type_error(box: Box) -> None:
    with pytest.raises(TypeError, match="list is no table: give an object with __arrow_c_stream__"):
        box.ingest([{"start_ns": 1}])
    with pytest.raises(TypeError, match=r"LazyFrame is no table.*\.collect\(\) it first"):
        box.ingest(pl.LazyFrame({"start_ns": [1]}))
    with pytest.raises(ValueError, match="holds single values, no table"):
        box.ingest(pa.chunked_array([[1, 2]]))


def test_frames_of_every_library_are_taken(box: Box) -> None:
    frame = pd.DataFrame({"start": pd.to_datetime([START_NS], utc=True), "name": ["pandas"], "tokens": [float("nan")]})
    box.ingest(frame)
    box.ingest(frame.assign(name="indexed").set_index("start"))
    box.ingest(pl.DataFrame({"start": [START], "name": ["polars"], "tags": [["a", "b"]]}))
    connection = duckdb.connect()
    box.ingest(
        connection.sql("select timestamptz '2026-01-01 00:00:00+00' as start, 'duckdb' as name, 5::hugeint as n")
    )
    batches = pa.RecordBatchReader.from_batches(pa.schema({"start_ns": pa.int64()}), iter([]))
    assert box.ingest(batches).rows == 0
    rows = {row["name"]: row for row in rows_of(box)}
    assert rows.keys() == {"pandas", "indexed", "polars", "duckdb"}
    assert {row["start"] for row in rows.values()} == {START_NS}
    assert rows["polars"]["tags"] == '["a","b"]'
    assert rows["duckdb"]["n"] == 5


def test_error_of_the_producer_is_told(box: Box) -> None:
    def batches() -> Any:
        yield pa.record_batch({"start_ns": pa.array([1], pa.int64())})
        raise RuntimeError("the disk is gone")

    reader = pa.RecordBatchReader.from_batches(pa.schema({"start_ns": pa.int64()}), batches())
    with pytest.raises(ValueError, match=r"the Arrow stream failed: .*the disk is gone"):
        box.ingest(reader)


def test_text_that_is_no_utf8_is_mended(box: Box) -> None:
    wrong = pa.array([b"a\xffb", b"ok"]).view(pa.string())
    assert attribute(box, wrong) == ["a\ufffdb", "ok"]


def test_ids_that_are_missing_are_made_up_the_same_every_time(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "start_ns": pa.array([START_NS, START_NS, START_NS], pa.int64()),
            "trace_id": [None, "", "0af7651916cd43dd8448eb211c80319c"],
            "name": ["same", "same", "other"],
        }
    )

    def ids(folder: str, of: pa.Table) -> list[tuple[str, str]]:
        box = spanbox.open(tmp_path / folder, create=True)
        box.ingest(of)
        return sorted((row["trace_id"], row["span_id"]) for row in box.spans())

    first, again = ids("a", rows), ids("b", pa.concat_tables([rows.slice(0, 2), rows.slice(2)]))
    assert first == again
    assert len(set(first)) == 3
    assert len({trace for trace, _ in first}) == 3
    assert first != ids("c", rows.set_column(2, "name", [["same", "changed", "other"]]))
    made_up = next(trace for trace, _ in first if trace != "0af7651916cd43dd8448eb211c80319c")
    assert int(made_up[:12], 16) == START_NS // 1_000_000  # ids sort by time


# --- names: continuing, and never twice ------------------------------------------------------------------------------


def test_named_ingest_goes_on_behind_the_last_row(box: Box) -> None:
    assert box.ingest(table(100), name="log").rows == 100
    grown = box.ingest(table(130), name="log")
    assert (grown.rows, grown.skipped) == (30, 100)
    assert (box.ingest(table(130), name="log").rows, box.ingest(table(130), name="other").rows) == (0, 130)
    assert box.spans().count() == 260


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "jsonl.gz"])
def test_file_is_ingested_once_until_it_changes(box: Box, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"spans.{kind}"

    def write(rows: int) -> None:
        if kind == "parquet":
            pq.write_table(table(rows), path, row_group_size=40)
        else:
            text = "".join(json.dumps({"start_ns": START_NS + i}) + "\n" for i in range(rows)).encode()
            path.write_bytes(gzip.compress(text) if kind.endswith("gz") else text)

    write(100)
    assert (box.ingest(path).rows, box.ingest(str(path)).rows) == (100, 0)
    assert box.ingest(path).skipped == 100
    assert box.ingest(path, name="mine").rows == 100
    write(150)
    assert box.ingest(path, name="mine").rows == 50
    assert box.ingest(path).rows == 150


def test_killed_ingest_continues_and_stores_every_row_once(tmp_path: Path) -> None:
    path = tmp_path / "spans.parquet"
    rows = 400_000
    pq.write_table(table(rows, number=pa.array(range(rows))), path, row_group_size=100_000)
    script = textwrap.dedent(
        """
        import os, signal, sys, spanbox
        from spanbox._ingest import ingest

        def stop(done, total):
            if done >= int(sys.argv[1]):
                os.kill(os.getpid(), signal.SIGKILL)

        ingest(spanbox._core.Store("store", True), "spans.parquet", progress=stop)
        """
    )
    for at in (1, 150_000, 300_000):
        done = subprocess.run([sys.executable, "-c", script, str(at)], cwd=tmp_path, check=False)
        assert done.returncode == -signal.SIGKILL
    box = spanbox.open(tmp_path / "store")
    stored = box.spans().count()
    assert 300_000 <= stored < rows
    report = box.ingest(path)
    assert (report.rows, report.skipped) == (rows - stored, stored)
    assert box.spans().by().agg(n="count()", distinct="distinct(number)", last="max(number)").column("distinct") == [
        rows
    ]
    assert box.verify()["problems"] == []


def test_two_ingests_of_one_name_at_once_store_nothing_twice(box: Box) -> None:
    mine = spanbox._core.Ingest(box._store, "both", False)
    box.ingest(table(10), name="both")
    mine.take_arrow(table(10).__arrow_c_stream__())
    with pytest.raises(spanbox.StoreError, match='the ingest "both" is at row 10 and not at 0: another one'):
        mine.step()
    assert box.spans().count() == 10


# --- JSON lines ------------------------------------------------------------------------------------------------------


def test_json_lines_keep_the_type_of_every_value(box: Box, tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    lines = [
        '\ufeff{"start": "2026-01-01T00:00:00Z", "name": "é \\u00e9", "n": 1, "duration_ns": 5}',
        "",
        '{"start": "2026-01-01T01:00:00.000000001+01:00", "n": 1.0, "end": "2026-01-01 00:00:01"}',
        '{"start_ns": 1767225600000000002, "n": "one", "deep": {"a": [1, {"b": null}]}}\r',
        '{"start_ns": 1767225600000000003, "n": true, "big": 18446744073709551615, "none": null}',
    ]
    path.write_text("\n".join(lines))  # the last one without a line break
    assert box.ingest(path).rows == 4
    spans = [box._store.trace(row["trace_id"])[0] for row in box.spans().columns("trace_id")]
    assert [span["start_ns"] - START_NS for span in spans] == [0, 1, 2, 3]
    assert [span["duration_ns"] for span in spans] == [5, 999_999_999, None, None]
    assert [span["attributes"]["n"] for span in spans] == [1, 1.0, "one", True]
    assert [type(span["attributes"]["n"]) for span in spans] == [int, float, str, bool]
    assert spans[0]["name"] == "é é"
    assert spans[2]["attributes"]["deep"] == {"a": [1, {"b": None}]}
    assert spans[3]["attributes"] == {"n": True, "big": "18446744073709551615"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not valid JSON"),
        ('{"start_ns": NaN}', "not valid JSON"),
        ("[1]", "no JSON object"),
        ('{"name": "x"}', "it has no start"),
        ('{"start_ns": "soon"}', '"soon" is no moment'),
        ('{"start_ns": 1, "": 2}', "a key is empty"),
        ('{"start_ns": 1, "x": "\udcff"}', "not valid JSON"),
        ("[" * 2000, "not valid JSON"),
    ],
)
def test_wrong_line_is_named(box: Box, tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "spans.jsonl"
    path.write_bytes(b'{"start_ns": 1}\n\n' + line.encode("utf-8", "surrogateescape") + b'\n{"start_ns": 2}')
    with pytest.raises(ValueError, match=rf"spans\.jsonl: line 3: .*{message}"):
        box.ingest(path)
    assert box.spans().count() == 0
    report = box.ingest(path, skip_bad=True)
    assert (report.rows, report.bad) == (2, 1)
    assert report.problems[0].startswith("line 3: ")


def test_damaged_files_are_errors(box: Box, tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b'{"start_ns": 1}\n' * 1000)[:-20])
    with pytest.raises(ValueError, match="damaged gzip file"):
        box.ingest(tmp_path / "cut.gz")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(ValueError, match=r"cut\.parquet: "):
        box.ingest(tmp_path / "cut.parquet")
    with pytest.raises(FileNotFoundError):
        box.ingest(tmp_path / "nowhere.jsonl")


def test_ingest_needs_no_pyarrow_for_frames_and_json_lines(tmp_path: Path) -> None:
    (tmp_path / "spans.jsonl").write_text('{"start_ns": 1}\n')
    script = (
        "import sys; sys.modules['pyarrow'] = None; import spanbox, polars; box = spanbox.open('s', create=True)\n"
        "box.ingest('spans.jsonl'); box.ingest(polars.DataFrame({'start_ns': [2]})); assert box.spans().count() == 2\n"
        "open('x.parquet', 'wb').write(b'PAR1')\n"
        "try: box.ingest('x.parquet')\n"
        "except ImportError as e: assert 'pip install pyarrow' in str(e)\nelse: raise SystemExit(1)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, env={**os.environ})
