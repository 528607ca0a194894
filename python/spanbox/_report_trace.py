"""The report about one trace: its picture, its conversation, and what every span got and gave."""

from __future__ import annotations

from html import escape
from typing import Any

from spanbox._messages import messages_of, payload_text
from spanbox._notebook_html import number, table, text
from spanbox._notebook_trace import KIND_TAGS, failures_html, head_html, waterfall_html, where_html
from spanbox._render import clean, format_cost, format_duration, format_time, one_line, plural
from spanbox._trace import Trace, TraceSpan

_TREE_SPANS = 500
_DETAILED_SPANS = 200
_PREVIEW = 4_000  # characters of a payload
_MESSAGE = 8_000
_MESSAGES = 60
_TEXTS = ("input", "output")


def trace_body(trace: Trace) -> str:
    detailed = _worth_reading(trace)
    more = len(trace) - len(detailed)
    rest = f'<p class="sb-note">{plural(more, "more span")} without their texts here.</p>' if more else ""
    return (
        head_html(trace, heading="h1")
        + failures_html(trace)
        + waterfall_html(trace, limit=_TREE_SPANS, link="#s-")
        + where_html(trace)
        + scores_html(trace)
        + conversation_html(trace)
        + "<h2>Every span</h2>"
        + "".join(map(span_html, detailed))
        + rest
    )


def _worth_reading(trace: Trace) -> list[TraceSpan]:
    """Of a long trace the failed spans and the first ones."""
    if len(trace) <= _DETAILED_SPANS:
        return list(trace)
    failed = {span.span_id for span in trace if span.status != "ok"}
    order = sorted(range(len(trace)), key=lambda at: (trace[at].span_id not in failed, at))[:_DETAILED_SPANS]
    return [trace[at] for at in sorted(order)]


def scores_html(trace: Trace) -> str:
    given = [("the trace", score) for score in trace.scores]
    given += [(span.name, score) for span in trace for score in span.scores]
    if not given:
        return ""
    rows = [
        [
            str(score["name"]), _said(score), clean(of), str(score.get("source") or ""),
            str(score.get("evaluator") or ""), format_time(score["at_ns"]) if score.get("at_ns") else "",
            str(score.get("explanation") or ""),
        ]
        for of, score in given[:_DETAILED_SPANS]
    ]  # fmt: skip
    header = ["score", "value", "of", "source", "evaluator", "given", "why"]
    return "<h2>Scores</h2>" + table("", header, rows, right={1}, wrap={6})


def _said(score: dict[str, Any]) -> str:
    value = score.get("value", score.get("label"))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def conversation_html(trace: Trace) -> str:
    """What the last model call was told and answered: agents repeat the history in every call."""
    best: list[tuple[str, str]] = []
    name = ""
    for span in trace:
        if span.kind != "llm":
            continue
        said = [*messages_of(span.input, role="user"), *messages_of(span.output, role="assistant")]
        if len(said) >= len(best):
            best, name = [(message.role, message.text) for message in said], span.name
    if not best:
        return ""
    left_out = len(best) - _MESSAGES
    note = f'<p class="sb-note">{plural(left_out, "earlier message")} left out.</p>' if left_out > 0 else ""
    says = "".join(f'<dl class="sb-say"><dt>{text(role)}</dt><dd>{prose(said, _MESSAGE)}</dd></dl>'
                   for role, said in best[-_MESSAGES:])  # fmt: skip
    return f'<h2>Conversation <span class="sb-m">of {text(name)}</span></h2>{note}{says}'


def prose(value: str, limit: int) -> str:
    """A text of several lines, cut."""
    lines = "\n".join(map(clean, value[:limit].split("\n")))
    more = f'<span class="sb-m"> … {len(value) - limit:,} more characters</span>' if len(value) > limit else ""
    return f"{escape(lines)}{more}"


def span_html(span: TraceSpan) -> str:
    """What is known of one span, folded away."""
    attributes = {name: value for name, value in span.attributes.items() if name not in (*_TEXTS, "events", "links")}
    rows = [[clean(name), one_line(value, limit=_PREVIEW)] for name, value in attributes.items()]
    events = span.attributes.get("events") or []
    payloads = "".join(
        f'<div class="sb-m">{name}</div><pre>{prose(payload_text(span.attributes[name]), _PREVIEW)}</pre>'
        for name in _TEXTS
        if span.attributes.get(name) is not None
    )
    failed = f' <span class="sb-e">▲ {text(span.error)}</span>' if span.error else ""
    cost = f", {number(format_cost(span.cost_usd))}" if span.cost_usd is not None else ""
    return (
        f'<details id="s-{text(span.span_id)}"><summary><span class="sb-k">{KIND_TAGS.get(span.kind, "FN")}</span>'
        f'{text(span.name)} <span class="sb-m">{number(format_duration(span.duration_ns))}{cost}, '
        f"<code>{text(span.span_id)}</code></span>{failed}</summary>{payloads}"
        f"{table('', ['attribute', 'value'], rows, right=set(), wrap={1}) if rows else ''}"
        f"{_events_html(events)}</details>"
    )


def _events_html(events: Any) -> str:
    if not isinstance(events, list) or not events:
        return ""
    return f'<div class="sb-m">events</div><pre>{prose(payload_text(events), _PREVIEW)}</pre>'
