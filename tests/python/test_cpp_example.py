"""A C++ program continues the trace of the Python span that starts it: one tree in one store."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import spanbox
from spanbox import Trace

ROOT = Path(__file__).parents[2]
PASSAGES = "refunds take five days\nthe refund policy is on page two\nwe ship on mondays\n"


@pytest.fixture
def rank_passages() -> Path:
    build = Path(os.environ.get("SPANBOX_CPP_BUILD") or ROOT / "build" / "release")
    program = build / "examples" / "cpp" / "rank_passages"
    if not program.exists():
        pytest.skip("the C++ example is not built: make test-cpp")
    return program


def tree(trace: Trace) -> str:
    return "\n".join(f"{'  ' * span.depth}{span.name} [{span.kind}] {span.status}" for span in trace)


def test_spans_of_a_cpp_program_are_children_of_the_python_span(recorded: object, rank_passages: Path) -> None:
    with spanbox.span("answer", kind="agent"):
        done = subprocess.run(
            [rank_passages, "where is the refund policy"],
            env=spanbox.environ(),
            input=PASSAGES,
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == "the refund policy is on page two\n"
    box = spanbox.open(recorded.path)  # type: ignore[attr-defined]
    [trace_id] = {row["trace_id"] for row in box.spans().columns("trace_id").to_arrow().to_pylist()}
    trace = box.trace(trace_id)
    assert tree(trace) == "\n".join(
        [
            "answer [agent] ok",
            "  rank_passages [reranker] ok",
            "    score [span] ok",
            "    score [span] ok",
            "    score [span] ok",
        ]
    )
    rank = trace[1]
    assert rank.input == "where is the refund policy"
    assert rank.output == "the refund policy is on page two"
    assert [span.as_dict()["shared_words"] for span in trace[2:]] == [0, 4, 0]


def test_cpp_program_on_its_own_begins_a_trace(tmp_path: Path, rank_passages: Path) -> None:
    environment = {**os.environ, "SPANBOX_DIR": str(tmp_path / "store"), "TRACEPARENT": "not a traceparent"}
    subprocess.run(
        [rank_passages, "refund"], env=environment, input=PASSAGES, text=True, capture_output=True, check=True
    )
    roots = spanbox.open(tmp_path / "store").spans("parent_id == none").columns("name").to_arrow().to_pylist()
    assert roots == [{"name": "rank_passages"}]
