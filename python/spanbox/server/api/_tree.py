"""One trace: its tree in pages, what it adds up to, where its time and its money went, and what failed inside.

The whole tree, without texts, is read once and kept while the store does not change; pages are cut from it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from spanbox import _core
from spanbox._render import format_duration, one_line, plural
from spanbox._trace import Totals
from spanbox.server.api._asked import Asked
from spanbox.server.api._columnar import column
from spanbox.server.api._frame import Colors, Json
from spanbox.server.api._problem import Problem

PAGE = 512
_PARTS = 8
_PART_SPANS = 100
_OWN_KINDS = {"agent", "workflow", "chain", "span", "prompt", "memory"}
_CALLS = ("llm", "embedding")
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
Rows = Sequence["_core.SpanDict"]


@dataclass(frozen=True, slots=True)
class Tree:
    """Every span, depth first."""

    trace_id: str
    rows: Rows
    summary: _core.TraceSummary
    parents: list[int]  # place of each span's parent among the rows; -1: none here
    positions: list[int]  # among its siblings, from 1
    sizes: list[int]  # how many siblings there are, itself included
    places: dict[str, int]  # of each span id

    def lines(self, collapsed: Collection[str]) -> list[int]:
        """The places of spans that are shown, when those below `collapsed` ones are not."""
        if not collapsed:
            return list(range(len(self.rows)))
        found, hidden_below = [], -1
        for place, row in enumerate(self.rows):
            if hidden_below >= 0 and row["depth"] > hidden_below:
                continue
            hidden_below = row["depth"] if row["span_id"] in collapsed else -1
            found.append(place)
        return found


def read_tree(asked: Asked, given: str) -> Tree:
    """The tree of a trace, by its id or the first digits of it. Problem when there is none."""
    store = asked.box._fresh_store()
    digits = given.lower()
    if not 4 <= len(digits) <= 32 or digits.strip("0123456789abcdef"):
        raise Problem("bad_request", "a trace id has 32 hexadecimal digits")
    if len(digits) < 32:
        found = store.find_traces(digits, 2)
        if len(found) != 1:
            raise Problem(
                "not_found", "no trace has this id" if not found else "several traces begin with these digits"
            )
        digits = found[0]

    def read() -> Tree:
        try:
            rows, _, summary = store.trace_page(digits, 0, None, [], False)
        except _core.NotFoundError:
            raise Problem("not_found", "no trace has this id") from None
        return _tree(digits, rows, summary)

    return asked.answers.kept(asked.generation, ("tree", digits), read)


def _tree(trace_id: str, rows: Rows, summary: _core.TraceSummary) -> Tree:
    parents, positions, counts, above = [], [], [0] * (len(rows) + 1), [-1]
    for place, row in enumerate(rows):
        depth = row["depth"]
        del above[depth + 1 :]
        parent = above[depth]
        above.append(place)
        counts[parent] += 1
        parents.append(parent)
        positions.append(counts[parent])
    sizes = [counts[parent] for parent in parents]
    places: dict[str, int] = {}
    for place, row in enumerate(rows):
        places.setdefault(row["span_id"], place)
    return Tree(trace_id, rows, summary, parents, positions, sizes, places)


# --- the page ---


def trace(asked: Asked, colors: Colors, trace_id: str) -> Json:
    tree = read_tree(asked, trace_id)
    collapsed = {each for each in asked.param("collapsed").split(",") if each}
    at = tree.places.get(asked.param("at"))
    while at is not None and at >= 0:  # whoever asks for a span wants to see it
        at = tree.parents[at]
        collapsed.discard(tree.rows[at]["span_id"]) if at >= 0 else None
    lines = tree.lines(collapsed)
    limit = asked.number("limit", PAGE, least=1, most=PAGE)
    offset = asked.number("offset", 0, least=0, most=1 << 40)
    if (at := tree.places.get(asked.param("at"))) is not None:
        offset = bisect_left(lines, at) // limit * limit
    scores = asked.box._fresh_store().trace_scores(tree.trace_id)
    of_span = _latest(scores)
    rows, summary = tree.rows, tree.summary
    path = path_of(asked, tree)
    totals = Totals(*summary["totals"])
    failures = [place for place, row in enumerate(rows) if row["status"] == "error" and _began_here(tree, place)]
    spans = [
        span_row(tree, place, colors, line=offset + i, collapsed=collapsed, scores=of_span)
        for i, place in enumerate(lines[offset : offset + limit])
    ]
    return {
        "trace_id": tree.trace_id,
        "root_id": summary["root_id"],
        "name": summary["name"],
        "kind": summary["kind"],
        "status": summary["status"],
        "start_ns": str(summary["start_ns"]),
        "duration_ns": summary["duration_ns"],
        "now_ns": str(asked.now_ns),
        "totals": totals.as_dict(),
        "head": head(asked, tree, colors),
        "scores": [score_json(each) for each in of_span.get(None, {}).values()],
        "failed": _failed(tree, failures),
        "time_parts": time_parts(tree, path, colors),
        "cost_parts": cost_parts(tree, colors),
        "failures": [{"span_id": rows[place]["span_id"], "line": place} for place in failures],
        "critical_path": [
            {
                "span_id": step[0],
                "line": tree.places.get(step[0], 0),
                "offset_ns": step[3] - summary["start_ns"],
                "duration_ns": step[4],
            }
            for step in path
        ],
        "line_count": len(lines),
        "offset": offset,
        "spans": spans,
        "basis": f"{plural(len(rows), 'span')}, exact · pale waits for the first token, solid streams, "
        "a bracket contains others, "
        "underlined is on the critical path",
        "basis_full": "Tokens and cost are those of model calls, each once. Times are those of the critical path: "
        "they add up to "
        "the root's duration.",
    }


def path_of(asked: Asked, tree: Tree) -> list[_core.PathTuple]:
    if tree.summary["duration_ns"] is None:
        return []
    key = ("path", tree.trace_id)
    return asked.answers.kept(asked.generation, key, lambda: asked.box._fresh_store().critical_path(tree.trace_id))


def span_row(
    tree: Tree,
    place: int,
    colors: Colors,
    *,
    line: int,
    collapsed: Collection[str] = (),
    scores: dict[str | None, dict[str, Any]] | None = None,
) -> Json:
    row = tree.rows[place]
    values = row["attributes"]
    model = values.get("model")
    errors = [str(values[name]) for name in ("error_type", "error_message") if values.get(name)]
    failed = row["status"] == "error"
    said = (scores or {}).get(row["span_id"], {})
    tag = _TAGS.get(row["kind"], "FN")
    return {
        "span_id": row["span_id"],
        "parent_id": row["parent_id"],
        "parent_known": tree.parents[place] >= 0,
        "name": row["name"],
        "kind": row["kind"],
        "tag": "VEC" if tag == "RET" and "vector" in row["name"].lower() else tag,
        "status": row["status"],
        "depth": row["depth"],
        "line": line,
        "set_size": tree.sizes[place],
        "position": tree.positions[place],
        "child_count": row["child_count"],
        "collapsed": row["span_id"] in collapsed,
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
        "error": one_line(": ".join(errors), limit=500) if errors else "failed" if failed else None,
        "chunks": values.get("chunks"),
        "scores": [{"name": name, "value": _said(each)} for name, each in said.items()],
    }


def _latest(scores: Sequence[dict[str, Any]]) -> dict[str | None, dict[str, Any]]:
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


def head(asked: Asked, tree: Tree, colors: Colors) -> Json:
    rows, start_ns = tree.rows, tree.summary["start_ns"]
    root = rows[tree.places.get(tree.summary["root_id"], 0)]["attributes"]
    names = ("user_id", "session_id", "prompt_name", "prompt_version", "release", "environment", "tenant", "feature")
    texts = {name: None if root.get(name) is None else str(root[name]) for name in names}
    for name in ("session_id", "prompt_name", "prompt_version"):  # a call inside may be the only one that tells
        if texts[name] is None:
            texts[name] = next(
                (str(row["attributes"][name]) for row in rows if row["attributes"].get(name) is not None), None
            )
    counts: Counter[str] = Counter(
        str(row["attributes"]["model"]) for row in rows if row["attributes"].get("model") is not None
    )
    return {
        "first_token_ns": _first_token(tree, start_ns),
        "turn": _turn(asked, tree, texts["session_id"]),
        **texts,
        "models": [{"name": name, "color": colors.of(name), "calls": n} for name, n in counts.most_common()],
    }


def _first_token(tree: Tree, start_ns: int) -> int | None:
    """When the caller could see the first token: that of the last model call that streams, the answer; of a stream of
    the root its own."""
    root = tree.rows[tree.places.get(tree.summary["root_id"], 0)]
    own = root["attributes"].get("ttft_ns")
    if isinstance(own, int):
        return root["start_ns"] - start_ns + own
    streams = [row for row in tree.rows if row["kind"] == "llm" and isinstance(row["attributes"].get("ttft_ns"), int)]
    last = max(streams, key=lambda row: row["start_ns"], default=None)
    return None if last is None else last["start_ns"] - start_ns + last["attributes"]["ttft_ns"]  # type: ignore[operator]


def _turn(asked: Asked, tree: Tree, session_id: str | None) -> int | None:
    if session_id is None:
        return None

    def find() -> list[str]:
        try:
            return [turn[0]["trace_id"] for turn in asked.box._fresh_store().session(session_id)["turns"]]
        except _core.SpanboxError:
            return []

    turns = asked.answers.kept(asked.generation, ("turns", session_id), find)
    return turns.index(tree.trace_id) + 1 if tree.trace_id in turns else None


# --- where the time and the money went ---


class _Parts:
    """Amounts by kind and label, in the order they came."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Json] = {}

    def add(
        self, kind: str, label: str, value: float, span_id: str, model: str | None = None, color: int | None = None
    ) -> None:
        if value == 0:
            return
        part = self._found.setdefault(
            (kind, label), {"label": label, "kind": kind, "value": 0, "model": model, "color": color, "span_ids": []}
        )
        part["value"] += value
        if span_id not in part["span_ids"] and len(part["span_ids"]) < _PART_SPANS:
            part["span_ids"].append(span_id)

    def list(self, total: float) -> list[Json]:
        parts = list(self._found.values())
        if len(parts) > _PARTS:
            kept = sorted(parts, key=lambda part: -part["value"])[: _PARTS - 1]
            rest = [part for part in parts if part not in kept]
            other = {
                "label": f"{len(rest)} others",
                "kind": "other",
                "value": sum(part["value"] for part in rest),
                "model": None,
                "color": None,
                "span_ids": [each for part in rest for each in part["span_ids"]][:_PART_SPANS],
            }
            parts = [*(part for part in parts if part in kept), other]
        if parts:  # floats: the last takes what rounding has left
            parts[-1]["value"] = total - sum(part["value"] for part in parts[:-1])
        return [{**part, "share": part["value"] / total if total else 0.0} for part in parts]


