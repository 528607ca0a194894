"""Spans: a question over a store, refined step by step and read only when an answer is asked for.

Spans and Grouped are immutable: every method gives a new one. A Result owns its values.
Anything that takes Arrow data takes a Spans or a Result as it is: duckdb, polars, pandas, pyarrow.
"""

from __future__ import annotations

from _collections_abc import Mapping  # without the rest of collections, which takes longer to import
from abc import ABC, abstractmethod

from spanbox import _core
from spanbox._imports import overload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import tzinfo
    from types import ModuleType
    from typing import Any, Literal, Self

    import altair
    import pandas
    import polars
    import pyarrow

    from spanbox._tables import Unit

    ChartKind = Literal["line", "bar", "histogram"]

_OVERVIEW = ("start_ns", "name", "kind", "model", "duration_ns", "ttft_ns", "output_tokens", "cost_usd", "status")
RELATIVE_ERROR = 0.01  # of quantiles by sketch


class Query:
    """What is asked, as the core takes it. It does not change."""

    def __init__(
        self,
        *,
        filter: str = "",
        since_ns: int | None = None,
        until_ns: int | None = None,
        columns: tuple[str, ...] = (),
        limit: int | None = None,
        order_by: str = "",
        descending: bool = False,
        scores: bool = False,
    ) -> None:
        self.filter = filter
        self.since_ns = since_ns
        self.until_ns = until_ns
        self.columns = columns
        self.limit = limit
        self.order_by = order_by
        self.descending = descending
        self.scores = scores  # what is asked about: scores, not spans

    def but(self, **changes: Any) -> Query:
        """The same question with other values of these."""
        return Query(**{**vars(self), **changes})

    @property
    def which(self) -> tuple[str, int | None, int | None]:
        return self.filter, self.since_ns, self.until_ns

    @property
    def basis(self) -> Iterator[str]:
        """The filter and the time, in words."""
        from spanbox._render import clean, format_time

        yield clean(" ".join(self.filter.split())) or f"all {'scores' if self.scores else 'spans'}"
        if self.since_ns is not None:
            yield f"since {format_time(self.since_ns)}"
        if self.until_ns is not None:
            yield f"until {format_time(self.until_ns)}"


class Asked:
    """What a result answers: which of its columns name the group, units of the others, and what to know of them."""

    def __init__(
        self,
        keys: tuple[str, ...] = (),
        units: Mapping[str, Unit] | None = None,
        basis: tuple[str, ...] = (),
        every_ns: int = 0,
    ) -> None:
        self.keys = keys
        self.units = units or {}
        self.basis = basis
        self.every_ns = every_ns


class Quantiles(Mapping[float, float]):
    """Quantile to value, in the column's unit; NaN where there are no values.

    `count` values were read; each result is off by at most `relative_error` of itself. `sampled_out` spans of the time
    were dropped by sampling and are not among them.
    """

    __slots__ = ("_values", "column", "count", "relative_error", "sampled_out")

    def __init__(
        self, column: str, values: dict[float, float], count: int, relative_error: float, sampled_out: int = 0
    ) -> None:
        self.column = column
        self.count = count
        self.relative_error = relative_error
        self.sampled_out = sampled_out
        self._values = values

    def __getitem__(self, q: float) -> float:
        return self._values[q]

    def __iter__(self) -> Iterator[float]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        from spanbox._render import clean, plural
        from spanbox._tables import column_unit, format_value, sampling_notes

        unit = column_unit(self.column)
        values = " ".join(f"p{q * 100:g}={format_value(v, unit)}" for q, v in self._values.items())
        exactness = "exact" if self.relative_error == 0 else f"±{self.relative_error * 100:g} %"
        left_out = "".join(f", {note}" for note in sampling_notes((0, self.sampled_out)))
        return f"<Quantiles {clean(self.column)} {values} of {plural(self.count, 'value')}, {exactness}{left_out}>"


