"""A chat server on the loopback interface that OpenAI's and Anthropic's clients talk to: answers at the pace of real
models, costs nothing.

    with serve(scale=0.5, seed=7) as base_url:      # http://127.0.0.1:PORT/v1
        ...point any OpenAI client at it, or an Anthropic client at base_url without /v1...

It answers POST /v1/chat/completions and /v1/messages from the context it is given, streamed as server-sent events or at
once, with usage that counts cached tokens, tool calls when a question names an order and the tool for it is offered
(chat/completions only), and now and then a 429, a 500 or a refusal. What it answers, and how fast, depends on the seed
and the request alone, not on whether it is streamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_MAX_REQUEST_BYTES = 4 << 20
_TOKENS_A_CHUNK = 4
_CACHE_BLOCK_TOKENS = 64


@dataclass(frozen=True)
class Pace:
    """How a model behaves: medians and spreads of lognormal distributions, and how often it fails."""

    ttft_s: float
    ttft_sigma: float
    token_s: float
    token_sigma: float
    failure_rate: float = 0.04


PACES = {
    "gpt-5": Pace(0.90, 0.45, 0.018, 0.25, failure_rate=0.08),
    "gpt-5-mini": Pace(0.42, 0.35, 0.009, 0.20),
    "mistral-small-latest": Pace(0.26, 0.55, 0.007, 0.30),
}
_DEFAULT_PACE = Pace(0.5, 0.4, 0.012, 0.25)


@dataclass(frozen=True)
class Reply:
    """What the model says, decided before the first byte is sent."""

    text: str
    finish_reason: str
    tool_call: dict[str, Any] | None = None


def count_tokens(text: str) -> int:
    """Words and punctuation, near enough to a tokenizer for a server that bills nobody."""
    return len(re.findall(r"\w{1,6}|[^\w\s]", text))


def compose(request: dict[str, Any], rng: random.Random) -> Reply:
    """The answer: a tool call, a refusal, or the sentences of the context that share words with the question."""
    messages = request["messages"]
    question = next((str(m["content"]) for m in reversed(messages) if m["role"] == "user"), "")
    tool_results = [str(m["content"]) for m in messages if m["role"] == "tool"]
    order = re.search(r"\b[A-Z]\d{4}\b", question)
    if order and request.get("tools") and not tool_results:
        function = {"name": request["tools"][0]["function"]["name"], "arguments": json.dumps({"order_id": order[0]})}
        return Reply(
            "", "tool_calls", {"id": f"call_{rng.getrandbits(48):012x}", "type": "function", "function": function}
        )
    if rng.random() < 0.06:
        return Reply("I'm sorry, but I can't help with that request.", "content_filter")
    context = next((str(m["content"]) for m in messages if m["role"] == "system"), "")
    words = set(re.findall(r"[a-z]{4,}", question.lower()))
    sentences = re.split(r"(?<=[.!?])\s+", context.split("Context:", 1)[-1])
    ranked = sorted(sentences, key=lambda s: -len(words & set(re.findall(r"[a-z]{4,}", s.lower()))))
    parts = [f"I looked it up: {result}." for result in tool_results] + [s.strip() for s in ranked[: rng.randint(2, 4)]]
    return Reply(" ".join([rng.choice(("Thanks for asking.", "Happy to help.", "Of course.")), *parts]), "stop")


def _chat_messages(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Messages as OpenAI has them: Anthropic's system prompt is apart from them, and content may be blocks."""

    def text(content: Any) -> Any:
        return "".join(part.get("text", "") for part in content) if isinstance(content, list) else content

    system = [{"role": "system", "content": text(request["system"])}] if request.get("system") else []
    return system + [{**message, "content": text(message.get("content"))} for message in request["messages"]]


