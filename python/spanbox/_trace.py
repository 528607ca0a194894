"""One trace: its spans as a tree, with times and totals; its critical path.

Tokens and costs are those of model calls; what a call only repeats of calls below it is not counted (docs/traces.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, overload

from spanbox import _core
from spanbox._render import (
    clean,
    fit,
    format_cost,
    format_duration,
    format_share,
    html_table,
    one_line,
    pad,
    plural,
    terminal_width,
    text_table,
    text_width,
)

_COMPUTED = ("depth", "child_count", "self_ns", "critical_ns", "totals")
SHOWN_SPANS = 500
_HTML_SPANS = 50
_GUIDE_LEVELS = 12  # deeper levels are numbered instead of drawn
_NAME_WIDTH = 40


@dataclass(frozen=True, slots=True)
class Totals:
    """Of a span and everything below it, or of a whole trace. None: no model call told."""

    spans: int
    errors: int  # failed spans with no failed child
    model_calls: int  # with no model call below them
    unpriced_calls: int  # of these: no cost is known
    cost_usd: float | None
    input_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


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
        parts = [str(self.attributes[key]) for key in ("error_type", "error_message") if self.attributes.get(key)]
        return one_line(": ".join(parts)) if parts else "error" if self.status == "error" else None

    def as_dict(self) -> dict[str, Any]:
        """Every stored value under one flat set of keys."""
        row: dict[str, Any] = dict(self._row)
        scores = {"scores": self.scores} if self.scores else {}
        stored = {k: v for k, v in row.items() if k not in _COMPUTED and k != "attributes"}
        return {**stored, **self.attributes, **scores}

    def __repr__(self) -> str:
        return f"<TraceSpan {clean(self.name)} {self.kind} {format_duration(self.duration_ns)} {self.status}>"


@dataclass(frozen=True, slots=True)
class PathStep:
    """A time in which one span determined when the trace ended."""

    span_id: str
    name: str
    kind: str
    start_ns: int
    duration_ns: int


class CriticalPath(Sequence[PathStep]):
    """From the start of the root to its end: the steps follow each other without a gap."""

    def __init__(self, trace_id: str, steps: Sequence[PathStep]) -> None:
        self.trace_id = trace_id
        self.steps = tuple(steps)

    @overload
    def __getitem__(self, index: int) -> PathStep: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PathStep]: ...
    def __getitem__(self, index: int | slice) -> PathStep | Sequence[PathStep]:
        return self.steps[index]

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def duration_ns(self) -> int:
        return sum(step.duration_ns for step in self.steps)

    def __repr__(self) -> str:
        length = format_duration(self.duration_ns)
        return f"<CriticalPath {self.trace_id[:8]}… {plural(len(self), 'step')} {length}>"

    def __str__(self) -> str:
        total = max(1, self.duration_ns)
        rows = [
            [
                format_duration(step.start_ns - self.steps[0].start_ns),
                format_duration(step.duration_ns),
                format_share(step.duration_ns / total),
                step.kind,
                clean(step.name),
            ]
            for step in self.steps[:SHOWN_SPANS]
        ]
        width = terminal_width()
        lines = text_table(["after", "took", "share", "kind", "span"], rows, right={0, 1, 2}, width=width, cut={4})
        more = [f"… {len(self) - len(rows):,} more steps"] if len(self) > len(rows) else []
        return "\n".join([*lines, *more])


class Trace(Sequence[TraceSpan]):
    """The spans of one trace, or some lines of its tree: depth first, children by start. Totals are of the whole."""

    def __init__(
        self,
        page: _core.TracePage,
        read_path: Callable[[], list[_core.PathTuple]],
        offset: int = 0,
        scores: Sequence[dict[str, Any]] = (),
    ) -> None:
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
        return CriticalPath(self.id, [PathStep(*step) for step in self._read_path()])

    def _facts(self) -> list[str]:
        facts = [plural(self.totals.spans, "span")]
        if self.duration_ns is not None:
            facts.append(format_duration(self.duration_ns))
        if self.cost_usd is not None:
            facts.append(format_cost(self.cost_usd))
        if self.totals.errors:
            facts.append(plural(self.totals.errors, "error"))
        if self.status in ("running", "interrupted"):
            facts.append(self.status)
        facts.extend(score_texts(self.scores))
        return facts

    def __repr__(self) -> str:
        return f"<Trace {self.id[:8]}… {' '.join(self._facts())}>"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, *, width: int | None = None, max_spans: int = SHOWN_SPANS) -> list[str]:
        """The tree as text: a summary, a header, then a line for each span; cut at `width` (the terminal's)."""
        width = width or terminal_width()
        summary = fit("  ".join([f"trace {self.id}", *self._facts()]), width)
        if text_width(f"trace {self.id}  " + "  ".join(self._facts())) > width:
            summary = fit("  ".join([f"trace {self.id[:16]}…", *self._facts()]), width)
        shown = self.spans[:max_spans]
        cells = [_metric_cells(span) for span in shown]
        widths = [max((text_width(row[i]) for row in cells), default=0) for i in range(len(_METRICS))]
        widths = [max(w, len(head)) if w else 0 for w, head in zip(widths, _METRICS, strict=True)]
        left = [f"{guide}{clean(span.name)}" for guide, span in zip(_guides(shown), shown, strict=True)]
        room = width - sum(w + 2 for w in widths if w)
        name_width = max(12, min(max(map(text_width, left), default=0), _NAME_WIDTH, room))
        lines = [summary, _line("span", list(_METRICS), widths, name_width, "", width)]
        for text, row, span in zip(left, cells, shown, strict=True):
            lines.append(_line(text, row, widths, name_width, _remark(span), width))
        more = self.line_count - self.offset - len(shown)
        if more > 0:
            lines.append(fit(f"… {plural(more, 'more span')}", width))
        return lines

    def _repr_html_(self) -> str:
        shown = self.spans[:_HTML_SPANS]
        header = ["span", *_METRICS, "status"]
        rows = [
            [guide + clean(span.name), *_metric_cells(span), _remark(span) or span.status]
            for guide, span in zip(_guides(shown), shown, strict=True)
        ]
        more = f", {len(shown)} shown" if self.line_count > len(shown) else ""
        return html_table(f"trace {self.id}: {', '.join(self._facts())}{more}", header, rows, right={2, 3, 4, 5, 6})


_STATES = {"running": "… running", "interrupted": "✗ interrupted"}
_METRICS = ("kind", "took", "self", "ttft", "in→out", "cost")


def _metric_cells(span: TraceSpan) -> list[str]:
    values = span.attributes
    tokens = [values.get("input_tokens"), values.get("output_tokens")]
    return [
        span.kind,
        "" if span.duration_ns is None else format_duration(span.duration_ns),
        "" if span.self_ns is None or not span.child_count else format_duration(span.self_ns),
        "" if values.get("ttft_ns") is None else format_duration(values["ttft_ns"]),
        "→".join("–" if t is None else f"{t:,}" for t in tokens) if any(t is not None for t in tokens) else "",
        "" if span.cost_usd is None else format_cost(span.cost_usd),
    ]


def _remark(span: TraceSpan) -> str:
    """What there is to say beside the numbers: the error, or that the span never ended, and the scores."""
    state = f"✗ {span.error}" if span.status == "error" else _STATES.get(span.status, "")
    return "  ".join([*([state] if state else []), *score_texts(span.scores)])


def score_texts(scores: Sequence[dict[str, Any]]) -> list[str]:
    """The latest score of each name, as name=value or name=label."""
    latest = {score["name"]: score for score in scores}
    told = ((name, score.get("value", score.get("label"))) for name, score in latest.items())
    return [f"{clean(name)}={one_line(f'{said:.4g}' if isinstance(said, float) else said)}" for name, said in told]


def _line(name: str, cells: list[str], widths: list[int], name_width: int, remark: str, width: int) -> str:
    """One line; a remark takes the place of the empty cells at its end."""
    filled = max((i + 1 for i, cell in enumerate(cells) if cell), default=0) if remark else len(cells)
    parts = [pad(name, name_width)]
    parts += [pad(cells[i], widths[i], right=i > 0) for i in range(filled) if widths[i]]
    return fit("  ".join([*parts, remark] if remark else parts), width).rstrip()


def _guides(spans: Sequence[TraceSpan]) -> list[str]:
    """The lines drawn before each name."""
    guides: list[str] = []
    open_levels: list[bool] = []  # for each level: does the span there have a later sibling
    for span in spans:
        del open_levels[span.depth :]
        open_levels += [False] * (span.depth - len(open_levels))
        siblings = span.parent.children if span.parent else [span]
        has_next = siblings[-1] is not span or (span.parent is not None and len(siblings) < span.parent.child_count)
        open_levels.append(has_next)
        if span.depth == 0:
            guides.append("" if span.parent_id is None else "┄ ")  # its parent is not in the store
            continue
        skipped = max(0, span.depth - 1 - _GUIDE_LEVELS)
        drawn = open_levels[1 + skipped : -1]
        start = f"⋮{skipped} " if skipped else ""
        guides.append(start + "".join("│  " if more else "   " for more in drawn) + ("├─ " if has_next else "└─ "))
    return guides