class _Arrow(ABC):
    """What makes an object a table for other libraries. Subclasses give _table()."""

    @abstractmethod
    def _table(self) -> _core.Table: ...

    def _arrow(self, *, types: bool = False) -> _core.Table | _core.SpanStream:
        """What is handed over; `types`: with what it takes to get it back as it was."""
        return self._table()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._arrow(types=True).__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        return self._arrow(types=True).__arrow_c_schema__()

    def to_arrow(self) -> pyarrow.Table:
        """A pyarrow.Table."""
        return library("pyarrow", "to_arrow()").table(self._arrow(types=True))

    def to_pandas(self) -> pandas.DataFrame:
        """A pandas.DataFrame (needs pyarrow too)."""
        library("pandas", "to_pandas()")
        frame: pandas.DataFrame = library("pyarrow", "to_pandas()").table(self._arrow()).to_pandas()
        return frame

    def to_polars(self) -> polars.DataFrame:
        """A polars.DataFrame."""
        return library("polars", "to_polars()").DataFrame(self._arrow())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Rows as dictionaries; values that are absent are None."""
        table = self._table()
        names = table.column_names
        for values in zip(*(table.column(name) for name in names), strict=True):
            yield dict(zip(names, values, strict=True))


class Result(_Arrow):
    """Rows that were computed: a group each. Iterate it, print it, or hand it to a data frame library."""

    def __init__(self, table: _core.Table, asked: Asked | None = None) -> None:
        self._rows = table
        self._asked = asked or Asked()

    def _table(self) -> _core.Table:
        return self._rows

    @property
    def columns(self) -> list[str]:
        return self._rows.column_names

    @property
    def sampled_out(self) -> int:
        """How many spans of the time were dropped by sampling and are not in these figures (docs/sampling.md)."""
        return self._rows.sampled_out[1]

    @property
    def notes(self) -> list[str]:
        """What is to be known of these figures besides: about spans that sampling dropped."""
        from spanbox._tables import sampling_notes

        return sampling_notes(self._rows.sampled_out)

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns that name a group."""
        return self._asked.keys

    @property
    def every_ns(self) -> int:
        """The length of its time buckets; 0: it has none."""
        return self._asked.every_ns

    @property
    def basis(self) -> str:
        """What the figures come from, on one line: the filter, the time, the buckets, how quantiles are found."""
        return "; ".join([*self._asked.basis, *self.notes])

    def unit(self, column: str) -> Unit:
        """What the values of a column are."""
        from spanbox._tables import column_unit

        return self._asked.units.get(column) or column_unit(column)

    def plot(self, y: str | Sequence[str] = (), *, kind: ChartKind | None = None) -> altair.Chart:
        """An altair chart (extra `notebook`): lines over time, bars by group, columns of a histogram(); with units on
        the axes and the basis below the title. `y`: which columns, all figures of the unit of the first by default."""
        from spanbox._plot import plot

        return plot(self, y, kind=kind)

    def column(self, name: str) -> list[Any]:
        """The values of one column; None where absent."""
        return self._rows.column(name)

    def order_by(self, column: str, *, descending: bool = False) -> Self:
        """The same rows by the values of a column, absent ones last."""
        return type(self)(self._rows.ordered(column, descending, None), self._asked)

    def limit(self, n: int) -> Self:
        """The first `n` rows."""
        if n < 0:
            raise ValueError(f"limit({n}) must not be negative")
        return type(self)(self._rows.ordered("", False, n), self._asked)

    def __len__(self) -> int:
        return self._rows.rows

    def __repr__(self) -> str:
        from spanbox._render import clean, plural

        notes = "".join(f"; {note}" for note in self.notes)
        return f"<Result {plural(len(self), 'row')}: {', '.join(map(clean, self.columns))}{notes}>"

    def __str__(self) -> str:
        from spanbox._render import text_table
        from spanbox._tables import TEXT_ROWS, cells

        header, rows, right = cells(self._rows, self._asked.units, TEXT_ROWS)
        more = [f"… {len(self) - TEXT_ROWS:,} more rows"] if len(self) > TEXT_ROWS else []
        return "\n".join([*text_table(header, rows, right=right), *more, *self.notes])

    def _repr_html_(self) -> str:
        from spanbox._notebook_tables import result_html

        return result_html(self)

    def cells(self, limit: int) -> tuple[list[str], list[list[str]], set[int]]:
        """Header, rows and right-aligned columns, for people."""
        from spanbox._tables import cells

        return cells(self._rows, self._asked.units, limit)