def _message(model: str, reply: Reply, usage: dict[str, Any]) -> dict[str, Any]:
    """As Anthropic answers; its input tokens leave out the cached ones."""
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return {
        "id": "msg_0",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": reply.text}],
        "stop_reason": "refusal" if reply.finish_reason == "content_filter" else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage["prompt_tokens"] - cached,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": 0,
            "output_tokens": usage["completion_tokens"],
        },
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        if self.path.partition("?")[0] not in ("/v1/chat/completions", "/v1/messages"):
            return self._error(404, "not_found", f"no such path: {self.path}")
        size = int(self.headers.get("Content-Length") or 0)
        if not 0 < size <= _MAX_REQUEST_BYTES:
            return self._error(413, "invalid_request_error", "the request is empty or too large")
        body = self.rfile.read(size)
        try:
            request = json.loads(body)
            model, messages = str(request["model"]), _chat_messages(request)
            prompt = "\n".join(f"{m['role']}: {m.get('content') or ''}" for m in messages)
        except (ValueError, KeyError, TypeError, AttributeError):
            return self._error(400, "invalid_request_error", "the request must be JSON with 'model' and 'messages'")
        attempt = int(self.headers.get("X-Attempt") or 0)  # so that a retry can succeed
        asked = {key: value for key, value in request.items() if key not in ("stream", "stream_options")}
        seed = f"{json.dumps(asked)}{self.server.seed} {attempt}"
        rng = random.Random(hashlib.blake2b(seed.encode()).digest())
        pace = PACES.get(model, _DEFAULT_PACE)
        draw = rng.random()
        if draw < pace.failure_rate and self.server.failures:
            time.sleep(0.05 * self.server.scale)
            if draw < 0.6 * pace.failure_rate:
                return self._error(
                    429, "rate_limit_exceeded", f"Rate limit reached for {model}: please try again later."
                )
            return self._error(500, "server_error", "The server had an error while processing your request.")
        anthropic = self.path.startswith("/v1/messages")
        reply = compose({**request, "messages": messages, "tools": None if anthropic else request.get("tools")}, rng)
        usage = self._usage(prompt, reply)
        if request.get("stream"):
            (self._stream_message if anthropic else self._stream)(model, reply, usage, pace, rng)
        else:
            time.sleep(
                self._delay(rng, pace.ttft_s, pace.ttft_sigma)
                + usage["completion_tokens"] * pace.token_s * self.server.scale
            )
            (self._whole_message if anthropic else self._whole)(model, reply, usage)

    def _usage(self, prompt: str, reply: Reply) -> dict[str, Any]:
        """Counts tokens; a beginning seen before, in whole blocks, is cached."""
        said = reply.text or json.dumps(reply.tool_call)
        prompt_tokens, completion_tokens = count_tokens(prompt), count_tokens(said)
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.server.cached_tokens(prompt)},
        }

    def _delay(self, rng: random.Random, median_s: float, sigma: float) -> float:
        return median_s * rng.lognormvariate(0.0, sigma) * self.server.scale

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _stream(self, model: str, reply: Reply, usage: dict[str, Any], pace: Pace, rng: random.Random) -> None:
        self._begin_stream()
        frame = {
            "id": f"chatcmpl-{rng.getrandbits(64):016x}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
        }

        def send(choices: list[dict[str, Any]], **more: Any) -> None:
            self._event(json.dumps({**frame, "model": model, "choices": choices, **more}))

        time.sleep(self._delay(rng, pace.ttft_s, pace.ttft_sigma))
        if reply.tool_call:
            send([{"index": 0, "delta": {"role": "assistant", "tool_calls": [{"index": 0, **reply.tool_call}]}}])
            time.sleep(usage["completion_tokens"] * pace.token_s * self.server.scale)
        pieces = re.findall(r"\S+\s*", reply.text)
        for start in range(0, len(pieces), _TOKENS_A_CHUNK):
            piece = "".join(pieces[start : start + _TOKENS_A_CHUNK])
            send([{"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}])
            time.sleep(self._delay(rng, count_tokens(piece) * pace.token_s, pace.token_sigma))
        send([{"index": 0, "delta": {}, "finish_reason": reply.finish_reason}])
        send([], usage=usage)
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str, name: str = "") -> None:
        event = f"{f'event: {name}' + chr(10) if name else ''}data: {data}\n\n".encode()
        self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
        self.wfile.flush()

    def _whole(self, model: str, reply: Reply, usage: dict[str, Any]) -> None:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
        if reply.tool_call:
            message["tool_calls"] = [reply.tool_call]
        choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
        answer = {"id": "chatcmpl-0", "object": "chat.completion", "created": int(time.time()), "model": model}
        self._json(200, {**answer, "choices": [choice], "usage": usage})

    def _stream_message(self, model: str, reply: Reply, usage: dict[str, Any], pace: Pace, rng: random.Random) -> None:
        """The events of Anthropic's messages: usage comes in two parts, at the start and at the end."""
        self._begin_stream()

        def send(name: str, **event: Any) -> None:
            self._event(json.dumps({"type": name, **event}), name)

        time.sleep(self._delay(rng, pace.ttft_s, pace.ttft_sigma))
        message = _message(model, reply, usage)
        said = {**message["usage"], "output_tokens": 1}
        send("message_start", message={**message, "content": [], "stop_reason": None, "usage": said})
        send("content_block_start", index=0, content_block={"type": "text", "text": ""})
        pieces = re.findall(r"\S+\s*", reply.text)
        for start in range(0, len(pieces), _TOKENS_A_CHUNK):
            piece = "".join(pieces[start : start + _TOKENS_A_CHUNK])
            send("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
            time.sleep(self._delay(rng, count_tokens(piece) * pace.token_s, pace.token_sigma))
        send("content_block_stop", index=0)
        end = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        send("message_delta", delta=end, usage={"output_tokens": usage["completion_tokens"]})
        send("message_stop")
        self.wfile.write(b"0\r\n\r\n")

    def _whole_message(self, model: str, reply: Reply, usage: dict[str, Any]) -> None:
        self._json(200, _message(model, reply, usage))

    def _error(self, status: int, code: str, message: str) -> None:
        self._json(status, {"error": {"message": message, "type": code, "code": code}})

    def _json(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass  # a demo's output is its summary


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, scale: float, seed: int, failures: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scale = scale
        self.failures = failures
        self.seed = seed
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # clients leave streams half-read
            super().handle_error(request, client_address)

    def cached_tokens(self, prompt: str) -> int:
        """Tokens of the longest beginning, in blocks, that an earlier prompt shared; remembers this one."""
        words = prompt.split()
        cached = 0
        with self._lock:
            for end in range(_CACHE_BLOCK_TOKENS, len(words) + 1, _CACHE_BLOCK_TOKENS):
                beginning = " ".join(words[:end])
                if beginning in self._seen:
                    cached = count_tokens(beginning)
                self._seen.add(beginning)
        return cached


@contextlib.contextmanager
def serve(*, scale: float = 1.0, seed: int = 7, failures: bool = True) -> Iterator[str]:
    """Runs the server while the block runs; gives its base URL. `scale` multiplies every delay; `failures` False: it
    answers every request."""
    server = _Server(scale, seed, failures)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    with serve() as url, contextlib.suppress(KeyboardInterrupt):
        print(f"OPENAI_BASE_URL={url}", flush=True)
        threading.Event().wait()
