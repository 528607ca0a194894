"""A customer-support agent that records itself with spanbox: retrieve, ask a model (streamed), use a tool, check.

    python examples/support_agent.py        against the loopback server beside this file
    OPENAI_BASE_URL=... OPENAI_API_KEY=...  against a real endpoint, through the openai client when it is installed

Everything about recording is in the decorators and the `with spanbox.…` lines; the rest is an ordinary program.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import spanbox
from spanbox import observe

PROVIDERS = {"gpt-5": "openai", "gpt-5-mini": "openai", "mistral-small-latest": "mistral"}

ARTICLES = {
    "refunds": "You can return an item within 30 days for a full refund. Refunds reach your card in 5 to 7 business "
    "days. Items marked final sale are not refunded. A refund for a gift goes to the person who paid.",
    "shipping": "Standard shipping takes 3 to 5 business days and is free above 50 dollars. Express shipping takes one "
    "day. We ship to 42 countries. Customs duties are paid by the recipient.",
    "damaged items": "If an item arrives damaged, send us a photo within 14 days. We replace damaged items at no "
    "cost. You need not return a damaged item that cost less than 20 dollars.",
    "accounts": "You can change your email address under Account, Security. Closing an account deletes its data after "
    "30 days. We never ask for your password.",
    "gift cards": "Gift cards never expire. A gift card cannot be exchanged for cash. Lost gift cards are replaced "
    "with the receipt.",
    "warranty": "Electronics carry a warranty of two years. The warranty covers defects, not drops or water. Repairs "
    "take about ten days.",
}
ORDERS = {f"A{1000 + i}": ("shipped", "delivered", "in preparation", "returned")[i % 4] for i in range(40)}
QUESTIONS = (
    "How long does a refund take to reach my card?",
    "Where is my order {order}? It should have been here on Monday.",
    "My blender arrived damaged. What do I do with order {order}?",
    "Do you ship to Norway, and who pays the customs duties?",
    "Can I exchange a gift card for cash?",
    "Does the warranty cover water in my headphones?",
    "I want to close my account. What happens to my data?",
    "Is order {order} still returnable for a full refund?",
    "Is express shipping really one day?",
)
PROMPTS = {
    "v3": "You are the support agent of a shop. Answer from the context only.",
    "v4": "You are the friendly support agent of a shop. Answer in at most four sentences, from the context only, and "
    "say so when it does not hold the answer. Look up an order with the tool when the customer names one.",
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "lookup_order",
            "description": "State of an order",
            "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
        },
    }
]


class ModelError(Exception):
    """The endpoint refused: HTTP status and its message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Client(Protocol):
    def stream(self, model: str, messages: list[dict[str, Any]], user: str, attempt: int) -> Iterator[dict[str, Any]]:
        """Chunks of a streamed chat completion."""
        ...


class OpenAIClient:
    """The official client."""

    def __init__(self, base_url: str) -> None:
        import openai

        self._errors = openai.APIStatusError
        self._client = openai.OpenAI(base_url=base_url, api_key=os.environ.get("OPENAI_API_KEY", "none"), max_retries=0)

    def stream(self, model: str, messages: list[dict[str, Any]], user: str, attempt: int) -> Iterator[dict[str, Any]]:
        try:
            chunks = self._client.chat.completions.create(
                model=model,
                messages=messages,
                tools=TOOLS,
                user=user,
                stream=True,
                stream_options={"include_usage": True},
                extra_headers={"X-Attempt": str(attempt)},
            )
            for chunk in chunks:
                yield chunk.model_dump()
        except self._errors as error:
            raise ModelError(error.status_code, str(error)) from error


