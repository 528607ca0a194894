"""The command line as its user meets it: what it prints, where, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox._render import text_width

MS = 1_000_000
START_NS = 1_700_000_000_000_000_000
HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202etxt [bold red]markup[/] \x9b31m"
TRACE_IDS = ["7f3a" + "0" * 28, "8b" * 16]

pytest.importorskip("typer")


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k not in ("SPANBOX_DIR", "OPENAI_BASE_URL")}
    return subprocess.run(
        [sys.executable, "-m", "spanbox", *arguments],
        cwd=cwd,
        env={**inherited, "COLUMNS": "80", "TZ": "UTC", **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with a store of two traces, the newer one hostile."""
    box = spanbox.open(tmp_path / ".spanbox", create=True)

    def span(trace: int, number: int, parent: int | None, **values: Any) -> dict[str, Any]:
        start = START_NS + trace * 60_000 * MS + number * MS
        row = {"trace_id": TRACE_IDS[trace], "span_id": f"{number:016x}", "start_ns": start, **values}
        return row if parent is None else {**row, "parent_id": f"{parent:016x}"}

    chat = {"kind": "llm", "model": "gpt-x", "ttft_ns": 312 * MS, "input_tokens": 812, "output_tokens": 141}
    box._store.append(
        [
            span(0, 1, None, name="answer", kind="agent", duration_ns=1_840 * MS, input="where is my refund?"),
            span(0, 2, 1, name="chat gpt-x", duration_ns=1_310 * MS, cost_usd=0.0034, output="refund is late", **chat),
            span(
                0, 3, 2, name="lookup", kind="tool", duration_ns=MS, status="error", error_type="TimeoutError",
                error_message="no answer",
            ),
            span(1, 1, None, name=HOSTILE, kind="agent", status="error", error_message=HOSTILE, output=HOSTILE),
        ]
    )  # fmt: skip
    return tmp_path


def test_ls_lists_the_newest_traces_first(folder: Path) -> None:
    done = run("ls", "--filter", 'name == "answer"', cwd=folder)
    assert done.stdout.splitlines() == [
        "trace         start       name    spans    took  tokens     cost  status",
        "7f3a00000000  2023-11-14  answer      3  1.84 s     953  $0.0034  1 error",
    ]
    listed = json.loads(run("ls", "--json", cwd=folder).stdout)
    assert [trace["trace_id"] for trace in listed] == TRACE_IDS[::-1]
    assert listed[1] == {
        "trace_id": TRACE_IDS[0],
        "start_ns": START_NS + MS,
        "name": "answer",
        "spans": 3,
        "duration_ns": 1_840 * MS,
        "tokens": 953,
        "cost_usd": 0.0034,
        "errors": 1,
        "status": "ok",
    }
    assert len(json.loads(run("ls", "-n", "1", "--json", cwd=folder).stdout)) == 1


def test_ls_lists_sessions_and_their_turns(folder: Path) -> None:
    assert run("ls", "--sessions", cwd=folder).stdout.startswith("no sessions in ")
    row = {"trace_id": "9" * 32, "span_id": "a" * 16, "name": "answer", "start_ns": START_NS, "duration_ns": MS}
    spanbox.open(folder / ".spanbox")._store.append([{**row, "session_id": "s1", "user_id": "ann", "input": "hello"}])
    done = run("ls", "--sessions", cwd=folder)
    assert done.stdout.splitlines() == [
        "session  active      turns  spans     took  tokens  cost  errors  users",
        "s1       2023-11-14      1      1  1.00 ms       —     —       0  ann",
    ]
    assert json.loads(run("ls", "--sessions", "--json", cwd=folder).stdout)[0]["users"] == ["ann"]
    assert run("ls", "--session", "s1", cwd=folder).stdout.splitlines()[0] == "session s1  1 turn  1.00 ms  —  ann"
    assert json.loads(run("ls", "--session", "s1", "--json", cwd=folder).stdout)["turns"][0]["input"] == "hello"
    assert run("ls", "--session", "s2", cwd=folder).returncode == 1


