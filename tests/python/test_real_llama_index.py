"""LlamaIndex itself, with a model that calls the loopback server, recorded by its instrumentors."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import spanbox

sys.path.insert(0, str(Path(__file__).parent))
from real_frameworks import MODEL, QUESTION, framework, loopback

core = framework("llama_index.core")
framework("openinference.instrumentation.llama_index")
llms = framework("llama_index.core.llms")
callbacks = framework("llama_index.core.llms.callbacks")
embeddings = framework("llama_index.core.embeddings")

pytestmark = pytest.mark.filterwarnings("ignore")
OPENINFERENCE = "openinference-instrumentation-llama-index"


class Loopback(llms.CustomLLM):  # type: ignore[misc, name-defined]
    """As LlamaIndex's own OpenAI class, which wants a client older than ours."""

    url: str

    @property
    def metadata(self) -> Any:
        return llms.LLMMetadata(model_name=MODEL, context_window=100_000, num_output=500)

    def _ask(self, prompt: str, **options: Any) -> Any:
        client = openai.OpenAI(base_url=self.url, api_key="none", max_retries=0)
        messages: Any = [{"role": "user", "content": prompt}]
        return client.chat.completions.create(model=MODEL, messages=messages, **options)

    @callbacks.llm_completion_callback()  # type: ignore[untyped-decorator]
    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> Any:
        reply = self._ask(prompt)
        return llms.CompletionResponse(text=reply.choices[0].message.content, raw=reply.model_dump())

    @callbacks.llm_completion_callback()  # type: ignore[untyped-decorator]
    def stream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> Any:
        def pieces() -> Iterator[Any]:
            text = ""
            for chunk in self._ask(prompt, stream=True, stream_options={"include_usage": True}):
                said = (chunk.choices[0].delta.content or "") if chunk.choices else ""
                text += said
                yield llms.CompletionResponse(text=text, delta=said, raw=chunk.model_dump())

        return pieces()


@pytest.fixture
def url() -> Iterator[str]:
    with loopback().serve(scale=0.01, failures=False) as base_url:
        yield base_url


@pytest.fixture
def instrument(recorded: Any) -> Iterator[Callable[..., dict[str, str]]]:
    def switch_on(*names: str) -> dict[str, str]:
        return spanbox.instrument(allow=names, block=["opentelemetry-instrumentation-genai-llama-index"])

    yield switch_on
    spanbox.uninstrument()


@pytest.fixture(scope="module")
def index() -> Any:
    documents = [
        core.Document(text=f"Apples grow on trees of kind {number}, on the northern side of the hill. " * 8)
        for number in range(4)
    ]
    return core.VectorStoreIndex.from_documents(documents, embed_model=embeddings.MockEmbedding(embed_dim=8))


def query(index: Any, url: str) -> str:
    return str(index.as_query_engine(llm=Loopback(url=url)).query(QUESTION))


def query_streamed(index: Any, url: str) -> str:
    return "".join(index.as_query_engine(llm=Loopback(url=url), streaming=True).query(QUESTION).response_gen)


def query_async(index: Any, url: str) -> str:
    async def run() -> str:
        return str(await index.as_query_engine(llm=Loopback(url=url)).aquery(QUESTION))

    return asyncio.run(run())


QUERY = {"plain": query, "streamed": query_streamed, "async": query_async}


@pytest.mark.parametrize(
    ("how", "clients"),
    # Streamed, LlamaIndex calls the client when its answer is read, outside of the span of the model's call.
    [("plain", ()), ("plain", ("openai",)), ("streamed", ()), ("async", ()), ("async", ("openai",))],
)
def test_a_query_is_one_tree(
    how: str, clients: tuple[str, ...], index: Any, url: str, recorded: Any, instrument: Any
) -> None:
    chosen = instrument("llama_index", *clients)
    assert chosen["llama_index"].startswith(OPENINFERENCE)
    with spanbox.span("request"):
        answer = QUERY[how](index, url)
    spans = recorded.spans()
    assert [span["name"] for span in spans if span["depth"] == 0] == ["request"], recorded.tree()
    assert {span["status"] for span in spans} == {"ok"}, recorded.tree()
    kinds = [span["kind"] for span in spans]
    assert "retriever" in kinds
    assert "embedding" in kinds
    calls = [span for span in spans if span["kind"] == "llm"]
    innermost = max(calls, key=lambda span: span["depth"])
    if clients:
        assert innermost["name"] == f"chat {MODEL}"
        assert innermost["attributes"]["scope.name"].startswith("opentelemetry.")
    attributes = innermost["attributes"]
    assert attributes["model"] == MODEL
    assert attributes["input_tokens"] > 0 < attributes["output_tokens"]
    assert QUESTION in json.dumps(attributes["input"])
    assert answer[:30] in json.dumps(attributes["output"])
    if how == "streamed":
        assert attributes["ttft_ns"] > 0  # its instrumentor ends the span before the answer is read
    total = recorded.box.cost("kind == llm").total
    assert total.calls == 1, recorded.tree()
    assert total.cost_usd == pytest.approx(attributes["cost_usd"])
    retrieved = next(span for span in spans if span["kind"] == "retriever" and "output" in span["attributes"])
    assert "northern side" in json.dumps(retrieved["attributes"]["output"])


def test_the_official_instrumentor_is_preferred(recorded: Any) -> None:
    framework("opentelemetry.instrumentation.genai.llama_index")
    try:
        chosen = spanbox.instrument(allow=["llama_index"])
        assert chosen["llama_index"].startswith("opentelemetry-instrumentation-genai-llama-index ")
    finally:
        spanbox.uninstrument()
