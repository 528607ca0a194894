"""`spanbox doctor`: is the store sound, who writes it, and what to do.

The store is opened and read in a child process: LMDB ends the process that meets a damaged page.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spanbox import _core
from spanbox._hidden import hidden_by_environment
from spanbox._paths import FOLDER, VARIABLE, find_store
from spanbox._render import clean, format_bytes, format_time, plural
from spanbox.cli._output import Output

# The inode that the store's first opener wrote behind LMDB's part of lock.mdb. Read before the store is opened: later,
# closing the file would end LMDB's own locks on it.
_CHECK = """
import json, os, sys
from spanbox import _core
copied = False
try:
    with open(os.path.join(sys.argv[1], "lock.mdb"), "rb") as file:
        info, mark = os.fstat(file.fileno()), os.pread(file.fileno(), 8, 17 * 4096)
        copied = len(mark) == 8 and int.from_bytes(mark, sys.byteorder) != info.st_ino
except OSError:
    pass
try:
    store = _core.Store(sys.argv[1], False)
    found = {"copied": copied, "info": store.info(), "recovery": store.recovery, "processes": store.processes()}
    found["verification"] = store.verify()
except _core.SpanboxError as error:
    found = {"copied": copied, "error": str(error)}
print(json.dumps(found))
"""
_CHECK_S = 3_600
_COPIED = (
    "this store is a copy of files (cp, rsync, an archive), as good as one of `spanbox backup` if no program was "
    "recording meanwhile. Else what it recorded during the copying may be missing here, what was running counts as "
    "interrupted, and what is damaged is a problem named above: copy it anew with `spanbox backup FOLDER`"
)
_BAD_LMDB = ((0, 9, 26), (0, 9, 31))  # locks of dead processes are cleaned up with races


@dataclass(slots=True)
class Report:
    """What was found. `problems` need a hand; `advice` is good to know."""

    path: str
    found: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine(store: Path | None) -> Report:
    path = find_store(store)
    if path is None:
        raise _core.NotFoundError(
            f"no {FOLDER} folder in {Path.cwd()} or above it, and ${VARIABLE} is not set: nothing to examine"
        )
    report = Report(path)
    report.found = _check_in_child(report)
    if report.found:
        report.problems += report.found["verification"]["problems"]
        _judge(report)
    for what, names in zip(("inputs", "outputs"), hidden_by_environment(), strict=True):
        if names:
            report.advice.append(f"programs started from here keep no {what}: {', '.join(names)} says so")
    if report.problems:
        report.advice.append(
            "a damaged segment costs the spans in it, the others stay readable; copy the folder before you go on"
        )
    return report


def _check_in_child(report: Report) -> dict[str, Any]:
    command = [sys.executable, "-c", _CHECK, report.path]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=_CHECK_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        report.problems.append(f"reading the store took more than {_CHECK_S // 60} minutes and was given up")
        return {}
    if child.returncode < 0:
        report.problems.append(
            f"reading the store ended the process that tried with signal {-child.returncode}: data.mdb is damaged"
        )
        return {}
    try:
        found: dict[str, Any] = json.loads(child.stdout)
    except ValueError:
        last = child.stderr.strip().splitlines()[-1:] or ["no message"]
        report.problems.append(f"the check itself failed: {last[0]}")
        return {}
    if found["copied"]:
        report.advice.append(_COPIED)
    if "error" in found:
        report.problems.append(found["error"])
        return {}
    return found


def _judge(report: Report) -> None:
    info, recovery = report.found["info"], report.found["recovery"]
    if recovery["damaged_rings"]:
        report.problems.append(
            f"{plural(recovery['damaged_rings'], 'ring')} of a dead process could be read only in part; "
            f"kept in {report.path}/rings/quarantine"
        )
    dropped = sum(process.get("dropped_spans", 0) for process in report.found["processes"])
    if dropped:
        report.advice.append(
            f"{plural(dropped, 'span')} dropped by recording processes: they record faster than the disk takes it; "
            "raise max_ring_bytes in spanbox.configure()"
        )
    if _BAD_LMDB[0] <= tuple(map(int, _lmdb_version(info).split("."))) <= _BAD_LMDB[1]:
        report.advice.append(
            f"LMDB {_lmdb_version(info)} may corrupt a store when a process dies holding its lock (0.9.26 to 0.9.31 "
            "do): use 0.9.24, 0.9.25, or 0.9.32 and later"
        )


def _lmdb_version(info: dict[str, Any]) -> str:
    """The numbers alone, of a text such as "LMDB 0.9.24: (July 24, 2019)"."""
    match = re.search(r"\d+\.\d+\.\d+", info["lmdb_version"])
    return match[0] if match else "0.0.0"


def print_report(out: Output, report: Report) -> None:
    rows: list[tuple[str, str]] = [("store", clean(report.path))]
    if report.found:
        rows += _facts(report.found)
    for name, text in rows:
        out.line(f"{name:<11}{text}")
    for problem in report.problems:
        out.line(f"{'✗ problem':<11}{clean(problem)}", "red")
    for advice in report.advice:
        out.line(f"{'advice':<11}{clean(advice)}", "yellow")
    if not report.problems:
        out.line(f"{'verdict':<11}sound", "green")


def _facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    info, recovery, checked = found["info"], found["recovery"], found["verification"]
    open_spans = f", {info['open_spans']:,} open" if info["open_spans"] else ""
    if info["sampled_out_spans"]:
        open_spans += f"; {info['sampled_out_spans']:,} more sampled out, only counted"
    facts = [
        ("format", str(info["format"])),
        ("spans", f"{info['spans']:,} in {plural(info['segments'], 'segment')}{open_spans}"),
    ]
    if info["spans"]:
        facts.append(("time", f"{format_time(info['first_start_ns'])} to {format_time(info['last_start_ns'])}"))
    texts = f"texts {format_bytes(info['text_bytes'])} ({format_bytes(info['raw_text_bytes'])} unpacked)"
    facts.append(("disk", f"{format_bytes(info['disk_bytes'])}: columns {format_bytes(info['column_bytes'])}, {texts}"))
    if info["file_bytes"] > info["disk_bytes"]:
        facts.append(("file", f"{format_bytes(info['file_bytes'])} long, the rest given back to the disk"))
    facts.append(("checked", f"{plural(checked['spans'], 'span')}, {plural(len(checked['problems']), 'problem')}"))
    if recovery["rings"]:
        facts.append(
            (
                "recovered",
                f"{plural(recovery['spans'], 'span')} of {plural(recovery['rings'], 'dead process', 'dead processes')}"
                f", {recovery['interrupted_spans']:,} still open when it died",
            )
        )
    facts += [("recorder", _process_line(process)) for process in found["processes"]]
    return [*facts, ("LMDB", _lmdb_version(info))]


def _process_line(process: dict[str, Any]) -> str:
    started = f" since {format_time(process['started_ns'])}" if process.get("started_ns") else ""
    name = clean(str(process.get("exe") or ""))
    return f"pid {process.get('pid', '?')} {name}{started}, {process.get('dropped_spans', 0):,} spans dropped".replace(
        "  ", " "
    )
