"""@observe changes nothing the user can see, and the span says what happened."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import inspect
import pickle
from typing import Any

import pytest
import spanbox
from spanbox import observe


@observe
def at_module_level(x: int) -> int:
    """Doubles."""
    return 2 * x


def test_result_arguments_and_output_are_recorded(recorded: Any) -> None:
    @observe
    def answer(question: str, top_k: int = 3, *, style: str = "plain") -> dict[str, Any]:
        return {"text": question.upper(), "k": top_k}

    assert answer("hi", style="bold") == {"text": "HI", "k": 3}
    span = recorded.only_span()
    assert span["name"] == "answer"
    assert span["attributes"]["input"] == {"question": "hi", "style": "bold"}
    assert span["attributes"]["output"] == {"text": "HI", "k": 3}
    assert span["status"] == "ok"
    assert span["duration_ns"] > 0


def test_name_and_kind_are_taken(recorded: Any) -> None:
    @observe(name="search faq", kind="tool")
    def search(query: str) -> str:
        return query

    search("x")
    assert recorded.tree() == "search faq [tool] ok"


def test_nested_calls_form_a_tree(recorded: Any) -> None:
    @observe(kind="tool", name="leaf")
    def leaf(n: int) -> int:
        return n

    @observe(kind="agent", name="root")
    def root() -> int:
        with spanbox.span("middle", kind="chain"):
            leaf(1)
        return leaf(2)

    root()
    assert recorded.tree() == "root [agent] ok\n  middle [chain] ok\n    leaf [tool] ok\n  leaf [tool] ok"


def test_exception_is_recorded_and_raised_unchanged(recorded: Any) -> None:
    problem = ValueError("bad question", 42)

    @observe(name="fails")
    def fails() -> None:
        raise problem

    with pytest.raises(ValueError, match="bad question") as caught:
        fails()
    assert caught.value is problem
    assert [entry.name for entry in caught.traceback][-1] == "fails"
    span = recorded.only_span()
    assert span["status"] == "error"
    assert span["attributes"]["error_type"] == "ValueError"
    assert span["attributes"]["error_message"] == "('bad question', 42)"
    assert "in fails" in span["attributes"]["error_stack"]


def test_exception_text_runs_no_user_code(recorded: Any) -> None:
    class LoudError(Exception):
        def __str__(self) -> str:
            raise AssertionError("user code ran")

    @observe(name="loud")
    def loud() -> None:
        raise LoudError("quiet")

    with pytest.raises(LoudError):
        loud()
    assert recorded.only_span()["attributes"]["error_message"] == "quiet"


def test_introspection_is_unchanged() -> None:
    assert at_module_level.__name__ == "at_module_level"
    assert at_module_level.__doc__ == "Doubles."
    assert at_module_level.__module__ == __name__
    assert list(inspect.signature(at_module_level).parameters) == ["x"]
    assert inspect.unwrap(at_module_level)(4) == 8


def test_pickles_by_name() -> None:
    module = inspect.getmodule(inspect.unwrap(at_module_level))
    assert module is not None
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level


def test_methods_leave_self_out(recorded: Any) -> None:
    class Agent:
        @observe(name="run")
        def run(self, task: str) -> str:
            return task

        @classmethod
        @observe(name="make")
        def make(cls, task: str) -> str:
            return task

        @staticmethod
        @observe(name="help")
        def help(task: str) -> str:
            return task

    assert Agent().run("a") == "a"
    assert Agent.make("b") == "b"
    assert Agent.help("c") == "c"
    assert [span["attributes"]["input"] for span in recorded.spans()] == [{"task": "a"}, {"task": "b"}, {"task": "c"}]


def test_partial_and_builtin_callables_are_traced(recorded: Any) -> None:
    assert observe(functools.partial(max, 3))(5) == 5
    assert observe(len)([1, 2]) == 2
    assert [span["attributes"]["output"] for span in recorded.spans()] == [5, 2]


def test_coroutine_function_is_traced_to_its_end(recorded: Any) -> None:
    @observe(name="inner")
    async def inner(n: int) -> int:
        await asyncio.sleep(0)
        return n

    @observe(name="outer")
    async def outer() -> list[int]:
        return list(await asyncio.gather(inner(1), inner(2)))

    assert inspect.iscoroutinefunction(outer)
    assert asyncio.run(outer()) == [1, 2]
    assert recorded.tree() == "outer [span] ok\n  inner [span] ok\n  inner [span] ok"
    inputs = [s["attributes"].get("input") for s in recorded.spans()]
    assert sorted(str(i) for i in inputs) == ["None", "{'n': 1}", "{'n': 2}"]


def test_inspect_takes_the_decorated_for_the_function() -> None:
    def plain(a: int, /, b: str = "x", *args: int, c: float, **kwargs: int) -> str:
        """Says so."""
        return b

    traced = observe(plain)
    assert inspect.signature(traced) == inspect.signature(plain)
    assert inspect.getdoc(traced) == "Says so."
    assert inspect.getsource(traced) == inspect.getsource(plain)
    assert inspect.isroutine(traced)
    assert not inspect.iscoroutinefunction(traced)
    assert not inspect.isgeneratorfunction(traced)
    assert traced.__defaults__ == ("x",)
    assert traced.__code__ is plain.__code__
    assert traced.__annotations__ == plain.__annotations__
    with pytest.raises(AttributeError):
        _ = traced.no_such_attribute
    traced.label = 7
    assert traced.label == 7
    assert not hasattr(plain, "label")


def test_unknown_kind_is_refused_at_decoration() -> None:
    with pytest.raises(ValueError, match="kind must be one of span, llm"):
        observe(kind="modle")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="kind must be one of span, llm"):
        spanbox.span("x", kind="modle")  # type: ignore[arg-type]


def test_capture_can_be_switched_off(recorded: Any) -> None:
    @observe(capture_input=False, capture_output=False, name="quiet")
    def quiet(secret: str) -> str:
        return secret

    quiet("canary")
    assert "input" not in recorded.only_span()["attributes"]
    assert "output" not in recorded.only_span()["attributes"]


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    y: float


@dataclasses.dataclass(slots=True)
class Slotted:
    name: str
    api_key: str


class Trap:
    """Everything a walk might call raises."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"user code ran for {name}")

    def __repr__(self) -> str:
        raise AssertionError("user code ran")


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (1.5, 1.5),
        (True, True),
        (2**80, str(2**80)),
        ("né 🎉", "né 🎉"),
        ("lone \ud800 surrogate", "lone � surrogate"),
        ([1, [2.5, None]], [1, [2.5, None]]),
        ((1, "a"), [1, "a"]),
        ({3, 1, 2}, [1, 2, 3]),
        ({"a": {"b": [True]}, 7: "seven"}, {"a": {"b": [True]}, "7": "seven"}),
        (b"\x00\x01", {"$bytes": "AAE="}),
        (float("nan"), None),
        ([float("inf")], ["Infinity"]),
        (Point(1, 2.5), {"x": 1, "y": 2.5}),
        (Slotted("n", "sk-123"), {"name": "n", "api_key": "[redacted]"}),
        ([Trap()], ["<tests.python.test_observe.Trap>"]),
        (
            {"password": "hunter2", "Authorization": "Bearer x"},
            {"password": "[redacted]", "Authorization": "[redacted]"},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_are_stored_by_type(recorded: Any, value: object, stored: object) -> None:
    with spanbox.span("s") as span:
        span.output = value
    output = recorded.only_span()["attributes"].get("output")
    if isinstance(value, float) and value != value:
        assert output != output or output is None
    elif isinstance(value, list) and value and isinstance(value[0], Trap):
        assert output[0].endswith("test_observe.Trap>")
    else:
        assert output == stored


def test_cycles_and_huge_values_are_cut_not_followed(recorded: Any) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with spanbox.span("cycle") as span:
        span.output = loop
    with spanbox.span("huge") as span:
        span.output = "x" * 5_000_000
    with spanbox.span("wide") as span:
        span.output = list(range(1_000_000))
    cycle, huge, wide = recorded.spans()
    assert cycle["attributes"]["truncated"] is True
    assert huge["attributes"]["output"].startswith("xxx")
    assert "bytes)" in huge["attributes"]["output"][-40:]
    assert len(wide["attributes"]["output"]) <= 10_000
    assert all(span["attributes"]["truncated"] for span in (huge, wide))


def test_secret_arguments_never_reach_the_disk(recorded: Any) -> None:
    @observe(name="call")
    def call(prompt: str, api_key: str, headers: dict[str, str]) -> str:
        return prompt

    call("hello", api_key="sk-canary-1", headers={"Authorization": "Bearer canary-2", "Accept": "json"})
    spanbox.flush()
    stored = recorded.only_span()["attributes"]["input"]
    assert stored == {
        "prompt": "hello",
        "api_key": "[redacted]",
        "headers": {"Authorization": "[redacted]", "Accept": "json"},
    }
    for file in recorded.path.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert b"canary-1" not in content
            assert b"canary-2" not in content


SHORT = [None, True, False, 0, 1, -1, 127, 128, -32, -33, 2**31, 2**63 - 1, -(2**63), 2**63, 0.0, -1.5, 1e300, "", "a"]
SHORT += ["abcd", "what is it?", "x" * 15, "y z" * 5, "sixteen letters!", "x" * 16, "a b" * 10 + "c", "a b" * 11, "né"]
SHORT += [
    "password=hunter2secret",
    "Bearer abcdefghijklmnop",
    "key: value",
    "----",
    "sk-abcdefghijklmnopqrstuv",
    [1],
    {"a": 1},
]


@pytest.mark.parametrize("value", SHORT, ids=repr)
def test_the_short_way_of_small_values_stores_what_the_long_way_does(recorded: Any, value: object) -> None:
    def same(first: object, second: object) -> object:
        return second

    short = observe(name="short")(same)
    long = observe(name="long", capture_bytes=1 << 20)(same)
    assert short(7, value) is value
    assert long(7, value) is value
    first, second = (span["attributes"] for span in recorded.spans())
    assert first == second
    assert type(first.get("output")) is type(second.get("output"))
