"""The demo: the summary a newcomer sees, and the app and the model server behind it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import spanbox
from spanbox._render import text_width

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def agent() -> ModuleType:
    return load("support_agent")


@pytest.fixture(scope="module")
def server() -> ModuleType:
    return load("loopback_llm")


@pytest.fixture
def base_url(server: ModuleType) -> Iterator[str]:
    with server.serve(scale=0.001, seed=7) as url:
        yield url


def post(url: str, request: Any) -> bytes:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    with urllib.request.urlopen(urllib.request.Request(url + "/chat/completions", body)) as response:
        answer: bytes = response.read()
    return answer


def question(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "steady", "messages": [{"role": "user", "content": text}], **more}


def test_demo_prints_a_summary_within_80_columns(tmp_path: Path) -> None:
    pytest.importorskip("typer")
    environment = {k: v for k, v in os.environ.items() if k not in ("OPENAI_BASE_URL", "SPANBOX_DIR")}
    done = subprocess.run(
        [sys.executable, "-m", "spanbox", "demo", "--requests", "30"],
        cwd=tmp_path,
        env={**environment, "COLUMNS": "80"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(text_width, done.stdout.splitlines())) <= 80
    for part in (
        r"of 30 answered in",
        r"Slowest trace\ntrace [0-9a-f]{32}",
        "p99 ttft",
        "Failures, by kind",
        "Try next",
    ):
        assert re.search(part, done.stdout), part
    assert len(re.findall(r"^  .*spanbox'? (?:ls|show|grep|stats)\b", done.stdout, re.MULTILINE)) == 3
    box = spanbox.open(tmp_path / ".spanbox")
    assert box.spans("kind == agent").count() == 30
    assert box.spans("kind == llm and ttft > 0ms and input_tokens > 0").count() > 20
    assert box.spans("status == running or status == interrupted").count() == 0


def test_agent_leaves_whole_traces_with_its_tags(agent: ModuleType, recorded: Any, base_url: str) -> None:
    answered = agent.run(base_url=base_url, requests=40, threads=4, seed=3)
    spanbox.flush(10)
    box = recorded.box
    roots = box.spans("kind == agent")
    assert roots.count() == 40
    assert roots.by("status").agg(n="count()").column("n")[0] in (40 - answered, answered)
    assert (
        box.spans('kind == llm and prompt_name == "support" and tenant != none').count()
        == box.spans("kind == llm").count()
    )
    assert box.spans("cache_read_tokens > 0").count() > 0
    assert box.spans("kind == tool").count() > 5
    for row in roots.columns("trace_id"):
        trace = box.trace(row["trace_id"])
        kinds = [(span.depth, span.kind) for span in trace]
        assert kinds[:3] == [(0, "agent"), (1, "retriever"), (1, "llm")]
        if trace.status == "ok":
            assert kinds[-1] == (1, "guardrail")
            assert all(span.ttft_s is not None for span in trace if span.kind == "llm" and span.status == "ok")


def test_official_client_gives_the_same_spans(
    agent: ModuleType, recorded: Any, base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openai")
    monkeypatch.setenv("OPENAI_BASE_URL", base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    client = agent.make_client(base_url)
    assert type(client).__name__ == "OpenAIClient"
    agent.answer("Where is my order A1001?", client=client, model="steady", prompt_version="v4", user="u1")
    spans = recorded.spans()
    assert [(s["depth"], s["kind"]) for s in spans] == [
        (0, "agent"), (1, "retriever"), (1, "llm"), (1, "tool"), (1, "llm"), (1, "guardrail"),
    ]  # fmt: skip
    call = spans[2]["attributes"]
    assert call["output"]["tool_calls"][0]["function"] == {"name": "lookup_order", "arguments": '{"order_id": "A1001"}'}
    assert call["finish_reason"] == "tool_calls"
    assert call["input_tokens"] > 0


def test_server_answers_the_same_request_the_same_way(server: ModuleType) -> None:
    request = question("Do you ship to Norway?", messages=[
        {"role": "system", "content": "Context: We ship to Norway. We are nice. Socks are blue."},
        {"role": "user", "content": "Do you ship to Norway?"},
    ])  # fmt: skip
    answers = []
    for seed in (1, 1, 4):
        with server.serve(scale=0, seed=seed) as url:
            answers.append(json.loads(post(url, request))["choices"][0]["message"]["content"])
    assert answers[0] == answers[1] != answers[2]
    assert any("We ship to Norway." in answer for answer in answers)


def test_server_streams_chunks_and_ends_with_usage(server: ModuleType, base_url: str) -> None:
    lines = post(base_url, question("hello?", stream=True)).decode().split("\n\n")
    events = [line.removeprefix("data: ") for line in lines if line]
    assert events[-1] == "[DONE]"
    usage = json.loads(events[-2])["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    text = "".join(c["delta"].get("content") or "" for e in events[:-1] for c in json.loads(e)["choices"])
    assert server.count_tokens(text) == usage["completion_tokens"]


def test_server_counts_a_repeated_beginning_as_cached(base_url: str) -> None:
    long = question("word " * 200)
    first, second = (json.loads(post(base_url, long))["usage"]["prompt_tokens_details"] for _ in range(2))
    assert first == {"cached_tokens": 0}
    assert second == {"cached_tokens": 193}  # whole blocks of 64 words, and a colon


def test_server_fails_as_often_as_its_model_does(base_url: str) -> None:
    statuses, messages = [], set()
    for number in range(300):
        try:
            post(base_url, question(f"question {number}", model="gpt-5"))
            statuses.append(200)
        except urllib.error.HTTPError as error:
            statuses.append(error.code)
            messages.add(json.loads(error.read())["error"]["code"])
    failures = [status for status in statuses if status != 200]
    assert set(failures) == {429, 500}
    assert messages == {"rate_limit_exceeded", "server_error"}
    assert 10 <= len(failures) <= 40  # 8 % of 300


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"model": "m"}', b'{"model": "m", "messages": [1]}', b""])
def test_server_refuses_what_is_no_request(base_url: str, body: bytes) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(base_url, body)
    assert caught.value.code in (400, 413)
    caught.value.close()
