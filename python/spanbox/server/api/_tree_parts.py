"""What is said about a whole trace: whose it is, what failed inside, where its time and its money went, and when
nothing ran. Of a long trace it is asked for apart, so that its rows need not wait for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from spanbox import _core
from spanbox._render import format_duration, one_line, plural
from spanbox.server.api._asked import Asked
from spanbox.server.api._frame import Colors, Json
from spanbox.server.api._tree import PAGE, Tree, page_rows, read_tree, scanned

MANY = 2_000  # spans: more are read apart
_PARTS = 8
_PART_SPANS = 100
_STEPS = 5_000  # of the critical path, and failures: what the page walks
_IDLE_SHARE = 0.6  # of a trace: so long a time with nothing in it can be folded
_OWN_KINDS = {"agent", "workflow", "chain", "span", "prompt", "memory"}
_CALLS = ("llm", "embedding")
_ALSO_INSIDE = ("session_id", "prompt_name", "prompt_version")  # a call inside may be the only one that tells


def rest(asked: Asked, colors: Colors, trace_id: str) -> Json:
    return parts(asked, colors, read_tree(asked, trace_id), later=False)


def parts(asked: Asked, colors: Colors, tree: Tree, *, later: bool) -> Json:
    """`later`: only what the root tells; the rest is asked for apart."""
    if later:
        told: Json = {"failed": None, "time_parts": [], "cost_parts": [], "failures": [], "critical_path": []}
        return {"complete": False, "head": _root_head(asked, tree), **told, "idle": None}

    def make() -> Json:
        calls = _calls(asked, tree)
        path = _path_of(asked, tree)
        failures = _failures(tree)
        return {
            "complete": True,
            "head": _head(asked, tree, colors, calls),
            "failed": _failed(asked, tree, failures),
            "time_parts": _time_parts(tree, path, colors, calls),
            "cost_parts": _cost_parts(tree, colors, calls),
            "failures": [{"span_id": tree.span_id(place), "line": place} for place in failures[:_STEPS]],
            "critical_path": [
                {
                    "span_id": step[0],
                    "line": tree.place(step[0]) or 0,
                    "offset_ns": step[3] - tree.summary["start_ns"],
                    "duration_ns": step[4],
                }
                for step in path[:_STEPS]
            ],
            "idle": _idle(tree),
        }

    return asked.answers.kept(asked.generation, ("parts", tree.trace_id), make)


def _path_of(asked: Asked, tree: Tree) -> list[_core.PathTuple]:
    return [] if tree.summary["duration_ns"] is None else asked.box._fresh_store().critical_path(tree.trace_id)


Calls = dict[int, tuple[str, str | None, int | None]]  # by place: name, model, TTFT


def _calls(asked: Asked, tree: Tree) -> Calls:
    found: Calls = {}
    for span_id, *what in scanned(asked, tree, "kind in [llm, embedding]", "span_id", "name", "model", "ttft_ns"):
        if (place := tree.place(span_id)) is not None:
            name, model, ttft = what
            found[place] = (name, None if model is None else str(model), ttft if isinstance(ttft, int) else None)
    return found


# --- whose it is ---


def root_row(asked: Asked, tree: Tree) -> _core.SpanDict:
    """Most roots are on the first page, which is read anyway."""
    if tree.root < PAGE:
        return page_rows(asked, tree, 0, PAGE)[tree.root]
    return page_rows(asked, tree, tree.root, 1)[0]


def _root_head(asked: Asked, tree: Tree) -> Json:
    root = root_row(asked, tree)["attributes"]
    names = ("user_id", "session_id", "prompt_name", "prompt_version", "release", "environment", "tenant", "feature")
    texts = {name: None if root.get(name) is None else str(root[name]) for name in names}
    return {"first_token_ns": None, "turn": None, **texts, "models": []}


def _head(asked: Asked, tree: Tree, colors: Colors, calls: Calls) -> Json:
    found = _root_head(asked, tree)
    for name in _ALSO_INSIDE:
        if found[name] is None:
            inside = scanned(asked, tree, f"{name} != none", name, limit=1)
            found[name] = str(inside[0][0]) if inside else None
    counts = Counter(model for _, model, _ in calls.values() if model is not None)
    return {
        **found,
        "first_token_ns": _first_token(asked, tree, calls),
        "turn": _turn(asked, tree, found["session_id"]),
        "models": [{"name": name, "color": colors.of(name), "calls": n} for name, n in counts.most_common(50)],
    }


def _first_token(asked: Asked, tree: Tree, calls: Calls) -> int | None:
    """When the caller could see the first token: that of the last model call that streams, the answer; of a stream of
    the root its own."""
    start_ns = tree.summary["start_ns"]
    own = root_row(asked, tree)["attributes"].get("ttft_ns")
    if isinstance(own, int):
        return tree.starts[tree.root] - start_ns + own
    streams = [
        (tree.starts[place], ttft)
        for place, (_, _, ttft) in calls.items()
        if ttft is not None and tree.kinds[place] == "llm"
    ]
    if not streams:
        return None
    began_ns, ttft = max(streams, key=lambda each: each[0])
    return began_ns - start_ns + ttft


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
        if len(part["span_ids"]) < _PART_SPANS and span_id not in part["span_ids"]:
            part["span_ids"].append(span_id)

    def list(self, total: float) -> list[Json]:
        parts = list(self._found.values())
        if len(parts) > _PARTS:
            largest = sorted(parts, key=lambda part: -part["value"])[: _PARTS - 1]
            kept = {id(part) for part in largest}
            rest = [part for part in parts if id(part) not in kept]
            other = {
                "label": f"{len(rest)} others",
                "kind": "other",
                "value": sum(part["value"] for part in rest),
                "model": None,
                "color": None,
                "span_ids": [each for part in rest for each in part["span_ids"]][:_PART_SPANS],
            }
            parts = [*(part for part in parts if id(part) in kept), other]
        if parts:  # floats: the last takes what rounding has left
            parts[-1]["value"] = total - sum(part["value"] for part in parts[:-1])
        return [{**part, "share": part["value"] / total if total else 0.0} for part in parts]


def _time_parts(tree: Tree, path: Sequence[_core.PathTuple], colors: Colors, calls: Calls) -> list[Json]:
    """The steps of the critical path, by what was done: they add up to the root's duration."""
    parts, total = _Parts(), 0
    for number, (span_id, name, kind, start_ns, length_ns) in enumerate(path):
        place = tree.by_id[int(span_id, 16)]
        total += length_ns
        if kind == "llm":
            _, model, ttft = calls.get(place, (name, None, None))
            named, color = name if model is None else model, colors.of(model)
            first_ns = start_ns + length_ns if ttft is None else tree.starts[place] + ttft
            waited = max(0, min(length_ns, first_ns - start_ns))
            parts.add("waiting", f"waiting for {named}", waited, span_id, named, color)
            parts.add("streaming", f"{named} streaming", length_ns - waited, span_id, named, color)
        elif kind not in _OWN_KINDS:
            parts.add("failed" if tree.statuses[place] == "error" else "tool", name, length_ns, span_id)
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
    return before[1] == after[1] and tree.statuses[tree.by_id[int(before[0], 16)]] == "error"