def time_parts(tree: Tree, path: Sequence[_core.PathTuple], colors: Colors) -> list[Json]:
    """The steps of the critical path, by what was done: they add up to the root's duration."""
    parts, total = _Parts(), 0
    for number, (span_id, name, kind, start_ns, length_ns) in enumerate(path):
        row = tree.rows[tree.places[span_id]]
        total += length_ns
        if kind == "llm":
            model = row["attributes"].get("model")
            named = name if model is None else str(model)
            color = colors.of(None if model is None else str(model))
            ttft_ns = row["attributes"].get("ttft_ns")
            first_ns = row["start_ns"] + ttft_ns if isinstance(ttft_ns, int) else start_ns + length_ns
            waited = max(0, min(length_ns, first_ns - start_ns))
            parts.add("waiting", f"waiting for {named}", waited, span_id, named, color)
            parts.add("streaming", f"{named} streaming", length_ns - waited, span_id, named, color)
        elif kind not in _OWN_KINDS:
            failed = row["status"] == "error"
            parts.add("failed" if failed else "tool", name, length_ns, span_id)
        elif _backs_off(tree, path, number):
            parts.add("back_off", "back-off", length_ns, span_id)
        else:
            parts.add("own", "own code", length_ns, span_id)
    return parts.list(total)