def test_show_prints_the_tree(folder: Path) -> None:
    done = run("show", "7f3a", cwd=folder)
    assert done.stdout.splitlines()[2:] == [
        "answer         agent   1.84 s  0.530 s",
        "└─ chat gpt-x  llm     1.31 s   1.31 s  312 ms  812→141  $0.0034",
        "   └─ lookup   tool   0.001 s  ✗ TimeoutError: no answer",
    ]
    shown = json.loads(run("show", "7f3a", "--json", cwd=folder).stdout)
    assert [span["name"] for span in shown["spans"]] == ["answer", "chat gpt-x", "lookup"]
    assert shown["spans"][1]["parent_id"] == shown["spans"][0]["span_id"]
    assert [span["depth"] for span in shown["spans"]] == [0, 1, 2]
    assert shown["totals"]["cost_usd"] == 0.0034
    assert "output:    refund is late" in run("show", "7f3a", "--text", cwd=folder).stdout


def test_grep_finds_and_says_how_many(folder: Path) -> None:
    done = run("grep", "refund", cwd=folder)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "7f3a00000000  chat gpt-x output: refund is late",
        "7f3a00000000  answer input: where is my refund?",
        "2 values match",
    ]
    found = json.loads(run("grep", "REF.ND", "-E", "-i", "--json", cwd=folder).stdout)
    assert found["matched"] == 2
    assert run("grep", "no such text", cwd=folder).returncode == 1


def test_stats_gives_figures_by_model_and_kind(folder: Path) -> None:
    lines = run("stats", cwd=folder).stdout.splitlines()
    assert lines[0] == "4 spans since 2023-11-14 22:13:20, $0.0034"
    assert lines[3].split()[:4] == ["gpt-x", "1", "312", "ms"]
    assert lines[3].split()[-4:] == ["812→141", "$0.0034", "0", "%"]
    assert any(line.split()[:2] == ["agent", "2"] and line.endswith("50 %") for line in lines)
    figures = json.loads(run("stats", "--json", "--filter", "kind == llm", cwd=folder).stdout)
    assert figures["models"][0]["calls"] == 1


def test_doctor_finds_a_sound_store_sound(folder: Path) -> None:
    done = run("doctor", cwd=folder)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == f"store      {folder / '.spanbox'}"
    assert done.stdout.splitlines()[-1] == "verdict    sound"
    report = json.loads(run("doctor", "--json", cwd=folder).stdout)
    counts = {"segments": 1, "spans": 4, "rollups": 0, "scores": 0, "documents": 0}
    assert report["found"]["verification"] == {**counts, "problems": []}


