"""Published latency figures come out of the store as they were published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from spanbox import Box

pytestmark = pytest.mark.realdata

QUANTILES = {"p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99}
COLUMNS = {"ttft_ns": "ttft_s", "tpot_ns": "inter_token_latency_s", "duration_ns": "end_to_end_latency_s"}
TOLERANCE_S = 5e-5
RUNS = (
    "anyscale_13b", "anyscale_7b", "bedrock_70b", "fireworks_70b", "fireworks_7b", "lepton_13b", "lepton_70b",
    "perplexity_70b", "replicate_13b", "replicate_70b", "together_13b", "together_7b",
)  # fmt: skip


@pytest.fixture(scope="module")
def latency(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Box:
    import spanbox

    box = spanbox.open(tmp_path_factory.mktemp("latency") / "store", create=True)
    for name in RUNS:
        box.import_file(data / "latency" / "llmperf" / f"{name}.individual.json")
    return box


def test_every_published_run_is_tested(data: Path) -> None:
    found = {path.name.split(".")[0] for path in (data / "latency" / "llmperf").glob("*.individual.json")}
    assert found == set(RUNS)


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("name", RUNS)
def test_quantiles_equal_the_published_ones(latency: Box, data: Path, name: str, column: str) -> None:
    summary = json.loads((data / "latency" / "llmperf" / f"{name}.summary.json").read_text())
    published = [summary[f"results_{COLUMNS[column]}_quantiles_{q}"] for q in QUANTILES]
    spans = latency.spans(f'source_file == "{name}.individual.json" and status == ok')
    exact = spans.quantile(column, list(QUANTILES.values()), exact=True)
    assert exact.count == summary["results_num_completed_requests"]
    assert [v / 1e9 for v in exact.values()] == pytest.approx(published, abs=TOLERANCE_S, rel=0)
    values = sorted(spans.columns(column).to_arrow()[column].to_pylist())
    sketch = spans.quantile(column, list(QUANTILES.values()))
    assert 0 < sketch.relative_error <= 0.01
    for q, estimate in sketch.items():  # the sketch answers with a value of the data: between the two closest ranks
        below, above = values[int(q * (len(values) - 1))], values[min(len(values) - 1, int(q * (len(values) - 1)) + 1)]
        assert below * 0.99 <= estimate <= above * 1.01


@pytest.mark.parametrize("name", RUNS)
def test_failures_equal_the_published_ones(latency: Box, data: Path, name: str) -> None:
    summary = json.loads((data / "latency" / "llmperf" / f"{name}.summary.json").read_text())
    [row] = (
        latency.spans(f'source_file == "{name}.individual.json"')
        .by("provider")
        .agg(n="count()", failed="rate(status == error)")
    )
    assert row["provider"] == summary["framework"]
    assert row["failed"] * row["n"] == pytest.approx(summary["results_number_errors"])


def test_vllm_replay_keeps_first_chunk_and_total(box: Box, data: Path) -> None:
    path = data / "latency" / "vllm_burstgpt_replay" / "scale100.jsonl.gz"
    report = box.import_file(path)
    assert (report.format, report.spans, report.added) == ("vllm-replay", 500, 500)
    first = next(iter(box.spans("event_id == 0").columns("ttft_ns", "duration_ns", "input_tokens", "out_len")))
    assert first == {"ttft_ns": 32_317_415, "duration_ns": 32_620_635, "input_tokens": 476, "out_len": 409}
    assert box.import_file(path).added == 0
