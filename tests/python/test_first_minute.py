"""What a newcomer does first: the ten lines of README, its commands, the demo, and what the demo says to try next."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import spanbox

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")

pytest.importorskip("typer")


def environment(bin_folder: Path) -> dict[str, str]:
    """One in which `spanbox` is the command of this interpreter."""
    script = bin_folder / "spanbox"
    bin_folder.mkdir(exist_ok=True)
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m spanbox "$@"\n')
    script.chmod(0o755)
    inherited = {k: v for k, v in os.environ.items() if k not in ("SPANBOX_DIR", "OPENAI_BASE_URL")}
    path = f"{bin_folder}{os.pathsep}{inherited.get('PATH', '')}"
    return {**inherited, "PATH": path, "COLUMNS": "80", "PYTHONUTF8": "1", "VIRTUAL_ENV": sys.prefix}


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, shell=True, cwd=cwd, env=environment(cwd / "bin"), capture_output=True, encoding="utf-8", timeout=300,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def block(language: str, containing: str) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    [found] = [each for each in blocks if containing in each]
    return str(found)


def commands() -> list[str]:
    lines = [line.partition("  #")[0].strip() for line in block("sh", "spanbox ls").splitlines()]
    return [line for line in lines if line]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the ten lines have run, and a file is to import."""
    done = subprocess.run(
        [sys.executable, "-c", block("python", "@observe")], cwd=tmp_path, env=environment(tmp_path / "bin"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "gpt-5" in done.stdout
    line = {"start_ns": 1_700_000_000_000_000_000, "name": "elsewhere", "input": "refund policy"}
    (tmp_path / "runs.jsonl").write_text(json.dumps(line) + "\n")
    return tmp_path


def test_every_command_of_readme_works_after_its_ten_lines(folder: Path) -> None:
    listed = json.loads(shell("spanbox ls --json", folder).stdout)
    lines = commands()
    assert len(lines) >= 10
    for line in sorted(lines, key=lambda each: "import" not in each):  # what is imported is what grep finds
        command = line.replace("7f3a", listed[0]["trace_id"][:12])
        if command.startswith(("spanbox ui", "spanbox serve", "spanbox bench")):  # they stay, or take long
            continue
        if "top" in command:
            command += " --once"
        done = shell(command, folder)
        assert (done.returncode, done.stderr) == (0, ""), command
        assert done.stdout, command
    assert (folder / "report.html").stat().st_size > 1_000


def test_server_of_readme_starts_and_ends(folder: Path) -> None:
    pytest.importorskip("uvicorn")
    [line] = [each for each in commands() if each.startswith("spanbox serve")]
    command = [*shlex.split(line), "--port", "0"]
    with subprocess.Popen(
        command, cwd=folder, env=environment(folder / "bin"), stdout=subprocess.PIPE, encoding="utf-8"
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("serving ")
        assert "/v1/traces" in server.stdout.readline()
        server.send_signal(signal.SIGINT)
        assert server.wait(60) in (0, 130)


def test_demo_leads_to_the_slowest_trace_and_on(tmp_path: Path) -> None:
    done = shell("spanbox demo --requests 20", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    box = spanbox.open(tmp_path / ".spanbox")
    roots = box.spans("parent_id == none").columns("trace_id").order_by("duration_ns", descending=True).limit(1)
    [slowest] = [row["trace_id"] for row in roots]
    assert f"Slowest trace\ntrace {slowest}" in done.stdout
    next_lines = done.stdout.split("Try next\n")[1].splitlines()
    tried = [
        line.strip().split("   ")[0].partition("  ")[0] for line in next_lines if line.strip().startswith("spanbox")
    ]
    assert len(tried) >= 3
    for command in tried:
        if command.startswith("spanbox ui"):
            continue
        following = shell(command, tmp_path)
        assert (following.returncode, following.stderr) == (0, ""), command
    shown = next(command for command in tried if command.startswith("spanbox show"))
    assert shell(shown, tmp_path).stdout.startswith(f"trace {slowest}")


def test_make_demo_is_the_demo() -> None:
    assert "make demo" in block("sh", "make demo")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    [recipe] = re.findall(r"^demo:.*\n((?:\t.*\n)+)", makefile, flags=re.MULTILINE)
    assert "spanbox demo" in recipe
