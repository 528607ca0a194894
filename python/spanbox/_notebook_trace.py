"""A trace as a picture: its tree beside a waterfall, where its time and its money went. HTML and SVG without scripts.

Thread rule: as Trace. All texts are escaped. Geometry is in thousandths of the trace's duration.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable

from spanbox import _core
from spanbox._notebook_html import HTML_ROWS, MODEL_HUES, block, facts, number, parts_bar, text
from spanbox._render import duration_column, format_cost, format_duration, format_share, format_time, plural
from spanbox._trace import Trace, TraceSpan
from spanbox._trace_text import guides, score_texts

KIND_TAGS: dict[str, str] = {
    "agent": "AGT", "llm": "LLM", "tool": "TOL", "retriever": "RET", "embedding": "EMB", "reranker": "RNK",
    "guardrail": "GRD", "evaluator": "EVL", "chain": "CHN", "workflow": "WFL", "prompt": "PRM", "memory": "MEM",
    "span": "FN",
}  # fmt: skip
MODEL_KINDS = ("llm", "embedding")
_OWN = ("agent", "chain", "workflow", "span")
_WIDE = 1000.0
_SHOWN_PARTS = 6
_ROUNDING = 1e-9  # of sums of floats
_STATES = {"error": "▲", "running": "◌ running", "interrupted": "⊠ interrupted"}
Part = tuple[str, str, float]  # label, classes of colour, value


def hues(models: Iterable[str | None]) -> dict[str, str]:
    """The colour of each model, in order of calls."""
    order = [model for model, _ in Counter(model for model in models if model).most_common()]
    return {model: MODEL_HUES[at] if at < len(MODEL_HUES) else "k2" for at, model in enumerate(order)}


def model_of(span: TraceSpan) -> str | None:
    model = span.attributes.get("model") or span.attributes.get("model_request")
    return str(model) if model and span.kind in MODEL_KINDS else None


def trace_html(trace: Trace) -> str:
    """What a notebook shows of a trace."""
    return block(head_html(trace) + failures_html(trace) + waterfall_html(trace) + where_html(trace))


def head_html(trace: Trace, *, heading: str = "strong") -> str:
    totals = trace.totals
    tokens = ""
    if totals.input_tokens is not None or totals.output_tokens is not None:
        cached = f", {totals.cache_read_tokens:,} cached" if totals.cache_read_tokens else ""
        tokens = f"{totals.input_tokens or 0:,} in{cached} → {totals.output_tokens or 0:,} out"
    unpriced = f", {totals.unpriced_calls:,} unpriced" if totals.unpriced_calls and trace.cost_usd is not None else ""
    root = trace.spans[0].attributes if trace.offset == 0 and trace.spans else {}
    runs = trace.status == "running"
    named = [
        ("duration", f"{format_duration(_age_ns(trace))} so far" if runs else format_duration(trace.duration_ns)),
        ("cost", f"{format_cost(trace.cost_usd)}{unpriced}"),
        ("tokens", tokens),
        ("spans", f"{totals.spans:,}" + (f", {totals.errors:,} failed" if totals.errors else "")),
        *((name, str(root.get(key) or "")) for name, key in _ROOT_FACTS),
        *((str(score["name"]), _score(score)) for score in trace.scores),
    ]
    state = f' <span class="sb-e">{text(_STATES[trace.status])}</span>' if trace.status in _STATES else ""
    return (
        f"<div><{heading}>{text(trace.name)}</{heading}>{state} <code>{text(trace.id)}</code> "
        f'<span class="sb-m">{text(format_time(trace.start_ns))} {text(time.strftime("%Z"))}</span></div>{facts(named)}'
    )


_ROOT_FACTS = (
    ("user", "user_id"), ("session", "session_id"), ("prompt", "prompt_version"), ("release", "release"),
)  # fmt: skip


def _score(score: dict[str, object]) -> str:
    said = score.get("value", score.get("label"))
    return f"{said:.3g}" if isinstance(said, float) else str(said).lower() if isinstance(said, bool) else str(said)


def failures_html(trace: Trace) -> str:
    """What failed first, deepest cause in words."""
    failed = trace.errors
    if not failed:
        return ""
    first = failed[0]
    more = f" and {plural(len(failed) - 1, 'more span')}" if len(failed) > 1 else ""
    return (
        f'<p class="sb-bad"><span class="sb-e">▲</span> <strong>Failed inside</strong> {text(first.name)}{more}: '
        f"{text(first.error or 'error')}</p>"
    )


# --- tree and waterfall ----------------------------------------------------------------------------------------------


def waterfall_html(trace: Trace, *, limit: int = HTML_ROWS, link: str = "") -> str:
    """`link`: what precedes a span's id in the address that its name leads to."""
    shown = trace.spans[:limit]
    if not shown:
        return ""
    begin, length = trace.start_ns, max(trace.duration_ns or 0, _known_ns(trace), 1)
    colour = hues(map(model_of, trace.spans))
    times = duration_column([span.duration_ns for span in shown])
    costs = [format_cost(span.cost_usd) if span.cost_usd is not None else "" for span in shown]
    ticks = duration_column([length * part / 4 for part in range(5)])
    axis = "".join(f"<span>{number(tick)}</span>" for tick in ("0", *ticks[1:]))
    cost_head = '<th class="sb-r">cost</th>' if any(costs) else ""
    rows = ""
    for span, guide, took, cost in zip(shown, guides(shown), times, costs, strict=True):
        cost_cell = f'<td class="sb-r">{number(cost)}</td>' if any(costs) else ""
        rows += (
            f"<tr><td>{_name_html(span, guide, link)}</td>"
            f'<td class="sb-r">{number(took if span.duration_ns is not None else "")}</td>{cost_cell}'
            f"<td>{_bar_svg(span, begin, length, colour)}</td></tr>"
        )
    more = trace.line_count - trace.offset - len(shown)
    hidden = f"{plural(more, 'more span')} below. " if more > 0 else ""
    return (
        f'<table class="sb-t" width="100%"><thead><tr><th>{text(plural(trace.totals.spans, "span"))}, depth first</th>'
        f'<th class="sb-r">time</th>{cost_head}<th width="50%"><span class="sb-ax">{axis}</span></th></tr></thead>'
        f'<tbody>{rows}</tbody></table><p class="sb-note">{text(hidden)}Pale waits for the first token, solid streams; '
        "a thin line contains others; underlined is on the critical path.</p>"
    )


