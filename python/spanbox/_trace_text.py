"""How a trace looks: its tree as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spanbox._render import (
    clean,
    duration_column,
    fit,
    format_cost,
    format_count,
    format_duration,
    one_line,
    pad,
    plural,
    terminal_width,
    text_width,
)

if TYPE_CHECKING:
    from spanbox._trace import Trace, TraceSpan

_GUIDE_LEVELS = 12  # deeper levels are numbered instead of drawn
_NAME_WIDTH = 40
_STATES = {"running": "… running", "interrupted": "✗ interrupted"}
_METRICS = ("kind", "took", "self", "ttft", "in→out", "cost")


def short_line(trace: Trace) -> str:
    return f"<Trace {trace.id[:8]}… {' '.join(_facts(trace))}>"


def lines(trace: Trace, width: int | None, max_spans: int) -> list[str]:
    width = width or terminal_width()
    summary = fit("  ".join([f"trace {trace.id}", *_facts(trace)]), width)
    if text_width(f"trace {trace.id}  " + "  ".join(_facts(trace))) > width:
        summary = fit("  ".join([f"trace {trace.id[:16]}…", *_facts(trace)]), width)
    shown = trace.spans[:max_spans]
    cells = _metric_cells(shown)
    widths = [max((text_width(row[i]) for row in cells), default=0) for i in range(len(_METRICS))]
    widths = [max(w, len(head)) if w else 0 for w, head in zip(widths, _METRICS, strict=True)]
    left = [f"{guide}{clean(span.name)}" for guide, span in zip(guides(shown), shown, strict=True)]
    room = width - sum(w + 2 for w in widths if w)
    name_width = max(12, min(max(map(text_width, left), default=0), _NAME_WIDTH, room))
    drawn = [summary, _line("span", list(_METRICS), widths, name_width, "", width)]
    for text, row, span in zip(left, cells, shown, strict=True):
        drawn.append(_line(text, row, widths, name_width, _remark(span), width))
    more = trace.line_count - trace.offset - len(shown)
    if more > 0:
        drawn.append(fit(f"… {plural(more, 'more span')}", width))
    return drawn


def _facts(trace: Trace) -> list[str]:
    facts = [plural(trace.totals.spans, "span")]
    if trace.duration_ns is not None:
        facts.append(format_duration(trace.duration_ns))
    if trace.cost_usd is not None:
        facts.append(format_cost(trace.cost_usd))
    if trace.totals.errors:
        facts.append(plural(trace.totals.errors, "error"))
    if trace.status in ("running", "interrupted"):
        facts.append(trace.status)
    facts.extend(score_texts(trace.scores))
    return facts


def _metric_cells(spans: Sequence[TraceSpan]) -> list[list[str]]:
    times = [
        _times([span.duration_ns for span in spans]),
        _times([span.self_ns if span.child_count else None for span in spans]),
        _times([span.attributes.get("ttft_ns") for span in spans]),
    ]
    return [
        [
            span.kind,
            *(column[at] for column in times),
            _token_cell(span),
            "" if span.cost_usd is None else format_cost(span.cost_usd),
        ]
        for at, span in enumerate(spans)
    ]


def _times(values: Sequence[int | None]) -> list[str]:
    """A column in one unit, empty where there is nothing to tell."""
    return ["" if ns is None else cell for ns, cell in zip(values, duration_column(values), strict=True)]


def _token_cell(span: TraceSpan) -> str:
    tokens = [span.attributes.get("input_tokens"), span.attributes.get("output_tokens")]
    return "→".join(map(format_count, tokens)) if any(each is not None for each in tokens) else ""


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


def guides(spans: Sequence[TraceSpan]) -> list[str]:
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
