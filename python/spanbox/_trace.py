"""One trace: its spans as a tree, with totals.

Totals of tokens and cost count model calls that contain no other model call: agents and wrappers repeat what their
calls report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from spanbox import _core
from spanbox._render import (
    clean,
    fit,
    format_cost,
    format_duration,
    html_table,
    one_line,
    pad,
    plural,
    terminal_width,
    text_width,
)

_MODEL_KINDS = ("llm", "embedding")
_TEXT_SPANS = 500
_HTML_SPANS = 50
_GUIDE_LEVELS = 12  # deeper levels are numbered instead of drawn
_NAME_WIDTH = 40


class TraceSpan:
    """One span of a trace. `attributes` holds every column and attribute that has a value, beside those named here."""

    __slots__ = ("_row", "attributes", "children", "parent")

    def __init__(self, row: _core.SpanDict, parent: TraceSpan | None) -> None:
        self._row = row
        self.attributes: dict[str, Any] = row["attributes"]
        self.parent = parent
        self.children: list[TraceSpan] = []

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
        """Every value under one flat set of keys."""
        row: dict[str, Any] = dict(self._row)
        return {**{k: v for k, v in row.items() if k not in ("attributes", "depth")}, **self.attributes}

    def __repr__(self) -> str:
        return f"<TraceSpan {clean(self.name)} {self.kind} {format_duration(self.duration_ns)} {self.status}>"


class Trace(Sequence[TraceSpan]):
    """The spans of one trace, depth first, children by start."""

    def __init__(self, rows: list[_core.SpanDict]) -> None:
        path: list[TraceSpan] = []
        self.spans: list[TraceSpan] = []
        self.roots: list[TraceSpan] = []
        for row in rows:
            del path[row["depth"] :]
            parent = path[-1] if path else None
            span = TraceSpan(row, parent)
            (parent.children if parent else self.roots).append(span)
            path.append(span)
            self.spans.append(span)

    @property
    def id(self) -> str:
        return self.spans[0].trace_id

    @property
    def root(self) -> TraceSpan:
        """The first span without a parent in the store."""
        return self.roots[0]

    def __getitem__(self, index: Any) -> Any:
        return self.spans[index]

    def __len__(self) -> int:
        return len(self.spans)

    def __iter__(self) -> Iterator[TraceSpan]:
        return iter(self.spans)

    @property
    def start_ns(self) -> int:
        return min(span.start_ns for span in self.spans)

    @property
    def duration_ns(self) -> int | None:
        """From the first start to the last end that is known."""
        ends = [span.start_ns + span.duration_ns for span in self.spans if span.duration_ns is not None]
        return max(ends) - self.start_ns if ends else None

    @property
    def duration_s(self) -> float | None:
        return None if self.duration_ns is None else self.duration_ns / 1e9

    @property
    def cost_usd(self) -> float | None:
        """Of all model calls; None when none of them has a cost."""
        return self._model_total("cost_usd")

    @property
    def input_tokens(self) -> int | None:
        total = self._model_total("input_tokens")
        return None if total is None else int(total)

    @property
    def output_tokens(self) -> int | None:
        total = self._model_total("output_tokens")
        return None if total is None else int(total)

    @property
    def errors(self) -> list[TraceSpan]:
        """The spans where something failed first: those that failed while none of their children did."""
        return [s for s in self.spans if s.status == "error" and not any(c.status == "error" for c in s.children)]

    @property
    def status(self) -> str:
        """The worst of the roots' statuses."""
        found = {span.status for span in self.roots}
        return next((s for s in ("error", "interrupted", "running") if s in found), "ok")

    def _model_total(self, column: str) -> float | None:
        values = [v for s in leaf_model_calls(self.spans) if isinstance(v := s.attributes.get(column), (int, float))]
        return sum(values) if values else None

    def _facts(self) -> list[str]:
        facts = [plural(len(self), "span")]
        if self.duration_ns is not None:
            facts.append(format_duration(self.duration_ns))
        if self.cost_usd is not None:
            facts.append(format_cost(self.cost_usd))
        if self.errors:
            facts.append(plural(len(self.errors), "error"))
        if self.status in ("running", "interrupted"):
            facts.append(self.status)
        return facts

    def __repr__(self) -> str:
        return f"<Trace {self.id[:8]}… {' '.join(self._facts())}>"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, *, width: int | None = None, max_spans: int = _TEXT_SPANS) -> list[str]:
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
        name_width = max(12, min(max(map(text_width, left)), _NAME_WIDTH, room))
        lines = [summary, _line("span", list(_METRICS), widths, name_width, "", width)]
        for text, row, span in zip(left, cells, shown, strict=True):
            lines.append(_line(text, row, widths, name_width, _remark(span), width))
        if len(self) > len(shown):
            lines.append(fit(f"… {len(self) - len(shown):,} more spans", width))
        return lines

    def _repr_html_(self) -> str:
        shown = self.spans[:_HTML_SPANS]
        header = ["span", *_METRICS, "status"]
        rows = [
            [guide + clean(span.name), *_metric_cells(span), _remark(span) or span.status]
            for guide, span in zip(_guides(shown), shown, strict=True)
        ]
        more = f", first {_HTML_SPANS} shown" if len(self) > _HTML_SPANS else ""
        return html_table(f"trace {self.id}: {', '.join(self._facts())}{more}", header, rows, right={2, 3, 4, 5})


def leaf_model_calls(spans: Sequence[TraceSpan]) -> list[TraceSpan]:
    """The llm and embedding spans with no such span below them. REQUIRES: parents come before their children."""
    above: set[int] = set()  # spans that contain a model call
    leaves: list[TraceSpan] = []
    for span in reversed(spans):
        is_call = span.kind in _MODEL_KINDS
        if is_call and id(span) not in above:
            leaves.append(span)
        if span.parent is not None and (is_call or id(span) in above):
            above.add(id(span.parent))
    return leaves


_METRICS = ("kind", "took", "ttft", "in→out", "cost")


def _metric_cells(span: TraceSpan) -> list[str]:
    values = span.attributes
    tokens = [values.get("input_tokens"), values.get("output_tokens")]
    return [
        span.kind,
        "" if span.duration_ns is None else format_duration(span.duration_ns),
        "" if values.get("ttft_ns") is None else format_duration(values["ttft_ns"]),
        "→".join("–" if t is None else f"{t:,}" for t in tokens) if any(t is not None for t in tokens) else "",
        "" if span.cost_usd is None else format_cost(span.cost_usd),
    ]


def _remark(span: TraceSpan) -> str:
    """What there is to say beside the numbers: the error, or that the span never ended."""
    if span.status == "error":
        return f"✗ {span.error}"
    return {"running": "… running", "interrupted": "✗ interrupted"}.get(span.status, "")


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
        siblings = span.parent.children if span.parent else None
        del open_levels[span.depth :]
        has_next = siblings is not None and siblings[-1] is not span
        open_levels.append(has_next)
        if span.depth == 0:
            guides.append("" if span.parent_id is None else "┄ ")  # its parent is not in the store
            continue
        drawn = open_levels[1:-1]
        skipped = max(0, len(drawn) - _GUIDE_LEVELS)
        start = f"⋮{skipped} " if skipped else ""
        guides.append(
            start + "".join("│  " if more else "   " for more in drawn[skipped:]) + ("├─ " if has_next else "└─ ")
        )
    return guides
