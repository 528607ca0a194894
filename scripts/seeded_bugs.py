"""Breaks the recorder on purpose, one protocol bug at a time, and sees that the tests notice: seeded_bugs.py [NAME...]

A test that has never failed proves little. Each bug below is a small replacement in one source file, made in a copy of
the sources (build/seeded); then the kill test, or the test named with the bug, runs until it fails, for at most 300
kills. The sources as they are must pass. Ends with 1 when a bug was not noticed.

The text to be replaced must be in the file exactly once: so the list cannot rot unnoticed. `--check` asks only that.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRATCH = ROOT / "build" / "seeded"
KILLS = 300
TIMEOUT_S = 900
SOURCES = (
    "CMakeLists.txt",
    "cpp",
    "tests/cpp/core_kill_test.cc",
    "tests/cpp/crash_testing.h",
    "tests/cpp/memory_exporter.h",
    "tests/cpp/record_recovery_test.cc",
)


@dataclass(frozen=True)
class Test:
    program: str
    filter: str


KILL_TEST = Test("core_tests", "KillTest.*")
RECOVERY_TEST = Test("record_tests", "RecoveryTest.*")  # damaged rings, and what a power loss leaves of them


@dataclass(frozen=True)
class Bug:
    name: str
    file: str
    old: str
    new: str
    test: Test = KILL_TEST


BUGS = [
    Bug(
        "head published before the record",
        "cpp/src/record/ring.h",
        "    WriteRecord(type, payload, static_cast<std::uint32_t>(need));\n",
        "    control_.head.store(end, std::memory_order_release);\n"
        "    WriteRecord(type, payload, static_cast<std::uint32_t>(need));\n",
    ),
    Bug(
        "head published inside a record, now and then (as by a reordered store)",
        "cpp/src/record/ring.h",
        "    if (!payload.empty()) std::memcpy(at + ",
        "    if (seq_ % 61 == 0) {\n"
        "      control_.head.store(head_ + length, std::memory_order_relaxed);\n"
        "      for (volatile int i = 0; i < 2000; i = i + 1) {\n"
        "      }\n"
        "    }\n"
        "    if (!payload.empty()) std::memcpy(at + ",
    ),
    Bug(
        "tail of the ring trusted instead of the stored cursor",
        "cpp/src/record/recovery.cc",
        "    if (const auto found = state.cursors.find(number); found != state.cursors.end()) "
        "source.cursor = found->second;\n",
        "    source.cursor.position = control.tail.load(std::memory_order_relaxed);\n"
        "    RecordHeader next{};\n"
        "    std::uint64_t next_at = source.cursor.position & (file.header.lane_bytes - 1);\n"
        "    std::memcpy(&next.length, source.data.data() + next_at, sizeof next.length);\n"
        "    if (next.length == kPadLength) next_at = 0;\n"
        "    std::memcpy(&next, source.data.data() + next_at, sizeof next);\n"
        "    source.cursor.seq = next.seq - (next.seq > 0);\n",
    ),
    Bug(
        "rows and cursor in two transactions",
        "cpp/src/store/store.cc",
        "  return env->Write(payload_bytes, [&](WriteTxn& txn) -> Status {\n",
        "  SPANBOX_RETURN_IF_ERROR(\n"
        "      env->Write(0, [&](WriteTxn& txn) -> Status { return PutCursors(txn, batch).status(); }));\n"
        "  return env->Write(payload_bytes, [&](WriteTxn& txn) -> Status {\n",
    ),
    Bug(
        "cursors read while a dead writer's commit is not announced",
        "cpp/src/store/store.cc",
        "  SPANBOX_RETURN_IF_ERROR(env->Write(0, [&](WriteTxn& txn) -> Status {\n    state = {};\n",
        "  SPANBOX_RETURN_IF_ERROR(env->ReadBriefly([&](const Txn& txn) -> Status {\n    state = {};\n",
    ),
    Bug(
        "no checksum",
        "cpp/src/record/drain.cc",
        "  if (RecordChecksum(seed_, header, payload) != header.checksum) return std::nullopt;\n",
        "",
        RECOVERY_TEST,
    ),
    Bug(
        "no check of the lap (position and sequence number)",
        "cpp/src/record/drain.cc",
        "  if (header.position != position || header.version != kRecordVersion) return std::nullopt;\n"
        "  if (header.type < 1 || header.type > static_cast<std::uint8_t>(RecordType::kScore)) return std::nullopt;\n"
        "  if (exact_seq ? header.seq != cursor_.seq + 1 : header.seq <= cursor_.seq) return std::nullopt;\n",
        "  (void)exact_seq;\n",
        RECOVERY_TEST,
    ),
    Bug(
        "no lock: a living ring is recovered",
        "cpp/src/record/ring.cc",
        '  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return fail("lock", errno);\n',
        "",
    ),
    Bug(
        "folder read once: files made meanwhile are forgotten",
        "cpp/src/record/recovery.cc",
        "      if (now[process] == names) break;\n",
        "      break;\n",
        RECOVERY_TEST,  # by the kill test too, while rings grew one file at a time: now it is rare
    ),
    Bug(
        "ring files removed before the commit",
        "cpp/src/record/recovery.cc",
        "    if (first != files_.end()) SPANBOX_RETURN_IF_ERROR(StoreAll(first->header));\n    Remove();\n",
        "    Remove();\n    if (first != files_.end()) SPANBOX_RETURN_IF_ERROR(StoreAll(first->header));\n",
    ),
    Bug(
        "records of open spans not stored with the cursor",
        "cpp/src/store/store.cc",
        "    for (const OpenSpan& open : batch.open) {\n",
        "    for (const OpenSpan& open : std::vector<OpenSpan>{}) {\n",
    ),
    Bug(
        "END accepted twice",
        "cpp/src/record/joiner.cc",
        "    const bool emitted = Emit(slot.span, slot.first, batch);\n",
        "    const bool emitted = Emit(slot.span, slot.first, batch);\n"
        "    if (emitted && slot.ends > 1) batch.spans.push_back(SpanRow(batch.spans.back()));\n",
    ),
    Bug(
        "lanes drained in any order",
        "cpp/src/record/recovery.cc",
        "    std::ranges::stable_sort(origins_, {}, &Origin::order);\n",
        "    std::ranges::reverse(origins_);\n",
    ),
    Bug(
        "drops of STARTs not counted",
        "cpp/src/record/recovery.cc",
        "      source.cursor.dropped_spans = std::max(source.cursor.dropped_spans, spans);\n",
        "      (void)spans;\n",
    ),
]


def misfits() -> list[str]:
    """What is wrong with the list, a line each."""
    problems = []
    for bug in BUGS:
        times = (ROOT / bug.file).read_text(encoding="utf-8").count(bug.old)
        if times != 1:
            problems.append(f"{bug.file}: the text that the bug {bug.name!r} replaces is there {times} times, not once")
    return problems


def copy_sources() -> None:
    """Brings the copy up to date, touching only what differs: Ninja goes by time."""
    for source in SOURCES:
        files = [ROOT / source] if (ROOT / source).is_file() else sorted((ROOT / source).rglob("*"))
        for file in files:
            copy = SCRATCH / "src" / file.relative_to(ROOT)
            if file.is_file() and (not copy.exists() or copy.read_bytes() != file.read_bytes()):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)


def build(program: str) -> None:
    folder = SCRATCH / "build"
    if not (folder / "build.ninja").exists():
        # Tests are not listed: that would run each program after each build.
        options = ["-DCMAKE_BUILD_TYPE=Release", "-DSPANBOX_TESTS=ON", "-DSPANBOX_EXAMPLES=OFF"]
        options.append("-DCMAKE_GTEST_DISCOVER_TESTS_DISCOVERY_MODE=PRE_TEST")
        subprocess.run(
            ["cmake", "-S", str(SCRATCH / "src"), "-B", str(folder), "-G", "Ninja", *options],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    subprocess.run(["ninja", "-C", folder, program], check=True, stdout=subprocess.DEVNULL)


@dataclass(frozen=True)
class Outcome:
    noticed: bool
    by: str
    kills: str
    seconds: float


def run(test: Test) -> Outcome:
    build(test.program)
    began = time.monotonic()
    try:
        done = subprocess.run(
            [SCRATCH / "build" / test.program, f"--gtest_filter={test.filter}"],
            env={**os.environ, "SPANBOX_KILLS": str(KILLS)},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Outcome(noticed=True, by="it hangs", kills="", seconds=TIMEOUT_S)
    seconds = time.monotonic() - began
    kill = re.search(r"\bkill (\d+), seed", done.stdout)
    failed = re.search(r"^\[  FAILED  \] (\w+)\.(\w+)", done.stdout, re.MULTILINE)
    said = re.search(r": Failure\n(.*?)\n(?:Google Test trace|\n|\S+:\d+: Failure|\[)", done.stdout, re.DOTALL)
    by = f"exit code {done.returncode}"
    if failed:
        by = failed[1] if failed[1] == "KillTest" else f"{failed[1]}.{failed[2]}"
    if said:
        by += ": " + said[1].splitlines()[-1].strip()[:90]
    return Outcome(done.returncode != 0, by if done.returncode else "", kill[1] if kill else "", seconds)


def try_bug(bug: Bug) -> Outcome:
    file = SCRATCH / "src" / bug.file
    original = file.read_text(encoding="utf-8")
    try:
        file.write_text(original.replace(bug.old, bug.new), encoding="utf-8")
        return run(bug.test)
    finally:
        file.write_text(original, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="part of the name of a bug; none: all of them")
    parser.add_argument("--check", action="store_true", help="only ask whether every bug still fits the sources")
    arguments = parser.parse_args()
    problems = misfits()
    print(*problems, sep="\n", end="\n" if problems else "")
    if problems or arguments.check:
        return 1 if problems else 0

    copy_sources()
    wrong = 0
    print("| bug | noticed by | kills | seconds |\n| --- | --- | --- | --- |", flush=True)
    for test in (KILL_TEST, RECOVERY_TEST):
        outcome = run(test)
        wrong += outcome.noticed
        verdict = f"FAILS: {outcome.by}" if outcome.noticed else "passes"
        print(f"| none ({test.filter}) | {verdict} | {outcome.kills} | {outcome.seconds:.0f} |", flush=True)
    for bug in BUGS:
        if arguments.names and not any(name in bug.name for name in arguments.names):
            continue
        outcome = try_bug(bug)
        wrong += not outcome.noticed
        print(f"| {bug.name} | {outcome.by or 'NOBODY'} | {outcome.kills} | {outcome.seconds:.0f} |", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
