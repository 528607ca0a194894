"""What holds of every command: examples that parse, JSON, control characters shown, 80 columns, completion; and top."""

from __future__ import annotations

import json
import os
import pty
import re
import select
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

typer = pytest.importorskip("typer")
from spanbox.cli._app import app  # noqa: E402
from spanbox.cli._examples import EXAMPLES  # noqa: E402

MS = 1_000_000
NOW_NS = time.time_ns()
TRACE_ID = "7f3a" + "0" * 28
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x1b[1;1H\u202etxt\u2028\x9b31m[bold red]m[/]\r\n\x00\u200b=1+1"
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def spanbox_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "spanbox", *arguments]


def environment(**more: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if k not in ("SPANBOX_DIR", "OPENAI_BASE_URL", "NO_COLOR")}
    return {**inherited, "COLUMNS": "80", "LINES": "30", "TERM": "xterm-256color", "PYTHONUTF8": "1", **more}


def run(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        spanbox_command(*arguments), cwd=cwd, env=environment(**more), capture_output=True, encoding="utf-8",
        timeout=300, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


class Terminal:
    """A command on a terminal of 80 columns; what it wrote, and keys for it."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self._controller, terminal = pty.openpty()
        self.child = subprocess.Popen(
            spanbox_command(*arguments), cwd=cwd, env=environment(), stdin=terminal, stdout=terminal, stderr=terminal,
            start_new_session=True,
        )  # fmt: skip
        os.close(terminal)
        self.written = b""

    def read_until(self, what: bytes, timeout_s: float = 120) -> None:
        """Until it has written `what`; empty: until it ends."""
        until = time.monotonic() + timeout_s
        while not what or what not in self.written:
            assert select.select([self._controller], [], [], max(0.0, until - time.monotonic()))[0], self.written
            try:
                piece = os.read(self._controller, 65536)
            except OSError:  # Linux reports the closed terminal as an error
                piece = b""
            if not piece:
                assert not what, self.written
                return
            self.written += piece

    def type(self, keys: bytes) -> None:
        os.write(self._controller, keys)

    def end(self) -> int:
        self.read_until(b"")
        os.close(self._controller)
        return self.child.wait(60)

    @property
    def lines(self) -> list[str]:
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.written.decode()).replace("\r\n", "\n").replace("\r", "\n")
        return plain.splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store in whose one trace every text is hostile, and a fitting bill and list of canaries."""
    box = spanbox.open(tmp_path / ".spanbox", create=True)
    columns = [name for name, _, kind, _ in spanbox.columns() if kind in ("string", "text")]
    texts = {name: HOSTILE for name in columns if name not in ("kind", "status", "events", "links")}
    common = {
        "trace_id": TRACE_ID, **texts, "session_id": HOSTILE.replace("\0", ""), "status": "error",
        HOSTILE.replace("\0", ""): HOSTILE, "start_ns": NOW_NS,
        "events": [{"name": HOSTILE, "time_ns": NOW_NS, "attributes": {HOSTILE.replace("\0", ""): HOSTILE}}],
    }  # fmt: skip
    call = {"ttft_ns": 100 * MS, "input_tokens": 812, "output_tokens": 141, "cost_usd": 0.0034}
    message = {"role": HOSTILE, "content": [HOSTILE, {"type": HOSTILE}], "tool_calls": [{"name": HOSTILE}]}
    box._store.append(
        [
            {**common, "span_id": "1" * 16, "kind": "agent", "duration_ns": 1_840 * MS},
            {**common, "span_id": "2" * 16, "parent_id": "1" * 16, "kind": "llm", "duration_ns": 9 * MS, **call,
             "input": [message], "output": message},
            {**common, "span_id": "3" * 16, "parent_id": "1" * 16, "kind": "tool", "status": "running"},
        ]
    )  # fmt: skip
    for span_id in (None, "2" * 16):
        box.score(
            "a" + HOSTILE.replace("\0", ""), label=HOSTILE, explanation=HOSTILE, evaluator=HOSTILE, trace_id=TRACE_ID,
            span_id=span_id,
        )  # fmt: skip
    (tmp_path / "bill.csv").write_text(f'date,model,cost\n2023-11-14,"{HOSTILE[:9]}",1.00\n')
    (tmp_path / "values.txt").write_text("[bold red]\n")
    return tmp_path


READING = [
    ("ls",), ("ls", "--sessions"), ("ls", "--session", HOSTILE.replace("\0", "")), ("show", "7f3a"),
    ("grep", "owned"), ("stats",), ("cost",), ("cost", "--by", "user_id", "--by", "tenant", "--every", "1d"),
    ("cost", "--project"), ("tail", "-n", "5"), ("top", "--once"), ("runaways",), ("budget",), ("doctor",),
    ("reprice", "--dry-run"), ("reparse", "--dry-run"), ("audit", "--canary", "values.txt"), ("redact", HOSTILE[1:9]),
    ("sql", "select * from spans"),
]  # fmt: skip
PRINTING = [
    *READING,
    ("show", "7f3a", "--text"),
    ("ls", "--filter", f'name == "{HOSTILE[8:12]}'),
    ("show", HOSTILE[1:9]),
]


def skip_without_extras(arguments: tuple[str, ...]) -> None:
    if arguments[0] == "sql":
        pytest.importorskip("duckdb")


@pytest.mark.parametrize("arguments", PRINTING, ids=lambda arguments: " ".join(arguments[:3]).encode().hex()[:24])
def test_no_control_character_reaches_the_terminal(folder: Path, arguments: tuple[str, ...]) -> None:
    skip_without_extras(arguments)
    if any("\0" in argument for argument in arguments):
        pytest.skip("no argument holds a NUL")
    done = run(*arguments, cwd=folder)
    printed = done.stdout + done.stderr
    assert printed
    assert "Traceback" not in printed
    assert [c for c in printed if not c.isprintable() and c != "\n"] == []


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_reading_verbs_answer_in_json(folder: Path, arguments: tuple[str, ...]) -> None:
    skip_without_extras(arguments)
    done = run(*[each for each in arguments if each != "--once"], "--json", cwd=folder)
    assert done.stderr == ""
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout
    for document in done.stdout.splitlines() if arguments[0] == "tail" else [done.stdout]:
        json.loads(document)


@pytest.mark.parametrize("arguments", PRINTING, ids=lambda arguments: " ".join(arguments[:3]).encode().hex()[:24])
def test_eighty_columns_are_enough(folder: Path, arguments: tuple[str, ...]) -> None:
    skip_without_extras(arguments)
    terminal = Terminal(*arguments, cwd=folder)
    terminal.end()
    assert [line for line in terminal.lines if not all(c.isprintable() for c in line)] == []
    if arguments[0] not in ("doctor", "audit") and terminal.child.returncode == 0:  # those print paths and advice whole
        assert max(map(text_width, terminal.lines)) <= 80


def test_every_command_has_examples_of_options_it_has() -> None:
    assert {name for name in COMMANDS if name not in EXAMPLES} == set()
    assert EXAMPLES.keys() <= COMMANDS.keys()
    for name, lines in EXAMPLES.items():
        command = COMMANDS[name]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for line in lines:
            program, verb, *arguments = shlex.split(line)
            assert (program, verb) == ("spanbox", name)
            named = {each.partition("=")[0] for each in arguments if re.match(r"--?[A-Za-z]", each)}
            assert named <= known, line
        assert "Examples:\n" in command.get_help(typer.Context(command, info_name=name))


def test_help_fits_eighty_columns(folder: Path) -> None:
    for name in ("", *COMMANDS):
        done = run(*filter(None, (name,)), "--help", cwd=folder)
        assert done.returncode == 0
        too_long = [line for line in done.stdout.splitlines() if len(line) > 80 and not line.startswith("    ")]
        assert too_long == [], name


def test_shell_completes_ids_and_columns(folder: Path) -> None:
    def completed(*words: str) -> str:
        line = " ".join(("spanbox", *words))
        done = run(cwd=folder, _SPANBOX_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=line)
        return done.stdout

    assert TRACE_ID in completed("show", "7f")
    assert "\x1b" not in completed("show", "7f")
    assert TRACE_ID in completed("report", "--trace", "7f3")
    assert TRACE_ID not in completed("show", "8")
    assert "tenant" in completed("cost", "--by", "ten")
    assert completed("show", "--store", "nowhere", "7f").strip() in ("", "_files", "_arguments '*: :(())'")


# --- top -------------------------------------------------------------------------------------------------------------


def test_top_prints_one_look_in_a_pipe(folder: Path) -> None:
    lines = run("top", "--window", "1h", cwd=folder).stdout.splitlines()
    assert lines[0].startswith("last 1 h 00 m of ")
    assert "1 running" in lines[1]
    assert any(line.startswith("running: 1") for line in lines)
    assert any(line.startswith(TRACE_ID[:12]) for line in lines)
    seen = json.loads(run("top", "--window", "1h", "--json", cwd=folder).stdout)
    assert seen["models"][0]["calls"] == 1
    assert seen["slowest"][0]["trace_id"] == TRACE_ID
    assert seen["oldest_running"][0]["kind"] == "tool"


def test_top_says_that_nothing_is_there(tmp_path: Path) -> None:
    spanbox.open(tmp_path / ".spanbox", create=True)
    printed = run("top", cwd=tmp_path).stdout
    for part in ("no model calls in this time", "nothing is running", "no trace has ended in this time"):
        assert part in printed


@pytest.mark.parametrize("keys", [b"q", b"\x03"], ids=["q", "Ctrl-C"])
def test_top_watches_until_it_is_told_to_stop(folder: Path, keys: bytes) -> None:
    terminal = Terminal("top", "--window", "1h", cwd=folder)
    terminal.read_until(b"q quits")
    if keys == b"\x03":
        terminal.child.send_signal(signal.SIGINT)
    else:
        terminal.type(b"x" + keys)
    assert terminal.end() == 0
    assert b"Traceback" not in terminal.written
    frame: dict[str, Any] = {"lines": [line for line in terminal.lines if line.strip()]}
    assert max(map(text_width, frame["lines"])) <= 80
    assert b"\x1b[?1049h" in terminal.written, "the screen is its own"
    assert terminal.written.rstrip().endswith((b"\x1b[?1049l", b"\x1b[?25h")), "and is given back"