class Grouped:
    """Spans in groups; .agg() says what to compute of each."""

    def __init__(
        self,
        store: Callable[[], _core.Store],
        query: Query,
        by: tuple[str, ...],
        every_ns: int = 0,
        time_zone: str = "",
    ) -> None:
        self._store = store
        self._query = query
        self._by = by
        self._every_ns = every_ns
        self._time_zone = time_zone

    def agg(self, **expressions: str) -> Result:
        """One column a keyword: n="count()", p99="p99(ttft)", cost="sum(cost)", errors="rate(status == error)".

        All of them: docs/query_language.md. `.order_by()` and `.limit()` of the result give the largest groups.
        """
        from spanbox._tables import expression_unit

        if not expressions:
            raise ValueError('agg() needs at least one expression, such as n="count()" or p99="p99(ttft)"')
        for name, expression in expressions.items():
            if not isinstance(expression, str):
                raise TypeError(f'{name}={expression!r}: an expression is a text such as "sum(cost)"')
        table = self._store().aggregate(
            *self._query.which,
            self._by,
            self._every_ns,
            self._time_zone,
            list(expressions.items()),
            self._query.scores,
        )

        keys = (*(["time"] if self._every_ns else []), *self._by)
        units = {name: expression_unit(expression) for name, expression in expressions.items()}
        return Result(
            table, Asked(keys, units, (*self._query.basis, *self._basis(expressions.values())), self._every_ns)
        )

    def _basis(self, expressions: Iterable[str]) -> Iterator[str]:
        import re

        from spanbox._render import clean, format_duration

        if self._every_ns:
            yield f"buckets of {format_duration(self._every_ns)} ({clean(self._time_zone) or 'UTC'})"
        quantiles = [each for each in expressions if re.match(r"\s*p\d", each, re.ASCII)]
        if quantiles:
            exact = all("exact" in each for each in quantiles)
            yield "exact quantiles" if exact else f"quantiles by sketch, within {RELATIVE_ERROR * 100:g} %"

    def __repr__(self) -> str:
        from spanbox._render import clean

        keys = [*(["time"] if self._every_ns else []), *self._by]
        return f"<Grouped by {', '.join(map(clean, keys)) or 'nothing'}; .agg(...) answers>"


