"""Panels of money: the cost of a thousand requests over time, and the costs page with its groups, projection and
caching."""

from __future__ import annotations

import time
from itertools import accumulate
from typing import Any

from spanbox._cost_rows import CostRow
from spanbox._literals import equals
from spanbox._render import plural
from spanbox.server.api._asked import DAY_NS, Asked, Interval
from spanbox.server.api._columnar import column
from spanbox.server.api._frame import (
    CALL,
    Colors,
    Json,
    bucket_name,
    every,
    panel,
    partial_note,
    time_axis,
)
from spanbox.server.api._problem import Problem
from spanbox.server.api._roots import root_clause
from spanbox.server.api._writes import budget_usd_per_1k

PRICED = f"{CALL} and cost != none"
_UNPRICED = f"{CALL} and cost == none and (input_tokens != none or output_tokens != none)"
_NESTED = f"{PRICED} and any(ancestors, {PRICED})"
_AREAS = 6
_HOUR_NS = 3_600_000_000_000


def paid_clause(asked: Asked, of: Interval) -> str:
    """The calls whose costs add up. A wrapper repeats what the call below it costs; where there is none, every call
    counts, and
    the tree need not be read."""
    newest = (max(of[0], of[1] - 6 * _HOUR_NS), of[1])  # how calls are nested is the program's way, not the hour's
    nested = asked.kept(("nested calls", newest), lambda: asked.spans(_NESTED, of=newest).limit(1).count() > 0)
    return f"{PRICED} and not any(descendants, {PRICED})" if nested else PRICED


