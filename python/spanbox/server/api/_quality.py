"""The quality panel: one score over time, with the interval of its mean, against before, and how far people agree."""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import Any

from spanbox._comparisons import as_number
from spanbox._literals import equals, literal
from spanbox._render import plural
from spanbox._significance import cohen_kappa, half_width_95, mann_whitney
from spanbox.server.api._asked import Asked, Axis, Interval
from spanbox.server.api._columnar import column
from spanbox.server.api._frame import (
    FEW,
    Colors,
    Json,
    bucket_name,
    panel,
    partial_note,
    time_axis,
)
from spanbox.server.api._roots import root_clause

OWN_SCORES = 'evaluator != "spanbox"'  # corrections of costs and tokens are no judgements
_VALUES = 200_000  # most that are read; newest first


def quality(asked: Asked, colors: Colors) -> Json:
    began_s = time.perf_counter()
    axis = asked.axis()
    of = (axis.begin_ns, asked.now_ns)
    names = score_names(asked, of)
    wanted = asked.param("score")
    name = wanted if any(each["name"] == wanted for each in names) else names[0]["name"] if names else None
    answer = time_axis(asked, axis)
    if name is None:
        state = panel(
            asked, began_s, state="empty", text="No score was given in this range.", basis=["scores of any source"]
        )
        return {**state, **answer, **_nothing(axis), "scores": names}
    values = score_values(asked, name, of)
    figures = _figures(asked, name, values)
    told = _told(asked, name, of)
    roots = asked.spans(root_clause(asked), of=of).count()
    kappa = asked.kept(("kappa", name), lambda: _kappa(asked, name))
    given = plural(figures["recent"], "score")
    few = f"{given} in the last {_length(asked.window)} are too few for a mean: it takes {FEW}."
    return {
        **panel(
            asked,
            began_s,
            state="ok" if figures["value"] is not None else "few",
            text="" if figures["value"] is not None else few,
            basis=[
                f"{len(values):,} judged"
                + (f" ({min(1.0, len(values) / roots):.1%} of traces)".replace("%", " %") if roots else ""),
                f"by {told['evaluator'] or told['source']} {told['evaluator_version']}".rstrip(),
                f"κ {kappa['value']:.2f} with people, n {kappa['n']}" if kappa else "",
                bucket_name(axis),
                partial_note(answer),
            ],
            more="The band holds the mean with 95 % by the normal distribution. Now against before: Mann and Whitney's "
            "test, not corrected; findings are. By the time when scores were given"
            + ("" if len(values) < _VALUES else f". Of the newest {_VALUES:,}"),
        ),
        **answer,
        **_series(axis, values),
        **{key: value for key, value in figures.items() if key != "recent"},
        **told,
        "score": name,
        "scores": names,
        "judged": len(values),
        "judged_share": min(1.0, len(values) / roots) if roots else None,
        "kappa": kappa,
    }


def _series(axis: Axis, values: list[tuple[int, float]]) -> Json:
    """The mean of each bucket, with its interval; and the scale."""
    by_time: list[list[float]] = [[] for _ in range(axis.buckets)]
    for at_ns, value in values:
        if (place := axis.place(at_ns)) is not None:
            by_time[place].append(value)
    means = [(_mean(each), half_width_95(each), len(each)) for each in by_time]
    return {
        "mean": column(mean for mean, _, _ in means),
        "low": column(mean - half for mean, half, _ in means),
        "high": column(mean + half for mean, half, _ in means),
        "n": column(n for _, _, n in means),
        "min": min((value for _, value in values), default=0.0),
        "max": max((value for _, value in values), default=1.0),
    }


def _figures(asked: Asked, name: str, values: list[tuple[int, float]]) -> Json:
    """Now, against before."""
    now = [value for at_ns, value in values if at_ns >= asked.window[0]]
    then = [value for _, value in score_values(asked, name, asked.baseline)] if asked.baseline else []
    enough, comparable = len(now) >= FEW, len(now) >= FEW and len(then) >= FEW
    return {
        "recent": len(now),
        "value": _mean(now) if enough else None,
        "half_width": half_width_95(now) if enough else None,
        "before": _mean(then) if len(then) >= FEW else None,
        "change": _mean(now) - _mean(then) if comparable else None,
        "p": min(1.0, 2 * min(mann_whitney(now, then))) if comparable else None,
    }


