"""A store for tests of the page: a week of a support agent's traffic in which deploy v7.3 made things worse.

`python tests/python/ui_store.py FOLDER` makes one that ends now. The same seed and end give the same store.
What is planted, all of it in traces of v7.3, which came DEPLOY_BEFORE_END_NS before the end:
retrieve.top_k is 40 instead of 8, so that prompts of gpt-5 are four times as long, its first token takes three times as
long, a call costs twice as much and answers are less faithful; and refund_lookup fails with HTTP 429 when asked often.
Besides: minutes in which nothing was recorded, a trace that is running, one whose process died, and hostile texts.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import spanbox
from spanbox import Box

SECOND = 1_000_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
DEPLOY_BEFORE_END_NS = 58 * MINUTE
BEFORE_LAST_DEPLOY_NS = 5 * HOUR  # v7.2 came then: nothing changed
GAP_BEFORE_END_NS = (212 * MINUTE, 200 * MINUTE)
BUSY_NS = 7 * HOUR  # at the end traffic is as dense as a page needs
PRICES = {"gpt-5": (1.25e-6, 10e-6), "claude-sonnet-4.5": (3e-6, 15e-6), "gpt-5-mini": (0.25e-6, 2e-6)}
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><svg/onload=alert(1)>",
    "javascript:alert(1)",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "__proto__",
    "constructor",
    "\u202egnp.exe",
    "\x1b[2J\x07",
    "a\u0000b",
    "![x](https://evil.example/?q=1)",
    '" or 1 == 1 or model == "',
    "../../etc/passwd",
    "\u2028\u2029",
)
QUESTIONS = (
    "Where is my refund for the blue jacket?",
    "Is a refund possible after 40 days?",
    "Cancel my subscription, please.",
    "I was charged twice and want one payment back.",
    "The shoes are too small: can I change them?",
    "Change the delivery address of my order.",
    "How long until the money is on my card?",
)
SYSTEM = "You are a shop's support agent. Answer from the documents given, and cite them. " * 4
Row = dict[str, Any]


@dataclass
class Made:
    """What was planted where."""

    end_ns: int
    deploy_ns: int
    traces: int = 0
    spans: int = 0
    scores: int = 0
    slow_trace: str = ""  # the slowest of v7.3
    failed_trace: str = ""  # refund_lookup failed three times, and it answered all the same
    running_trace: str = ""
    interrupted_trace: str = ""
    hostile_trace: str = ""
    session: str = ""
    gap_ns: tuple[int, int] = (0, 0)
    _slowest_ns: int = field(default=0, repr=False)


def fill(path: Path, *, end_ns: int | None = None, seed: int = 7, per_hour: int = 420, days: int = 7) -> Made:
    """Makes the store; `per_hour` traces at its busy end, a twentieth of it before."""
    end_ns = time.time_ns() if end_ns is None else end_ns
    box = spanbox.open(path, create=True)
    made = Made(end_ns=end_ns, deploy_ns=end_ns - DEPLOY_BEFORE_END_NS)
    made.gap_ns = (end_ns - GAP_BEFORE_END_NS[0], end_ns - GAP_BEFORE_END_NS[1])
    random_ = random.Random(seed)
    rows: list[Row] = []
    scores: list[Row] = []
    for number, start_ns in enumerate(_arrivals(random_, end_ns, per_hour, days)):
        trace = _Trace(random_, number, start_ns, v73=start_ns >= made.deploy_ns, end_ns=end_ns)
        trace.answer()
        rows += trace.rows
        scores += trace.scores
        _remember(made, trace)
        if len(rows) > 20_000:
            _store(box, made, rows, scores)
    _special(made, random_, rows)
    _store(box, made, rows, scores)
    while box._store.merge():
        pass
    return made


def _arrivals(random_: random.Random, end_ns: int, per_hour: int, days: int) -> Iterator[int]:
    gap = (end_ns - GAP_BEFORE_END_NS[0], end_ns - GAP_BEFORE_END_NS[1])
    at = end_ns - days * DAY
    while True:
        rate = per_hour if at > end_ns - BUSY_NS else per_hour / 20
        at += int(random_.expovariate(rate / HOUR))
        if at >= end_ns - 30 * SECOND:
            return
        if not gap[0] - MINUTE <= at < gap[1]:
            yield at


def _store(box: Box, made: Made, rows: list[Row], scores: list[Row]) -> None:
    made.traces += len({row["trace_id"] for row in rows})
    made.spans += box._store.append(rows)
    made.scores += box.add_scores(scores)
    rows.clear()
    scores.clear()


def _remember(made: Made, trace: _Trace) -> None:
    duration_ns = trace.rows[0]["duration_ns"]
    if trace.v73 and trace.feature == "chat":
        if duration_ns > made._slowest_ns:
            made._slowest_ns, made.slow_trace = duration_ns, trace.trace_id
        if trace.failed_lookups == 3:
            made.failed_trace, made.session = trace.trace_id, trace.tags["session_id"]


def damaged_copy(box: Box, folder: Path) -> Box:
    """The same store, but for bytes in the columns of one of its segments."""
    info = box.info()
    file = bytearray((box.path / "data.mdb").read_bytes())
    begins = [found.start() for found in re.finditer(b"SPSG", file)]
    size = info["column_bytes"] // info["segments"]
    begin = sorted(begins)[len(begins) // 2]
    for at in range(begin + size // 2, begin + size * 3 // 4, 16):
        file[at] ^= 0x5A
    folder.mkdir()
    (folder / "data.mdb").write_bytes(file)
    return spanbox.open(folder)


class _Trace:
    """One request, from its root's start on; times are laid out one after the other."""

    def __init__(self, random_: random.Random, number: int, start_ns: int, *, v73: bool, end_ns: int) -> None:
        self.random, self.v73, self.start_ns, self.at_ns = random_, v73, start_ns, start_ns
        self.trace_id = f"{start_ns // 1_000_000:012x}{random_.getrandbits(80):020x}"
        self.rows: list[Row] = []
        self.scores: list[Row] = []
        self.failed_lookups = 0
        self.feature = random_.choices(("chat", "search", "summarise"), (5, 4, 1))[0]
        self.question = random_.choice(QUESTIONS)
        version = "v7.3" if v73 else "v7.2" if start_ns >= end_ns - BEFORE_LAST_DEPLOY_NS else "v7.1"
        self.tags = {
            "user_id": f"u_{random_.randrange(2_000):04d}",
            "session_id": f"s_{number // 3:05x}",
            "tenant": random_.choices(("acme", "globex", "initech", "umbrella"), (4, 3, 2, 1))[0],
            "feature": self.feature,
            "environment": "prod",
            "release": {"v7.1": "9c0d2aa", "v7.2": "41b7e00", "v7.3": "2f1c9ab"}[version],
            "prompt_name": "support-agent",
            "prompt_version": version,
        }

    def add(self, name: str, kind: str, duration_ns: float, parent: str | None, **values: Any) -> str:
        """A span that begins now, and moves now to its end when it has no children of its own."""
        span_id = f"{self.random.getrandbits(64) | 1:016x}"
        self.rows.append(
            {
                "trace_id": self.trace_id,
                "span_id": span_id,
                "parent_id": parent,
                "name": name,
                "kind": kind,
                "start_ns": self.at_ns,
                "duration_ns": int(duration_ns),
                **self.tags,
                **values,
            }
        )
        self.at_ns += int(duration_ns)
        return span_id

    def around(self, name: str, kind: str, parent: str | None, **values: Any) -> str:
        """A span whose end comes with close()."""
        return self.add(name, kind, 0, parent, **values)

    def close(self, span_id: str) -> None:
        row = next(row for row in self.rows if row["span_id"] == span_id)
        row["duration_ns"] = self.at_ns - row["start_ns"]

    def took(self, median_s: float, spread: float = 0.25) -> float:
        return median_s * self.random.lognormvariate(0, spread) * SECOND

    def answer(self) -> None:
        root = self.around("answer", "agent", None, agent_name="support", input={"question": self.question})
        if self.feature == "chat":
            self._chat(root)
        elif self.feature == "search":
            self._retrieve(root)
        else:
            self._llm("summarise", "claude-sonnet-4.5", root, tokens=(6_000, 220), ttft_s=0.6, tpot_s=0.013)
        self.close(root)
        self.rows[0]["output"] = self.rows[-1].get("output") or "done"
        if self.random.random() < 0.002:
            self.rows[0] |= {"status": "error", "error_type": "json_parse", "error_message": "no JSON in the answer"}
        if self.feature == "chat":
            self._judge()

    def _chat(self, root: str) -> None:
        self.add("guardrail.input", "guardrail", self.took(0.12), root, output={"allowed": True})
        documents = self._retrieve(root)
        self._llm("plan", "gpt-5-mini", root, tokens=(1_900, 60), ttft_s=0.31, tpot_s=0.0068)
        tools = self.around("tools", "chain", root)
        self.add(
            "order_lookup",
            "tool",
            self.took(0.28),
            tools,
            tool_name="order_lookup",
            input={"order_id": 88_213},
            output={"status": "returned", "amount": 64.9},
        )
        self._refund(tools)
        self.close(tools)
        model = self.random.choices(("gpt-5", "claude-sonnet-4.5"), (3, 2))[0]
        slower = 3.0 if self.v73 and model == "gpt-5" else 1.0
        tokens = (18_000 if self.v73 else 4_400, 210)
        self._llm("generate", model, root, tokens=tokens, ttft_s=0.75 * slower, tpot_s=0.017, documents=documents)

    def _retrieve(self, root: str) -> list[Row]:
        top_k = 40 if self.v73 else 8
        retrieve = self.around("retrieve", "retriever", root, input=self.question, **{"retrieve.top_k": top_k})
        self.add(
            "embed.query",
            "embedding",
            self.took(0.06),
            retrieve,
            model="text-embedding-3-small",
            input_tokens=12,
            cost_usd=2.4e-7,
        )
        self.add("vector.search", "retriever", self.took(0.19), retrieve)
        self.add("rerank", "reranker", self.took(0.14), retrieve)
        self.close(retrieve)
        documents = [
            {
                "id": f"doc-{i}",
                "title": f"refund-policy-{2026 - i}.md",
                "score": round(0.91 * 0.7**i, 3),
                "content": f"Refunds of kind {i} are issued within {14 + i} days of arrival at the store.",
            }
            for i in range(min(top_k, 12))
        ]
        row = next(row for row in self.rows if row["span_id"] == retrieve)
        row["gen_ai.retrieval.documents"] = row["output"] = documents
        return documents

    def _refund(self, parent: str) -> None:
        tries = 1
        fails = 0.15 if self.v73 else 0.008
        while True:
            failed = self.random.random() < (fails if tries == 1 else 0.7)
            values: Row = {"tool_name": "refund_lookup", "attempt": tries, "input": {"order_id": 88_213}}
            if failed:
                self.failed_lookups += 1
                values |= {
                    "status": "error",
                    "error_type": "http_429",
                    "error_message": "HTTP 429 Too Many Requests: 20/min",
                }
            else:
                values["output"] = {"refund": "issued"}
            self.add("refund_lookup", "tool", self.took(0.53), parent, **values)
            if not failed or tries == 3:
                return
            tries += 1
            self.at_ns += int(0.5 * SECOND)  # back-off

    def _llm(
        self,
        name: str,
        model: str,
        parent: str,
        *,
        tokens: tuple[int, int],
        ttft_s: float,
        tpot_s: float,
        documents: list[Row] | None = None,
    ) -> None:
        sent, got = (max(2, round(n * self.random.lognormvariate(0, 0.15))) for n in tokens)
        ttft_ns = self.took(ttft_s, 0.3)
        tpot_ns = self.took(tpot_s, 0.12)
        gaps_us = [max(1, round(tpot_ns / 1e3 * self.random.expovariate(1))) for _ in range(min(got - 1, 40))]
        context = "\n".join(d["content"] for d in documents or ())
        said = "Your return has arrived. Refunds of kind 0 are issued within 14 days of arrival at the store."
        price_in, price_out = PRICES[model]
        self.add(
            name,
            "llm",
            ttft_ns + tpot_ns * (got - 1),
            parent,
            provider="anthropic" if model.startswith("claude") else "openai",
            model=model,
            model_request=model,
            operation="chat",
            ttft_ns=int(ttft_ns),
            tpot_ns=int(tpot_ns),
            input_tokens=sent,
            output_tokens=got,
            cache_read_tokens=min(1_536, sent // 2),
            cost_usd=sent * price_in + got * price_out,
            cost_source="recorded",
            finish_reason="stop",
            chunks=len(gaps_us) + 1,
            chunk_deltas_us=[round(ttft_ns / 1e3), *gaps_us],
            longest_stall_ns=max(gaps_us, default=0) * 1_000,
            input=[
                {"role": "system", "parts": [{"type": "text", "content": SYSTEM}]},
                {"role": "user", "parts": [{"type": "text", "content": f"{context}\n\n{self.question}"}]},
            ],
            output=[{"role": "assistant", "parts": [{"type": "text", "content": said}], "finish_reason": "stop"}],
        )

    def _judge(self) -> None:
        if self.random.random() < (0.5 if self.v73 else 0.2):
            mean = 0.78 if self.v73 else 0.91
            value = min(1.0, max(0.0, self.random.gauss(mean, 0.09)))
            self._score(
                "faithfulness",
                round(value, 3),
                source="judge",
                evaluator="judge",
                version="v3",
                explanation="every claim is in a document" if value > 0.7 else "one of two claims is in no document",
            )
        self._score("json_valid", self.random.random() < 0.995, source="rule", evaluator="rules", version="1")
        if self.random.random() < 0.1:
            self._score("helpful", self.random.random() < 0.74, source="feedback")

    def _score(self, name: str, value: float, **what: Any) -> None:
        at_ns = self.at_ns + SECOND
        self.scores.append({"name": name, "value": value, "trace_id": self.trace_id, "at_ns": at_ns, **what})


def _special(made: Made, random_: random.Random, rows: list[Row]) -> None:
    """One trace that runs, one whose process died, one of hostile texts."""
    for status, ago_s in (("running", 20), ("interrupted", 1_500)):
        trace = _Trace(random_, 0, made.end_ns - ago_s * SECOND, v73=True, end_ns=made.end_ns)
        trace.feature = trace.tags["feature"] = "chat"
        root = trace.around("answer", "agent", None, input={"question": trace.question}, status=status)
        trace.add("generate", "llm", 0, root, status=status, model="gpt-5", input="a long prompt")
        for row in trace.rows:
            del row["duration_ns"]
        rows += trace.rows
        setattr(made, f"{status}_trace", trace.trace_id)
    trace = _Trace(random_, 0, made.end_ns - 40 * MINUTE, v73=True, end_ns=made.end_ns)
    made.hostile_trace = trace.trace_id
    root = trace.around(HOSTILE[0], "agent", None, input=list(HOSTILE), output={each: each for each in HOSTILE})
    for number, text in enumerate(HOSTILE):
        columns = ("model", "provider", "error_type", "error_message", "tool_name", "user_id", "tenant", "release")
        hostile = {column: text.replace("\x00", "") for column in columns}
        message = [{"role": text, "parts": [{"type": "text", "content": text}, {"type": text, text: text}]}]
        trace.add(
            text.replace("\x00", ""),
            "tool" if number % 2 else "llm",
            SECOND / 50,
            root,
            input=message,
            output=json.dumps({text: text}),
            **(trace.tags | hostile),
            **{f"x.{number}": text, text.replace("\x00", "") or "x": text},
        )
    trace.close(root)
    rows += trace.rows


if __name__ == "__main__":
    print(fill(Path(sys.argv[1])))