def _backs_off(tree: Tree, path: Sequence[_core.PathTuple], number: int) -> bool:
    """Between a failed span and another of its name."""
    if not 0 < number < len(path) - 1:
        return False
    before, after = path[number - 1], path[number + 1]
    return before[1] == after[1] and tree.rows[tree.places[before[0]]]["status"] == "error"


def cost_parts(tree: Tree, colors: Colors) -> list[Json]:
    """The model calls whose costs the trace's cost is the sum of."""
    total = tree.summary["totals"][4]
    if total is None:
        return []
    parts, priced_below = _Parts(), [False] * (len(tree.rows) + 1)
    own = []
    for place in range(len(tree.rows) - 1, -1, -1):  # children come before their parents
        row = tree.rows[place]
        cost = row["attributes"].get("cost_usd") if row["kind"] in _CALLS else None
        if isinstance(cost, (int, float)) and not priced_below[place]:
            own.append((place, float(cost)))
        if isinstance(cost, (int, float)) or priced_below[place]:
            priced_below[tree.parents[place]] = True
    for place, cost in reversed(own):
        row = tree.rows[place]
        model = row["attributes"].get("model")
        label = row["name"] if model is None else f"{row['name']}, {model}"
        named = None if model is None else str(model)
        parts.add("other", label, cost, row["span_id"], named, colors.of(named))
    return parts.list(total)