class PlainClient:
    """The same over the standard library."""

    def __init__(self, base_url: str) -> None:
        self._url = urlsplit(base_url)

    def stream(self, model: str, messages: list[dict[str, Any]], user: str, attempt: int) -> Iterator[dict[str, Any]]:
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        options = {"stream": True, "stream_options": {"include_usage": True}}
        request = {"model": model, "messages": messages, "tools": TOOLS, "user": user, **options}
        headers = {"Content-Type": "application/json", "X-Attempt": str(attempt)}
        if key := os.environ.get("OPENAI_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        with contextlib.closing(kind(self._url.netloc, timeout=60)) as connection:
            connection.request("POST", f"{self._url.path}/chat/completions", json.dumps(request), headers)
            response = connection.getresponse()
            if response.status != 200:
                about = json.loads(response.read())
                raise ModelError(response.status, about.get("error", {}).get("message", "no message"))
            for line in response:
                data = line.decode().strip().removeprefix("data: ")
                if data and data != "[DONE]":
                    yield json.loads(data)


def make_client(base_url: str) -> Client:
    """The openai client for an endpoint that was named, when it is installed; else the plain one."""
    if os.environ.get("OPENAI_BASE_URL"):
        with contextlib.suppress(ImportError):
            return OpenAIClient(base_url)
    return PlainClient(base_url)


def cost_of(provider: str | None, model: str, usage: dict[str, Any]) -> float | None:
    """US dollars by the public price list of genai-prices; None without it or without a price."""
    try:
        cost = spanbox.cost.of(provider=provider, model=model, usage=usage)
    except ImportError:
        return None
    return None if cost.usd is None else float(cost.usd)


@observe(kind="retriever")
def retrieve(question: str, top_k: int = 2) -> list[dict[str, str]]:
    """The articles that share most words with the question."""
    words = set(re.findall(r"[a-z]{4,}", question.lower()))
    score = {
        title: len(words & set(re.findall(r"[a-z]{4,}", (title + " " + text).lower())))
        for title, text in ARTICLES.items()
    }
    best = sorted(ARTICLES, key=lambda title: -score[title])[:top_k]
    return [{"title": title, "text": ARTICLES[title]} for title in best]


@observe(kind="tool")
def lookup_order(order_id: str) -> str:
    """The order system, slow and now and then out of reach as such systems are."""
    rng = random.Random(order_id)
    time.sleep(rng.uniform(0.005, 0.06))
    if rng.random() < 0.1:
        raise TimeoutError(f"order system did not answer for {order_id}")
    if order_id not in ORDERS:
        raise LookupError(f"no order {order_id}")
    return f"order {order_id} is {ORDERS[order_id]}"


@observe(kind="guardrail")
def check(answer: str, articles: list[dict[str, str]]) -> dict[str, Any]:
    """Whether the answer stands on the articles it was given."""
    known = set(re.findall(r"[a-z]{4,}", " ".join(a["text"] for a in articles).lower()))
    said = re.findall(r"[a-z]{4,}", answer.lower())
    grounded = sum(word in known for word in said) / len(said) if said else 0.0
    return {"grounded": round(grounded, 2), "passed": grounded > 0.4}


def chat(client: Client, model: str, messages: list[dict[str, Any]], user: str) -> dict[str, Any]:
    """One streamed model call; a rate limit is tried once more."""
    try:
        return chat_once(client, model, messages, user, attempt=0)
    except ModelError as error:
        if error.status != 429:
            raise
        time.sleep(0.05)
        return chat_once(client, model, messages, user, attempt=1)


def chat_once(client: Client, model: str, messages: list[dict[str, Any]], user: str, *, attempt: int) -> dict[str, Any]:
    provider = PROVIDERS.get(model)
    about = {"provider": provider} if provider else {}
    with spanbox.span(f"chat {model}", kind="llm", operation="chat", model=model, **about) as s:
        s.input = messages
        text: list[str] = []
        calls: list[dict[str, Any]] = []
        for chunk in client.stream(model, messages, user, attempt):
            for choice in chunk.get("choices") or []:
                delta = choice.get("delta") or {}
                if delta.get("content") or delta.get("tool_calls"):
                    if not text and not calls:
                        s.first_token()
                    text.append(delta.get("content") or "")
                    collect_calls(calls, delta.get("tool_calls") or [])
                if choice.get("finish_reason"):
                    s.set(finish_reason=choice["finish_reason"])
            if usage := chunk.get("usage"):
                s.set(input_tokens=usage["prompt_tokens"], output_tokens=usage["completion_tokens"])
                if cached := (usage.get("prompt_tokens_details") or {}).get("cached_tokens"):
                    s.set(cache_read_tokens=cached)
                if (cost := cost_of(provider, model, usage)) is not None:
                    s.set(cost_usd=cost)
        message: dict[str, Any] = {"role": "assistant", "content": "".join(text) or None}
        if calls:
            message["tool_calls"] = calls
        s.output = message
        return message


def collect_calls(calls: list[dict[str, Any]], deltas: list[dict[str, Any]]) -> None:
    """Puts tool calls together from their pieces."""
    for delta in deltas:
        function = delta.get("function") or {}
        if delta.get("id"):
            calls.append({"id": delta["id"], "type": "function", "function": {"name": "", "arguments": ""}})
        if calls:
            calls[-1]["function"]["name"] += function.get("name") or ""
            calls[-1]["function"]["arguments"] += function.get("arguments") or ""


def use_tool(call: dict[str, Any]) -> str:
    """What the tool answers; a model can live with a failed lookup."""
    try:
        return lookup_order(str(json.loads(call["function"]["arguments"])["order_id"]))
    except (TimeoutError, LookupError, ValueError) as error:
        return f"the lookup failed: {error}"


@observe(kind="agent")
def answer(question: str, *, client: Client, model: str, prompt_version: str, user: str) -> str:
    articles = retrieve(question)
    context = "\n".join(article["text"] for article in articles)
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": f"{PROMPTS[prompt_version]}\nContext: {context}"},
        {"role": "user", "content": question},
    ]
    message = chat(client, model, messages, user)
    if calls := message.get("tool_calls"):
        messages.append(message)
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": use_tool(call)} for call in calls]
        message = chat(client, model, messages, user)
    text = str(message["content"] or "")
    verdict = check(text, articles)
    return text if verdict["passed"] else text + " A colleague will get back to you."


