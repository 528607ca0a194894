"""Which spans determined when a trace ended.

Loaded when it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from spanbox._render import clean, duration_column, format_duration, format_share, plural, terminal_width, text_table
from spanbox._trace import SHOWN_SPANS


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
        shown = self.steps[:SHOWN_SPANS]
        after = duration_column([step.start_ns - self.steps[0].start_ns for step in shown])
        took = duration_column([step.duration_ns for step in shown])
        rows = [
            [after[at], took[at], format_share(step.duration_ns / total), step.kind, clean(step.name)]
            for at, step in enumerate(shown)
        ]
        width = terminal_width()
        lines = text_table(["after", "took", "share", "kind", "span"], rows, right={0, 1, 2}, width=width, cut={4})
        more = [f"… {len(self) - len(rows):,} more steps"] if len(self) > len(rows) else []
        return "\n".join([*lines, *more])