class Spans(_Arrow):
    """Spans that match a filter. Nothing is read until an answer is asked for."""

    _what = "Spans"
    _overview: tuple[str, ...] = _OVERVIEW

    def __init__(self, store: Callable[[], _core.Store], query: Query) -> None:
        self._store = store
        self._query = query

    def _with(self, **changes: Any) -> Self:
        return type(self)(self._store, self._query.but(**changes))

    def _table(self) -> _core.Table:
        q = self._query
        return self._store().scan(*q.which, q.columns, q.limit, q.order_by, q.descending, q.scores)

    def _arrow(self, *, types: bool = False) -> _core.Table | _core.SpanStream:
        q = self._query
        if q.order_by:  # needs all rows at once
            return self._table()
        return _core.SpanStream(self._store(), *q.which, q.columns, q.limit, False, q.scores, types and not q.scores)

    def columns(self, *names: str) -> Self:
        """Only these columns or attributes, in this order. Fewer columns are faster: only they are read."""
        if not names:
            raise ValueError('columns() needs at least one name, such as columns("name", "ttft_ns")')
        return self._with(columns=names)

    def order_by(self, column: str, *, descending: bool = False) -> Self:
        return self._with(order_by=column, descending=descending)

    def limit(self, n: int) -> Self:
        """At most the first `n` rows."""
        if n < 0:
            raise ValueError(f"limit({n}) must not be negative")
        return self._with(limit=n)

    def count(self) -> int:
        """How many spans match, those that sampling dropped included where that can be told (see sampled_out)."""
        counted = self._store().count(*self._query.which, self._query.scores)
        return counted if self._query.limit is None else min(counted, self._query.limit)

    @property
    def sampled_out(self) -> int:
        """How many spans of the time were dropped by sampling and are not in count(), because what is left of them does
        not tell whether they match. Those of which it tells are counted."""
        return self._store().sampled_out(*self._query.which, self._query.scores)[1]

    @overload
    def quantile(self, column: str, q: float, *, exact: bool = ...) -> float: ...
    @overload
    def quantile(self, column: str, q: Sequence[float], *, exact: bool = ...) -> Quantiles: ...
    def quantile(self, column: str, q: float | Sequence[float], *, exact: bool = False) -> float | Quantiles:
        """The value below which the share `q` of the spans lies: a float for one q, Quantiles for a list.

        From a sketch with a relative error of at most 1 %, or `exact` (linear between closest ranks, as numpy).
        """
        self._refuse_limit("quantile")
        single = isinstance(q, (int, float))
        qs = [float(q)] if isinstance(q, (int, float)) else [float(each) for each in q]
        for each in qs:
            if not 0 <= each <= 1:
                raise ValueError(f"q={each} is no quantile: give a share from 0 to 1, such as 0.99")
        values, count, relative_error, sampled_out = self._store().quantiles(
            *self._query.which, column, qs, exact, self._query.scores
        )
        if single:
            return values[0]
        return Quantiles(column, dict(zip(qs, values, strict=True)), count, relative_error, sampled_out[1])

    def by(self, *columns: str, every: str | None = None, tz: str | tzinfo = "") -> Grouped:
        """Groups by columns or attributes, and by time buckets of a length such as every="5m".

        Buckets are of UTC, or of a time zone's clocks and days: every="1d", tz="Europe/Berlin".
        """
        from spanbox._time import length_ns, zone_name

        self._refuse_limit("by")
        return Grouped(self._store, self._query, columns, 0 if every is None else length_ns(every), zone_name(tz))

    def _refuse_limit(self, method: str) -> None:
        if self._query.limit is not None:
            raise ValueError(f"limit() cuts rows and has no meaning before {method}(); leave it out")

    def __repr__(self) -> str:
        from spanbox._render import clean, format_time

        query = self._query
        parts = [repr(query.filter) if query.filter else "all"]
        if query.since_ns is not None:
            parts.append(f"since {format_time(query.since_ns)}")
        if query.until_ns is not None:
            parts.append(f"until {format_time(query.until_ns)}")
        if query.order_by:
            parts.append(f"by {clean(query.order_by)}{' descending' if query.descending else ''}")
        if query.limit is not None:
            parts.append(f"first {query.limit:,}")
        return f"<{self._what} {' '.join(parts)}; .count(), .quantile(), .by(), .to_pandas() answer>"

    def _repr_html_(self) -> str:
        from spanbox._notebook_tables import spans_html

        return spans_html(self)

    def overview(self, limit: int) -> tuple[list[str], Result]:
        """How many there are, and the first of them, for people."""
        from spanbox._render import plural
        from spanbox._tables import sampling_notes

        query = self._query
        rows = limit if query.limit is None else min(query.limit, limit)
        table = self._with(columns=query.columns or self._overview, limit=rows)._table()
        count = self.count()
        shown = f", first {limit} shown" if count > limit else ""
        noun = self._what.lower().removesuffix("s")
        notes = sampling_notes(self._store().sampled_out(*query.which, query.scores))
        return [f"{plural(count, noun)}{shown}", *notes], Result(table, Asked(basis=tuple(query.basis)))


class Scores(Spans):
    """Scores that match a filter over their columns: trace_id, span_id, name, at, value, label, explanation, source,
    evaluator, version and metadata. Nothing is read until an answer is asked for."""

    _what = "Scores"
    _overview = ("start_ns", "name", "value", "label", "source", "evaluator", "trace_id", "span_id", "explanation")


def library(name: str, asked_by: str, *, extra: str = "") -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        wanted = f"'spanbox[{extra}]'" if extra else name
        raise ImportError(f"{asked_by} needs {name}: pip install {wanted}", name=name) from error
