"""What leaves a store: Arrow streams, Parquet, polars' lazy frames and SQL, checked against polars and DuckDB."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import spanbox
from spanbox import Box, _core

START_NS = 1_767_225_600_000_000_000
MANY = 300_000  # more than one slice of a stream


def make_rows(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Spans with every kind of value, absent ones among them."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        row: dict[str, Any] = {
            "trace_id": f"{i // 3 + 1:032x}",
            "span_id": f"{i + 1:016x}",
            "start_ns": START_NS + rng.randrange(10**12),
            "name": rng.choice(["plan", "chat", "é"]),
            "kind": rng.choice(["llm", "tool", "agent"]),
            "status": rng.choice(["ok", "ok", "error"]),
        }
        optional = {
            "parent_id": f"{i // 3 * 3 + 1:016x}",
            "duration_ns": rng.randrange(10**10),
            "ttft_ns": rng.randrange(10**9),
            "model": rng.choice(["gpt-5", "claude", 'q"uo`te\\']),
            "cost_usd": rng.choice([0.01, 0.5, math.nan, rng.random()]),
            "input_tokens": rng.randrange(5000),
            "input": rng.choice(["hello", {"role": "user", "n": [1, 2.5, None, True]}, [1], "long text " * 60]),
            "output": rng.choice(["done", ""]),
            "flag": rng.random() < 0.5,
            "score": rng.random(),
            "top k": rng.randrange(20),
            "mixed": rng.choice([1, 2.5, "three", True]),
            "numbers": rng.choice([1, 2.5]),
            "tags": {"a": rng.randrange(3)},
        }
        rows.append(row | {key: value for key, value in optional.items() if rng.random() < 0.7})
    return rows


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Box:
    box = spanbox.open(tmp_path_factory.mktemp("full") / "store", create=True)
    rows = make_rows(3_000)
    for begin in range(0, len(rows), 1_000):
        box._store.append(rows[begin : begin + 1_000])
    return box


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Box:
    """More spans than fit one slice, in no order of time, with an attribute that only some segments have."""
    box = spanbox.open(tmp_path_factory.mktemp("large") / "store", create=True)
    order = list(range(MANY))
    random.Random(5).shuffle(order)
    table = pa.table(
        {
            "start_ns": pa.array([START_NS + each * 1000 for each in order], pa.int64()),
            "name": pa.array([f"step-{each % 7}" for each in order]).dictionary_encode(),
            "number": pa.array(order, pa.int64()),
            "changing": pa.array([None] * (MANY - 10) + list(range(10)), pa.int64()),
            "user_id": [f"user-{each}" for each in order],
        }
    )
    box.ingest(table)
    box._store.append(
        [{"trace_id": "1" * 32, "span_id": "1" * 16, "start_ns": START_NS + MANY * 1000, "changing": "text"}]
    )
    return box


def spans_of(box: Box) -> list[Any]:
    """Every span with its attributes and their types."""
    return [
        json.dumps(span, sort_keys=True)
        for trace_id in sorted({row["trace_id"] for row in box.spans().columns("trace_id")})
        for span in sorted(box._store.trace(trace_id), key=lambda span: span["span_id"])
    ]


# --- Arrow -----------------------------------------------------------------------------------------------------------


def test_every_column_arrives_with_its_values(full: Box) -> None:
    table = full.spans().to_arrow()
    expected = list(full.spans())
    assert table.column_names == [*expected[0], "spanbox.types"]
    table = table.drop_columns("spanbox.types")
    for name in table.column_names:
        got = table.column(name)
        values = got.cast(pa.int64()).to_pylist() if name == "start" else got.to_pylist()
        wanted = [row[name] for row in expected]
        assert all(a == b or (a != a and b != b) for a, b in zip(values, wanted, strict=True)), name


def test_types_of_the_columns(full: Box) -> None:
    schema = full.spans().to_arrow().schema
    words = pa.dictionary(pa.int32(), pa.string())
    expected = {
        "trace_id": pa.string(), "span_id": pa.string(), "parent_id": pa.string(), "name": words, "kind": words,
        "status": words, "start": pa.timestamp("ns", "UTC"), "duration_ns": pa.int64(), "ttft_ns": pa.int64(),
        "model": words, "input_tokens": pa.int64(), "cost_usd": pa.float64(), "input": pa.string(),
        "output": pa.string(), "flag": pa.bool_(), "mixed": words, "numbers": pa.float64(), "score": pa.float64(),
        "tags": words, "top k": pa.int64(), "cost_source": words, "price_version": words, "spanbox.types": words,
    }  # fmt: skip
    assert {field.name: field.type for field in schema} == expected
    assert pa.schema(full.spans()) == schema, "__arrow_c_schema__ tells the same without the rows"
    assert {field.name for field in schema if field.metadata} == {"input", "tags"}


def test_large_answers_come_in_batches_and_slices_in_order(large: Box) -> None:
    reader = pa.RecordBatchReader.from_stream(large.spans())
    batches = list(reader)
    assert len(batches) > MANY // 65_536
    assert max(batch.num_rows for batch in batches) <= 65_536
    table = pa.Table.from_batches(batches)
    assert table.num_rows == MANY + 1
    assert table.column("number").to_pylist() == [*range(MANY), None]
    assert table.column("user_id").to_pylist()[:2] == ["user-0", "user-1"]
    changing = {value for value in table.column("changing").to_pylist() if value is not None}
    assert changing == {str(i) for i in range(10)} | {"text"}, "one type in every slice"


def test_slices_obey_filter_limit_and_columns(large: Box) -> None:
    spans = large.spans('name == "step-3" or number >= 10')
    assert spans.limit(280_000).columns("number").to_arrow().column("number").to_pylist() == [3, *range(10, 280_009)]
    assert large.spans("number < 5").to_arrow().num_rows == 5
    assert large.spans(since=START_NS + 100_000, until=START_NS + 300_000).to_polars().height == 200
    ordered = large.spans("number < 5").columns("number").order_by("number", descending=True)
    assert ordered.to_arrow().column("number").to_pylist() == [4, 3, 2, 1, 0]


def test_stream_can_be_read_again_and_by_two_at_once(large: Box) -> None:
    stream = _core.SpanStream(large._store, "", None, None, ["number"], None, True)
    first, second = pa.RecordBatchReader.from_stream(stream), pa.RecordBatchReader.from_stream(stream)
    assert next(first).equals(next(second))
    assert sum(table.rows for table in stream) == MANY + 1


def test_what_was_handed_over_outlives_the_store(tmp_path: Path) -> None:
    box = spanbox.open(tmp_path / "s", create=True)
    box._store.append(make_rows(100))
    table, expected = box.spans().to_arrow(), [row["name"] for row in box.spans()]
    reader = pa.RecordBatchReader.from_stream(box.spans())
    del box
    assert table.column("name").to_pylist() == expected
    assert reader.read_all().num_rows == 100


def test_damaged_text_is_mended_before_it_is_handed_over(box: Box) -> None:
    box._store.append(
        [{"trace_id": "1" * 32, "span_id": "1" * 16, "start_ns": 1, "name": "a\ud800b", "output": "\udfff" * 300}]
    )
    table = box.spans().to_arrow()
    table.validate(full=True)
    assert box.spans().to_polars().height == 1


def test_empty_store_gives_an_empty_table(box: Box) -> None:
    assert box.spans().to_arrow().num_rows == 0
    assert box.spans().columns("name", "ttft_ns").to_arrow().schema.names == ["name", "ttft_ns"]
    assert box.scan_polars().collect().height == 0
    assert list(box.sql("select 1 as one")) == [{"one": 1}]
    with pytest.raises(ValueError, match="there are no spans"):
        box.to_parquet(box.path / "x.parquet")


# --- there and back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_ingest_of_what_was_handed_over_gives_the_same_spans(tmp_path: Path, seed: int) -> None:
    box = spanbox.open(tmp_path / "a", create=True)
    rows = make_rows(400, seed)
    for row in rows:  # what has several types leaves as text
        row.pop("mixed", None)
        row.pop("numbers", None)
    box._store.append(rows)
    expected = spans_of(box)
    for name, source in (
        ("arrow", box.spans().to_arrow()),
        ("spans", box.spans()),
        ("parquet", tmp_path / "x.parquet"),
    ):
        if name == "parquet":
            assert box.to_parquet(tmp_path / "x.parquet") == 400
        copy = spanbox.open(tmp_path / name, create=True)
        assert copy.ingest(source).rows == 400
        assert spans_of(copy) == expected, name


# --- Parquet ---------------------------------------------------------------------------------------------------------


def test_parquet_is_written_whole_for_its_owner_only(full: Box, tmp_path: Path) -> None:
    path = tmp_path / "spans.parquet"
    path.write_text("what was there before")
    old = os.umask(0)
    try:
        written = full.to_parquet(path, "kind == llm", columns=["name", "ttft"])
    finally:
        os.umask(old)
    assert written == full.spans("kind == llm").count() == pq.read_table(path).num_rows
    assert path.stat().st_mode & 0o777 == 0o600
    assert pq.read_schema(path).names == ["name", "ttft_ns"]
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(spanbox.FilterError):
        full.to_parquet(path, "kind =")
    with pytest.raises(FileNotFoundError):
        full.to_parquet(tmp_path / "nowhere" / "x.parquet")
    assert pq.read_table(path).num_rows == written


def test_missing_libraries_say_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules.update(dict.fromkeys(['pyarrow', 'polars', 'duckdb'])); import spanbox\n"
        "box = spanbox.open('s', create=True)\n"
        "for call in (lambda: box.to_parquet('x'), box.scan_polars, lambda: box.sql('select 1')):\n"
        "    try: call()\n"
        "    except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "to_parquet() needs pyarrow: pip install pyarrow",
        "scan_polars() needs polars: pip install polars",
        "sql() needs duckdb: pip install 'spanbox[sql]'",
    ]


# --- polars ----------------------------------------------------------------------------------------------------------

C = pl.col
PREDICATES = [
    C("model") == "gpt-5",
    C("model") == 'q"uo`te\\',
    C("model") != "gpt-5",
    C("kind") == "llm",
    C("kind") == "no kind",
    C("trace_id") == f"{5:032x}",
    C("trace_id") == "no id",
    C("model").is_in(["gpt-5", "none of them"]),
    C("ttft_ns") > 500_000_000,
    C("ttft_ns") <= 1.5e8,
    pl.lit(100) < C("input_tokens"),
    C("cost_usd") > 0.4,
    C("cost_usd") <= 0.4,
    C("cost_usd") != 0.5,
    C("cost_usd").is_nan(),
    C("cost_usd") == math.nan,
    C("start") > pl.lit(START_NS + 5 * 10**11).cast(pl.Datetime("ns", "UTC")),
    C("start").dt.hour() == 0,
    C("parent_id").is_null(),
    C("parent_id").is_not_null() & (C("top k") >= 10),
    (C("top k") >= 10) | (C("status") == "error"),
    (C("top k") >= 10) | C("name").cast(pl.String).str.contains("a"),
    ~(C("flag") == True),  # noqa: E712
    C("flag") & (C("score") < 0.5),
    C("mixed") == "1",
    C("mixed").is_not_null(),
    C("numbers") == 1,
    C("numbers") > 1,
    C("input") == "hello",
    (C("ttft_ns") > 5) & (C("ttft_ns") < 500_000_000) & (C("model") == "claude") & C("output").str.starts_with("d"),
    C("duration_ns") > C("ttft_ns"),
]


@pytest.mark.parametrize("predicate", PREDICATES, ids=str)
def test_pushed_down_predicate_gives_what_polars_would(full: Box, predicate: pl.Expr) -> None:
    everything = full.spans().to_polars()
    lazy = full.scan_polars()
    assert lazy.collect_schema() == everything.schema
    expected = everything.filter(predicate)
    got = lazy.filter(predicate).collect()
    assert got.select("span_id").equals(expected.select("span_id"))
    assert lazy.filter(predicate).select(C("score"), "start").collect().equals(expected.select("score", "start"))
    assert lazy.filter(predicate).head(7).select("span_id").collect().equals(expected.head(7).select("span_id"))
    assert (
        lazy.head(50)
        .filter(predicate)
        .select("span_id")
        .collect()
        .equals(everything.head(50).filter(predicate).select("span_id"))
    )


def test_polars_gets_only_what_it_asks_for(full: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    class Watched:
        def __new__(cls, *arguments: Any) -> Any:
            asked.append(arguments[1:])
            return _core.SpanStream(*arguments)

    lazy = full.scan_polars("score > 0.1")
    monkeypatch.setattr("spanbox._hand_over._core", type("core", (), {"SpanStream": Watched}))
    lazy.filter((C("model") == "gpt-5") & (C("ttft_ns") > 7)).select("name").collect()
    lazy.select("name").head(3).collect()
    [(filter, _, _, columns, limit, _), (_, _, _, head_columns, head_limit, _)] = asked
    assert filter == '(score > 0.1) and (`model` == "gpt-5" and `ttft_ns` > 7ns)'
    assert set(columns) == {"name", "model", "ttft_ns"}
    assert (limit, head_columns, head_limit) == (None, ["name"], 3)


def test_lazy_frame_of_a_large_store(large: Box) -> None:
    lazy = large.scan_polars()
    assert lazy.select(pl.len()).collect().item() == MANY + 1
    grouped = lazy.group_by("name").agg(C("number").sum()).collect()
    assert grouped["number"].sum() == MANY * (MANY - 1) // 2
    assert lazy.filter(C("number") == 77_777).collect().height == 1


# --- SQL -------------------------------------------------------------------------------------------------------------

QUERIES = [
    "select count(*) as n from spans",
    "select model, count(*) as n, sum(input_tokens) as tokens from spans group by 1 order by 1",
    "select kind, quantile_cont(ttft_ns, 0.99) as p99 from spans where status = 'error' group by all order by all",
    "select * from spans order by span_id limit 3",
    "select SPAN_ID, \"top k\" from spans where \"top k\" > 10 order by 1",
    "with slow as (select trace_id, duration_ns from spans where duration_ns > 5e9) "
    "select count(distinct trace_id) as traces from slow",
    "select a.span_id, b.name from spans a join spans b on a.parent_id = b.span_id order by 1 limit 20",
    "select s.name, max(s.start) as last from spans s group by 1 order by 1",
    "select count(spans) as rows from spans",
    "select date_trunc('hour', start) as hour, count(*) as n from spans group by 1 order by 1",
    "select span_id, row_number() over (partition by kind order by start) as place from spans order by 1 limit 9",
    "select name from spans where input like '%hello%' union all select name from spans where flag order by all",
]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_sql_answers_as_duckdb_does_over_its_own_table(full: Box, query: str) -> None:
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.register("handed", full.spans().to_arrow().drop_columns("spanbox.types"))
        connection.execute("create table spans as select * replace (start::timestamptz as start) from handed")
        expected = connection.sql(query).to_arrow_table()
    got = full.sql(query)
    assert got.columns == expected.column_names
    for name in expected.column_names:
        column = expected.column(name)
        wanted = column.cast(pa.int64()).to_pylist() if pa.types.is_timestamp(column.type) else column.to_pylist()
        if pa.types.is_timestamp(column.type) and column.type.unit == "us":
            wanted = [value * 1000 for value in wanted]  # DuckDB's functions of time take microseconds
        assert got.column(name) == pytest.approx(wanted, nan_ok=True) or got.column(name) == wanted


def test_column_that_no_span_has_is_null(full: Box) -> None:
    assert full.sql("select sum(reasoning_tokens) as n from spans").column("n") == [None]


@pytest.mark.parametrize(
    ("query", "columns"),
    [
        ("select model, quantile_cont(ttft_ns, .99) from spans group by 1", {"model", "ttft_ns"}),
        ("select count(*) from spans", {"start"}),
        ("select S.Kind from spans s where s.\"top k\" > 3", {"kind", "top k"}),
        ("select x.kind from spans join (select span_id, kind from spans) x using (span_id)", {"kind", "span_id"}),
        ("select kind from (select columns('k.*') from spans)", None),
        ("select kind from (from spans)", None),
        ("select t.kind from (select t from spans t)", None),
    ],
)  # fmt: skip
def test_sql_reads_the_columns_it_names(full: Box, query: str, columns: set[str] | None) -> None:
    from spanbox._hand_over import _named

    with duckdb.connect() as connection:
        [(tree,)] = connection.execute("select json_serialize_sql(?)", [query]).fetchall()
    every = full.spans().to_arrow().column_names
    assert set(_named(json.loads(tree), every)) == (set(every) if columns is None else columns)
    full.sql(query)


def test_filter_and_time_keep_rows_out_of_sql(full: Box) -> None:
    assert full.sql("select count(*) as n from spans", "kind == llm").column("n") == [full.spans("kind == llm").count()]
    assert full.sql("select count(*) as n from spans", until=START_NS).column("n") == [0]


@pytest.mark.parametrize(
    "query",
    [
        "select * from '{file}'",
        "select * from read_csv('{file}')",
        "select * from read_text('{file}')",
        "select * from read_blob('{file}')",
        "select * from glob('{file}')",
        "select * from query('select * from read_text(''{file}'')')",
        "copy spans to '{file}.out'",
        "attach '{file}' as x",
        "set enable_external_access = true",
        "install httpfs",
        "load '{file}'",
        "create table x as select 1",
        "drop view spans",
        "select getenv('HOME')",
        "select * from secret_variable",
        "select 1; select 2",
        "select",
        "",
        "pragma database_list",
        "export database '{file}'",
    ],
)
def test_sql_reaches_nothing_but_the_spans(full: Box, tmp_path: Path, query: str) -> None:
    secret_variable = pl.DataFrame({"secret": [1]})
    file = tmp_path / "secret.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="this SQL cannot be run"):
        full.sql(query.format(file=file))
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]
    assert secret_variable.height == 1


def test_error_of_sql_is_duckdbs_own(full: Box) -> None:
    with pytest.raises(ValueError, match=r'this SQL cannot be run: .*"modell" not found'):
        full.sql("select modell, model from spans")
