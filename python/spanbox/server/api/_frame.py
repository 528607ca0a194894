"""What every panel has: its state and what it is based on, buckets with the gaps in them, marks, the colours of
models."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from spanbox import _core
from spanbox._box import Box
from spanbox._facts import silences
from spanbox._findings import noted
from spanbox.server.api._asked import SECOND_NS, Asked, Axis, Interval
from spanbox.server.api._columnar import column

_log = logging.getLogger("spanbox")
ROOT = "parent_id == none"
LLM = "kind == llm"
CALL = "kind in [llm, embedding]"
FEW = 20  # fewer values say nothing of a mean
_MODELS = 6  # with a hue
_COLORS = "colors"  # the kind of the document that has them
_MARK_COLUMNS = ("release", "prompt_version")
_MARKS = 40
Json = dict[str, Any]


def panel(
    asked: Asked, began_s: float, *, state: str = "ok", text: str = "", basis: Sequence[str], more: str = ""
) -> Json:
    """`basis` in short parts; `more` what the full text has besides."""
    parts = [part for part in basis if part]
    full = ". ".join([*(part[:1].upper() + part[1:] for part in parts), *([more] if more else [])])
    return {
        "state": state,
        "state_text": text,
        "basis": " · ".join(parts),
        "basis_full": full + "." * (not full.endswith(".")),
        "range": asked.range(),
        "took_ms": round((time.perf_counter() - began_s) * 1e3, 1),
    }


def time_axis(asked: Asked, axis: Axis) -> Json:
    last_ns = axis.begin_ns + (axis.buckets - 1) * axis.bucket_ns
    known_ns = min(asked.to_ns, asked.now_ns) - last_ns
    partial = known_ns < axis.bucket_ns
    return {
        "t_s": column((axis.begin_ns + i * axis.bucket_ns) / SECOND_NS for i in range(axis.buckets)),
        "bucket_ns": axis.bucket_ns,
        "partial_from_s": last_ns / SECOND_NS if partial else None,
        "partial_share": known_ns / axis.bucket_ns if partial else None,
        "gaps": gaps(asked, (axis.begin_ns, asked.to_ns)),
        "marks": marks(asked),
    }


def partial_note(answer: Json) -> str:
    share = answer["partial_share"]
    return "" if share is None else f"last bucket {share:.0%} full".replace("%", " %")


def on_axis(axis: Axis, rows: Any, *names: str) -> list[list[float | None]]:
    """The values of each name by bucket."""
    found: list[list[float | None]] = [[None] * axis.buckets for _ in names]
    for row in rows:
        place = axis.place(row["time"])
        if place is not None:
            for values, name in zip(found, names, strict=True):
                values[place] = row[name]
    return found


def every(axis: Axis) -> str:
    return f"{axis.bucket_ns}ns"


def bucket_name(axis: Axis) -> str:
    seconds = axis.bucket_ns // SECOND_NS
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{seconds // size} {unit} buckets"
    return f"{seconds} s buckets"


def gaps(asked: Asked, of: Interval) -> list[Json]:
    """Times when nothing at all was recorded, newest first."""
    found = asked.answers.kept(
        asked.generation, ("gaps", of), lambda: silences(asked.box._fresh_store(), of, asked.now_ns)
    )
    return [{"from_ns": str(a), "to_ns": str(b), "why": "nothing recorded"} for a, b in found]


def marks(asked: Asked) -> list[Json]:
    """What Box.mark noted, and when a release or a version of a prompt was seen first."""
    before = asked.baseline
    begin_ns = min(asked.from_ns, before[0]) if before else asked.from_ns

    def find() -> list[tuple[int, str, str]]:
        found: list[tuple[int, str, str]] = []
        for name in _MARK_COLUMNS:
            spans = asked.spans(f"{name} != none", of=(begin_ns, asked.to_ns), filtered=False)
            rows = spans.by(name).agg(first="min(start_ns)")
            first_of_all = min((row["first"] for row in rows), default=0)
            found += [(int(row["first"]), str(row[name]), name) for row in rows if row["first"] > first_of_all]
        return found

    seen = asked.answers.kept(asked.generation, ("marks", begin_ns, asked.to_ns), find)
    made = [(mark.at_ns, mark.name, mark.kind) for mark in noted(asked.box._store, begin_ns, asked.to_ns)]
    found = sorted([*seen, *made])[-_MARKS:]
    return [{"at_ns": str(at), "name": name[:60], "kind": kind} for at, name, kind in found]


class Colors:
    """The hue of each model: in the order of calls when it was first seen, and from then on its own.

    Six models have one. With `is_kept` they are a document of the store (kind `colors`), so that they stay when the
    server ends. Any thread.
    """

    def __init__(self, box: Box, *, is_kept: bool = False) -> None:
        self._box = box
        self._is_kept = is_kept
        self._lock = threading.Lock()
        self._known: dict[str, int] | None = None  # None: not read yet

    def models(self) -> list[Json]:
        """All models of the store, by calls."""
        rows = self._box.spans(LLM).by("model").agg(n="count()").order_by("n", descending=True)
        counted = [(str(row["model"]), row["n"]) for row in rows if row["model"] is not None]
        with self._lock:
            known = self._read()
            new = [name for name, _ in counted if name not in known][: _MODELS - len(known)]
            known |= {name: len(known) + i for i, name in enumerate(new)}
            if new and self._is_kept:
                self._keep(known)
            return [{"name": name, "color": known.get(name, _MODELS), "calls": n} for name, n in counted]

    def of(self, model: str | None) -> int:
        if model is None:
            return _MODELS
        with self._lock:
            known = self._read()
        if model not in known and len(known) < _MODELS:
            self.models()
        return known.get(model, _MODELS)

    def _read(self) -> dict[str, int]:
        if self._known is None:
            kept = next((each.value for each in self._box.documents(_COLORS) if each.name == "models"), None)
            names = [each for each in kept if isinstance(each, str)] if isinstance(kept, list) else []
            self._known = {name: i for i, name in enumerate(dict.fromkeys(names[:_MODELS]))}
        return self._known

    def _keep(self, known: dict[str, int]) -> None:
        try:
            self._box.put_document(_COLORS, "models", sorted(known, key=lambda name: known[name]))
        except _core.SpanboxError:
            _log.warning("the colours of models could not be kept", exc_info=True)
