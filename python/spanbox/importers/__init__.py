"""Imports of recordings made by others: `spanbox import FILE` and Box.import_file().

An importer reads a file element by element (a line, or an element of an array) and gives the rows of each. Elements
that are wrong stop the import, or are counted and left out on request. Ids depend on content only: importing a file
again adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, get_args

from spanbox import _core
from spanbox._ingest import Progress, ingest, is_parquet
from spanbox._render import plural
from spanbox.importers._source import BadElement, Element, ImportFileError, Source

__all__ = ["BadElement", "FormatName", "ImportFileError", "ImportReport", "import_file"]

FormatName = Literal[
    "auto", "otlp", "otel", "langfuse", "langsmith", "phoenix", "helicone", "claude-code", "tau-bench", "swe-agent",
    "llmperf", "vllm-replay", "azure", "mooncake", "parquet", "jsonl",
]  # fmt: skip
_TABLES = ("parquet", "jsonl")
Row = dict[str, Any]
_BATCH_ROWS = 2_000
_LISTED_PROBLEMS = 20


class Importer(Protocol):
    """One format. Made for one file; may keep state from element to element."""

    name: ClassVar[FormatName]
    note: str  # what a user must know about the result; may be empty

    def __init__(self, source: Source) -> None: ...
    @staticmethod
    def recognises(head: str, first: Any) -> bool:
        """Whether a file that begins with `head` is of this format; `first` is its first line as JSON, or None."""
        ...

    def elements(self) -> Iterator[Element]: ...
    def rows(self, element: Element) -> list[Row]:
        """Raises BadElement when the element is not what the format says."""
        ...


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did. `problems` lists the first elements that were left out, `skipped` counts them all."""

    path: Path
    format: FormatName
    spans: int
    added: int
    skipped: int = 0
    problems: tuple[str, ...] = ()
    note: str = ""

    def __repr__(self) -> str:
        left_out = f", {plural(self.skipped, 'bad element')} left out" if self.skipped else ""
        return (
            f"<ImportReport {self.path.name} {self.format} {plural(self.spans, 'span')}, {self.added:,} new{left_out}>"
        )


