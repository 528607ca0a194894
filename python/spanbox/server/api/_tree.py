"""One trace: its tree in pages of rows, its density, and where a text stands in it.

Of the whole trace only numbers are kept, in columns, while the store does not change; rows with their attributes are
read a page at a time. What is said about all of it is in _tree_parts.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from spanbox import _core
from spanbox._render import one_line, plural
from spanbox._trace import Totals
from spanbox.server.api._asked import Asked
from spanbox.server.api._columnar import column
from spanbox.server.api._frame import Colors, Json
from spanbox.server.api._problem import Problem

PAGE = 512
_TAGS = {
    "agent": "AGT",
    "llm": "LLM",
    "tool": "TOL",
    "retriever": "RET",
    "embedding": "EMB",
    "reranker": "RNK",
    "guardrail": "GRD",
    "evaluator": "EVL",
    "chain": "CHN",
    "workflow": "CHN",
}


@dataclass(frozen=True, slots=True)
class Tree:
    """Every span in columns, depth first: a place is a line of the whole tree."""

    trace_id: str
    summary: _core.TraceSummary
    ids: Sequence[int]
    parents: Sequence[int]  # place of each span's parent; -1: none here
    depths: Sequence[int]
    starts: Sequence[int]
    durations: Sequence[int]  # -1: not known
    costs: Sequence[float]  # of model calls their own; NaN: none
    kinds: Sequence[str]
    statuses: Sequence[str]
    positions: Sequence[int]  # among its siblings, from 1
    siblings: Sequence[int]  # by the place of their parent; the last one: roots
    by_id: dict[int, int]

    def __len__(self) -> int:
        return len(self.ids)

    def place(self, span_id: str) -> int | None:
        try:
            return self.by_id.get(int(span_id, 16))
        except ValueError:
            return None

    def span_id(self, place: int) -> str:
        return f"{self.ids[place]:016x}"

    @property
    def root(self) -> int:
        return self.place(self.summary["root_id"]) or 0

    def lines(self, collapsed: Collection[int]) -> Sequence[int]:
        """The places of spans that are shown, when those below these places are not."""
        if not collapsed:
            return range(len(self))
        found, hidden_below = [], -1
        for place, depth in enumerate(self.depths):
            if hidden_below >= 0 and depth > hidden_below:
                continue
            hidden_below = depth if place in collapsed else -1
            found.append(place)
        return found


def full_id(asked: Asked, given: str) -> str:
    """A trace's id, given by the first digits of it. Problem when there is none."""
    digits = given.lower()
    if not 4 <= len(digits) <= 32 or digits.strip("0123456789abcdef"):
        raise Problem("bad_request", "a trace id has 32 hexadecimal digits")
    if len(digits) == 32:
        return digits
    found = asked.box._fresh_store().find_traces(digits, 2)
    if len(found) != 1:
        raise Problem("not_found", "no trace has this id" if not found else "several traces begin with these digits")
    return found[0]


def read_tree(asked: Asked, given: str) -> Tree:
    trace_id = full_id(asked, given)

    def read() -> Tree:
        store = asked.box._fresh_store()
        try:
            summary, outline = store.trace_outline(trace_id)
        except _core.NotFoundError:
            raise Problem("not_found", "no trace has this id") from None
        return _tree(trace_id, summary, outline)

    return asked.answers.kept(asked.generation, ("tree", trace_id), read)


def _tree(trace_id: str, summary: _core.TraceSummary, outline: _core.TraceOutline) -> Tree:
    ids = array("Q", outline["span_id"])
    parents, depths, starts, durations = (
        array("q", outline[name]) for name in ("parent", "depth", "start_ns", "duration_ns")
    )
    counts, positions = [0] * (len(ids) + 1), []
    for parent in parents:
        counts[parent] += 1
        positions.append(counts[parent])
    by_id = dict(zip(reversed(ids), range(len(ids) - 1, -1, -1), strict=True))  # of equal ids the first
    costs = array("d", outline["cost_usd"])
    kinds, statuses = outline["kind"], outline["status"]
    return Tree(
        trace_id, summary, ids, parents, depths, starts, durations, costs, kinds, statuses, positions, counts, by_id
    )


# --- the page ---


