"""Metrics of a store: each span counts once, whatever becomes of it; what is exposed is what the formats say."""

from __future__ import annotations

import math
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox._box import Box
from spanbox._dogstatsd import push
from spanbox._exposition import Family, Histogram, choose_format, render, upper_bound

NOW_NS = 1_790_000_000_000_000_000


def span(number: int, **what: Any) -> dict[str, Any]:
    return {
        "trace_id": f"{number:032x}",
        "span_id": f"{number:016x}",
        "name": "chat",
        "kind": "llm",
        "start_ns": NOW_NS + number,
        "duration_ns": 500_000_000,
        "model": "gpt-5",
        **what,
    }


def samples(box: Box, **options: Any) -> dict[str, float]:
    """Name with labels, to value."""
    text = render(box.metrics(**options).collect(), "text").decode()
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_counters_tell_spans_tokens_cost_and_errors(box: Box) -> None:
    box._store.append(
        [
            span(1, input_tokens=100, output_tokens=20, cost_usd=0.25, provider="openai"),
            span(2, input_tokens=50, cost_usd=0.5, provider="openai"),
            span(3, status="error", error_type="TimeoutError", kind="tool", model=None),
        ]
    )
    found = samples(box)
    assert found['spanbox_spans_total{kind="llm",provider="openai",model="gpt-5",status="ok"}'] == 2
    assert found['spanbox_spans_total{kind="tool",status="error"}'] == 1
    assert found['spanbox_errors_total{kind="tool",error_type="TimeoutError"}'] == 1
    assert found['spanbox_tokens_total{kind="llm",provider="openai",model="gpt-5",type="input"}'] == 150
    assert found['spanbox_tokens_total{kind="llm",provider="openai",model="gpt-5",type="output"}'] == 20
    assert found['spanbox_cost_usd_total{kind="llm",provider="openai",model="gpt-5"}'] == 0.75
    assert found['spanbox_priced_spans_total{kind="llm",provider="openai",model="gpt-5"}'] == 2
    assert not any(name.startswith("spanbox_cost_usd_total") and "tool" in name for name in found)


def test_scrapes_add_what_is_new_across_merges_restarts_and_retention(tmp_path: Path) -> None:
    name = 'spanbox_spans_total{kind="llm",model="gpt-5",status="ok"}'
    for number in range(40):
        box = spanbox.open(tmp_path / "store", create=True)
        box._store.append([span(2 * number + 1), span(2 * number + 2)])
        if number % 3 == 0:
            assert samples(box)[name] == 2 * (number + 1)
        if number % 7 == 0:
            box._store.merge()
    assert samples(box)[name] == 80
    box.retention(max_bytes=1)
    assert box.spans().count() == 0
    assert samples(box)[name] == 80
    box._store.append([span(1000)])
    assert samples(box)[name] == 81


