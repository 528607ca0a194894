"""What the frame of the page shows: the store, its health, its columns and models; and the page of its health."""

from __future__ import annotations

import time
from typing import Any

from spanbox import _core
from spanbox._observe import KINDS
from spanbox._render import format_bytes, plural
from spanbox.server.api._asked import DAY_NS, SECOND_NS, Answers, Asked
from spanbox.server.api._frame import Colors, Json, gaps, marks
from spanbox.server.api._quality import score_names

_TYPES = {"int": "int", "float": "float", "bool": "bool", "string": "string", "timestamp": "time"}
_RECENT_NS = 60 * SECOND_NS


def status(asked: Asked, colors: Colors, *, read_only: bool, write_token: str) -> Json:
    """A damaged part of the store costs what it held, not the page: the frame answers all the same."""
    readable = asked.answers.readable
    found = {
        "columns": columns(asked),
        "models": readable(colors.models, []),
        "score_names": _score_names(asked),
        "marks": readable(lambda: marks(asked), []),
    }
    return {
        "version": _core.__version__,
        "now_ns": str(time.time_ns()),
        "read_only": read_only,
        "write_token": write_token,
        "store": store(asked.answers),
        "health": strip(asked),
        "kinds": list(KINDS),
        **found,
    }


def _score_names(asked: Asked) -> list[str]:
    return asked.answers.readable(lambda: [each["name"] for each in score_names(asked, (0, asked.now_ns))], [])


def store(answers: Answers) -> Json:
    info, path = answers.box.info(), answers.box.path
    some = info["spans"] + info["open_spans"] > 0
    return {
        "name": "/".join(path.parts[-2:]),
        "spans": info["spans"],
        "open_spans": info["open_spans"],
        "sampled_out_spans": info["sampled_out_spans"],
        "segments": info["segments"],
        "scores": info["scores"],
        "file_bytes": info["file_bytes"],
        "first_start_ns": str(info["first_start_ns"]) if some else None,
        "last_start_ns": str(info["last_start_ns"]) if some else None,
    }


def strip(asked: Asked) -> Json:
    """The health strip; its worst fact in words."""
    store_, info = asked.box._fresh_store(), asked.box.info()
    processes = store_.processes()
    dropped = sum(int(str(each.get("dropped_spans", 0))) for each in processes)
    now_ns = asked.now_ns
    day, minute_ns = (now_ns - DAY_NS, now_ns), now_ns // _RECENT_NS * _RECENT_NS
    kept, readable = asked.answers.kept, asked.answers.readable
    minute = readable(lambda: asked.spans(of=(now_ns - _RECENT_NS, now_ns), filtered=False).count(), 0)
    interrupted = kept(
        asked.generation,
        ("interrupted", minute_ns),
        lambda: readable(lambda: asked.spans("status == interrupted", of=day, filtered=False).count(), 0),
    )
    found = readable(lambda: gaps(asked, (minute_ns - DAY_NS, minute_ns)), [])
    own = _core.health() if _core.recording_path() == store_.path else None
    worst, severity = "", None
    if own is not None and own["last_error"]:
        worst, severity = f"recording: {own['last_error']}", "error"
    elif asked.answers.damage:
        worst, severity = "a part of the store is damaged", "error"
    elif dropped:
        worst, severity = f"{plural(dropped, 'span')} dropped: a ring was full", "warning"
    elif found:
        worst, severity = _silence(found[0], now_ns), "warning"
    elif interrupted:
        worst, severity = f"{plural(interrupted, 'span')} interrupted in the last 24 h", "warning"
    return {
        "severity": severity,
        "worst": worst,
        "spans_per_s": minute / 60,
        "lag_ms": None if own is None else own["lag_ms"],
        "dropped_spans": dropped,
        "processes": len(processes),
        "running": info["open_spans"],
        "interrupted": interrupted,
        "spans": info["spans"] + info["open_spans"],
        "file_bytes": info["file_bytes"],
        "gaps": found,
    }


