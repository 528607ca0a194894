"""Spans for other tools: Parquet files, polars' lazy frames, SQL by DuckDB. docs/import_export.md shows each.

Everything is handed over as copies, in slices, so that a store of any size fits: nothing of the store itself leaves.
Thread rule: functions; call from any thread.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spanbox import _core
from spanbox._polars_filter import Column, filter_of
from spanbox._spans import Query, Result, library

if TYPE_CHECKING:
    import polars


def _stream(store: _core.Store, query: Query, *, lazy: bool = False, types: bool = False) -> _core.SpanStream:
    return _core.SpanStream(store, *query.which, query.columns, query.limit, lazy, types=types)


# --- Parquet ---------------------------------------------------------------------------------------------------------


def to_parquet(store: _core.Store, path: Path, query: Query) -> int:
    """Writes the spans; the number of them. The file is there as a whole or not at all, and for its owner only."""
    pyarrow = library("pyarrow", "to_parquet()")
    from pyarrow.parquet import ParquetWriter

    reader = pyarrow.RecordBatchReader.from_stream(_stream(store, query, types=True))
    if not reader.schema.names:
        raise ValueError("there are no spans, and so no columns: nothing to write")
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    rows = 0
    try:
        with os.fdopen(descriptor, "wb") as file:
            with ParquetWriter(file, reader.schema, compression="zstd") as writer:
                for batch in reader:
                    writer.write_batch(batch)
                    rows += batch.num_rows
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return rows


# --- polars ----------------------------------------------------------------------------------------------------------


def scan_polars(store: Callable[[], _core.Store], query: Query) -> polars.LazyFrame:
    """A lazy frame that reads the columns, the rows and as many of them as polars asks for."""
    pl = library("polars", "scan_polars()")
    from polars.io.plugins import register_io_source

    columns = {name: Column(type, uniform) for name, type, uniform in _stream(store(), query, lazy=True).columns}
    no_rows = _core.SpanStream(store(), *query.which, query.columns, 0, True)
    schema: dict[str, Any] = dict(pl.DataFrame(no_rows).schema)

    def read(
        wanted: list[str] | None, predicate: polars.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[polars.DataFrame]:
        names = list(schema) if wanted is None else wanted
        needed = dict.fromkeys([*names, *([] if predicate is None else predicate.meta.root_names())])
        filter, since_ns, until_ns = query.which
        if predicate is not None and n_rows is None:  # the first rows are meant to be cut before they are filtered
            filter = filter_of(predicate, columns, filter)
        limit = min((each for each in (n_rows, query.limit) if each is not None), default=None)
        for table in _core.SpanStream(store(), filter, since_ns, until_ns, list(needed or ["start"]), limit, True):
            frame = pl.DataFrame(table).cast({name: schema[name] for name in needed})
            yield (frame if predicate is None else frame.filter(predicate)).select(names)

    lazy: polars.LazyFrame = register_io_source(read, schema=schema)
    return lazy


# --- SQL -------------------------------------------------------------------------------------------------------------

# What a query may do is what it may read: no file, no network, no variable of the program, no setting to change that.
_CLOSED = {
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "temp_directory": "",
}


def sql(store: _core.Store, text: str, query: Query) -> Result:
    """The answer of DuckDB to one SELECT over the table `spans`. Only the columns it names are read."""
    duckdb = library("duckdb", "sql()", extra="sql")
    with duckdb.connect(":memory:", config=_CLOSED) as connection:
        [(tree,)] = connection.execute("select json_serialize_sql(?)", [text]).fetchall()
        statement = json.loads(tree)
        if statement["error"]:
            raise ValueError(f"this SQL cannot be run: {statement['error_message']}")
        if len(statement["statements"]) != 1:
            raise ValueError("this SQL cannot be run: one SELECT at a time")
        there = [name for name, *_ in _stream(store, query, lazy=True).columns] or ["start"]
        columns = _named(statement, there)
        connection.register("_spans", _core.SpanStream(store, *query.which, columns, query.limit, True))
        # DuckDB's functions of time take microseconds.
        start = "replace (start::timestamptz as start)" if "start" in columns else ""
        connection.execute(f"set timezone = 'UTC'; create view spans as select * {start} from _spans")  # noqa: S608
        connection.execute("set lock_configuration = true")
        try:
            return Result(_core.table_of(connection.sql(text).__arrow_c_stream__()))
        except (duckdb.Error, ValueError) as error:
            raise ValueError(f"this SQL cannot be run: {error}") from None


def _named(statement: dict[str, Any], there: list[str]) -> list[str]:
    """The columns that a statement can mean, also those that no span has; all that are there where it names none."""
    words: set[str] = set()
    tables: set[str] = set()
    references: set[str] = set()
    whole = False

    def walk(node: Any) -> None:
        nonlocal whole
        if isinstance(node, dict):
            whole |= node.get("class") == "STAR" or node.get("ref_type") == "NATURAL"
            if node.get("type") == "BASE_TABLE":
                tables.update((node.get("table_name", "").lower(), node.get("alias", "").lower()))
            if node.get("class") == "COLUMN_REF" and len(node.get("column_names", ())) == 1:
                references.update(name.lower() for name in node["column_names"])
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)
        elif isinstance(node, str):
            words.add(node.lower())

    walk(statement)
    if whole or references & tables:  # a table's name alone is its whole row
        return there
    known = dict.fromkeys([*there, *(name for name, *_ in _core.columns() if name != "start_ns")])
    return [name for name in known if name.lower() in words] or ["start"]