def score_names(asked: Asked, of: Interval) -> list[Json]:
    """Scores with values, those of judges first, then by how many there are."""
    rows = asked.scores(f"{OWN_SCORES} or evaluator == none", of=of).by("name", "source").agg(n="count(value)")
    counts: Counter[str] = Counter()
    judged = set()
    for row in rows:
        counts[row["name"]] += row["n"]
        if row["source"] in ("judge", "human"):
            judged.add(row["name"])
    order = sorted(
        (name for name in counts if counts[name]), key=lambda name: (name not in judged, -counts[name], name)
    )
    return [{"name": name, "n": counts[name]} for name in order]


def score_values(asked: Asked, name: str, of: Interval) -> list[tuple[int, float]]:
    """When, and what; of the spans that match, where a filter is asked for."""

    def read() -> list[tuple[int, float]]:
        found = asked.scores(f"name == {literal(name)} and value != none", of=of).columns(
            "start_ns", "value", "trace_id"
        )
        table = found.order_by("start_ns", descending=True).limit(_VALUES)._table()
        at, values, traces = (table.column(each) for each in table.column_names)
        matching = _matching_traces(asked, of) if asked.q else None
        rows = zip(at, map(as_number, values), traces, strict=True)
        return [
            (at_ns, value)
            for at_ns, value, trace in rows
            if value is not None and (matching is None or trace in matching)
        ]

    return asked.kept(("score values", name, of), read)


def _matching_traces(asked: Asked, of: Interval) -> set[str]:
    def read() -> set[str]:
        table = asked.spans(of=of).by("trace_id").agg(n="count()")._table()
        return set(table.column("trace_id"))

    return asked.kept(("matching traces", of), read)


def _told(asked: Asked, name: str, of: Interval) -> Json:
    rows = asked.scores(f"name == {literal(name)}", of=of).by("evaluator", "version", "source").agg(n="count()")
    most = max(rows, key=lambda row: row["n"], default=None)
    parts = ("evaluator", "version", "source")
    evaluator, version, source = ("" if most is None or most[part] is None else str(most[part]) for part in parts)
    return {"evaluator": evaluator, "evaluator_version": version, "source": source}


def _kappa(asked: Asked, name: str) -> Json | None:
    """Agreement of judges and rules with people about the same spans: both say what is at least one half, or the same
    label."""
    table = asked.scores(equals("name", name), of=(0, asked.now_ns)).columns(
        "trace_id", "span_id", "source", "value", "label"
    )
    people: dict[Any, bool] = {}
    machines: dict[Any, bool] = {}
    for trace, span, source, value, label in (
        row.values() for row in table.order_by("start_ns", descending=True).limit(_VALUES)
    ):
        passed = value >= 0.5 if isinstance(value, (int, float)) else None if label is None else bool(label == "good")
        if passed is not None and source in ("human", "judge", "rule"):
            (people if source == "human" else machines).setdefault((trace, span), passed)
    pairs = [(machines[key], people[key]) for key in people.keys() & machines.keys()]
    value = cohen_kappa(pairs) if len(pairs) >= FEW else math.nan
    return None if math.isnan(value) else {"value": value, "n": len(pairs)}


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _length(of: Interval) -> str:
    minutes = (of[1] - of[0]) // 60_000_000_000
    return f"{minutes // 60} h" if minutes >= 60 and minutes % 60 == 0 else f"{minutes} min"


def _nothing(axis: Axis) -> Json:
    empty = {each: column([None] * axis.buckets) for each in ("mean", "low", "high", "n")}
    return {
        "score": None,
        **empty,
        "value": None,
        "half_width": None,
        "before": None,
        "change": None,
        "p": None,
        "judged": 0,
        "judged_share": None,
        "evaluator": "",
        "evaluator_version": "",
        "source": "",
        "kappa": None,
        "min": 0.0,
        "max": 1.0,
    }
