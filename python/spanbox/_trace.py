"""One trace: its spans as a tree, with times and totals; its critical path.

Tokens and costs are those of model calls; what a call only repeats of calls below it is not counted (docs/traces.md).
"""

from __future__ import annotations

from _collections_abc import Sequence  # without the rest of collections, which takes longer to import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from spanbox import _core
    from spanbox._box import Box
    from spanbox._critical_path import CriticalPath

_COMPUTED = ("depth", "child_count", "self_ns", "critical_ns", "totals")
SHOWN_SPANS = 500


class Totals:
    """Of a span and everything below it, or of a whole trace. None: no model call told."""

    def __init__(
        self,
        spans: int,
        errors: int,
        model_calls: int,
        unpriced_calls: int,
        cost_usd: float | None,
        input_tokens: int | None,
        cache_read_tokens: int | None,
        cache_write_tokens: int | None,
        output_tokens: int | None,
        reasoning_tokens: int | None,
    ) -> None:
        self.spans = spans
        self.errors = errors  # failed spans with no failed child
        self.model_calls = model_calls  # with no model call below them
        self.unpriced_calls = unpriced_calls  # of these: no cost is known
        self.cost_usd = cost_usd
        self.input_tokens = input_tokens
        self.cache_read_tokens = cache_read_tokens
        self.cache_write_tokens = cache_write_tokens
        self.output_tokens = output_tokens
        self.reasoning_tokens = reasoning_tokens

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Totals) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return f"Totals({', '.join(f'{name}={value}' for name, value in vars(self).items())})"


class TraceSpan:
    """One span of a trace. `attributes` holds every column and attribute that has a value, beside those named here."""

    __slots__ = ("_row", "attributes", "children", "parent", "scores")

    def __init__(self, row: _core.SpanDict, parent: TraceSpan | None) -> None:
        self._row = row
        self.attributes: dict[str, Any] = row["attributes"]
        self.parent = parent
        self.children: list[TraceSpan] = []
        self.scores: list[dict[str, Any]] = []  # in the order they were given

    @property
    def trace_id(self) -> str:
        return self._row["trace_id"]

    @property
    def span_id(self) -> str:
        return self._row["span_id"]

    @property
    def parent_id(self) -> str | None:
        return self._row["parent_id"]

    @property
    def name(self) -> str:
        return self._row["name"]

    @property
    def kind(self) -> _core.Kind:
        return self._row["kind"]

    @property
    def status(self) -> str:
        return self._row["status"]

    @property
    def depth(self) -> int:
        return self._row["depth"]

    @property
    def start_ns(self) -> int:
        return self._row["start_ns"]

    @property
    def duration_ns(self) -> int | None:
        return self._row["duration_ns"]

    @property
    def duration_s(self) -> float | None:
        return None if self.duration_ns is None else self.duration_ns / 1e9

    @property
    def self_ns(self) -> int | None:
        """Its duration without the time when a child ran; None while it has none."""
        return self._row["self_ns"]

    @property
    def critical_ns(self) -> int:
        """Its part of the critical path: 0 when it did not determine when the trace ended."""
        return self._row["critical_ns"]

    @property
    def child_count(self) -> int:
        """All children; those among the spans of this page are `children`."""
        return self._row["child_count"]

    @property
    def totals(self) -> Totals:
        """Of this span and everything below it."""
        return Totals(*self._row["totals"])

    @property
    def ttft_s(self) -> float | None:
        ttft_ns = self.attributes.get("ttft_ns")
        return None if ttft_ns is None else ttft_ns / 1e9

    @property
    def cost_usd(self) -> float | None:
        return self.attributes.get("cost_usd")

    @property
    def input(self) -> Any:
        return self.attributes.get("input")

    @property
    def output(self) -> Any:
        return self.attributes.get("output")

    @property
    def error(self) -> str | None:
        """Type and message of the error, on one line; None when the span did not fail."""
        from spanbox._render import one_line

        parts = [str(self.attributes[key]) for key in ("error_type", "error_message") if self.attributes.get(key)]
        return one_line(": ".join(parts)) if parts else "error" if self.status == "error" else None

    def as_dict(self) -> dict[str, Any]:
        """Every stored value under one flat set of keys."""
        row: dict[str, Any] = dict(self._row)
        scores = {"scores": self.scores} if self.scores else {}
        stored = {k: v for k, v in row.items() if k not in _COMPUTED and k != "attributes"}
        return {**stored, **self.attributes, **scores}

    def __repr__(self) -> str:
        from spanbox._render import clean, format_duration

        return f"<TraceSpan {clean(self.name)} {self.kind} {format_duration(self.duration_ns)} {self.status}>"


