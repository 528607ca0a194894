"""What a program pays for: importing spanbox, recording and asking load what they need and no more (it is the modules
that are counted, no time: docs/architecture.md has what they take)."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import spanbox

RECORDING = {
    "_core", "_capture", "_context", "_hidden", "_imports", "_observe", "_paths", "_propagate", "_sampling",
}  # fmt: skip
RECORDED = {*RECORDING, "atexit"}
ASKED = {*RECORDED, "_box", "_cost_questions", "_document_questions", "itertools"}


def loaded_by(code: str, folder: Path) -> set[str]:
    """Modules that `code` loads into an interpreter that has nothing but itself, `spanbox.` left out of their names."""
    program = f"""
        import __future__, os, sys
        sys.path.append({str(Path(spanbox.__file__).parents[1])!r})
        before = set(sys.modules)
        {code}
        print(*sorted(set(sys.modules) - before), sep="\\n")
    """
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", textwrap.dedent(program)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    names = set(done.stdout.split())
    # pybind11 keeps its own registry under a name of this kind; it is no module of anyone's.
    return {name.removeprefix("spanbox.") for name in names if not name.startswith("pybind11_")} - {"spanbox"}


def test_importing_spanbox_loads_what_recording_needs(tmp_path: Path) -> None:
    """Two thirds of the time went into typing, pathlib and what they import."""
    assert loaded_by("import spanbox", tmp_path) == RECORDED


def test_a_span_loads_nothing_more(tmp_path: Path) -> None:
    code = "import spanbox; spanbox.span('x').__enter__().set(n=1).__exit__(None, None, None)"
    assert loaded_by(code, tmp_path) == RECORDED


def test_one_trace_is_answered_without_what_draws_or_aggregates(tmp_path: Path) -> None:
    with spanbox.span("root", text="plain") as span:
        trace_id = span.trace_id
    assert spanbox.flush()
    path = spanbox.health()["path"]
    code = f"import spanbox; trace = spanbox.open({path!r}).trace({trace_id!r}); assert trace[0].name == 'root'"
    assert loaded_by(code, tmp_path) == ASKED | {"_trace"}


def test_a_count_is_answered_without_what_draws_or_aggregates(tmp_path: Path) -> None:
    code = "import spanbox; assert spanbox.open('s', create=True).spans().count() == 0"
    assert loaded_by(code, tmp_path) == ASKED | {"_spans"}


def test_what_is_loaded_when_it_is_asked_for_has_one_identity(tmp_path: Path) -> None:
    code = "import spanbox; assert spanbox.Box is spanbox._box.Box and spanbox.cost is spanbox.cost"
    assert "typing" not in loaded_by("import spanbox; spanbox.Box", tmp_path)
    assert "cost" in loaded_by(code, tmp_path)
