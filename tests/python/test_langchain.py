"""The callback handler for LangChain and LangGraph: one trace a call, with everything in its place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any, TypedDict

import pytest
import spanbox
from spanbox import observe

pytest.importorskip("langchain_core")

import tenacity
from langchain_core.callbacks import CallbackManagerForLLMRun, dispatch_custom_event
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from spanbox.integrations import langchain

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")

USAGE = {
    "input_tokens": 100, "output_tokens": 7, "total_tokens": 107, "input_token_details": {"cache_read": 40},
    "output_token_details": {"reasoning": 3},
}  # fmt: skip


class Model(BaseChatModel):
    """Says hello; a question for the weather gets a tool call first."""

    fail: bool = False

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": "gpt-5", "ls_model_type": "chat", "ls_temperature": 0.5}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: Any = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> ChatResult:
        if self.fail:
            raise ValueError("no answer")
        calls = []
        if "weather" in str(messages[0].content) and len(messages) == 1:
            calls = [{"name": "weather", "args": {"city": "Oslo"}, "id": "call-1", "type": "tool_call"}]
        message = AIMessage(
            "" if calls else "hello",
            tool_calls=calls,
            usage_metadata=USAGE,
            response_metadata={"model_name": "gpt-5-2025", "finish_reason": "stop"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> Iterator[Any]:
        for text in ("hel", "lo"):
            yield ChatGenerationChunk(message=AIMessageChunk(text))
        yield ChatGenerationChunk(message=AIMessageChunk("", usage_metadata=USAGE))


class Documents(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [Document("apples grow", metadata={"page": 1})]


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    look_up()
    return f"sun in {city}"


@observe(kind="span")
def look_up() -> None:
    pass


@pytest.fixture
def config(recorded: Any) -> dict[str, Any]:
    return {"callbacks": [langchain.SpanboxCallbackHandler()]}


def test_model_call_has_model_tokens_and_messages(config: Any, recorded: Any) -> None:
    Model().invoke("hi there", config)
    span = recorded.only_span()
    attributes: Any = span["attributes"]
    assert (span["name"], span["kind"], span["status"]) == ("chat gpt-5", "llm", "ok")
    expected = {
        "provider": "openai", "model_request": "gpt-5", "model": "gpt-5-2025", "input_tokens": 100,
        "cache_read_tokens": 40, "output_tokens": 7, "reasoning_tokens": 3, "finish_reason": "stop",
        "gen_ai.request.temperature": 0.5,
    }  # fmt: skip
    assert {name: attributes.get(name) for name in expected} == expected
    assert attributes["input"] == [{"role": "user", "parts": [{"type": "text", "content": "hi there"}]}]
    assert attributes["output"] == [{"role": "assistant", "parts": [{"type": "text", "content": "hello"}]}]


def test_streamed_call_has_the_same_and_the_time_to_the_first_token(config: Any, recorded: Any) -> None:
    assert "".join(str(chunk.content) for chunk in Model().stream("hi", config)) == "hello"
    span = recorded.only_span()
    attributes: Any = span["attributes"]
    assert (attributes["input_tokens"], attributes["cache_read_tokens"], attributes["output_tokens"]) == (100, 40, 7)
    assert 0 <= attributes["ttft_ns"] <= span["duration_ns"]
    assert "hello" in str(attributes["output"])


def test_runs_are_children_of_the_runs_and_spans_around_them(config: Any, recorded: Any) -> None:
    chain = RunnableLambda(lambda question: Documents().invoke(question)) | RunnableLambda(lambda _: "hi") | Model()
    with spanbox.span("request"):
        chain.invoke("apples", {**config, "run_name": "chain"})
        look_up()
    spans = {span["name"]: span for span in recorded.spans()}
    assert spans["Documents"]["kind"] == "retriever"
    assert spans["Documents"]["attributes"]["output"][0]["content"] == "apples grow"
    parents = {name: span["parent_id"] for name, span in spans.items()}
    assert parents["chain"] == parents["look_up"] == spans["request"]["span_id"]
    assert parents["chat gpt-5"] == spans["chain"]["span_id"]
    assert len({span["trace_id"] for span in spans.values()}) == 1


def test_tags_metadata_and_events_of_a_run_are_kept(config: Any, recorded: Any) -> None:
    attempts = []

    def work(question: str, config: Any) -> str:
        dispatch_custom_event("progress", {"step": 1, "of": [1, 2]}, config=config)
        attempts.append(question)
        if len(attempts) == 1:
            raise ValueError("again")
        return question

    told = {"tenant": "acme", "user_id": "u1", "thread_id": "t1", "plan": "free"}
    runnable = (RunnableLambda(work) | RunnableLambda(str)).with_retry(wait_exponential_jitter=False)
    runnable.invoke("hello", config={**config, "metadata": told, "tags": ["beta"]})
    spans = [span for span in recorded.spans() if span["name"] == "work"]
    assert [span["status"] for span in spans] == ["error", "ok"]
    for span in spans:
        attributes = span["attributes"]
        assert [attributes[name] for name in ("tenant", "user_id", "session_id")] == ["acme", "u1", "t1"]
        assert attributes["metadata.plan"] == "free"
        assert attributes["tags"] == ["beta"]
        [event] = [event for event in attributes["events"] if event["name"] == "progress"]
        assert event["attributes"] == {"step": 1, "of": [1, 2]}


class Retrying(Model):
    """Tries again as the classes of providers do, which tell of it."""

    def _generate(self, *args: Any, run_manager: Any = None, **options: Any) -> ChatResult:
        attempts = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_none(), before_sleep=run_manager.on_retry
        )
        for attempt in attempts:
            with attempt:
                if attempt.retry_state.attempt_number == 1:
                    raise TimeoutError("slow")
        return super()._generate(*args, **options)


def test_a_model_call_that_is_tried_again_says_so(config: Any, recorded: Any) -> None:
    assert Retrying().invoke("hello", config=config).content == "hello"
    [event] = recorded.only_span()["attributes"]["events"]
    assert (event["name"], event["attributes"]) == ("retry", {"attempt": 1, "error.type": "TimeoutError"})


def test_an_error_is_that_of_its_run_and_of_those_around(config: Any, recorded: Any) -> None:
    with pytest.raises(ValueError, match="no answer"):
        (RunnableLambda(lambda _: "hi") | Model(fail=True)).invoke("x", {**config, "run_name": "chain"})
    statuses = {span["name"]: span["status"] for span in recorded.spans()}
    assert (statuses["chain"], statuses["chat gpt-5"], statuses["RunnableLambda"]) == ("error", "error", "ok")


class State(TypedDict):
    messages: list[Any]


def graph(asynchronous: bool) -> Any:
    """A model that calls a tool, as a graph."""
    state_graph = pytest.importorskip("langgraph.graph")

    def model(state: State) -> State:
        return {"messages": [*state["messages"], Model().invoke(state["messages"])]}

    def tools(state: State) -> State:
        call = state["messages"][-1].tool_calls[0]
        result = weather.invoke(call["args"])
        return {"messages": [*state["messages"], ToolMessage(result, tool_call_id=call["id"])]}

    async def model_async(state: State) -> State:
        return {"messages": [*state["messages"], await Model().ainvoke(state["messages"])]}

    async def tools_async(state: State) -> State:
        call = state["messages"][-1].tool_calls[0]
        result = await weather.ainvoke(call["args"])  # runs in a thread
        return {"messages": [*state["messages"], ToolMessage(result, tool_call_id=call["id"])]}

    made = state_graph.StateGraph(State)
    made.add_node("model", model_async if asynchronous else model)
    made.add_node("tools", tools_async if asynchronous else tools)
    made.add_edge(state_graph.START, "model")
    made.add_conditional_edges("model", lambda state: "tools" if state["messages"][-1].tool_calls else state_graph.END)
    made.add_edge("tools", "model")
    return made.compile()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_graph_is_one_trace_with_one_root(
    asynchronous: bool, config: Any, recorded: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """openlit#1369, openllmetry#1541: every turn an error, and spans that became roots of their own."""
    caplog.set_level(logging.WARNING)
    asked = {"messages": [HumanMessage("weather?")]}
    made = graph(asynchronous)
    answer = asyncio.run(made.ainvoke(asked, config)) if asynchronous else made.invoke(asked, config)
    assert answer["messages"][-1].content == "hello"
    assert caplog.records == []
    spans = recorded.spans()
    by_id = {span["span_id"]: span["name"] for span in spans}
    roots = [span["name"] for span in spans if span["parent_id"] not in by_id]
    assert roots == ["LangGraph"]
    assert spans[0]["kind"] == "workflow"
    around = [(span["name"], by_id.get(span["parent_id"] or "")) for span in spans]
    assert around.count(("chat gpt-5", "model")) == 2
    assert ("weather", "tools") in around
    assert ("look_up", "weather") in around
    assert {span["status"] for span in spans} == {"ok"}
    assert spanbox.current_span() is None


def test_many_calls_at_once_with_one_handler_stay_apart(config: Any, recorded: Any) -> None:
    async def main() -> None:
        async def one(number: int) -> None:
            with spanbox.span(f"request {number}"):
                await Model().ainvoke("hi", config)

        await asyncio.gather(*(one(number) for number in range(20)))

    asyncio.run(main())
    assert recorded.shape().count("\n  chat gpt-5") == 20
    assert len(recorded.spans()) == 40


def test_installed_handler_needs_not_be_named(recorded: Any) -> None:
    import contextvars

    def run() -> None:
        langchain.install()
        Model().invoke("hi")

    contextvars.copy_context().run(run)
    assert recorded.shape() == "chat gpt-5"