# --- what failed ---


def _began_here(tree: Tree, place: int) -> bool:
    """No child of it failed."""
    depth = tree.rows[place]["depth"]
    for below in range(place + 1, len(tree.rows)):
        if tree.rows[below]["depth"] <= depth:
            return True
        if tree.rows[below]["depth"] == depth + 1 and tree.rows[below]["status"] == "error":
            return False
    return True


def _failed(tree: Tree, failures: Sequence[int]) -> Json | None:
    if not failures:
        return None
    deepest = max(failures, key=lambda place: (tree.rows[place]["depth"], -place))
    name = tree.rows[deepest]["name"]
    alike = [tree.rows[place] for place in failures if tree.rows[place]["name"] == name]
    values = tree.rows[deepest]["attributes"]
    why = values.get("error_message") or values.get("error_type")
    times = "" if len(alike) == 1 else " twice" if len(alike) == 2 else f" {len(alike)} times"
    took = format_duration(sum(row["duration_ns"] or 0 for row in alike))
    others = len(failures) - len(alike)
    failed = tree.summary["status"] == "error"
    parts = [f"{name} failed{times} ({took})"]
    if why:
        parts[0] += f": {one_line(why, limit=160)}"
    if others:
        parts.append(f"{plural(others, 'other span')} failed too")
    if not failed:
        parts.append("the trace ended well all the same")
    return {"sentence": "; ".join(parts) + ".", "span_id": tree.rows[deepest]["span_id"], "trace_failed": failed}


# --- the whole of it at a glance ---


def minimap(asked: Asked, colors: Colors, trace_id: str) -> Json:
    tree = read_tree(asked, trace_id)
    start_ns = tree.summary["start_ns"]
    end_ns = start_ns + (tree.summary["duration_ns"] or max(1, asked.now_ns - start_ns))
    points = min(400, asked.number("px", 400, least=24, most=10_000))
    bucket_ns = max(1, -(-(end_ns - start_ns) // points))
    running, failed = [0] * (points + 1), [0.0] * points
    for row in tree.rows:
        first = min(points - 1, max(0, (row["start_ns"] - start_ns) // bucket_ns))
        row_end = row["start_ns"] + (row["duration_ns"] if row["duration_ns"] is not None else end_ns - row["start_ns"])
        last = min(points - 1, max(first, (row_end - 1 - start_ns) // bucket_ns))
        running[first] += 1
        running[last + 1] -= 1
        if row["status"] == "error":
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
    named = {row["span_id"] for row in tree.rows if text.lower() in row["name"].lower()}
    which = f'trace_id == "{tree.trace_id}"'
    hits, _ = asked.box._fresh_store().grep(which, None, None, text[:1000], False, True, 4 * len(tree.rows) + 100)
    places = sorted(tree.places[each] for each in named | {hit["span_id"] for hit in hits} if each in tree.places)
    return {
        "matches": [{"span_id": tree.rows[place]["span_id"], "line": place} for place in places],
        "total": len(places),
    }
