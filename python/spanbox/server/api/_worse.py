"""What got worse, and what sets some traces apart: the findings of the first screen, the columns beside a selection,
and what is unlike good traces of the same name."""

from __future__ import annotations

import math
import time
from collections import Counter
from datetime import UTC
from hashlib import blake2b
from statistics import median, quantiles
from typing import Any

from spanbox._apart import Trait, read_traces, traits
from spanbox._comparisons import Period
from spanbox._finding import Finding, Findings, Mark
from spanbox._findings import find
from spanbox._literals import equals
from spanbox._render import plural
from spanbox.server.api._asked import DAY_NS, Asked, Interval
from spanbox.server.api._frame import LLM, ROOT, Colors, Json, marks, panel
from spanbox.server.api._problem import Problem
from spanbox.server.api._roots import trace_clause
from spanbox.server.api._traces import selection
from spanbox.server.api._tree import read_tree
from spanbox.server.api._tree_parts import root_row

_SAMPLE = 600
_SLICES = 12
_GOOD = 200  # traces that one trace is compared with
_LEAST_GOOD = 20
_ITEMS = 12
_CHANGED = 3
_NO_FIGURES = {"start_ns", "duration_ns", "cost_usd", "chunks", "longest_stall_ns"}


# --- findings ---


def findings(asked: Asked, colors: Colors) -> Json:
    began_s = time.perf_counter()
    found = found_in(asked)
    window, before = asked.window, asked.baseline
    state = "ok" if found.checked or found.items else "few"
    least = "the smallest change that is listed is ×1.5, or 2 points" if found.checked else ""
    return {
        **panel(
            asked,
            began_s,
            state=state,
            text="" if state == "ok" else found.sentence,
            basis=[
                plural(found.checked, "comparison"),
                "Holm, 1 %",
                least,
                f"{found.too_few} with too little data" if found.too_few else "",
            ],
            more="The last sixth of the range against the time before. Shares: Fisher's exact test; p99: the same, "
            "of calls beyond the 99th percentile of both together; scores and costs: Mann and Whitney; columns: "
            "Pearson, and Kolmogorov and Smirnov. Holm's correction over all of them",
        ),
        "sentence": found.sentence,
        "detail": found.detail,
        "checked": found.checked,
        "too_few": found.too_few,
        "window": {"from_ns": str(window[0]), "to_ns": str(window[1])},
        "mark": None
        if found.mark is None
        else {"at_ns": str(found.mark.at_ns), "name": found.mark.name, "kind": found.mark.kind},
        "items": [_item(each) for each in found.items] if before else [],
    }


def found_in(asked: Asked) -> Findings:
    """The findings of the asked range; kept."""
    before = asked.baseline

    def compute() -> Findings:
        if before is None:
            return Findings([], checked=0, too_few=0, now=asked.window, before=asked.window, marks=[])
        period = Period(asked.box._fresh_store(), asked.q, asked.window, before)
        named = [Mark(int(each["at_ns"]), each["name"], each["kind"]) for each in marks(asked)]
        zone = time_zone(asked)
        return find(period, named, zone=zone)

    return asked.kept(("findings", asked.param("tz")), compute)


def time_zone(asked: Asked) -> Any:
    if asked.param("tz") != "local":
        return UTC
    from datetime import datetime

    return datetime.now().astimezone().tzinfo or UTC


def _item(each: Finding) -> Json:
    proof = each.proof
    key = f"{each.group} {each.what} {each.unit}"
    return {
        "id": blake2b(key.encode("utf-8", "replace"), digest_size=8).hexdigest(),
        "group": each.group,
        "severity": each.severity,
        "label": each.label,
        "what": each.what,
        "now": each.now,
        "before": each.before,
        "change": each.change,
        "unit": each.unit,
        "p": each.p,
        "since_ns": None if each.since_ns is None else str(each.since_ns),
        "spark": list(each.spark),
        "spark_mark": each.spark_mark,
        "differs": None if each.differs is None else _differs(each.differs),
        "proof": None
        if proof is None
        else {
            "trace_id": proof.trace_id,
            "span_id": proof.span_id,
            "start_ns": str(proof.start_ns),
            "why": proof.why,
            "value": proof.value,
            "text": proof.text,
        },
        "n": each.n,
        "of": each.of,
        "filter": each.filter,
    }


def _differs(trait: Trait) -> Json:
    names = ("column", "op", "value", "text", "of_them", "of_others")
    return {name: getattr(trait, name) for name in names}


# --- what sets a selection apart ---


def apart(asked: Asked, colors: Colors) -> Json:
    began_s = time.perf_counter()
    clause = selection(asked)
    if not clause:
        raise Problem("bad_request", "nothing is selected: give sel=t0,t1,y0,y1")
    which, y = trace_clause(asked), asked.param("y", "duration")
    halves = (clause, f"not ({clause})")
    if y == "duration":
        sides = [asked.spans(which, each, filtered=False) for each in halves]
    else:
        sides = [asked.spans(LLM, each) for each in halves]
    counts = [side.count() for side in sides]
    samples = [_sample(asked, *((which, each) if y == "duration" else (LLM, asked.q, each))) for each in halves]
    chosen = {
        "duration": ("ttft_ns", "tpot_ns"),
        "ttft": ("ttft_ns",),
        "cost": ("cost_usd",),
        "tokens": ("input_tokens",),
    }[y]
    others = [each for each in samples[1] if each not in set(samples[0])]
    found = traits(asked.box._fresh_store(), samples[0], others, without=chosen)
    few = counts[0] == 0 or counts[1] == 0
    return {
        **panel(
            asked,
            began_s,
            state="few" if few else "ok",
            text="There is nothing to compare the selection with." if few else "",
            basis=[
                f"{found.compared} columns compared",
                f"in {found.them:,} of {counts[0]:,} and {found.others:,} of {counts[1]:,}",
                "Fisher's exact test, Holm",
            ],
            more="Of words whether a span of the trace has them, of numbers the largest in it; grey is not significant",
        ),
        "selected": counts[0],
        "others": counts[1],
        "compared": found.compared,
        "items": [{**_differs(each), "p": each.p, "significant": each.is_significant} for each in found.items[:_ITEMS]],
    }