def test_a_scrape_reads_only_what_has_come_since_the_last(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    from spanbox import _metrics

    asked: list[list[int]] = []
    read = _metrics._read

    def spy(store: Any, segments: Any, labels: Any) -> Any:
        asked.append([segment[1] for segment in segments])
        return read(store, segments, labels)

    monkeypatch.setattr(_metrics, "_read", spy)
    box._store.append([span(n) for n in range(1, 101)])
    box.metrics().collect()
    box._store.append([span(500)])
    box.metrics().collect()
    box.metrics().collect()
    assert asked == [[100], [1]]


def test_two_who_scrape_the_same_store_see_the_same_counters(box: Box) -> None:
    one, other = box.metrics(), box.metrics()
    box._store.append([span(1)])
    first = render(one.collect(), "text").decode()
    second = render(other.collect(), "text").decode()
    pick = re.compile(r"^spanbox_(?!metrics_collect).*$", re.MULTILINE)
    assert pick.findall(first) == pick.findall(second)


def test_what_sampling_dropped_is_counted(tmp_path: Path) -> None:
    script = """if True:
        import spanbox
        spanbox.configure({path!r}, sampling=spanbox.Sampling(0))
        for n in range(30):
            with spanbox.span("call", kind="llm") as s:
                s.set(model="m", input_tokens=10, cost_usd=0.5)
        spanbox.flush(30)
    """.format(path=str(tmp_path / "store"))
    subprocess.run([sys.executable, "-c", script], check=True)
    box = spanbox.open(tmp_path / "store")
    found = samples(box)
    assert box.info()["sampled_out_spans"] == 30
    assert found['spanbox_spans_total{kind="llm",model="m",status="ok"}'] == 30
    assert found['spanbox_tokens_total{kind="llm",model="m",type="input"}'] == 300
    assert found['spanbox_cost_usd_total{kind="llm",model="m"}'] == pytest.approx(15)
    assert found['spanbox_duration_seconds_count{kind="llm",model="m"}'] == 30
    assert found['spanbox_duration_seconds_bucket{kind="llm",model="m",le="+Inf"}'] == 30


def test_histograms_count_each_value_at_or_below_its_bounds(box: Box) -> None:
    durations_ns = [1, 999_999, 500_000_000, 500_000_001, 1_000_000_000, 3_700_000_000, 10**15]
    box._store.append([span(n + 1, duration_ns=value) for n, value in enumerate(durations_ns)])
    found = samples(box)
    bounds = {
        float(match[1]): value
        for name, value in found.items()
        if (match := re.fullmatch(r'spanbox_duration_seconds_bucket\{.*le="([^"]*)"\}', name))
    }
    assert bounds[0.5] == 3
    assert bounds[math.inf] == len(durations_ns)
    for bound, count in bounds.items():
        assert count == sum(value / 1e9 <= bound for value in durations_ns), bound
    assert found['spanbox_duration_seconds_sum{kind="llm",model="gpt-5"}'] == pytest.approx(sum(durations_ns) / 1e9)


def test_label_sets_beyond_the_limit_count_as_other(box: Box) -> None:
    box._store.append([span(n, model=f"m{n:03}", cost_usd=1.0) for n in range(1, 101)])
    found = samples(box, max_series=10)
    counts = {name: value for name, value in found.items() if name.startswith("spanbox_spans_total")}
    assert len(counts) == 11
    assert sum(counts.values()) == 100
    assert counts['spanbox_spans_total{kind="(other)",provider="(other)",model="(other)",status="ok"}'] == 90
    assert found["spanbox_metrics_folded_total"] == 90
    box._store.append([span(n, model=f"n{n:03}") for n in range(101, 111)])
    again = {
        name: value for name, value in samples(box, max_series=10).items() if name.startswith("spanbox_spans_total")
    }
    assert again.keys() == counts.keys()
    assert sum(again.values()) == 110


def test_label_values_cannot_leave_their_quotes(box: Box) -> None:
    hostile = 'x"} 1\nspanbox_fake_total 9\\'
    box._store.append([span(1, model=hostile), span(2, model="y" * 10_000)])
    text = render(box.metrics().collect(), "openmetrics").decode()
    assert not any(line.startswith("spanbox_fake") for line in text.splitlines())
    assert 'model="x\\"} 1\\nspanbox_fake_total 9\\\\"' in text
    assert max(map(len, text.splitlines())) < 1_000


def test_more_labels_are_those_that_sampling_keeps(box: Box) -> None:
    box._store.append([span(1, tenant="acme"), span(2, tenant="globex")])
    found = samples(box, labels=["tenant"])
    assert found['spanbox_spans_total{kind="llm",model="gpt-5",tenant="acme",status="ok"}'] == 1
    with pytest.raises(ValueError, match="'user_id' is none of tenant, feature, environment, name"):
        box.metrics(labels=["user_id"])


def test_scores_have_what_means_and_intervals_are_made_of(box: Box) -> None:
    box._store.append([span(1)])
    for value in (1.0, -2.0, True, "a label"):
        box.score("helpful", value, trace_id=f"{1:032x}", source="judge")
    found = samples(box)
    own = '{name="helpful",source="judge"}'
    assert found[f"spanbox_scores_total{own}"] == 4
    assert found[f"spanbox_score_values_total{own}"] == 3
    assert found[f"spanbox_score_sum{own}"] == 0
    assert found[f"spanbox_score_squares_total{own}"] == 6


def test_slowest_traces_of_the_last_hour_are_named(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spanbox._metrics.time.time_ns", lambda: NOW_NS + 10**12)
    box._store.append([span(n, duration_ns=n * 10**9) for n in range(1, 31)])
    box._store.append([span(99, duration_ns=10**12, start_ns=NOW_NS - 7_200 * 10**9)])  # ended long ago
    slow = {name: value for name, value in samples(box).items() if "slow_trace" in name}
    assert sorted(slow.values(), reverse=True) == list(range(30, 20, -1))
    assert slow[f'spanbox_slow_trace_seconds{{trace_id="{30:032x}",name="chat"}}'] == 30


def test_openmetrics_have_exemplars_and_an_end(box: Box) -> None:
    box._store.append([span(1), span(7, duration_ns=2_500_000_000, ttft_ns=300_000_000)])
    text = render(box.metrics().collect(), "openmetrics").decode()
    assert text.endswith("# EOF\n")
    assert "# TYPE spanbox_spans counter" in text
    marks = [line for line in text.splitlines() if line.startswith("spanbox_duration_seconds_bucket") and " # " in line]
    assert len(marks) == 1
    assert re.search(rf'le="2\.8[0-9]*"}} 2 # {{trace_id="{7:032x}",span_id="{7:016x}"}} 2\.5 \d+\.\d+$', marks[0])
    assert " # {" not in render(box.metrics().collect(), "text").decode()


def test_native_histograms_have_the_same_counts(box: Box) -> None:
    pytest.importorskip("google.protobuf", reason="reads back what we write; comes with the OpenTelemetry exporters")
    values = {-80: 1, -79: 4, -3: 2, 0: 5, 17: 1}
    family = Family("x_seconds", "histogram", "help")
    family.add((("model", "m"),), Histogram(15, 2.5, 2, values, range(-80, 81, 4)))
    metric = decode(render([family], "protobuf"))[0]["metric"][0]
    histogram = metric["histogram"]
    buckets, index, count = {}, 0, 0
    deltas = iter(histogram["positive_delta"])
    for offset, length in histogram["positive_span"]:
        index += offset
        for _ in range(length):
            count += next(deltas)
            buckets[index] = count
            index += 1
    assert buckets == values
    assert (histogram["schema"], histogram["zero_count"], histogram["sample_count"]) == (3, 2, 15)
    assert histogram["bucket"][-1] == (15, math.inf)


def decode(body: bytes) -> list[dict[str, Any]]:
    """Families of the delimited format, by the definition of io.prometheus.client."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="m.proto", package="m", syntax="proto3")

    def message(name_: str, /, **fields: tuple[int, str]) -> None:
        made = file.message_type.add(name=name_)
        for field, (number, type_) in fields.items():
            many, type_ = type_.startswith("*"), type_.lstrip("*")
            code = {"text": 9, "double": 1, "uint64": 4, "sint32": 17, "sint64": 18, "uint32": 13, "enum": 5}.get(type_)
            made.field.add(
                name=field,
                number=number,
                label=3 if many else 1,
                type=code or 11,
                type_name=None if code else f".m.{type_}",
            )

    message("Label", name=(1, "text"), value=(2, "text"))
    message("Span", offset=(1, "sint32"), length=(2, "uint32"))
    message("Bucket", cumulative_count=(1, "uint64"), upper_bound=(2, "double"))
    message(
        "Histogram",
        sample_count=(1, "uint64"),
        sample_sum=(2, "double"),
        bucket=(3, "*Bucket"),
        schema=(5, "sint32"),
        zero_threshold=(6, "double"),
        zero_count=(7, "uint64"),
        positive_span=(12, "*Span"),
        positive_delta=(13, "*sint64"),
    )
    message("Metric", label=(1, "*Label"), histogram=(7, "Histogram"))
    message("Family", name=(1, "text"), help=(2, "text"), type=(3, "enum"), metric=(4, "*Metric"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("m.Family"))
    families = []
    while body:
        size = shift = used = 0
        while True:
            byte = body[used]
            size |= (byte & 0x7F) << shift
            used, shift = used + 1, shift + 7
            if byte < 0x80:
                break
        family = kind.FromString(body[used : used + size])
        body = body[used + size :]
        metrics = [
            {
                "labels": {label.name: label.value for label in metric.label},
                "histogram": {
                    "sample_count": metric.histogram.sample_count,
                    "schema": metric.histogram.schema,
                    "zero_count": metric.histogram.zero_count,
                    "bucket": [(b.cumulative_count, b.upper_bound) for b in metric.histogram.bucket],
                    "positive_span": [(s.offset, s.length) for s in metric.histogram.positive_span],
                    "positive_delta": list(metric.histogram.positive_delta),
                },
            }
            for metric in family.metric
        ]
        families.append({"name": family.name, "metric": metrics})
    return families


@pytest.mark.parametrize("bucket", [-240, -81, -80, -1, 0, 1, 7, 8, 95])
def test_bounds_are_powers_of_two_to_the_eighth(bucket: int) -> None:
    assert upper_bound(bucket) == pytest.approx(2 ** (bucket / 8), rel=1e-15)


def test_the_format_is_the_one_a_scraper_prefers() -> None:
    assert choose_format("") == "text"
    assert choose_format("*/*") == "text"
    assert choose_format("application/openmetrics-text;version=1.0.0,text/plain;q=0.5") == "openmetrics"
    native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,*/*;q=0.1"
    assert choose_format(native) == "protobuf"


def test_textfile_is_replaced_as_a_whole(box: Box, tmp_path: Path, spanbox_cli: Callable[..., str]) -> None:
    box._store.append([span(1)])
    target = tmp_path / "collected" / "spanbox.prom"
    target.parent.mkdir()
    target.write_text("old")
    before = target.stat().st_ino
    spanbox_cli("metrics", "--store", box.path, "--textfile", target)
    assert target.stat().st_ino != before
    assert target.stat().st_mode & 0o777 == 0o644
    assert 'spanbox_spans_total{kind="llm",model="gpt-5",status="ok"} 1\n' in target.read_text()
    assert [path.name for path in target.parent.iterdir()] == ["spanbox.prom"]


@pytest.fixture
def spanbox_cli() -> Callable[..., str]:
    def run(*arguments: object) -> str:
        command = [sys.executable, "-m", "spanbox", *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    return run


def test_a_datadog_agent_gets_each_span_once(box: Box) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        agent.settimeout(30)
        address = f"127.0.0.1:{agent.getsockname()[1]}"
        box._store.append([span(n, model="a,b|c", cost_usd=0.5, output_tokens=3) for n in range(1, 5)])
        push(box, address)
        assert push(box, address) == 0
        lines = agent.recv(65_536).decode().splitlines()
    assert "spanbox.spans:4|c|#kind:llm,model:a_b_c,status:ok" in lines
    assert "spanbox.cost_usd:2|c|#kind:llm,model:a_b_c" in lines
    assert "spanbox.tokens:12|c|#kind:llm,model:a_b_c,type:output" in lines
    times = [line for line in lines if line.startswith("spanbox.duration_seconds")]
    assert len(times) == 1
    value, rate = re.fullmatch(r"spanbox\.duration_seconds:(.+)\|d\|@(.+)\|#.*", times[0]).groups()  # type: ignore[union-attr]
    assert float(value) == pytest.approx(0.5, rel=0.09)
    assert float(rate) == 0.25


def test_datagrams_fit_a_frame(box: Box) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        agent.settimeout(30)
        box._store.append([span(n, model=f"model-{n}") for n in range(1, 51)])
        left = push(box, f"127.0.0.1:{agent.getsockname()[1]}")
        while left > 0:
            datagram = agent.recv(65_536)
            assert len(datagram) <= 1432
            left -= len(datagram.splitlines())
    assert left == 0
