"""Runaway traces: those whose model and tool calls, or whose cost, depart from what traces of their kind have.

The kind of a trace is the name of its root. Calls and dollars are compared as ratios: a trace stands out when it has
several times the median, and is further from it than five times what traces of its kind usually are (the median
distance of logarithms, which a few runaways among them do not move).
Owns its rows; immutable. Units: US dollars.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, overload

from spanbox._render import clean, format_cost, plural, text_table

ROOT = "parent_id == none"
CALLS = "kind in [llm, embedding, tool, retriever]"
LEAST_TRACES = 8  # of a kind, to know what is usual
_LEAST_RATIO = 3.0
_DISTANCES = 5.0
_OF_NORMAL = 1.4826  # the standard deviation of a normal distribution by its median distance


@dataclass(frozen=True, slots=True)
class Runaway:
    trace_id: str
    name: str  # of the root
    calls: int
    usual_calls: float
    cost_usd: float | None
    usual_cost_usd: float | None
    by: str  # what stands out: "calls", "cost" or "calls and cost"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Runaways(Sequence[Runaway]):
    """The worst first. `traces` were looked at; those of kinds with fewer than eight are not judged: `unjudged`."""

    def __init__(self, rows: list[Runaway], traces: int, unjudged: int) -> None:
        self._rows = rows
        self.traces = traces
        self.unjudged = unjudged

    @overload
    def __getitem__(self, index: int) -> Runaway: ...
    @overload
    def __getitem__(self, index: slice) -> list[Runaway]: ...
    def __getitem__(self, index: int | slice) -> Runaway | list[Runaway]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Runaway]:
        return iter(self._rows)

    def cells(self) -> tuple[list[str], list[list[str]], set[int]]:
        rows = [
            [
                each.trace_id[:12], clean(each.name), f"{each.calls:,}", f"{each.usual_calls:,.0f}",
                format_cost(each.cost_usd), format_cost(each.usual_cost_usd), each.by,
            ]
            for each in self
        ]  # fmt: skip
        return ["trace", "kind", "calls", "usual", "cost", "usual", "stands out by"], rows, {2, 3, 4, 5}

    @property
    def remarks(self) -> list[str]:
        unjudged = f"; {self.unjudged:,} are of kinds too rare to judge" if self.unjudged else ""
        return [f"{plural(len(self), 'runaway')} of {plural(self.traces, 'trace')}{unjudged}"]

    def __repr__(self) -> str:
        return f"<Runaways {self.remarks[0]}>"

    def __str__(self) -> str:
        header, rows, right = self.cells()
        return "\n".join([*(text_table(header, rows, right=right) if rows else []), *self.remarks])

    def _repr_html_(self) -> str:
        from spanbox._notebook_html import block
        from spanbox._notebook_tables import figures_html

        return block(
            figures_html(
                self.remarks[0],
                self.cells(),
                [],
                {2: [each.calls for each in self], 4: [each.cost_usd for each in self]},
            )
        )


def find(names: dict[str, str], calls: dict[str, int], costs: dict[str, float | None], limit: int) -> Runaways:
    """Of traces by their ids: the root's name, the number of calls, and the cost where it is known."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for trace_id, name in names.items():
        kinds[name].append(trace_id)
    rows: list[tuple[float, Runaway]] = []
    unjudged = 0
    for name, traces in kinds.items():
        if len(traces) < LEAST_TRACES:
            unjudged += len(traces)
            continue
        counts = {trace: float(calls.get(trace, 0)) for trace in traces}
        usd = {trace: cost for trace in traces if (cost := costs.get(trace))}
        by_calls, by_cost = _departures(counts), _departures(usd) if len(usd) >= LEAST_TRACES else {}
        usual_calls, usual_usd = median(counts.values()), median(usd.values()) if usd else None
        for trace in by_calls.keys() | by_cost.keys():
            what = " and ".join(w for w, found in (("calls", by_calls), ("cost", by_cost)) if trace in found)
            worst = max(by_calls.get(trace, 0.0), by_cost.get(trace, 0.0))
            row = Runaway(trace, name, int(counts[trace]), usual_calls, usd.get(trace), usual_usd, what)
            rows.append((worst, row))
    rows.sort(key=lambda each: (-each[0], each[1].trace_id))
    return Runaways([row for _, row in rows[:limit]], len(names), unjudged)


def _departures(values: dict[str, float]) -> dict[str, float]:
    """How many times the usual, for those that stand out."""
    usual = median(values.values())
    if usual <= 0:
        return {}
    logs = {trace: math.log(value / usual) for trace, value in values.items() if value > 0}
    spread = _OF_NORMAL * median(abs(each) for each in logs.values())
    bound = max(math.log(_LEAST_RATIO), _DISTANCES * spread)
    return {trace: math.exp(each) for trace, each in logs.items() if each > bound}
