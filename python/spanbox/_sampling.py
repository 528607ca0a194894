"""Which traces are stored, and which are only counted: configure(sampling=Sampling(...)), and keep()."""

from __future__ import annotations

from spanbox import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Sampling:
    """Which traces this process stores whole. Counts, sums, rates and quantiles are of all spans whatever is chosen.

        spanbox.configure(sampling=spanbox.Sampling(0.1, names={"health": 0}, keep="status == error or duration > 5s"))

    rate: share of the traces that are stored, chosen by a hash of the trace id: every process of a distributed trace
    chooses the same. names: other rates by the name of a trace's first span in this process.
    keep: a filter; a trace that was not chosen is stored all the same if one of its spans passes. So is a trace in
    which keep() was called, and with first_of_kind the first one with its name and error type.

    The verdict comes when nothing of the trace runs any more. What waits for it takes at most max_waiting_bytes, and no
    longer than max_trace_s; then the oldest traces are decided by what is known of them.
    """

    __slots__ = ("first_of_kind", "keep", "max_trace_s", "max_waiting_bytes", "names", "rate")

    def __init__(
        self,
        rate: float = 1.0,
        *,
        names: Mapping[str, float] | None = None,
        keep: str = "",
        first_of_kind: bool = False,
        max_waiting_bytes: int = 64 << 20,
        max_trace_s: float = 600.0,
    ) -> None:
        self.rate = _share("rate", rate)
        self.names = {name: _share(f"names[{name!r}]", share) for name, share in (names or {}).items()}
        _core.check_filter(keep)
        self.keep = keep
        self.first_of_kind = first_of_kind
        if not 1 << 20 <= max_waiting_bytes <= 1 << 36:
            raise ValueError(f"max_waiting_bytes must be between 1 MiB and 64 GiB, not {max_waiting_bytes}")
        self.max_waiting_bytes = max_waiting_bytes
        if not 1 <= max_trace_s <= 1e9:
            raise ValueError(f"max_trace_s must be between 1 and 1e9 seconds, not {max_trace_s}")
        self.max_trace_s = max_trace_s

    def for_core(self) -> _core.SamplingTuple:
        age_ns = int(self.max_trace_s * 1e9)
        return self.rate, self.names, self.keep, self.first_of_kind, self.max_waiting_bytes, age_ns

    def __repr__(self) -> str:
        parts = [f"{self.rate:g}"]
        if self.names:
            parts.append(f"names={self.names}")
        if self.keep:
            parts.append(f"keep={self.keep!r}")
        if self.first_of_kind:
            parts.append("first_of_kind=True")
        return f"Sampling({', '.join(parts)})"


def _share(what: str, share: float) -> float:
    if not 0 <= share <= 1:
        raise ValueError(f"{what} is a share from 0 to 1, such as 0.1, not {share!r}")
    return float(share)


def keep() -> None:
    """Store the trace this code runs in, whatever sampling says: it gets the attribute keep=True. Does nothing outside
    of any span, and nothing for spans whose trace has been decided already."""
    span = _core.current_span()
    if span is not None:
        span.set(keep=True)
