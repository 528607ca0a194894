"""`spanbox show`: one trace as a tree, and with --text what its spans got and gave."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from spanbox._messages import Message, messages_of, payload_text
from spanbox._render import clean, fit, fold, format_cost, format_duration, one_line, pad, plural, text_width
from spanbox._trace import Trace, TraceSpan
from spanbox.cli._output import Output

_TEXTS = ("input", "output", "events", "links")
_ERROR = ("error_type", "error_message")  # said beside the name
_ROLE_WIDTH = 11
_CHARACTERS = 100_000  # of one text


def trace_json(trace: Trace) -> dict[str, Any]:
    scores = {"scores": trace.scores} if trace.scores else {}
    spans = [
        {**span.as_dict(), "depth": span.depth, "self_ns": span.self_ns, "critical_ns": span.critical_ns}
        for span in trace
    ]
    return {"trace_id": trace.id, "totals": trace.totals.as_dict(), "spans": spans, **scores}


def print_texts(out: Output, trace: Trace) -> None:
    """Conversations of model calls, where what an earlier call was told already is only counted; payloads of others."""
    told: list[Message] = []
    for span in trace:
        out.line()
        _print_head(out, span)
        said = messages_of(span.input, role="user") if span.kind == "llm" else []
        if said:
            same = _common(told, said)
            if same:
                out.line(f"  {plural(same, 'message')} as in the call before", "dim")
            told = [*said, *messages_of(span.output, role="assistant")]
            _print_messages(out, told[same:])
        else:
            _print_payload(out, "input", span.input)
        if not said or len(told) == len(said):  # the output is no message
            _print_payload(out, "output", span.output)
        _print_attributes(out, span)


def _common(told: list[Message], said: list[Message]) -> int:
    """How many messages `said` begins with that `told` begins with too."""
    pairs = zip(told, said, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(told), len(said)))


def _print_head(out: Output, span: TraceSpan) -> None:
    facts = [clean(span.name), span.kind, format_duration(span.duration_ns), span.span_id]
    if span.cost_usd is not None:
        facts.insert(3, format_cost(span.cost_usd))
    out.title(fit("  ".join(facts), out.width))
    if span.error:
        out.line(fit(f"  ✗ {span.error}", out.width), "red")


def _print_messages(out: Output, messages: Iterable[Message]) -> None:
    for role, text in messages:
        _print_block(out, clean(role), text)


def _print_payload(out: Output, name: str, value: Any) -> None:
    if value is not None:
        _print_block(out, f"{name}:", payload_text(value))


def _print_block(out: Output, name: str, text: str) -> None:
    """A name, and beside it a text of several lines, folded at the width of the terminal."""
    left_out = len(text) - _CHARACTERS
    room = max(20, out.width - _ROLE_WIDTH - 2)
    folded = [part for line in text[:_CHARACTERS].split("\n") for part in fold(clean(line), room)]
    if left_out > 0:
        folded.append(f"… {left_out:,} more characters")
    if text_width(name) >= _ROLE_WIDTH:
        out.line(f"  {fit(name, out.width - 2)}")
        name = ""
    for at, line in enumerate(folded):
        out.line(f"  {pad(name if at == 0 else '', _ROLE_WIDTH)}{line}".rstrip())


def _print_attributes(out: Output, span: TraceSpan) -> None:
    for name, value in span.attributes.items():
        if name in _TEXTS or (span.error and name in _ERROR):
            continue
        told = format_duration(value) if name.endswith("_ns") and isinstance(value, int) else value
        _print_quietly(out, f"{clean(name)}: {one_line(told, limit=_CHARACTERS)}")
    for event in _list(span.attributes.get("events")):
        _print_quietly(out, f"event: {clean(json.dumps(event, ensure_ascii=False, default=str))}")


def _print_quietly(out: Output, text: str) -> None:
    for line in fold(text, out.width - 2):
        out.line(f"  {line}", "dim")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
