"""Two traces side by side: which span of the one is which of the other, what came and went, and where they part.

Trees are aligned from the roots down. Two roots that are alone are each other's; the children of two spans that are
each other's are aligned in their order, by kind and name, the longest common runs first. A span without a counterpart
has come, or gone, with all that is below it.

Thread rule: pure functions. Units: nanoseconds, US dollars. docs/traces.md has the rules.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from spanbox import _core

__all__ = ["Change", "Divergence", "Pair", "align", "changes", "first_divergence"]

Rows = Sequence["_core.SpanDict"]
_Key = tuple[str, str]
_EXACT_CELLS = 1_000_000  # two lists of children whose lengths multiply to more are aligned in one pass
_TEXT_CHARACTERS = 200  # longer values are no facts but texts
_CONTEXT = 80  # characters around the place where two texts part
_NO_FACTS = {  # differ between any two runs, or are compared as figures
    *("input", "output", "events", "links", "chunk_deltas_us", "chunks", "longest_stall_ns", "ttft_ns", "tpot_ns"),
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "cost_usd"),
    *("user_id", "session_id", "tenant", "tool_call_id", "error_message", "error_type", "response_id", "cost_source"),
}


@dataclass(frozen=True, slots=True)
class Pair:
    """A line of the aligned tree: places among the rows of either trace; None: it is not in that one."""

    depth: int
    now: int | None
    before: int | None


@dataclass(frozen=True, slots=True)
class Change:
    """A fact about a span that differs. None: not told."""

    name: str
    before: Any
    now: Any


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first output that differs, by the time when spans of the trace ended."""

    now: _core.SpanDict
    before: _core.SpanDict
    is_input_same: bool
    at: int  # the first character that differs, from 0
    now_text: str  # the text around it
    before_text: str
    compared: int  # outputs


def align(now: Rows, before: Rows) -> list[Pair]:
    """Depth first; what has gone stands before what came in its place. Rows are depth first, as the core gives them."""
    children_now, children_before = _children(now), _children(before)
    roots = _matched(now, before, children_now[-1], children_before[-1], are_roots=True)
    pairs, open_ = [], [(0, each) for each in reversed(roots)]
    while open_:
        depth, (a, b) = open_.pop()
        pairs.append(Pair(depth, a, b))
        if a is not None and b is not None:
            below = _matched(now, before, children_now[a], children_before[b])
        elif a is not None:
            below = [(each, None) for each in children_now[a]]
        else:
            below = [(None, each) for each in children_before[b if b is not None else -1]]
        open_ += [(depth + 1, each) for each in reversed(below)]
    return pairs


def _children(rows: Rows) -> dict[int, list[int]]:
    """Of each place the places of its children; -1: the roots."""
    found: dict[int, list[int]] = defaultdict(list)
    above = [-1]
    for place, row in enumerate(rows):
        del above[row["depth"] + 1 :]
        found[above[-1]].append(place)
        above.append(place)
    return found


_Match = tuple[int | None, int | None]


def _matched(
    now: Rows, before: Rows, mine: Sequence[int], theirs: Sequence[int], *, are_roots: bool = False
) -> list[_Match]:
    if are_roots and len(mine) == len(theirs) == 1:
        return [(mine[0], theirs[0])]
    a, b = ([(rows[i]["kind"], rows[i]["name"]) for i in of] for rows, of in ((now, mine), (before, theirs)))
    first, last = 0, 0
    least = min(len(a), len(b))
    while first < least and a[first] == b[first]:
        first += 1
    while last < least - first and a[-1 - last] == b[-1 - last]:
        last += 1
    found: list[_Match] = list(zip(mine[:first], theirs[:first], strict=True))
    middle_a, middle_b = a[first : len(a) - last], b[first : len(b) - last]
    for i, j in _common(middle_a, middle_b):
        found.append((None if i is None else mine[first + i], None if j is None else theirs[first + j]))
    found += zip(mine[len(a) - last :], theirs[len(b) - last :], strict=True)
    return found


def _common(a: Sequence[_Key], b: Sequence[_Key]) -> list[_Match]:
    if not a or not b:
        return [*((None, j) for j in range(len(b))), *((i, None) for i in range(len(a)))]
    if len(a) * len(b) > _EXACT_CELLS:
        return _common_in_one_pass(a, b)
    found: list[_Match] = []
    for what, b0, b1, a0, a1 in SequenceMatcher(None, b, a, autojunk=False).get_opcodes():
        if what == "equal":
            found += zip(range(a0, a1), range(b0, b1), strict=True)
        else:
            found += [*((None, j) for j in range(b0, b1)), *((i, None) for i in range(a0, a1))]
    return found


def _common_in_one_pass(a: Sequence[_Key], b: Sequence[_Key]) -> list[_Match]:
    """Each takes the next of its kind and name that is left."""
    places: dict[_Key, deque[int]] = defaultdict(deque)
    for j, key in enumerate(b):
        places[key].append(j)
    found: list[_Match] = []
    until = 0  # of b
    for i, key in enumerate(a):
        left = places[key]
        while left and left[0] < until:
            left.popleft()
        if left:
            found += [(None, j) for j in range(until, left[0])]
            found.append((i, left[0]))
            until = left.popleft() + 1
        else:
            found.append((i, None))
    return [*found, *((None, j) for j in range(until, len(b)))]


def changes(now: _core.SpanDict, before: _core.SpanDict) -> list[Change]:
    """Short facts that differ between two spans that are each other's; status first, then by name."""
    found = [] if now["status"] == before["status"] else [Change("status", before["status"], now["status"])]
    if now["name"] != before["name"]:
        found.append(Change("name", before["name"], now["name"]))
    mine, theirs = now["attributes"], before["attributes"]
    for name in sorted(mine.keys() | theirs.keys()):
        a, b = mine.get(name), theirs.get(name)
        if name not in _NO_FACTS and a != b and _is_short(a) and _is_short(b):
            found.append(Change(name, b, a))
    return found


def _is_short(value: Any) -> bool:
    return not isinstance(value, (dict, list)) and (not isinstance(value, str) or len(value) <= _TEXT_CHARACTERS)


def first_divergence(now: Rows, before: Rows, pairs: Sequence[Pair]) -> Divergence | None:
    """Rows with their payloads. None: all outputs that both have are the same."""
    both = [(now[pair.now], before[pair.before]) for pair in pairs if pair.now is not None and pair.before is not None]
    both = [(a, b) for a, b in both if "output" in a["attributes"] and "output" in b["attributes"]]
    both.sort(key=lambda each: (each[0]["start_ns"] + (each[0]["duration_ns"] or 0), -each[0]["depth"]))
    for a, b in both:
        mine, theirs = (row["attributes"]["output"] for row in (a, b))
        if mine != theirs:
            at, shown_a, shown_b = _around(_text(mine), _text(theirs))
            same = a["attributes"].get("input") == b["attributes"].get("input")
            return Divergence(a, b, same, at, shown_a, shown_b, len(both))
    return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _around(a: str, b: str) -> tuple[int, str, str]:
    """Where two texts part, and both from a little before it on."""
    low, high = 0, min(len(a), len(b))
    while low < high:  # the longest common beginning
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle - 1)
    begin = max(0, low - _CONTEXT)
    mark = "…" if begin else ""
    cut_a, cut_b = (
        mark + text[begin : low + 2 * _CONTEXT] + ("…" if len(text) > low + 2 * _CONTEXT else "") for text in (a, b)
    )
    return low, cut_a, cut_b
