"""spanbox audit finds a value wherever in the store it stands, and tells nobody what it is."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox import _audit

CANARY = "grünes-Känguru/4711"
OTHER = "never-recorded-value"


def test_values_are_found_in_every_form_and_place(recorded: Any) -> None:
    @spanbox.observe
    def call(text: str) -> object:
        spanbox.score("seen", explanation=f"it was {CANARY}")
        return {"header": base64.b64encode(b"x:" + CANARY.encode()).decode(), "long": "y" * 70_000 + CANARY}

    call(f"say {CANARY}")
    spanbox.flush(10)
    found = _audit.audit(recorded.box, [OTHER, CANARY])
    assert {hit.canary for hit in found.hits} == {2}
    assert {hit.form for hit in found.hits} >= {"as it is", "in base64"}
    places = {hit.place.split()[0] for hit in found.hits}
    assert places >= {"span", "score", "blob"}
    assert (found.spans, found.scores, found.blobs) == (1, 1, 1)
    assert CANARY not in str(found)


def test_ring_of_a_process_that_has_not_flushed_is_looked_at(recorded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with spanbox.span("open") as span:
        span.set(note=CANARY)
        hits = [hit for path in recorded.path.rglob("*") if path.is_file()
                for hit in _audit._Hunt([CANARY]).in_file(path, path.name)]  # fmt: skip
    assert hits


def test_value_across_two_chunks_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_audit, "_CHUNK_BYTES", 64)
    for place in range(40, 70):
        (tmp_path / "file").write_bytes(b"." * place + CANARY.encode() + b"." * 100)
        assert list(_audit._Hunt([CANARY]).in_file(tmp_path / "file", "file")), place


def test_canaries_that_say_nothing_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "canaries"
    file.write_text("\n\n")
    with pytest.raises(ValueError, match="no values"):
        _audit.read_canaries(file)
    file.write_text("long enough\nabc\n")
    with pytest.raises(ValueError, match="line 2"):
        _audit.read_canaries(file)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "spanbox", *arguments], capture_output=True, text=True, timeout=120)


def test_command_exits_with_1_when_a_value_is_there(recorded: Any, tmp_path: Path) -> None:
    pytest.importorskip("typer", reason="the command line needs typer")
    with spanbox.span("s") as span:
        span.output = CANARY
    spanbox.flush(10)
    file = tmp_path / "canaries"
    file.write_text(f"{OTHER}\n{CANARY}\n", encoding="utf-8")
    ended = run("audit", "--canary", str(file), "--store", str(recorded.path), "--json")
    assert ended.returncode == 1, ended.stderr
    assert {hit["canary"] for hit in json.loads(ended.stdout)["hits"]} == {2}
    file.write_text(OTHER, encoding="utf-8")
    ended = run("audit", "--canary", str(file), "--store", str(recorded.path))
    assert ended.returncode == 0, ended.stderr
    assert "0 places found" in ended.stdout


def test_command_redact_shows_what_would_be_stored() -> None:
    pytest.importorskip("typer", reason="the command line needs typer")
    ended = run("redact", "mail ann@example.com", "--json")
    assert json.loads(ended.stdout) == {
        "text": "mail [redacted:email_address]",
        "found": [{"entity": "email_address", "start": 5, "end": 20}],
    }
