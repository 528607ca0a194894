"""A store opened for asking: spanbox.open() gives a Box.

Thread rule: a Box may be used from any thread. Nothing is read before a question is asked.
"""

from __future__ import annotations

import itertools
import os

from spanbox import _core
from spanbox._cost_questions import Costs, period_ns
from spanbox._document_questions import Documents
from spanbox._paths import FOLDER, VARIABLE, find_store, resolve_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    import polars

    from spanbox._answers import Erased, GrepResult, Retention
    from spanbox._finding import Findings
    from spanbox._ingest import IngestReport
    from spanbox._metrics import Metrics
    from spanbox._sessions import Session, Sessions
    from spanbox._spans import Query, Result, Scores, Spans
    from spanbox._time import Moment
    from spanbox._trace import Trace
    from spanbox.importers import FormatName, ImportReport

_FLUSH_S = 2.0  # how long a question waits for this process's own spans to be stored
_ID_DIGITS = 32
_SCORES_A_COMMIT = 16_384


class Box(Costs, Documents):
    """Spans in a folder, and the questions to ask of them. Made by spanbox.open()."""

    def __init__(self, store: _core.Store) -> None:
        self._store = store

    @property
    def path(self) -> Path:
        from pathlib import Path

        return Path(self._store.path)

    @property
    def recovery(self) -> _core.Recovery:
        """What opening the folder saved from processes that had died."""
        return self._store.recovery

    def spans(self, filter: str = "", *, since: Moment | None = None, until: Moment | None = None) -> Spans:
        """The spans that match, as a question to refine: .count(), .quantile(), .by().agg(), .to_pandas() and more."""
        from spanbox._spans import Spans

        return Spans(self._fresh_store, self._query(filter, since, until))

    def scores(self, filter: str = "", *, since: Moment | None = None, until: Moment | None = None) -> Scores:
        """The scores that match, given in that time, as a question to refine like spans(): 'name == "helpful" and value
        < 0.5'. Beside spans, `score.helpful` is their latest score of that name (docs/scores.md)."""
        from spanbox._spans import Scores

        return Scores(self._fresh_store, self._query(filter, since, until, scores=True))

    def score(self, name: str, value: _core.ScoreValue = None, **what: Any) -> None:
        """Stores one score of a span (trace_id= and span_id=) or of a whole trace (trace_id=): see add_scores."""
        self.add_scores([{"name": name, "value": value, **what}])

    def add_scores(self, scores: Iterable[Mapping[str, Any]]) -> int:
        """Stores scores, a mapping each: name, trace_id, span_id (without it: of the whole trace), value, label,
        explanation, source, evaluator, version, metadata, at_ns (without it: now). They are on disk when it returns how
        many they were. ValueError names the one that is wrong; then nothing of its commit is stored."""
        stored = 0
        batch = list(itertools.islice(waiting := iter(scores), _SCORES_A_COMMIT))
        while batch:
            stored += self._store.append_scores([dict(each) for each in batch])
            batch = list(itertools.islice(waiting, _SCORES_A_COMMIT))
        return stored

    def trace(
        self,
        id_or_prefix: str,
        *,
        offset: int = 0,
        limit: int | None = None,
        collapsed: Sequence[str] = (),
        payloads: bool = True,
    ) -> Trace:
        """One trace, by its id or the first digits of it (at least 4, when no other trace starts with them).

        `limit` lines of its tree from line `offset` on, where spans below those with the ids `collapsed` are no lines.
        Without `payloads` spans come without input, output, events, links and other long texts.
        """
        from spanbox._trace import Trace

        if offset < 0 or (limit is not None and limit < 0):
            raise ValueError(f"offset={offset} and limit={limit} must not be negative")
        digits = id_or_prefix.strip().removesuffix("…").lower()
        store = self._fresh_store()
        if len(digits) != _ID_DIGITS:
            digits = self._complete_id(store, digits, id_or_prefix)
        page = store.trace_page(digits, offset, limit, list(collapsed), payloads)
        return Trace(page, lambda: store.critical_path(digits), offset, store.trace_scores(digits), self)

    def sessions(
        self,
        filter: str = "",
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int | None = 100,
        order_by: str = "active",
        descending: bool = True,
    ) -> Sessions:
        """Sessions with a span that matches, with totals of the whole session; first those that were active last."""
        from spanbox._sessions import Sessions

        if limit is not None and limit < 0:
            raise ValueError(f"limit={limit} must not be negative")
        query = self._query(filter, since, until)
        return Sessions(self._fresh_store().sessions(*query.which, order_by, descending, limit))

    def session(self, id: str) -> Session:
        """One session: its turns, which are the traces whose spans have this session_id."""
        from spanbox._sessions import Session

        return Session(self._fresh_store().session(id))

    def shortest_id(self, trace_id: str) -> str:
        """The first digits of a trace's id that no other trace starts with, at least 12."""
        lengths = range(12, _ID_DIGITS)
        return next((trace_id[:n] for n in lengths if len(self._store.find_traces(trace_id[:n], 2)) == 1), trace_id)

    def _complete_id(self, store: _core.Store, digits: str, given: str) -> str:
        if not 4 <= len(digits) < _ID_DIGITS or digits.strip("0123456789abcdef"):
            raise ValueError(f"{given!r} is no trace id: give 32 hexadecimal digits, or at least the first 4 of them")
        found = store.find_traces(digits, 3)
        if not found:
            raise _core.NotFoundError(
                f"no trace starts with {digits!r} in {store.path}; `spanbox ls` lists the recent ones"
            )
        if len(found) > 1:
            from spanbox._render import distinct_digits

            shown = ", ".join(f"{each[: distinct_digits(found)]}…" for each in found)
            raise ValueError(f"{digits!r} is the start of several traces, such as {shown}: give more digits")
        return found[0]

    def findings(
        self, filter: str = "", *, since: Moment = "1h", until: Moment | None = None, vs: str = "7d"
    ) -> Findings:
        """What is worse from `since` to `until` (now) than in the time `vs` before it: latency of models, failures of
        kinds and tools, every score, what requests cost, columns that have drifted. Each is a test, corrected for how
        many there are, and an effect that matters (docs/statistics.md), with what the calls concerned share and the
        call that proves it. Facts are listed besides: nothing recorded, spans dropped, spans that run for too long,
        budgets that are spent to 80 % and more."""
        from spanbox._findings import findings
        from spanbox._time import length_ns

        _core.check_filter(filter)
        return findings(self._fresh_store(), filter, period_ns(since, until), length_ns(vs, what="vs"))

    def metrics(self, *, labels: Sequence[str] = (), max_series: int = 1000) -> Metrics:
        """Counters, histograms and gauges for Prometheus and its like (docs/bridges.md). `labels` besides kind,
        provider and model are any of tenant, feature, environment, name."""
        from spanbox._metrics import Metrics

        return Metrics(self, labels=labels, max_series=max_series)

    def grep(
        self,
        text: str,
        *,
        regex: bool = False,
        ignore_case: bool = False,
        filter: str = "",
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int = 20,
    ) -> GrepResult:
        """Searches every text of the matching spans: inputs, outputs, errors, attributes."""
        from spanbox._answers import GrepResult

        if not text:
            raise ValueError("nothing to search for: the text is empty")
        if limit < 0:
            raise ValueError(f"limit={limit} must not be negative")
        hits, matched = self._fresh_store().grep(filter, *period_ns(since, until), text, regex, ignore_case, limit)
        return GrepResult(text, tuple(hits), matched)

    def blob(self, id: str) -> bytes:
        """The content of a value that was too large for its span, which has {"$blob": id, ...} in its place."""
        return self._fresh_store().blob(id)

    def info(self) -> _core.StoreInfo:
        """Sizes and counts."""
        return self._fresh_store().info()

    def verify(self) -> _core.Verification:
        """Reads everything and checks every checksum."""
        return self._fresh_store().verify()

    def ingest(
        self,
        table: Any,
        *,
        name: str | None = None,
        skip_bad: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> IngestReport:
        """Stores the rows of a table as spans: of anything with __arrow_c_stream__ (pyarrow, polars, DuckDB, another
        store's spans), of a pandas.DataFrame, or of a Parquet or JSON lines file.

        Columns of spans go by their names, the others become attributes (docs/import_export.md). Rows are committed as
        they come; what is stored under a `name` is remembered with them, so that the same call after an interruption
        goes on where it was. The name of a file is by default its path, size and time of change. Without `skip_bad` a
        row that is wrong raises ValueError. `progress` is called with how much of a file is done, and how much it has.
        """
        from spanbox._ingest import ingest

        return ingest(self._store, table, name=name, skip_bad=skip_bad, progress=progress)

    def to_parquet(
        self,
        path: str | os.PathLike[str],
        filter: str = "",
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        columns: Sequence[str] = (),
    ) -> int:
        """Writes the spans that match to a Parquet file (needs pyarrow); the number of them. The file appears when it
        is complete, readable for its owner only. ingest() takes it back."""
        from pathlib import Path

        from spanbox._hand_over import to_parquet

        return to_parquet(self._fresh_store(), Path(path), self._query(filter, since, until, columns))

    def report(
        self,
        path: str | os.PathLike[str],
        filter: str = "",
        *,
        trace: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        title: str = "",
    ) -> Path:
        """Writes one HTML file for others to read, without a server, a script or a network: about a `trace` (its id, or
        the first digits of it), or about the spans that match: what changed against the time before, latency, cost,
        failures, slowest traces. The file is readable for its owner only (docs/report.md)."""
        from pathlib import Path

        from spanbox._report import write_report

        write_report(self, Path(path), trace=trace, filter=filter, since=since, until=until, title=title)
        return Path(path)

    def scan_polars(
        self, filter: str = "", *, since: Moment | None = None, until: Moment | None = None
    ) -> polars.LazyFrame:
        """A polars.LazyFrame over the spans that match: of the store is read what the frame's query needs."""
        from spanbox._hand_over import scan_polars

        return scan_polars(self._fresh_store, self._query(filter, since, until))

    def sql(self, query: str, filter: str = "", *, since: Moment | None = None, until: Moment | None = None) -> Result:
        """The answer to one SELECT over the table `spans`, by DuckDB (extra `sql`). Only the columns it names are read;
        `filter`, `since` and `until` keep rows out before DuckDB sees them. It can reach nothing but that table."""
        from spanbox._hand_over import sql

        return sql(self._fresh_store(), query, self._query(filter, since, until))

    def import_file(
        self,
        path: str | os.PathLike[str],
        *,
        format: FormatName = "auto",
        skip_bad: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> ImportReport:
        """Stores the spans of a file made elsewhere. Importing it again adds nothing."""
        from pathlib import Path

        from spanbox.importers import import_file

        return import_file(self._store, Path(path), format=format, skip_bad=skip_bad, progress=progress)

    def erase(
        self, filter: str, *, since: Moment | None = None, until: Moment | None = None, secure: bool = False
    ) -> Erased:
        """Take the spans that match out of the store, and the blobs that no other span names. Running spans stay.

        secure: also overwrite every unused byte of the store's file, so that nothing of them can be found in it. What
        this process has recorded is taken out of its ring files too; other processes that record into the store keep
        what they recorded lately in theirs until it is overwritten or they end.
        Raises FilterError for an empty filter: to erase everything, remove the folder.
        """
        from spanbox._answers import Erased

        query = self._query(filter, since, until)
        own = _core.recording_path() == self._store.path
        if secure and own and not _core.flush(_FLUSH_S):
            raise _core.StoreError("spans of this process still wait to be stored: call spanbox.flush() and try again")
        if secure and own and _core.health()["open_spans"]:
            raise _core.StoreError("spans of this process are running, and are in its ring file: let them end first")
        erased = Erased(*self._fresh_store().erase(filter, query.since_ns, query.until_ns, secure))
        if secure and own:
            _core.configure(self._store.path, None, None, None, None)  # a new ring; the old one's files are removed
        return erased

    def processes(self) -> list[dict[str, object]]:
        """Processes whose rings the store knows and has not seen the end of: those that record into it now."""
        return self._store.processes()

    def retention(self, *, max_age: str | None = None, max_bytes: int | str | None = None) -> Retention:
        """What the store keeps. Arguments change it, and drop what is beyond it at once; without any it is only told.

        max_age: "30d"; older spans go, a segment at a time, when all of it is old. max_bytes: 10_000_000_000 or "10GB"
        of encoded spans: the oldest go. "none" takes a limit back. Processes that record into the store see to it.
        """
        from spanbox._answers import Retention
        from spanbox._time import length_ns, size_bytes

        age_ns, limit_bytes = self._store.retention()
        if max_age is not None:
            age_ns = 0 if max_age == "none" else length_ns(max_age, what="max_age")
        if max_bytes is not None:
            limit_bytes = size_bytes(max_bytes)
        dropped = 0
        if max_age is not None or max_bytes is not None:
            dropped = self._fresh_store().set_retention(age_ns, limit_bytes)
        return Retention(age_ns or None, limit_bytes or None, dropped)

    def compact(self) -> None:
        """Pack the whole store as small as it gets, now. It is done in the background too, little by little."""
        self._fresh_store().compact()

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a copy of the store, as it is now, to a folder that does not exist yet. Others may go on meanwhile."""
        self._fresh_store().backup(os.fspath(path))

    def _query(
        self,
        filter: str,
        since: Moment | None,
        until: Moment | None,
        columns: Sequence[str] = (),
        *,
        scores: bool = False,
    ) -> Query:
        from spanbox._spans import Query

        _core.check_filter(filter, scores)
        since_ns, until_ns = period_ns(since, until)
        return Query(filter=filter, since_ns=since_ns, until_ns=until_ns, columns=tuple(columns), scores=scores)

    def _fresh_store(self) -> _core.Store:
        """The store, with what this process has recorded into it so far."""
        if _core.recording_path() == self._store.path:
            _core.flush(_FLUSH_S)
        return self._store

    def __repr__(self) -> str:
        from spanbox._render import format_bytes

        info = self._store.info()
        return (
            f"<Box {self._store.path} {info['spans'] + info['open_spans']:,} spans {format_bytes(info['disk_bytes'])}>"
        )


def open(path: str | os.PathLike[str] | None = None, *, create: bool = False, threads: int = 1) -> Box:
    """Opens a store: `path`, else $SPANBOX_DIR, else the nearest .spanbox folder upward from the working directory.

    threads: how many may share the work of one count, quantile, aggregate or text search. The answers are those of one
    thread, but for the last digits of sums of floats.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}; give 1 or more")
    found = resolve_store(path) if create else find_store(path)
    if found is None:
        from pathlib import Path

        raise _core.NotFoundError(
            f"no {FOLDER} folder in {Path.cwd()} or above it, and ${VARIABLE} is not set; record something first, "
            f"give a path, or create an empty store: spanbox.open('{FOLDER}', create=True)"
        )
    store = _core.Store(found, create)
    store.threads = threads
    return Box(store)