def test_doctor_knows_a_store_that_was_copied_while_it_was_written(tmp_path: Path) -> None:
    program = """
import sys, spanbox
spanbox.configure(sys.argv[1])
with spanbox.span("running"):
    with spanbox.span("ended"): pass
    spanbox.flush()
    print("ready", flush=True)
    sys.stdin.read()
"""
    original, copy = tmp_path / "original", tmp_path / "copy"
    command = [sys.executable, "-c", program, str(original)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as recorder:
        assert recorder.stdout is not None
        assert recorder.stdout.readline() == b"ready\n"
        subprocess.run(["cp", "-r", original, copy], check=True)
        examined = {
            folder: run("doctor", "--store", str(folder), "--json", cwd=tmp_path) for folder in (original, copy)
        }
        recorder.communicate()
    reports = {folder: json.loads(done.stdout) for folder, done in examined.items()}
    assert reports[original]["advice"] == []
    assert reports[original]["problems"] == reports[copy]["problems"] == []
    (advice,) = reports[copy]["advice"]
    assert "spanbox backup" in advice
    spans = {span["name"]: span["status"] for span in spanbox.open(copy).spans()}
    assert spans == {"running": "interrupted", "ended": "ok"}
    spanbox.open(copy).backup(tmp_path / "backup")
    assert json.loads(run("doctor", "--store", "backup", "--json", cwd=tmp_path).stdout)["advice"] == []


def test_doctor_survives_a_store_that_kills_its_reader(folder: Path) -> None:
    """A damaged page makes LMDB abort, a truncated file raises SIGBUS: the child dies, the doctor tells."""
    data = folder / ".spanbox" / "data.mdb"
    content = bytearray(data.read_bytes())
    content[4096 * 2 :] = b"\xa5" * (len(content) - 4096 * 2)
    data.write_bytes(content)
    done = run("doctor", cwd=folder)
    assert done.returncode == 1
    assert "problem" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_import_reports_each_file_and_the_bad_lines(tmp_path: Path) -> None:
    good = '{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": []}'
    (tmp_path / "a.jsonl").write_text(good + "\n")
    (tmp_path / "b.jsonl").write_text(good + "\n{oops\n")
    done = run("import", "a.jsonl", "b.jsonl", "--store", "new", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "a.jsonl: mooncake, 1 span, 1 new"
    assert re.fullmatch(r"spanbox: b\.jsonl: line 2: not valid JSON: .*--skip-bad imports the rest\.\n", done.stderr)
    again = run("import", "b.jsonl", "--skip-bad", "--store", "new", cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout.startswith("b.jsonl: mooncake, 1 span, 0 new, 1 bad element left out\n  line 2: not valid JSON")


def test_import_of_tables_of_spans(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    parquet.write_table(arrow.table({"start_ns": [1, 2]}), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text('{"start_ns": 3, "name": "x"}\n{"start_ns": "soon"}\n')
    done = run("import", "a.parquet", "b.jsonl", "--store", "new", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == "a.parquet: parquet, 2 spans, 2 new\n"
    assert done.stderr == (
        'spanbox: b.jsonl: line 2: column "start_ns": "soon" is no moment: write 2026-11-21T09:30:00Z. '
        "--skip-bad imports the rest.\n"
    ), "no progress bar in a pipe"
    again = run("import", "a.parquet", "b.jsonl", "--skip-bad", "--store", "new", cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout.splitlines()[:2] == [
        "a.parquet: parquet, 2 spans, 0 new",
        "b.jsonl: jsonl, 1 span, 1 new, 1 bad element left out",
    ]


@pytest.mark.parametrize("arguments", [("ls",), ("show", "8b8b"), ("show", "8b8b", "--text"), ("grep", "markup")])
def test_hostile_text_is_shown_never_executed(folder: Path, arguments: tuple[str, ...]) -> None:
    output = run(*arguments, cwd=folder).stdout
    assert "[bold red]markup" in output
    assert "\\x1b]0;owned\\x07" in output
    assert all(character.isprintable() for character in output.replace("\n", ""))
    in_json = run(*[a for a in arguments if a != "--text"], "--json", cwd=folder).stdout
    assert in_json.isascii()
    assert "\x1b" not in in_json


@pytest.mark.parametrize(
    "arguments", [("ls",), ("show", "7f3a"), ("show", "8b8b", "--text"), ("grep", "refund"), ("stats",)]
)
def test_terminal_of_80_columns_is_enough(folder: Path, arguments: tuple[str, ...]) -> None:
    controller, terminal = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("SPANBOX_DIR", "NO_COLOR")}
    child = subprocess.Popen(
        [sys.executable, "-m", "spanbox", *arguments],
        cwd=folder,
        env={**environment, "COLUMNS": "80", "TERM": "xterm-256color", "PYTHONUTF8": "1"},
        stdout=terminal,
        stderr=terminal,
        stdin=subprocess.DEVNULL,
    )
    os.close(terminal)
    output = b""
    while True:
        try:
            piece = os.read(controller, 65536)
        except OSError:  # Linux reports the closed terminal as an error
            break
        if not piece:
            break
        output += piece
    os.close(controller)
    assert child.wait(60) == 0
    coloured = output.decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", coloured).replace("\r\n", "\n").replace("\r", "\n")
    assert coloured != plain  # colours on a terminal
    assert all(character.isprintable() for character in plain.replace("\n", ""))
    assert max(map(text_width, plain.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("ls", "--filter", 'model = "x"'), 2, "^"),
        (("ls", "--since", "yesterday"), 1, "since='yesterday' is no moment"),
        (("show", "zz"), 1, "'zz' is no trace id"),
        (("show", "abcd"), 1, "no trace starts with 'abcd'"),
        (("show",), 2, "Missing argument"),
        (("ls", "--store", "nowhere"), 1, "nowhere"),
        (("nonsense",), 2, "No such command"),
        (("import", "nowhere.json"), 1, "nowhere.json: cannot be read"),
        (("import", "x", "--format", "csv"), 2, "'csv' is not one of"),
        (("grep", ""), 1, "the text is empty"),
    ],
)
def test_errors_are_clear_on_standard_error(folder: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    done = run(*arguments, cwd=folder)
    assert done.returncode == code
    assert message in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_no_store_says_what_to_do(tmp_path: Path) -> None:
    for command in ("ls", "stats", "doctor"):
        done = run(command, cwd=tmp_path)
        assert done.returncode == 1
        assert "no .spanbox folder" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_reader_that_stops_early_is_no_error(folder: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m spanbox ls --json | head -n 1"
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env={**os.environ, "SPANBOX_DIR": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def test_without_its_packages_the_command_line_says_how_to_get_them(tmp_path: Path) -> None:
    code = "import sys; sys.modules['typer'] = None; from spanbox.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "spanbox: the command line needs two more packages: pip install 'spanbox[cli]'\n"


def test_tail_shows_the_last_spans_in_lines_of_80_columns(folder: Path) -> None:
    done = run("tail", "-n", "3", cwd=folder)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert "TimeoutError" in done.stdout
    assert "\x1b" not in done.stdout
    assert run("tail", "--filter", 'kind == "nothing like it"', cwd=folder).returncode == 2


def test_tail_follows_what_comes(folder: Path) -> None:
    command = [sys.executable, "-m", "spanbox", "tail", "-f", "-n", "1", "--json", "--filter", "kind == llm"]
    environment = {**os.environ, "SPANBOX_DIR": str(folder / ".spanbox")}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, encoding="utf-8") as tail:
        assert tail.stdout is not None
        assert json.loads(tail.stdout.readline())["name"] == "chat gpt-x"
        now = time.time_ns()
        rows = [
            {
                "trace_id": "c" * 32,
                "span_id": f"{n:016x}",
                "name": f"late {n}",
                "kind": kind,
                "start_ns": now + n,
                "duration_ns": 1,
            }
            for n, kind in ((1, "tool"), (2, "llm"))
        ]
        spanbox.open(folder / ".spanbox")._store.append(rows)
        assert json.loads(tail.stdout.readline())["name"] == "late 2"
        tail.send_signal(signal.SIGINT)
        assert tail.wait(30) == 130


def test_sql_export_and_backup_hand_the_store_over(folder: Path) -> None:
    pytest.importorskip("duckdb")
    asked = run("sql", "select kind, count(*) as n from spans group by 1 order by 1", "--json", cwd=folder)
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout) == [{"kind": "agent", "n": 2}, {"kind": "llm", "n": 1}, {"kind": "tool", "n": 1}]
    shown = run("sql", "select name, duration_ns from spans order by 2 desc nulls last", cwd=folder)
    assert shown.stdout.splitlines()[1].split()[:2] == ["answer", "1840000000"]
    assert "\x1b" not in shown.stdout
    assert run("sql", "select * from read_text('/etc/hostname')", cwd=folder).returncode == 1

    exported = run("export", "spans.parquet", "--filter", "kind != tool", cwd=folder)
    assert exported.stdout == "3 spans written to spans.parquet\n", exported.stderr
    assert run("export", "spans.csv", cwd=folder).returncode == 2
    assert run("import", "spans.parquet", "--store", "other", cwd=folder).returncode == 0

    assert run("backup", "copy", cwd=folder).returncode == 0
    assert spanbox.open(folder / "copy").spans().count() == 4
    assert run("backup", "copy", cwd=folder).returncode == 1


def test_erase_asks_first(folder: Path) -> None:
    refused = run("erase", "kind == tool", cwd=folder)
    assert refused.returncode == 1
    assert spanbox.open(folder / ".spanbox").spans().count() == 4
    done = run("erase", "kind == tool", "--yes", "--secure", cwd=folder)
    assert done.stdout == "1 span and 0 blobs erased\n", done.stderr
    assert spanbox.open(folder / ".spanbox").spans().count() == 3
    assert run("erase", "", "--yes", cwd=folder).returncode == 2