def _sample(asked: Asked, *clauses: str) -> list[str]:
    """Traces from all of the range: the newest of each of a dozen parts of it."""
    length = -(-(asked.to_ns - asked.from_ns) // _SLICES)
    found: dict[str, None] = {}
    for begin in range(asked.from_ns, asked.to_ns, length):
        spans = asked.spans(*clauses, of=(begin, min(begin + length, asked.to_ns)), filtered=False)
        newest = spans.columns("trace_id").order_by("start_ns", descending=True).limit(_SAMPLE)
        found |= dict.fromkeys(list(dict.fromkeys(newest._table().column("trace_id")))[: _SAMPLE // _SLICES])
    return list(found)


# --- what is unlike others ---


def changed(asked: Asked, colors: Colors, trace_id: str) -> Json | None:
    tree = read_tree(asked, trace_id)
    root = root_row(asked, tree)
    start_ns = tree.summary["start_ns"]
    own_marks = [each for each in marks(asked) if root["attributes"].get(each["kind"]) == each["name"]]
    before = [each for each in own_marks if int(each["at_ns"]) <= start_ns]
    mark = max(before, key=lambda each: (each["kind"] == "prompt_version", int(each["at_ns"])), default=None)
    until_ns = start_ns if mark is None else int(mark["at_ns"])
    good = f"{ROOT} and {equals('name', root['name'])} and status == ok"
    of: Interval = (max(0, until_ns - 7 * DAY_NS), until_ns)
    newest = (
        asked.spans(good, of=of, filtered=False).columns("trace_id").order_by("start_ns", descending=True).limit(_GOOD)
    )
    ids = [each for each in newest._table().column("trace_id") if each != tree.trace_id]
    if len(ids) < _LEAST_GOOD:
        return None
    count = asked.spans(good, of=of, filtered=False).count()
    rows = read_traces(
        asked.box._fresh_store(), [tree.trace_id, *ids], {"tenant", "user_id", "prompt_version", "release"}
    )
    own = rows.pop(tree.trace_id, {})
    items = _unlike(own, list(rows.values()))
    if not items:
        return None
    against = f"{plural(count, 'good trace')} before" + (f" {mark['name']}" if mark else "")
    return {"against": against, "n": count, "items": items, "typical_trace_id": _typical(rows)}


def _unlike(own: dict[str, Any], others: list[dict[str, Any]]) -> list[Json]:
    """The figures that lie beyond nearly all of the others, and words that hardly any of them has."""
    found: list[tuple[float, Json]] = []
    for name, value in own.items():
        known = [row[name] for row in others if name in row]
        if len(known) < _LEAST_GOOD or name in _NO_FIGURES:
            continue
        if isinstance(value, set):
            counts = Counter(word for words in known if isinstance(words, set) for word in words)
            rare = [word for word in value if 50 * counts[word] < len(known)]
            if rare and counts:
                found.append((1.0, _change(name, counts.most_common(1)[0][0], rare[0], "text")))
        elif all(isinstance(each, (int, float)) for each in known):
            low, high = (quantiles(known, n=50)[place] for place in (0, -1))
            middle = median(known)
            if not low <= value <= high and middle:
                size = abs(math.log(value / middle)) if value > 0 and middle > 0 else 1.0
                if size >= math.log(1.5):
                    found.append((1 + size, _change(name, middle, value, _unit(name))))
    found.sort(key=lambda each: -each[0])
    return [item for _, item in found[:_CHANGED]]


def _change(name: str, before: Any, now: Any, unit: str) -> Json:
    return {"column": name, "before": before, "now": now, "unit": unit}


def _unit(name: str) -> str:
    return "ns" if name.endswith("_ns") else "usd" if name.endswith("_usd") else "count"


def _typical(rows: dict[str, dict[str, Any]]) -> str | None:
    """The trace whose figures are nearest to the medians of all: each distance counts in quartile ranges."""
    names = {name for row in rows.values() for name, value in row.items() if not isinstance(value, set)}
    scales: dict[str, tuple[float, float]] = {}
    for name in names:
        known = [row[name] for row in rows.values() if isinstance(row.get(name), (int, float))]
        if len(known) >= _LEAST_GOOD:
            first, middle, third = quantiles(known, n=4)
            scales[name] = (middle, max(third - first, 1e-9))

    def distance(trace_id: str) -> float:
        row = rows[trace_id]
        return sum(
            min(9.0, abs(row[name] - middle) / scale) if isinstance(row.get(name), (int, float)) else 1.0
            for name, (middle, scale) in scales.items()
        )

    return min(rows, key=distance, default=None)
