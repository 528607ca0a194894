"""Real agent runs keep their tree: every message and tool call is a span where it belongs."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from spanbox import Box, Trace

pytestmark = pytest.mark.realdata

TAU_BENCH = Path("agents") / "taubench_gpt4o_airline_dev.jsonl.gz"


def tree(trace: Trace) -> str:
    return "\n".join(f"{'  ' * span.depth}{span.name} [{span.kind}]" for span in trace)


def trace_of_file(box: Box, path: Path) -> Trace:
    box.import_file(path)
    [row] = box.spans(f'source_file == "{path.name}"').by("trace_id").agg(n="count()")
    return box.trace(row["trace_id"])


CALL = "call_llm mistral/mistral-small-latest [llm]"
ANY_AGENT = {
    "GOOGLE": f"""\
invoke_agent [any_agent] [agent]
{CALL}
execute_tool get_current_time [tool]
{CALL}
execute_tool write_file [tool]
{CALL}
execute_tool final_output [tool]""",
    "LANGCHAIN": f"""\
invoke_agent [any_agent] [agent]
  {CALL}
  execute_tool get_current_time [tool]
  {CALL}
  execute_tool write_file [tool]
  {CALL}
  {CALL}""",
    "OPENAI": f"""\
invoke_agent [any_agent] [agent]
  {CALL}
  execute_tool get_current_time [tool]
  {CALL}
  execute_tool write_file [tool]
  {CALL}""",
    "TINYAGENT": f"""\
invoke_agent [any_agent] [agent]
  {CALL}
  execute_tool get_current_time [tool]
  {CALL}
  execute_tool write_file [tool]
  {CALL}
  execute_tool final_answer [tool]
  {CALL}""",
}


@pytest.mark.parametrize("framework", ANY_AGENT)
def test_otel_dump_keeps_its_tree(box: Box, data: Path, framework: str) -> None:
    """Google's spans name parents that are not in the dump: they stand beside the root."""
    trace = trace_of_file(box, data / "otel_traces" / "any_agent" / f"{framework}_trace.json")
    assert tree(trace) == ANY_AGENT[framework]


def test_otel_dump_keeps_its_values(box: Box, data: Path) -> None:
    path = data / "otel_traces" / "any_agent" / "OPENAI_trace.json"
    trace = trace_of_file(box, path)
    raw = json.loads(path.read_text())["spans"]
    assert trace.id == f"{raw[0]['context']['trace_id']:032x}"
    assert trace.input_tokens == sum(s["attributes"].get("gen_ai.usage.input_tokens", 0) for s in raw)
    costs = [s["attributes"].get(f"gen_ai.usage.{half}_cost", 0) for s in raw for half in ("input", "output")]
    assert trace.cost_usd == pytest.approx(sum(costs))
    by_id = {f"{s['context']['span_id']:016x}": s for s in raw}
    for span in trace:
        given = by_id[span.span_id]
        assert (span.start_ns, span.duration_ns) == (given["start_time"], given["end_time"] - given["start_time"])
        assert span.attributes["semconv.keys"].get("output", "") in (*given["attributes"], "")
        if span.kind == "tool":
            assert span.input == given["attributes"]["gen_ai.tool.args"]
            assert span.attributes["tool_name"] == given["attributes"]["gen_ai.tool.name"]


def test_otel_attributes_come_out_of_the_store_as_they_went_in(box: Box, data: Path) -> None:
    from spanbox import semconv

    added = ("otel.", "resource.", "source_file")
    for path in sorted((data / "otel_traces" / "any_agent").glob("*.json")):
        trace = trace_of_file(box, path)
        raw = {f"{s['context']['span_id']:016x}": s["attributes"] for s in json.loads(path.read_text())["spans"]}
        for span in trace:
            restored = semconv.restore({k: v for k, v in span.as_dict().items() if not k.startswith(added)})
            assert restored == raw[span.span_id]


def test_tau_bench_messages_and_tool_calls_are_spans(box: Box, data: Path) -> None:
    path = data / TAU_BENCH
    report = box.import_file(path)
    with gzip.open(path, "rt") as file:
        runs = [json.loads(line) for line in file]
    messages = [m for run in runs for m in run["traj"]]
    calls = [call for m in messages for call in m.get("tool_calls") or []]
    expected = {
        "agent": len(runs),
        "llm": sum(m["role"] == "assistant" for m in messages),
        "span": sum(m["role"] == "user" for m in messages),
        "tool": len(calls),
    }
    counted = box.spans().by("kind").agg(n="count()")
    assert dict(zip(counted.column("kind"), counted.column("n"), strict=True)) == expected
    assert report.added == sum(expected.values())
    rewards = box.spans("kind == agent").by("reward").agg(n="count()")
    assert dict(zip(rewards.column("reward"), rewards.column("n"), strict=True)) == {
        reward: sum(run["reward"] == reward for run in runs) for reward in {run["reward"] for run in runs}
    }


