"""What is handed over as a table and taken in again is what it was: every value, with its type."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import spanbox
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spanbox import Box, _core

sys.path.insert(0, str(Path(__file__).parent))
from test_emitters import _as_json, told_by

START_NS = 1_767_225_600_000_000_000
LOOKS_LIKE_JSON = ['{"answer": 42}', "[1]", " [2] ", "{}", "[", "3", "true", "null", "", "nan", '"x"']
SCALARS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(LOOKS_LIKE_JSON),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 1, -1, 2**53, 2**53 + 1, -(2**53) - 1]),
    st.floats(),
    st.booleans(),
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=4), SCALARS, max_size=3)
NAMES = ("input", "output", "mixed", "top k", 'q"uo`te\\', "model", "cost_usd", "input_tokens", "flag")
SPANS = st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6), min_size=1, max_size=8)


def stored(path: Path, spans: list[dict[str, Any]]) -> Box:
    box = spanbox.open(path, create=True)
    box._store.append(
        [
            {"trace_id": f"{number + 1:032x}", "span_id": f"{number + 1:016x}", "start_ns": START_NS + number, **span}
            for number, span in enumerate(spans)
        ]
    )
    return box


def spans_of(box: Box) -> list[str]:
    rows = box.spans().columns("trace_id")
    return [json.dumps(span, sort_keys=True) for row in rows for span in box._store.trace(row["trace_id"])]


def by_arrow(box: Box, to: Box) -> None:
    to.ingest(box.spans())


def by_parquet(box: Box, to: Box) -> None:
    path = Path(box.path) / "spans.parquet"
    box.to_parquet(path)
    to.ingest(path)


WAYS: dict[str, Callable[[Box, Box], None]] = {"arrow": by_arrow, "parquet": by_parquet}


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spans=SPANS)
def test_what_is_handed_over_comes_back_as_it_was(tmp_path_factory: Any, way: str, spans: list[dict[str, Any]]) -> None:
    for span in spans:
        if span.get("input_tokens") != span.get("input_tokens"):  # pandas writes NaN for no value
            del span["input_tokens"]
    folder = tmp_path_factory.mktemp("stores")
    box, other = stored(folder / "a", spans), spanbox.open(folder / "b", create=True)
    WAYS[way](box, other)
    assert spans_of(other) == spans_of(box)


def test_the_column_of_types_is_there_when_it_is_needed(tmp_path: Path) -> None:
    uniform = stored(tmp_path / "uniform", [{"input": {"a": 1}, "n": 1}, {"input": "text", "n": 2}])
    assert "spanbox.types" not in pa.table(uniform.spans()).column_names
    spans = [{"input": {"a": 1}, "n": 1}, {"input": "[1]", "n": 2.5}, {"input": "x", "n": 2**53 + 1}]
    mixed = stored(tmp_path / "mixed", spans)
    table = pa.table(mixed.spans())
    assert table.column("spanbox.types").to_pylist() == [
        '{"n":"int"}', '{"input":"text"}', '{"n":9007199254740993}',
    ]  # fmt: skip
    assert pa.schema(mixed.spans()) == table.schema
    for frame in (mixed.spans().to_polars(), mixed.scan_polars().collect()):
        assert "spanbox.types" not in frame.columns
    assert "spanbox.types" not in mixed.spans().to_pandas().columns
    assert "spanbox.types" not in mixed.sql("select * from spans").to_arrow().column_names


def test_a_large_answer_comes_back_as_it_was(tmp_path: Path) -> None:
    """Read in slices, of which some have seen one type only."""
    box = spanbox.open(tmp_path / "a", create=True)
    many = 263_000
    box.ingest(pa.table({"start_ns": pa.array(range(many), pa.int64()), "n": pa.array([7] * many, pa.int64())}))
    box._store.append(
        [
            {"trace_id": "1" * 32, "span_id": f"{number + 1:016x}", "start_ns": many + number, "n": value}
            for number, value in enumerate(["x", 2.5, [1], "[1]", True])
        ]
    )
    other = spanbox.open(tmp_path / "b", create=True)
    by_parquet(box, other)
    for filter in ("n == 7", "n == 2.5", 'n == "x"', "n == true"):
        assert other.spans(filter).count() == box.spans(filter).count() > 0, filter
    assert other._store.trace("1" * 32) == box._store.trace("1" * 32)


@pytest.mark.parametrize("types", ["", "{", "[]", '{"n": 1}', '{"n": "text", "x": "int"}', '{"n": "float"}'])
def test_types_that_make_no_sense_change_nothing(tmp_path: Path, types: str) -> None:
    box = spanbox.open(tmp_path, create=True)
    box.ingest(pa.table({"start_ns": [1], "n": [5], "spanbox.types": [types]}))
    [row] = box.spans()
    assert row["n"] == 5
    assert "spanbox.types" not in row


@pytest.mark.parametrize("is_json", [True, False])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spans=st.lists(st.dictionaries(st.sampled_from(["a", "b"]), SCALARS, max_size=2), min_size=1, max_size=6))
def test_spans_of_one_batch_go_out_with_their_own_types(
    tmp_path_factory: Any, is_json: bool, spans: list[dict[str, Any]]
) -> None:
    """One answer's column had one type: a number was sent as text where another span of the batch had text there."""
    kinds = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}

    def value(content: Any) -> dict[str, Any]:
        return {kinds[type(content)]: str(content) if type(content) is int else content}

    request = {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": [
        {"traceId": "ab" * 16, "spanId": f"{number + 1:016x}", "name": "x", "kind": 3, "status": {},
         "startTimeUnixNano": str(START_NS), "endTimeUnixNano": str(START_NS + 5),
         "attributes": [{"key": key, "value": value(content)} for key, content in span.items()
                        if not (isinstance(content, float) and content - content != 0)]}
        for number, span in enumerate(spans)
    ]}]}]}  # fmt: skip
    box = spanbox.open(tmp_path_factory.mktemp("box"), create=True)
    box._store.receive_otlp(json.dumps(request).encode(), True)
    rows = box._store.scan("", None, None, [], None, "", False)
    encoded = _core.encode_otlp(rows, is_json, False)
    assert told_by(json.loads(encoded if is_json else _as_json(encoded))) == told_by(request)
