"""Which spans stand for their traces.

A root is a span without a parent. Where a trace was begun elsewhere (its first span here has a parent that is not in
this store) roots are the spans whose parent is not stored, which takes longer to find: only stores that have such
traces pay.
"""

from __future__ import annotations

from spanbox.server.api._asked import Asked
from spanbox.server.api._frame import ROOT

_LOOKED_AT_NS = 6 * 3_600_000_000_000  # how traces begin is the program's way, not the hour's
_ADOPTED = "not any(parent)"


def root_clause(asked: Asked) -> str:
    """A filter for the roots, in the asked range."""

    def choose() -> str:
        newest = (max(asked.from_ns, asked.to_ns - _LOOKED_AT_NS), asked.to_ns)
        everything = asked.spans(of=newest, filtered=False)
        row = next(
            iter(everything.by().agg(traces="approx_distinct(trace_id)", roots="rate(parent_id == none)", n="count()"))
        )
        roots = (row["roots"] or 0.0) * row["n"]
        return _ADOPTED if row["traces"] > 1.03 * roots + 2 else ROOT

    return asked.answers.kept(asked.generation, ("roots", asked.from_ns, asked.to_ns), choose)


def trace_clause(asked: Asked) -> str:
    """A filter for the roots of the traces in which a span passes the asked filter. To be used without that filter."""
    root = root_clause(asked)
    return f"{root} and (({asked.q}) or any(descendants, {asked.q}))" if asked.q else root