def test_tau_bench_tool_spans_hang_under_the_call_that_asked(box: Box, data: Path) -> None:
    path = data / TAU_BENCH
    box.import_file(path)
    with gzip.open(path, "rt") as file:
        run: dict[str, Any] = json.loads(file.readline())
    [root] = box.spans(f"kind == agent and task_id == {run['task_id']} and trial == {run['trial']}").columns("trace_id")
    trace = box.trace(root["trace_id"])
    lines = [f"task {run['task_id']} [agent]"]
    for message in run["traj"]:
        if message["role"] == "user":
            lines.append("  user [span]")
        elif message["role"] == "assistant":
            lines.append("  chat [llm]")
            lines += [f"    {call['function']['name']} [tool]" for call in message.get("tool_calls") or []]
    assert tree(trace) == "\n".join(lines)
    answers = [m["content"] for m in run["traj"] if m["role"] == "tool"]
    assert [span.output for span in trace if span.kind == "tool"] == answers
    inputs = [len(span.input) for span in trace if span.kind == "llm"]
    assert inputs == [i for i, m in enumerate(run["traj"]) if m["role"] == "assistant"]  # the history so far


def test_swe_agent_steps_are_calls_with_their_commands(box: Box, data: Path) -> None:
    for path in sorted((data / "agents" / "swe_agent").glob("*.traj.gz")):
        raw = json.loads(gzip.decompress(path.read_bytes()))
        trace = trace_of_file(box, path)
        steps = raw.get("trajectory")
        if steps is None:  # a file of the history alone
            said = [m for m in raw["history"] if m["role"] == "assistant" and not m.get("is_demo")]
            steps = [{"action": m["action"], "response": m["content"]} for m in said]
        assert [s.output for s in trace if s.kind == "llm"] == [step["response"] for step in steps]
        tools = [s for s in trace if s.kind == "tool"]
        assert [s.input for s in tools] == [step["action"] for step in steps if step["action"].strip()]
        assert all(s.parent is not None and s.parent.kind == "llm" for s in tools)
        for span, step in zip(tools, [step for step in steps if step["action"].strip()], strict=True):
            if "execution_time" in step:
                assert span.duration_s == pytest.approx(float(step["execution_time"]), abs=1e-9)
            if "observation" in step:
                assert (span.output or "") == step["observation"]


def test_importing_again_adds_nothing(box: Box, data: Path) -> None:
    files = [data / TAU_BENCH, *sorted((data / "agents" / "swe_agent").iterdir())]
    files += sorted((data / "otel_traces" / "any_agent").iterdir())
    first = [box.import_file(path) for path in files]
    assert all(report.added == report.spans > 0 for report in first)
    count = box.spans().count()
    assert [box.import_file(path).added for path in files] == [0] * len(files)
    assert box.spans().count() == count


def test_request_traffic_keeps_arrivals_and_tokens(box: Box, data: Path) -> None:
    azure = box.import_file(data / "traffic" / "azure_llm_conv_2023.csv.gz")
    mooncake = box.import_file(data / "traffic" / "mooncake_conversation.jsonl.gz")
    assert (azure.format, azure.added) == ("azure", 19_366)
    assert (mooncake.format, mooncake.added) == ("mooncake", 12_031)
    first = next(iter(box.spans(f'source_file == "{azure.path.name}"').columns("start_ns", "input_tokens").limit(1)))
    assert first == {"start": 1_700_158_546_680_590_000, "input_tokens": 374}
    with gzip.open(azure.path, "rt") as file:
        rows = [line.strip().split(",") for line in file][1:]
    [total] = box.spans(f'source_file == "{azure.path.name}"').by("kind").agg(tokens="sum(output_tokens)")
    assert total["tokens"] == sum(int(row[2]) for row in rows)
    assert box.import_file(mooncake.path).added == 0


def test_request_rates_are_refused_with_the_reason(box: Box, data: Path) -> None:
    with pytest.raises(ValueError, match="ten minutes and not single requests"):
        box.import_file(data / "traffic" / "servegen_m_small_client_rates.csv.gz")