def serve_customer(number: int, *, client: Client, models: list[str], seed: int) -> bool:
    """One request, all of it on one thread; True when the customer got an answer."""
    rng = random.Random(seed * 1_000_003 + number)
    user = rng.randint(1, 12)
    question = rng.choice(QUESTIONS).format(order=f"A{rng.randint(1000, 1039)}")
    version = rng.choice(list(PROMPTS))
    tags = {
        "user_id": f"user-{user}",
        "session_id": f"session-{user}-{number // 20}",
        "tenant": ("acme", "globex", "initech")[user % 3],
        "feature": "support",
        "environment": "demo",
        "prompt_name": "support",
        "prompt_version": version,
    }
    with spanbox.tags(**tags):
        try:
            answer(
                question,
                client=client,
                model=rng.choices(models, weights=range(1, len(models) + 1))[0],
                prompt_version=version,
                user=tags["user_id"],
            )
        except ModelError:
            return False  # recorded where it happened; the shop's other customers are served on
    return True


def run(*, base_url: str, requests: int = 60, threads: int = 8, seed: int = 7, models: list[str] | None = None) -> int:
    """Serves `requests` customers and returns how many of them got an answer."""
    client = make_client(base_url)
    chosen = models or list(PROVIDERS)
    with ThreadPoolExecutor(threads, thread_name_prefix="customer") as pool:
        served = pool.map(
            lambda number: serve_customer(number, client=client, models=chosen, seed=seed), range(requests)
        )
        return sum(served)


def main() -> None:
    requests, scale = 60, 0.4
    sys.path.insert(0, str(Path(__file__).parent))
    from loopback_llm import serve

    named = os.environ.get("OPENAI_BASE_URL")
    models = os.environ["SUPPORT_AGENT_MODELS"].split(",") if "SUPPORT_AGENT_MODELS" in os.environ else None
    with contextlib.nullcontext(named) if named else serve(scale=scale) as base_url:
        answered = run(base_url=base_url, requests=requests, models=models)
    spanbox.flush(5.0)
    print(f"{answered} of {requests} customers got an answer. Now try: spanbox ls")


if __name__ == "__main__":
    main()