def _silence(gap: Json, now_ns: int) -> str:
    begin_ns, end_ns = int(gap["from_ns"]), int(gap["to_ns"])
    length, ago = (end_ns - begin_ns) // _RECENT_NS, (now_ns - end_ns) // _RECENT_NS
    if ago < 2:  # the minute that runs, and the one before it, which may not be whole
        return f"nothing recorded for {length} min"
    return f"nothing recorded for {length} min, {f'{ago} min' if ago < 120 else f'{ago // 60} h'} ago"


def columns(asked: Asked) -> list[Json]:
    """Named columns, then the attributes of the newest spans, then scores."""

    def read() -> list[Json]:
        named = [_named(*each) for each in _core.columns()]
        known = {each["name"] for each in named}
        end_ns = asked.box.info()["last_start_ns"] + 1
        since_ns = max(asked.from_ns, 0) if asked.from_ns < end_ns else max(0, end_ns - DAY_NS)

        def attributes() -> list[tuple[str, str]]:
            stream = _core.SpanStream(asked.box._fresh_store(), "", since_ns, end_ns, [], None, True)
            return sorted((name, type_) for name, type_, _ in stream.columns if name not in known)

        found = asked.answers.readable(attributes, [])
        named += [_described(name, _TYPES.get(type_, "mixed"), "attribute") for name, type_ in found]
        return [*named, *(_described(f"score.{name}", "float", "score") for name in _score_names(asked))]

    return asked.answers.kept(asked.generation, ("columns", asked.from_ns // DAY_NS), read)


def _named(name: str, alias: str, type_: str, description: str) -> Json:
    if name.endswith("_ns"):
        kind = "time" if name == "start_ns" else "duration"
    elif name.endswith("_usd"):
        kind = "cost"
    elif name.endswith("_id") and name in ("trace_id", "span_id", "parent_id"):
        kind = "id"
    else:
        kind = _TYPES.get(type_, type_ if type_ == "text" else "string")
    numeric = kind in ("int", "float", "duration", "cost")
    return {
        "name": name,
        "alias": alias,
        "type": kind,
        "description": description,
        "source": "column",
        "numeric": numeric,
    }


def _described(name: str, type_: str, source: str) -> Json:
    numeric = type_ in ("int", "float", "mixed")
    return {"name": name, "alias": "", "type": type_, "description": "", "source": source, "numeric": numeric}


class Checks:
    """Reading every checksum takes as long as reading the store: it is done when asked for, and remembered."""

    def __init__(self) -> None:
        self.at_ns: int | None = None
        self.problems: list[str] = []

    def run(self, asked: Asked) -> None:
        found = asked.box.verify()
        self.at_ns, self.problems = time.time_ns(), list(found["problems"])


def health(asked: Asked, colors: Colors, checks: Checks) -> Json:
    box, info = asked.box, asked.box.info()
    recovery, retention = box.recovery, box.retention()
    processes = box.processes()
    problems = list(checks.problems or asked.answers.damage)
    if recovery["damaged_rings"]:
        problems.append(f"{plural(recovery['damaged_rings'], 'ring')} of dead processes could be read only in part")
    dropped = sum(int(str(each.get("dropped_spans", 0))) for each in processes)
    advice = []
    if dropped:
        advice.append(f"{plural(dropped, 'span')} dropped: raise max_ring_bytes in spanbox.configure()")
    if retention.max_age_ns is None and retention.max_bytes is None:
        advice.append(
            f"nothing is ever dropped ({format_bytes(info['file_bytes'])} now): box.retention(max_age='30d') limits it"
        )
    return {
        "strip": strip(asked),
        "store": store(asked.answers),
        "sizes": {name: info[name] for name in ("column_bytes", "text_bytes", "raw_text_bytes", "filter_bytes")},
        "format": info["format"],
        "lmdb_version": info["lmdb_version"],
        "processes": [_process(each) for each in processes],
        "retention": {"max_age_ns": retention.max_age_ns, "max_bytes": retention.max_bytes},
        "recovery": dict(recovery),
        "problems": problems,
        "advice": advice,
        "checked_ns": None if checks.at_ns is None else str(checks.at_ns),
    }


def _process(each: dict[str, Any]) -> Json:
    started = each.get("started_ns")
    return {
        "pid": int(each.get("pid") or 0),
        "exe": str(each.get("exe") or ""),
        "started_ns": str(started) if started else None,
        "dropped_spans": int(each.get("dropped_spans") or 0),
    }
