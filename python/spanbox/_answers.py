"""What a Box answers with, where it is no table.

Loaded when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

from spanbox import _core
from spanbox._render import clean, format_time


class Erased(NamedTuple):
    """What erase took out of a store."""

    spans: int
    blobs: int


class Retention(NamedTuple):
    """The limits of a store, None for none, and how many spans have just been dropped for them."""

    max_age_ns: int | None
    max_bytes: int | None
    dropped_spans: int


@dataclass(frozen=True, slots=True)
class GrepResult(Sequence["_core.GrepHit"]):
    """What grep found: `hits`, newest first, cut at the limit; `matched` counts all values that match."""

    pattern: str
    hits: tuple[_core.GrepHit, ...]
    matched: int

    @overload
    def __getitem__(self, index: int) -> _core.GrepHit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[_core.GrepHit]: ...
    def __getitem__(self, index: int | slice) -> _core.GrepHit | Sequence[_core.GrepHit]:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[_core.GrepHit]:
        return iter(self.hits)

    def __repr__(self) -> str:
        shown = "" if self.matched == len(self.hits) else f", {len(self.hits):,} shown"
        return f"<GrepResult {self.pattern!r} {self.matched:,} values match{shown}>"

    def __str__(self) -> str:
        lines = [
            f"{hit['trace_id'][:8]} {format_time(hit['start_ns'])} {clean(hit['span_name'])} {clean(hit['column'])}: "
            f"{clean(hit['snippet'])}"
            for hit in self.hits
        ]
        return "\n".join([*lines, repr(self)])