class Trace(Sequence[TraceSpan]):
    """The spans of one trace, or some lines of its tree: depth first, children by start. Totals are of the whole."""

    def __init__(
        self,
        page: _core.TracePage,
        read_path: Callable[[], list[_core.PathTuple]],
        offset: int = 0,
        scores: Sequence[dict[str, Any]] = (),
        box: Box | None = None,
    ) -> None:
        self._box = box
        rows, self.line_count, self._summary = page
        self.offset = offset
        self.totals = Totals(*self._summary["totals"])
        self.spans: list[TraceSpan] = []
        self.roots: list[TraceSpan] = []
        self._read_path = read_path
        path: list[TraceSpan | None] = []  # None: on an earlier page
        for row in rows:
            del path[row["depth"] :]
            path += [None] * (row["depth"] - len(path))
            parent = path[-1] if path else None
            span = TraceSpan(row, parent)
            if parent is not None:
                parent.children.append(span)
            elif not path:
                self.roots.append(span)
            path.append(span)
            self.spans.append(span)
        of_span: dict[str | None, list[dict[str, Any]]] = {}
        for score in scores:
            of_span.setdefault(score.get("span_id"), []).append(score)
        self.scores = of_span.get(None, [])  # of the whole trace
        for span in self.spans:
            span.scores = of_span.get(span.span_id, [])

    @property
    def id(self) -> str:
        return self._summary["trace_id"]

    @property
    def name(self) -> str:
        """Of the root."""
        return self._summary["name"]

    @property
    def root(self) -> TraceSpan:
        """The earliest span without a parent; when there is none, the earliest whose parent is not in the store."""
        for span in self.roots:
            if span.span_id == self._summary["root_id"]:
                return span
        raise LookupError(f"the root of trace {self.id} is on an earlier page")

    def __getitem__(self, index: Any) -> Any:
        return self.spans[index]

    def __len__(self) -> int:
        return len(self.spans)

    def __iter__(self) -> Iterator[TraceSpan]:
        return iter(self.spans)

    @property
    def start_ns(self) -> int:
        return self._summary["start_ns"]

    @property
    def duration_ns(self) -> int | None:
        """From the first start to the last end that is known."""
        return self._summary["duration_ns"]

    @property
    def duration_s(self) -> float | None:
        return None if self.duration_ns is None else self.duration_ns / 1e9

    @property
    def cost_usd(self) -> float | None:
        """Of all model calls; None when none of them has a cost."""
        return self.totals.cost_usd

    @property
    def input_tokens(self) -> int | None:
        return self.totals.input_tokens

    @property
    def output_tokens(self) -> int | None:
        return self.totals.output_tokens

    @property
    def errors(self) -> list[TraceSpan]:
        """The spans here where something failed first: those that failed while none of their children did."""
        return [s for s in self.spans if s.status == "error" and not any(c.status == "error" for c in s.children)]

    @property
    def status(self) -> str:
        """The worst of the roots' statuses."""
        return self._summary["status"]

    def critical_path(self) -> CriticalPath:
        """Which spans determined when the root ended, each with its time; the times add up to the root's."""
        from spanbox._critical_path import CriticalPath, PathStep

        return CriticalPath(self.id, [PathStep(*step) for step in self._read_path()])

    def __repr__(self) -> str:
        from spanbox._trace_text import short_line

        return short_line(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, *, width: int | None = None, max_spans: int = SHOWN_SPANS) -> list[str]:
        """The tree as text: a summary, a header, then a line for each span; cut at `width` (the terminal's)."""
        from spanbox._trace_text import lines

        return lines(self, width, max_spans)

    def widget(self, *, height_px: int = 640) -> Any:
        """The trace as the page of `spanbox ui` shows it, to walk, zoom and read in a notebook: all of its tree,
        the selected span, what it was told and said. Needs the extra `notebook`; height_px is from
        240 to 4,000. What it shows is read from the store when it is asked for."""
        from spanbox._widget import viewer

        if self._box is None:
            raise ValueError("only a trace that box.trace() gave has a store to read from")
        return viewer(self._box, self, height_px)

    def _repr_html_(self) -> str:
        from spanbox._notebook_trace import trace_html

        return trace_html(self)