def cost(asked: Asked, colors: Colors) -> Json:
    began_s = time.perf_counter()
    axis = asked.axis()
    back = -(-DAY_NS // axis.bucket_ns)  # buckets of a day
    of = (axis.begin_ns - back * axis.bucket_ns, asked.to_ns)
    requests, noun = _requests(asked, of)
    spent, asked_for = [0.0] * (back + axis.buckets), [0] * (back + axis.buckets)
    paid = paid_clause(asked, of)
    for row in asked.spans(paid, of=of).by(every=every(axis)).agg(usd="sum(cost)"):
        spent[(row["time"] - of[0]) // axis.bucket_ns] = row["usd"]
    for row in asked.spans(requests, of=of).by(every=every(axis)).agg(n="count()"):
        asked_for[(row["time"] - of[0]) // axis.bucket_ns] = row["n"]
    usd_sums, count_sums = list(accumulate(spent, initial=0.0)), list(accumulate(asked_for, initial=0))
    rolling = [
        _per_1k(usd_sums[i + 1] - usd_sums[i + 1 - back], count_sums[i + 1] - count_sums[i + 1 - back])
        for i in range(back, back + axis.buckets)
    ]
    shown = (axis.begin_ns, asked.to_ns)
    calls, unpriced = asked.spans(CALL, of=shown).count(), asked.spans(_UNPRICED, of=shown).count()
    count = sum(asked_for[back:])
    hour = (max(asked.from_ns, asked.to_ns - _HOUR_NS), asked.to_ns)
    hour_totals = _totals(asked, paid, requests, hour)
    budget = budget_usd_per_1k(asked.box)
    before = _per_1k(*_totals(asked, paid, requests, asked.baseline)) if asked.baseline else None
    answer = time_axis(asked, axis)
    priced = calls - unpriced > 0 and rolling[-1] is not None
    return {
        **panel(
            asked,
            began_s,
            state="ok" if priced and count else "empty",
            text="" if priced and count else "No model call in this range has a cost.",
            basis=[
                plural(count, noun),
                "costs as recorded",
                f"{unpriced:,} of {plural(calls, 'call')} unpriced ({unpriced / calls:.2%})".replace("%", " %")
                if calls
                else "",
                bucket_name(axis),
                partial_note(answer),
                "projected from the last hour" if budget is not None else "",
            ],
            more="Cached and reasoning tokens are in the recorded costs; a call without a cost counts as free here. "
            "The line is the mean of the 24 h before, the thin one that of a bucket; of model calls inside one another "
            "the innermost counts",
        ),
        **answer,
        "rolling": column(rolling),
        "short": column(_per_1k(spent[i], asked_for[i]) for i in range(back, back + axis.buckets)),
        "usd_per_1k": rolling[-1],
        "usd_per_1k_recent": _per_1k(*hour_totals),
        "usd_per_1k_before": before,
        "budget_usd_per_1k": budget,
        "crossing": None if budget is None else _crossing(budget, of, axis.bucket_ns, spent, asked_for, hour_totals),
        "requests": count,
        "cost_usd": sum(spent[back:]) if priced else None,
        "unpriced_calls": unpriced,
        "calls": calls,
    }


def _crossing(
    budget: float, of: Interval, bucket_ns: int, spent: list[float], asked_for: list[int], hour: tuple[float, int]
) -> Json | None:
    """When the mean of 24 h passes the budget, if every hour from now on is as the last one was; None: it does not
    within a day, or it has already."""
    back = -(-DAY_NS // bucket_ns)
    usd, requests = sum(spent[-back:]), sum(asked_for[-back:])
    now = _per_1k(usd, requests)
    share = bucket_ns / _HOUR_NS  # of the last hour, that each coming bucket gets
    if now is None or now >= budget or hour[1] == 0 or (_per_1k(*hour) or 0.0) <= budget:
        return None
    counted = float(requests)
    for i in range(1, back + 1):
        usd += share * hour[0] - spent[-back - 1 + i]
        counted += share * hour[1] - asked_for[-back - 1 + i]
        rate = 1_000 * usd / counted if counted > 0 else 0.0
        if rate >= budget:
            return {"at_ns": str(of[1] + i * bucket_ns), "usd_per_1k": rate}
    return None


def _requests(asked: Asked, of: Interval) -> tuple[str, str]:
    """What is counted as a request: roots that match, or the calls where the filter is about those."""
    root = root_clause(asked)
    return (root, "request") if asked.spans(root, of=of).limit(1).count() else (CALL, "model call")


def _totals(asked: Asked, paid: str, requests: str, of: Interval) -> tuple[float, int]:
    def ask() -> tuple[float, int]:
        usd = next(iter(asked.spans(paid, of=of).by().agg(usd="sum(cost)")))["usd"]
        return usd, asked.spans(requests, of=of).count()

    return asked.kept(("cost totals", paid, requests, of), ask)


def _per_1k(usd: float, requests: int) -> float | None:
    return 1_000 * usd / requests if requests else None


# --- the costs page ---


def costs(asked: Asked, colors: Colors) -> Json:
    began_s = time.perf_counter()
    by = list(dict.fromkeys(asked.params.get("by") or ["model"]))
    if len(by) > 4 or any(len(name) > 200 for name in by):
        raise Problem("bad_request", "`by` takes up to four columns")
    axis = asked.axis(default_px=360)
    of = (axis.begin_ns, asked.to_ns)
    try:
        report = asked.box.cost(asked.q, by=by, since=of[0], until=of[1])
    except ValueError as error:
        raise Problem("bad_request", str(error)) from None
    projection = asked.kept("projection", lambda: asked.box.project_cost(asked.q, at=asked.now_ns))
    answer = time_axis(asked, axis)
    total = report.total
    return {
        **panel(
            asked,
            began_s,
            state="ok" if total.calls else "empty",
            text="" if total.calls else "No model call in this range.",
            basis=[
                plural(total.calls, "model call"),
                f"{total.unpriced_calls:,} unpriced",
                f"computed by {', '.join(report.price_versions)}" if report.price_versions else "costs as recorded",
                bucket_name(axis),
                partial_note(answer),
            ],
            more="; ".join([*report.remarks, *projection.remarks]),
        ),
        **answer,
        "by": by,
        "rows": [_row(by, row) for row in report[:500]],
        "total": {**_row([], total), "filter": asked.q},
        "areas": _areas(asked, colors, by, axis, of),
        "projection": {
            "month": projection.month,
            "spent_usd": projection.total.spent_usd,
            "projected_usd": projection.total.projected_usd,
            "low_usd": projection.total.low_usd,
            "high_usd": projection.total.high_usd,
            "level": projection.level,
            "days": projection.total.days,
        },
        "notes": report.remarks,
    }


def _row(by: list[str], row: CostRow) -> Json:
    figures = {name: getattr(row, name) for name in CostRow.__slots__ if name != "group"}
    clauses = [equals(name, row.group.get(name)) for name in by]
    return {
        "group": [_scalar(row.group.get(name)) for name in by],
        "filter": " and ".join(filter(None, clauses)),
        **figures,
    }


def _areas(asked: Asked, colors: Colors, by: list[str], axis: Any, of: Interval) -> list[Json]:
    """The recorded costs of the dearest groups over time."""
    found: dict[tuple[Any, ...], list[float]] = {}
    for row in asked.spans(paid_clause(asked, of), of=of).by(*by, every=every(axis)).agg(spanbox_usd="sum(cost)"):
        values = found.setdefault(tuple(row[name] for name in by), [0.0] * axis.buckets)
        if (place := axis.place(row["time"])) is not None:
            values[place] = row["spanbox_usd"]
    names = sorted(found, key=lambda key: -sum(found[key]))
    areas = [
        {
            "label": ", ".join("–" if part is None else str(part) for part in key),
            "color": colors.of(str(key[0])) if by == ["model"] and key[0] is not None else None,
            "usd": column(found[key]),
        }
        for key in names[:_AREAS]
    ]
    if rest := names[_AREAS:]:
        sums = [sum(values) for values in zip(*(found[key] for key in rest), strict=True)]
        areas.append({"label": "the rest", "color": None, "usd": column(sums)})
    return areas


def _scalar(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