def _known_ns(trace: Trace) -> int:
    """Of what is known of a trace that has no end: one that runs lasts until now."""
    if trace.status == "running":
        return _age_ns(trace)
    ends = (span.start_ns + (span.duration_ns or 0) for span in trace.spans)
    return max(ends, default=trace.start_ns) - trace.start_ns


def _age_ns(trace: Trace) -> int:
    return max(0, time.time_ns() - trace.start_ns)


def _name_html(span: TraceSpan, guide: str, link: str) -> str:
    mark = f" {_STATES[span.status]}" if span.status in _STATES else ""
    name = f"<a href='{link}{text(span.span_id)}'>{text(span.name)}</a>" if link else text(span.name)
    kind = f'<span class="sb-k">{KIND_TAGS.get(span.kind, "FN")}</span>'
    said = f'<span class="sb-e">{name}{mark}</span>' if span.status in ("error", "interrupted") else f"{name}{mark}"
    scores = "".join(f' <span class="sb-m">{text(score)}</span>' for score in score_texts(span.scores))
    return f'<span class="sb-g">{text(guide)}</span>{kind}{said}{scores}'


def _bar_svg(span: TraceSpan, begin: int, length: int, colour: dict[str, str]) -> str:
    x = min(_WIDE * (span.start_ns - begin) / length, _WIDE - 3)
    lasts = span.duration_ns if span.duration_ns is not None else begin + length - span.start_ns
    width = max(3.0, _WIDE * lasts / length)
    fill = _fill(span, colour)
    if span.child_count and span.kind not in MODEL_KINDS:
        body = _rect(x, 7, width, 2, fill) + _rect(x, 4, 2, 8, fill) + _rect(x + width - 2, 4, 2, 8, fill)
    else:
        body = _leaf(span, x, width, lasts, fill)
    if span.critical_ns:
        body += _rect(x, 14, width, 1.5, "sb-f-t1")
    grid = "".join(f'<line x1="{at}" x2="{at}" y1="-6" y2="22" class="sb-grid"/>' for at in (0, 250, 500, 750, 1000))
    after, took = format_duration(span.start_ns - begin), format_duration(span.duration_ns)
    return (
        f'<svg class="sb-wf" viewBox="0 0 1000 16" preserveAspectRatio="none" role="img" '
        f'aria-label="starts after {number(after)}, takes {number(took)}">{grid}{body}</svg>'
    )