def _cost_parts(tree: Tree, colors: Colors, calls: Calls) -> list[Json]:
    """The model calls whose costs the trace's cost is the sum of."""
    total = tree.summary["totals"][4]
    if total is None:
        return []
    parts, priced_below, own = _Parts(), bytearray(len(tree) + 1), []
    for place in range(len(tree) - 1, -1, -1):  # children come before their parents
        cost = tree.costs[place]
        has_cost = cost == cost and tree.kinds[place] in _CALLS
        if has_cost and not priced_below[place]:
            own.append(place)
        if has_cost or priced_below[place]:
            priced_below[tree.parents[place]] = 1
    for place in reversed(own):
        name, model, _ = calls.get(place, ("", None, None))
        label = name if model is None else f"{name}, {model}"
        parts.add("other", label, tree.costs[place], tree.span_id(place), model, colors.of(model))
    return parts.list(total)


def _idle(tree: Tree) -> Json | None:
    """The time in which no innermost span ran, when it is most of the trace's; None: there is no such time."""
    total = tree.summary["duration_ns"]
    if total is None or total <= 0:
        return None
    containers = set(tree.parents)
    end_ns = tree.summary["start_ns"] + total
    leaves = sorted(
        (tree.starts[place], end_ns if tree.durations[place] < 0 else tree.starts[place] + tree.durations[place])
        for place in range(len(tree))
        if place not in containers
    )
    until = leaves[0][1] if leaves else end_ns
    for begin, end in leaves:
        if begin - until > _IDLE_SHARE * total:
            return {"from_ns": until - tree.summary["start_ns"], "to_ns": begin - tree.summary["start_ns"]}
        until = max(until, end)
    return None


# --- what failed ---


def _failures(tree: Tree) -> list[int]:
    """Failed spans none of whose children failed."""
    failed = [place for place, status in enumerate(tree.statuses) if status == "error"]
    around = {tree.parents[place] for place in failed}
    return [place for place in failed if place not in around]


def _failed(asked: Asked, tree: Tree, failures: Sequence[int]) -> Json | None:
    if not failures:
        return None
    deepest = max(failures, key=lambda place: (tree.depths[place], -place))
    told = {
        tree.place(span_id): what
        for span_id, *what in scanned(
            asked, tree, "status == error", "span_id", "name", "error_type", "error_message", limit=_STEPS
        )
    }
    name, type_, message = told.get(deepest) or page_rows_of(asked, tree, deepest)
    alike = [place for place in failures if place in told and told[place][0] == name] or [deepest]
    times = "" if len(alike) == 1 else " twice" if len(alike) == 2 else f" {len(alike)} times"
    lengths = [tree.durations[place] for place in alike if tree.durations[place] >= 0]
    took = f" ({format_duration(sum(lengths))})" if lengths else ""
    others = len(failures) - len(alike)
    failed = tree.summary["status"] == "error"
    sentence = [f"{name} failed{times}{took}"]
    if why := message or type_:
        sentence[0] += f": {one_line(why, limit=160)}"
    if others:
        sentence.append(f"{plural(others, 'other span')} failed too")
    if not failed:
        sentence.append("the trace ended well all the same")
    return {"sentence": "; ".join(sentence) + ".", "span_id": tree.span_id(deepest), "trace_failed": failed}


def page_rows_of(asked: Asked, tree: Tree, place: int) -> tuple[Any, Any, Any]:
    row = page_rows(asked, tree, place, 1)[0]
    return row["name"], row["attributes"].get("error_type"), row["attributes"].get("error_message")