def model_calls(folder: Path) -> list[dict[str, Any]]:
    """Every answer of every run as a span whose input is all that was said before, as agents send it."""
    with gzip.open(folder / TAU_BENCH, "rt") as lines:
        runs = [json.loads(line)["traj"] for line in lines]
    runs.append([message for run in runs for message in run][:220])  # one of more than a hundred turns
    calls = []
    for number, run in enumerate(runs):
        for turn, message in enumerate(run):
            if message["role"] == "assistant":
                start_ns = 1_700_000_000_000_000_000 + number * 10**12 + turn * 10**9
                ids = {"trace_id": f"{number + 1:032x}", "span_id": f"{len(calls) + 1:016x}"}
                times = {"start_ns": start_ns, "duration_ns": 10**8}
                said = {"input": run[:turn], "output": message}
                calls.append({**ids, "name": "chat", "kind": "llm", "status": "ok", **times, **said})
    return calls


def test_history_that_agents_repeat_takes_a_twelfth_of_its_json_at_most(box: Box, data: Path) -> None:
    calls = model_calls(data)
    for begin in range(0, len(calls), 20):
        box._store.append(calls[begin : begin + 20])
    raw_bytes = len(json.dumps(calls))
    box.compact()
    info = box.info()
    assert (info["column_bytes"] + info["text_bytes"] + info["filter_bytes"]) * 12 < raw_bytes
    assert sorted(box.spans().to_arrow().to_pylist(), key=lambda span: span["span_id"])[-1]["input"] == json.dumps(
        calls[-1]["input"], separators=(",", ":"), ensure_ascii=False
    )


def naive_totals(spans: list[dict[str, Any]]) -> tuple[int, int, float | None, int | None]:
    """Model calls, errors, cost and input tokens by the rules of docs/traces.md, looked up one by one."""
    children: dict[str, list[dict[str, Any]]] = {}
    for span in spans:
        children.setdefault(span["parent_id"] or "", []).append(span)

    def below(span: dict[str, Any]) -> list[dict[str, Any]]:
        direct = children.get(span["span_id"], [])
        return [s for child in direct for s in (child, *below(child))]

    def lowest(calls: list[dict[str, Any]], tells: Any) -> list[dict[str, Any]]:
        return [c for c in calls if tells(c) and not any(s in calls and tells(s) for s in below(c))]

    calls = [s for s in spans if s["kind"] in ("llm", "embedding")]
    costs = [c["cost_usd"] for c in lowest(calls, lambda c: "cost_usd" in c)]
    tokens = [c["input_tokens"] for c in lowest(calls, lambda c: "input_tokens" in c)]
    failed = [s for s in spans if s["status"] == "error"]
    first = [s for s in failed if not any(c in failed for c in children.get(s["span_id"], []))]
    return (
        len(lowest(calls, lambda _: True)),
        len(first),
        sum(costs) if costs else None,
        sum(tokens) if tokens else None,
    )


def naive_self_ns(span: Any) -> int | None:
    if span.duration_ns is None:
        return None
    edges = sorted({span.start_ns, span.start_ns + span.duration_ns})
    times = [(max(c.start_ns, edges[0]), min(c.start_ns + (c.duration_ns or 0), edges[-1])) for c in span.children]
    points = sorted({*edges, *(t for time in times for t in time if edges[0] <= t <= edges[-1])})
    covered = sum(b - a for a, b in itertools.pairwise(points) if any(x <= a and b <= y for x, y in times if x < y))
    return int(span.duration_ns - covered)


REAL = [
    *(Path("otel_traces") / "any_agent" / f"{framework}_trace.json" for framework in ANY_AGENT),
    TAU_BENCH,
]


@pytest.mark.parametrize("file", REAL, ids=lambda file: file.stem)
def test_totals_and_times_of_real_traces_are_those_of_a_plain_computation(box: Box, data: Path, file: Path) -> None:
    box.import_file(data / file)
    for row in box.spans().by("trace_id").agg(n="count()"):
        trace = box.trace(row["trace_id"])
        totals = trace.totals
        calls, errors, cost, tokens = naive_totals([span.as_dict() for span in trace])
        assert (totals.spans, totals.model_calls, totals.errors) == (row["n"], calls, errors)
        assert totals.cost_usd == (None if cost is None else pytest.approx(cost))
        assert totals.input_tokens == tokens
        assert [span.self_ns for span in trace] == [naive_self_ns(span) for span in trace]
        path = trace.critical_path()
        if trace.root.duration_ns is not None:
            assert path.duration_ns == trace.root.duration_ns
        assert sum(span.critical_ns for span in trace) == path.duration_ns