def _fill(span: TraceSpan, colour: dict[str, str]) -> str:
    if span.status == "error":
        return "sb-f-errfill"
    model = model_of(span)
    return f"sb-f-{colour[model] if model else 'k2'}"


def _leaf(span: TraceSpan, x: float, width: float, lasts: int, fill: str) -> str:
    first = span.attributes.get("ttft_ns") if span.kind == "llm" else None
    if not isinstance(first, int) or not 0 < first < lasts:
        pale = " sb-pale" if span.status in ("running", "interrupted") else ""
        return _rect(x, 3, width, 10, fill + pale)
    waits = width * first / lasts
    return _rect(x, 3, waits, 10, f"{fill} sb-pale") + _rect(x + waits, 3, width - waits, 10, fill)


def _rect(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{height}" class="{fill}"/>'


# --- where time and money went ---------------------------------------------------------------------------------------


def where_html(trace: Trace) -> str:
    """Two bars whose parts add up. Nothing when only a part of the trace is here."""
    if trace.offset or len(trace) < trace.line_count or not trace.spans:
        return ""
    times, costs = time_parts(trace), cost_parts(trace)
    took = sum(value for _, _, value in times)
    html = ""
    if took > 0:
        said = duration_column([value for _, _, value in times])
        shown = [f"{time}, {format_share(part[2] / took)}" for time, part in zip(said, times, strict=True)]
        html += parts_bar(f"Where {format_duration(took)} went", times, shown)
    if trace.cost_usd:
        shown = [f"{format_cost(value)}, {format_share(value / trace.cost_usd)}" for _, _, value in costs]
        html += parts_bar(f"Where {format_cost(trace.cost_usd)} went", costs, shown)
    return html


def time_parts(trace: Trace) -> list[Part]:
    """The critical path by what it was spent on: the parts add up to the time of the root."""
    try:
        steps = trace.critical_path()
    except _core.SpanboxError:  # has no end yet
        return []
    spans = {span.span_id: span for span in trace.spans}
    colour = hues(map(model_of, trace.spans))
    found: dict[tuple[str, str], float] = defaultdict(float)
    for step in steps:
        span = spans.get(step.span_id)
        if span is None:
            found["elsewhere", "sb-f-k4"] += step.duration_ns
            continue
        fill, model = _fill(span, colour), model_of(span)
        first = span.attributes.get("ttft_ns")
        if model is None:
            own = span.kind in _OWN and span.status != "error"
            found["own code" if own else span.name, "sb-f-k3" if own else fill] += step.duration_ns
        elif span.status == "error":
            found[f"{model} failing", fill] += step.duration_ns
        elif not isinstance(first, int):
            found[model, fill] += step.duration_ns
        else:
            waited = min(max(span.start_ns + first - step.start_ns, 0), step.duration_ns)
            found[f"waiting for {model}", f"{fill} sb-pale"] += waited
            found[f"{model} streaming", fill] += step.duration_ns - waited
    return _largest([(label, fill, ns) for (label, fill), ns in found.items() if ns > 0])


def cost_parts(trace: Trace) -> list[Part]:
    """The cost of model calls by model: each counted where its trace's total counts it."""
    colour = hues(map(model_of, trace.spans))
    found: dict[tuple[str, str], float] = defaultdict(float)
    for span in trace.spans:
        below = sum(child.totals.cost_usd or 0.0 for child in span.children)
        own = (span.totals.cost_usd or 0.0) - below
        if own > _ROUNDING * (trace.cost_usd or 0.0):
            model = model_of(span)
            found[model or span.name, f"sb-f-{colour[model] if model else 'k2'}"] += own
    return _largest([(label, fill, usd) for (label, fill), usd in found.items()])


def _largest(parts: list[Part]) -> list[Part]:
    parts.sort(key=lambda part: -part[2])
    rest = sum(value for _, _, value in parts[_SHOWN_PARTS:])
    return [*parts[:_SHOWN_PARTS], *([("the rest", "sb-f-k4", rest)] if rest else [])]