def trace(asked: Asked, colors: Colors, trace_id: str) -> Json:
    from spanbox.server.api import _tree_parts

    tree = read_tree(asked, trace_id)
    collapsed = {place for each in asked.param("collapsed").split(",") if (place := tree.place(each)) is not None}
    wanted = tree.place(asked.param("at"))
    above = wanted
    while above is not None and above >= 0:  # whoever asks for a span wants to see it
        above = tree.parents[above]
        collapsed.discard(above)
    lines = tree.lines(collapsed)
    limit = asked.number("limit", PAGE, least=1, most=PAGE)
    offset = asked.number("offset", 0, least=0, most=1 << 40)
    if wanted is not None:
        offset = bisect_left(lines, wanted) // limit * limit
    rows = page_rows(asked, tree, offset, limit, frozenset(tree.span_id(place) for place in collapsed))
    scores = latest_scores(asked.box._fresh_store().trace_scores(tree.trace_id))
    summary, totals = tree.summary, Totals(*tree.summary["totals"])
    shown = list(zip(lines[offset : offset + limit], rows, strict=False))
    return {
        "trace_id": tree.trace_id,
        "root_id": summary["root_id"],
        "name": summary["name"],
        "kind": summary["kind"],
        "status": summary["status"],
        "start_ns": str(summary["start_ns"]),
        "duration_ns": summary["duration_ns"],
        "known_ns": _known_ns(asked, tree),
        "now_ns": str(asked.now_ns),
        "totals": totals.as_dict(),
        "scores": [score_json(each) for each in scores.get(None, {}).values()],
        **_tree_parts.parts(asked, colors, tree, later=len(tree) > _tree_parts.MANY),
        "line_count": len(lines),
        "offset": offset,
        "spans": [
            span_row(tree, place, row, colors, line=offset + i, is_collapsed=place in collapsed, scores=scores)
            for i, (place, row) in enumerate(shown)
        ],
        "basis": f"{plural(len(tree), 'span')}, exact · pale waits for the first token, solid streams, "
        "a bracket contains others, underlined is on the critical path",
        "basis_full": "Tokens and cost are those of model calls, each once. Times are those of the critical path: "
        "they add up to the root's duration.",
    }


def _known_ns(asked: Asked, tree: Tree) -> int:
    """From its start to the last moment known of it; of a running one until now."""
    start_ns, length_ns = tree.summary["start_ns"], tree.summary["duration_ns"]
    if tree.summary["status"] == "running":
        return max(length_ns or 0, asked.now_ns - start_ns)
    return max(tree.starts) - start_ns if length_ns is None else length_ns


def page_rows(
    asked: Asked, tree: Tree, offset: int, limit: int, collapsed: frozenset[str] = frozenset()
) -> list[_core.SpanDict]:
    """Some lines with what is stored of them, but for long texts."""

    def read() -> list[_core.SpanDict]:
        return asked.box._fresh_store().trace_page(tree.trace_id, offset, limit, sorted(collapsed), False)[0]

    key = ("rows", tree.trace_id, offset, limit, collapsed)
    return asked.answers.kept(asked.generation, key, read)


def span_row(
    tree: Tree,
    place: int,
    row: _core.SpanDict,
    colors: Colors,
    *,
    line: int,
    is_collapsed: bool = False,
    scores: dict[str | None, dict[str, Any]] | None = None,
) -> Json:
    values = row["attributes"]
    model = values.get("model")
    said = (scores or {}).get(row["span_id"], {})
    return {
        "span_id": row["span_id"],
        "parent_id": row["parent_id"],
        "parent_known": tree.parents[place] >= 0,
        "name": row["name"],
        "kind": row["kind"],
        "tag": tag_of(row),
        "status": row["status"],
        "depth": row["depth"],
        "line": line,
        "set_size": tree.siblings[tree.parents[place]],
        "position": tree.positions[place],
        "child_count": row["child_count"],
        "collapsed": is_collapsed,
        "offset_ns": row["start_ns"] - tree.summary["start_ns"],
        "duration_ns": row["duration_ns"],
        "self_ns": row["self_ns"],
        "critical_ns": row["critical_ns"],
        "ttft_ns": values.get("ttft_ns"),
        "tpot_ns": values.get("tpot_ns"),
        "model": None if model is None else str(model),
        "color": colors.of(None if model is None else str(model)),
        "input_tokens": values.get("input_tokens"),
        "cache_read_tokens": values.get("cache_read_tokens"),
        "output_tokens": values.get("output_tokens"),
        "cost_usd": values.get("cost_usd"),
        "totals": Totals(*row["totals"]).as_dict(),
        "error": error_of(row),
        "chunks": values.get("chunks"),
        "scores": [{"name": name, "value": _said(each)} for name, each in said.items()],
    }


