"""Box.ingest(): tables that others made become spans. docs/import_export.md gives the columns and the rules.

The core reads Arrow and JSON lines; here files are opened, cut into pieces and named. Pieces are committed as they
come, so an ingest that is killed goes on where it was when it is called again.
"""

from __future__ import annotations

import gzip
import os
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from spanbox import _core
from spanbox._render import format_bytes, plural

_PIECE_BYTES: Final = 4 << 20
_MAX_LINE_BYTES: Final = 64 << 20
_PARQUET_MAGIC: Final = b"PAR1"
_GZIP_MAGIC: Final = b"\x1f\x8b"

Progress = Callable[[int, int], None]  # done and total, in bytes of the file or in rows


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did: `rows` were stored now, `skipped` had been stored by an earlier call of the same name, `bad`
    were left out (`problems` tells of the first of them). `bytes` are those of the values stored."""

    rows: int
    skipped: int
    bytes: int
    seconds: float
    bad: int = 0
    problems: tuple[str, ...] = ()

    def __repr__(self) -> str:
        skipped = f", {self.skipped:,} stored before" if self.skipped else ""
        bad = f", {plural(self.bad, 'bad row')} left out" if self.bad else ""
        stored = f"{plural(self.rows, 'row')}, {format_bytes(self.bytes)} in {self.seconds:.2f} s"
        return f"<IngestReport {stored}{skipped}{bad}>"


def is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC


def ingest(
    store: _core.Store, table: Any, *, name: str | None = None, skip_bad: bool = False, progress: Progress | None = None
) -> IngestReport:
    """Stores the rows of a table or file; see Box.ingest."""
    began = time.perf_counter()
    if isinstance(table, (str, os.PathLike)):
        path = Path(table)
        run = _core.Ingest(store, _file_name(path) if name is None else name, skip_bad)
        tell = progress or (lambda done, total: None)
        try:
            (_parquet if is_parquet(path) else _json_lines)(run, path, tell)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    else:
        run = _core.Ingest(store, name or "", skip_bad)
        run.take_arrow(_stream(table))
        while run.step():
            pass
    return IngestReport(run.rows, run.skipped, run.bytes, time.perf_counter() - began, run.bad, tuple(run.problems))


def _file_name(path: Path) -> str:
    """Tells a file from others and from itself after a change."""
    about = path.stat()
    return f"{path.resolve()} {about.st_size} {about.st_mtime_ns}"


def _stream(table: Any) -> object:
    """The Arrow stream of a table, as a capsule."""
    if type(table).__module__.partition(".")[0] == "pandas":
        pyarrow = _pyarrow("a pandas.DataFrame")
        named_index = any(name is not None for name in table.index.names)
        table = pyarrow.Table.from_pandas(table, preserve_index=named_index)
    if not hasattr(table, "__arrow_c_stream__"):
        collect = "; .collect() it first" if hasattr(table, "collect") else ""
        raise TypeError(
            f"{type(table).__qualname__} is no table: give an object with __arrow_c_stream__ (a pyarrow.Table, a "
            f"polars.DataFrame, a DuckDB relation), a pandas.DataFrame, or the path of a Parquet or JSON lines "
            f"file{collect}"
        )
    return table.__arrow_c_stream__()


def _pyarrow(what: str) -> Any:
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise ImportError(f"reading {what} needs pyarrow: pip install pyarrow", name="pyarrow") from error
    return pyarrow


def _parquet(run: _core.Ingest, path: Path, progress: Progress) -> None:
    pyarrow = _pyarrow(f"Parquet ({path.name})")
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise ValueError(error) from None
    with file:
        total, first_row, groups = file.metadata.num_rows, 0, list(range(file.metadata.num_row_groups))
        while groups and first_row + file.metadata.row_group(groups[0]).num_rows <= run.stored_before:
            first_row += file.metadata.row_group(groups.pop(0)).num_rows
        run.set_first_row(first_row)
        batches = file.iter_batches(row_groups=groups)
        run.take_arrow(pyarrow.RecordBatchReader.from_batches(file.schema_arrow, batches).__arrow_c_stream__())
        while run.step():
            progress(run.skipped + run.rows + run.bad, total)


def _json_lines(run: _core.Ingest, path: Path, progress: Progress) -> None:
    total, first_line = path.stat().st_size, 1
    with path.open("rb") as file:
        zipped = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        file.seek(0)
        source = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if zipped else file
        for lines in _whole_lines(source):
            run.store_lines(lines, first_line)
            first_line += lines.count(b"\n")
            progress(file.tell(), total)


def _whole_lines(source: BinaryIO) -> Iterator[bytes]:
    """The file in pieces that end where a line does."""
    rest, first = b"", True
    while True:
        try:
            piece = source.read(_PIECE_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"damaged gzip file: {error}") from None
        if first:
            piece, first = piece.removeprefix(b"\xef\xbb\xbf"), False
        if not piece:
            if rest.strip():
                yield rest
            return
        end = piece.rfind(b"\n") + 1
        if end:
            yield rest + piece[:end]
            rest = piece[end:]
        else:
            rest += piece
        if len(rest) > _MAX_LINE_BYTES:
            raise ValueError(f"a line is longer than {_MAX_LINE_BYTES >> 20} MiB")