def import_file(
    store: _core.Store,
    path: Path,
    *,
    format: FormatName = "auto",
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Stores the spans of a file. ImportFileError names what is wrong and where."""
    if format not in get_args(FormatName):
        raise ValueError(f"format={format!r} is not one of {', '.join(get_args(FormatName))}")
    source = Source(path)
    if format == "auto" and is_parquet(path):
        format = "parquet"
    if format in ("auto", "otlp"):
        report = _import_otlp(store, source, skip_bad, must_be=format == "otlp")
        if report is not None:
            return report
    importer = None if format in _TABLES else _importer_for(source, format)
    if importer is not None:
        return _Run(store, importer, path, skip_bad).run()
    return _import_table(store, path, "parquet" if format == "parquet" else "jsonl", skip_bad, progress)


def _import_table(
    store: _core.Store, path: Path, format: FormatName, skip_bad: bool, progress: Progress | None
) -> ImportReport:
    """A file whose rows are spans already."""
    try:
        report = ingest(store, path, skip_bad=skip_bad, progress=progress)
    except ValueError as error:
        raise ImportFileError(f"{error}. Skip bad elements to import the rest.") from None
    spans = report.rows + report.skipped
    return ImportReport(path, format, spans, report.rows, report.bad, report.problems)


def _import_otlp(store: _core.Store, source: Source, skip_bad: bool, *, must_be: bool) -> ImportReport | None:
    """None: it is something else."""
    from spanbox.importers import otlp

    is_json = otlp.looks_like_json(source.peek())
    if not is_json and not must_be and not otlp.looks_like_protobuf(source.path):
        return None
    try:
        spans, added, problems = otlp.import_otlp(store, source, is_json=is_json, skip_bad=skip_bad)
    except ImportFileError:
        if is_json or must_be:
            raise
        return None
    if spans == 0 and not problems:
        if not must_be:
            return None
        raise ImportFileError(f"{source.path}: no spans in it")
    return ImportReport(source.path, "otlp", spans, added, len(problems), tuple(problems[:_LISTED_PROBLEMS]))


@dataclass(slots=True)
class _Run:
    """One import under way: rows waiting to be stored, and what was found so far."""

    store: _core.Store
    importer: Importer
    path: Path
    skip_bad: bool
    spans: int = 0
    added: int = 0
    skipped: int = 0
    problems: list[str] = field(default_factory=list)
    waiting: list[tuple[str, list[Row]]] = field(default_factory=list)
    waiting_rows: int = 0

    def run(self) -> ImportReport:
        for element in self.importer.elements():
            try:
                if element.problem:
                    raise BadElement(element.problem)
                rows = self.importer.rows(element)
            except BadElement as error:
                self._bad(element.place, str(error))
                continue
            for row in rows:
                row["source_file"] = self.path.name
            self.waiting.append((element.place, rows))
            self.waiting_rows += len(rows)
            if self.waiting_rows >= _BATCH_ROWS:
                self._store_waiting()
        self._store_waiting()
        if self.spans == 0 and self.skipped == 0:
            raise ImportFileError(f"{self.path}: no spans in it")
        return ImportReport(
            self.path,
            self.importer.name,
            self.spans,
            self.added,
            self.skipped,
            tuple(self.problems),
            self.importer.note,
        )

    def _bad(self, place: str, reason: str) -> None:
        if not self.skip_bad:
            stored = f" {plural(self.spans, 'span')} before it were stored." if self.spans else ""
            raise ImportFileError(f"{self.path}: {place}: {reason}.{stored} Skip bad elements to import the rest.")
        self.skipped += 1
        if len(self.problems) < _LISTED_PROBLEMS:
            self.problems.append(f"{place}: {reason}")

    def _store_waiting(self) -> None:
        waiting, self.waiting, self.waiting_rows = self.waiting, [], 0
        try:
            self._append([row for _, rows in waiting for row in rows])
        except ValueError:  # one of the rows: find out which, element by element
            for place, rows in waiting:
                try:
                    self._append(rows)
                except ValueError as error:
                    self._bad(place, str(error))

    def _append(self, rows: list[Row]) -> None:
        for start in range(0, len(rows), _BATCH_ROWS):
            batch = rows[start : start + _BATCH_ROWS]
            self.added += self.store.append(batch)
            self.spans += len(batch)


def _importer_for(source: Source, format: FormatName) -> Importer | None:
    """None: a table of spans, as lines of JSON."""
    import json

    from spanbox.importers.claude_code import ClaudeCode
    from spanbox.importers.helicone import Helicone
    from spanbox.importers.langfuse import Langfuse
    from spanbox.importers.langsmith import LangSmith
    from spanbox.importers.latency import LlmPerf, VllmReplay
    from spanbox.importers.otel import Otel
    from spanbox.importers.phoenix import Phoenix
    from spanbox.importers.swe_agent import SweAgent
    from spanbox.importers.tau_bench import TauBench
    from spanbox.importers.traffic import Azure, Mooncake, refuse_rates

    formats: tuple[type[Importer], ...] = (
        Otel, Langfuse, Phoenix, LangSmith, Helicone, ClaudeCode, TauBench, SweAgent, LlmPerf, VllmReplay, Azure,
        Mooncake,
    )  # fmt: skip
    if format != "auto":
        return next(each for each in formats if each.name == format)(source)
    head = source.peek()
    if not head.strip():
        raise ImportFileError(f"{source.path}: is empty")
    first = None
    for line in head.splitlines()[:5]:  # the first lines may be damaged
        try:
            first = json.loads(line)
            break
        except (ValueError, RecursionError):
            continue
    for each in formats:
        if each.recognises(head, first):
            return each(source)
    refuse_rates(source, head)
    if isinstance(first, dict) and not first.keys().isdisjoint({"start", "start_ns", "end", "end_ns"}):
        return None
    known = ", ".join(name for name in get_args(FormatName) if name != "auto")
    raise ImportFileError(
        f"{source.path}: format not recognised; known are {known}: name one if it is damaged at its start"
    )