def tag_of(row: _core.SpanDict) -> str:
    tag = _TAGS.get(row["kind"], "FN")
    return "VEC" if tag == "RET" and "vector" in row["name"].lower() else tag


def error_of(row: _core.SpanDict) -> str | None:
    """On one line."""
    told = [str(row["attributes"][name]) for name in ("error_type", "error_message") if row["attributes"].get(name)]
    return one_line(": ".join(told), limit=500) if told else "failed" if row["status"] == "error" else None


def latest_scores(scores: Sequence[dict[str, Any]]) -> dict[str | None, dict[str, Any]]:
    """The latest score of each name, of each span; None: of the trace."""
    found: dict[str | None, dict[str, Any]] = defaultdict(dict)
    for each in scores:  # in the order they were given
        found[each.get("span_id")][each["name"]] = each
    return found


def _said(score: dict[str, Any]) -> Any:
    return score["value"] if score.get("value") is not None else score.get("label")


def score_json(score: dict[str, Any]) -> Json:
    at_ns = score.get("at_ns", score.get("at", score.get("start_ns", 0)))
    texts = {name: score.get(name) for name in ("label", "explanation", "evaluator", "version")}
    return {
        "name": score["name"],
        "value": score.get("value"),
        **texts,
        "source": score.get("source") or "rule",
        "at_ns": str(at_ns),
        "span_id": score.get("span_id"),
    }


def scanned(asked: Asked, tree: Tree, clause: str, *names: str, limit: int | None = None) -> list[tuple[Any, ...]]:
    """These columns of the spans of the trace that pass, by their start."""
    which = f'trace_id == "{tree.trace_id}"' + (f" and ({clause})" if clause else "")
    table = asked.box._fresh_store().scan(which, None, None, list(names), limit, "start_ns", False)
    return list(zip(*map(table.column, table.column_names), strict=True))


# --- the whole of it at a glance ---


def minimap(asked: Asked, colors: Colors, trace_id: str) -> Json:
    tree = read_tree(asked, trace_id)
    start_ns = tree.summary["start_ns"]
    end_ns = start_ns + max(1, _known_ns(asked, tree))
    points = min(400, asked.number("px", 400, least=24, most=10_000))
    key = ("minimap", tree.trace_id, start_ns, end_ns, points)
    return asked.answers.kept(asked.generation, key, lambda: _density(tree, start_ns, end_ns, points))


def _density(tree: Tree, start_ns: int, end_ns: int, points: int) -> Json:
    bucket_ns = max(1, -(-(end_ns - start_ns) // points))
    running, failed = [0] * (points + 1), [0.0] * points
    for span_ns, length_ns, status in zip(tree.starts, tree.durations, tree.statuses, strict=True):
        first = min(points - 1, max(0, (span_ns - start_ns) // bucket_ns))
        span_end_ns = span_ns + length_ns if length_ns >= 0 else end_ns if status == "running" else span_ns
        last = min(points - 1, max(first, (span_end_ns - 1 - start_ns) // bucket_ns))
        running[first] += 1
        running[last + 1] -= 1
        if status == "error":
            failed[first] += 1
    total, counts = 0, []
    for change in running[:-1]:
        total += change
        counts.append(float(total))
    return {
        "offset_ns": column(i * bucket_ns for i in range(points)),
        "bucket_ns": bucket_ns,
        "running": column(counts),
        "failed": column(failed),
    }


def find(asked: Asked, colors: Colors, trace_id: str) -> Json:
    """The spans in which a text stands: in names, or in any text by the core's search."""
    tree, text = read_tree(asked, trace_id), asked.param("text")
    if not text:
        return {"matches": [], "total": 0}
    wanted = text.lower()
    named = {span_id for span_id, name in scanned(asked, tree, "", "span_id", "name") if wanted in name.lower()}
    which = f'trace_id == "{tree.trace_id}"'
    hits, _ = asked.box._fresh_store().grep(which, None, None, text[:1000], False, True, 4 * len(tree) + 100)
    found = named | {hit["span_id"] for hit in hits}
    places = sorted(place for each in found if (place := tree.place(each)) is not None)
    return {
        "matches": [{"span_id": tree.span_id(place), "line": place} for place in places],
        "total": len(places),
    }
