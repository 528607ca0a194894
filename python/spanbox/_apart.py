"""What some traces share that others do not: `prompt_version == "v7.3"`, `input_tokens > 16,000`, a tool that failed.

Of each trace every column of every span counts that is no text, no id and no moment: of words whether some span has
them, of numbers the largest. Both groups are samples that the caller has drawn. Thread rule: as Box.
docs/statistics.md has the test.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from spanbox import _core
from spanbox._literals import column_name, equals, literal, one_of, quoted
from spanbox._render import duration_unit
from spanbox._significance import fisher_more, holm

ALPHA = 0.01
_TIMES = ("ttft_ns", "tpot_ns")
FAILED_TOOL = "tool_error"  # not a column: the tool of a span that failed
_IDS_A_FILTER = 1_000  # of the filter language
_WORDS = 40  # most frequent values of a column that are compared
_TEXT_BYTES = 200  # longer values are no words
_LEFT_OUT = {
    "trace_id",
    "span_id",
    "parent_id",
    "start_ns",
    "duration_ns",
    "tool_call_id",
    "input",
    "output",
    "events",
    "links",
    "error_message",
    "session_id",
    "chunk_deltas_us",
    "longest_stall_ns",
    "chunks",
    "cost_source",
    "status",
}
Value = str | float | int | bool


@dataclass(frozen=True, slots=True)
class Trait:
    """Something that a share of them has, and a smaller share of the others."""

    column: str
    op: str  # "==", ">" or "is" (of FAILED_TOOL)
    value: Value
    text: str  # as a filter
    of_them: float
    of_others: float
    p: float  # corrected, one-sided

    @property
    def is_significant(self) -> bool:
        return self.p < ALPHA

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Traits:
    """Strongest first, at most one of a column; `compared` columns."""

    items: tuple[Trait, ...]
    compared: int
    them: int
    others: int


def traits(
    store: _core.Store, them: Collection[str], others: Collection[str], *, without: Collection[str] = ()
) -> Traits:
    """Of the traces with these ids. `without`: columns by which they were chosen."""
    rows = read_traces(store, [*them, *others], set(without))
    first = [rows[each] for each in them if each in rows]
    second = [rows[each] for each in others if each in rows]
    columns = sorted({name for row in (*first, *second) for name in row})
    if not first or not second:
        return Traits((), len(columns), len(first), len(second))
    found = [best for name in columns if (best := _best(name, first, second)) is not None]
    corrected = holm([p for *_, p in found])
    items = [
        Trait(name, op, value, _text(name, op, value), hits / len(first), other_hits / len(second), p)
        for (name, op, value, hits, other_hits, _), p in zip(found, corrected, strict=True)
    ]
    items.sort(key=lambda trait: (trait.p >= ALPHA, trait.of_others - trait.of_them, trait.column))
    return Traits(tuple(items), len(columns), len(first), len(second))


def read_traces(store: _core.Store, ids: Sequence[str], without: set[str]) -> dict[str, dict[str, Any]]:
    """Of each trace its columns: of words the set of them, of numbers the largest."""
    traces: dict[str, dict[str, Any]] = defaultdict(dict)
    for begin in range(0, len(ids), _IDS_A_FILTER):
        which = one_of("trace_id", list(ids[begin : begin + _IDS_A_FILTER]))
        stream = _core.SpanStream(store, which, None, None, [], None, True)
        wanted = [
            name
            for name, type_, _ in stream.columns
            if name not in _LEFT_OUT | without and type_ != "timestamp" and "`" not in name
        ]
        table = store.scan(which, None, None, ["trace_id", "status", *wanted], None, "", False)
        of, status, *columns = (table.column(name) for name in table.column_names)
        for name, values in zip(wanted, columns, strict=True):
            _add(traces, of, name, values)
        if FAILED_TOOL not in without and "tool_name" in wanted:
            failed = [
                tool if state == "error" else None
                for tool, state in zip(columns[wanted.index("tool_name")], status, strict=True)
            ]
            _add(traces, of, FAILED_TOOL, failed)
    return traces


def _add(traces: dict[str, dict[str, Any]], of: Sequence[str], name: str, values: Sequence[Any]) -> None:
    if not any(value is not None for value in values):
        return
    for trace_id, value in zip(of, values, strict=True):
        if value is None:
            continue
        row = traces[trace_id]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            known = row.get(name)
            if known is None or (isinstance(known, (int, float)) and value > known):
                row[name] = value
        elif not isinstance(value, str) or len(value) <= _TEXT_BYTES:
            words = row.setdefault(name, set())
            if isinstance(words, set):
                words.add(value)


def _best(
    name: str, first: list[dict[str, Any]], second: list[dict[str, Any]]
) -> tuple[str, str, Value, int, int, float] | None:
    """The value or bound of one column that tells the groups apart best."""
    mine, theirs = ([row[name] for row in rows if name in row] for rows in (first, second))
    numbers = not any(isinstance(value, set) for value in (*mine, *theirs))
    options = _bounds(mine, theirs) if numbers else _equalities(mine, theirs)
    if not options:
        return None
    op, value, hits, other_hits = max(options, key=lambda o: o[2] / len(first) - o[3] / len(second))
    if hits / len(first) <= other_hits / len(second):
        return None
    p = fisher_more(hits, len(first), other_hits, len(second))
    return name, op, value, hits, other_hits, min(1.0, p * len(options))  # the best of so many


def _equalities(mine: Iterable[Any], theirs: Iterable[Any]) -> list[tuple[str, Value, int, int]]:
    counts, other_counts = (
        Counter(word for words in rows if isinstance(words, set) for word in words) for rows in (mine, theirs)
    )
    return [("==", word, n, other_counts[word]) for word, n in counts.most_common(_WORDS)]


def _bounds(mine: list[float], theirs: list[float]) -> list[tuple[str, Value, int, int]]:
    """`> bound` for a dozen round bounds; of few whole numbers each of them."""
    mine, theirs = sorted(v for v in mine if v == v), sorted(v for v in theirs if v == v)
    distinct = set(mine) | set(theirs)
    if not mine:
        return []
    if len(distinct) <= 12 and all(isinstance(v, int) for v in distinct):
        counts, other_counts = Counter(mine), Counter(theirs)
        options: list[tuple[str, Value, int, int]] = [
            ("==", v, counts[v], other_counts[v]) for v in distinct if counts[v]
        ]
        if len(distinct) <= 2:
            return options
    else:
        options = []
    everything = sorted([*mine, *theirs])
    for i in range(1, 13):
        bound = _round(everything[min(len(everything) - 1, i * len(everything) // 13)])
        more, others_more = len(mine) - bisect_right(mine, bound), len(theirs) - bisect_right(theirs, bound)
        options.append((">", bound, more, others_more))
    return options


def _round(value: float) -> float:
    """To two digits: a bound that a person would choose."""
    if value == 0 or not math.isfinite(value):
        return 0
    digits = 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return int(rounded) if rounded == int(rounded) else rounded


def _text(name: str, op: str, value: Value) -> str:
    if name == FAILED_TOOL:
        return f"status == error and tool_name == {quoted(str(value))}"
    if name in _TIMES and not isinstance(value, str):
        unit, size = duration_unit(abs(value))
        return f"{name.removesuffix('_ns')} {op} {value / size:g}{unit.replace('µ', 'u')}"
    return equals(name, value) if op == "==" else f"{column_name(name)} {op} {literal(value)}"
