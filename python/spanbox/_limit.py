"""spanbox.limit(): a breaker for agents that run away. It raises where the next call would start.

    with spanbox.limit(calls=50, cost_usd=1.00, depth=8):
        run_agent(question)

A limit is a tag of the spans under it, so it goes where tags go: into threads, tasks and executors of this process.
Thread rule: everything may be called from any thread.
Invariants:
  1. Without an open limit a call pays one comparison.
  2. Once it is passed, every further start raises: what catches the exception and goes on does not get far.
"""

from __future__ import annotations

import functools
import inspect
import re
import secrets
import threading
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from spanbox import _core
from spanbox._core import SpanboxError, Tags

if TYPE_CHECKING:
    from spanbox._core import Kind

P = ParamSpec("P")
R = TypeVar("R")

TAG = "spanbox.limit"
CALLS: tuple[Kind, ...] = ("llm", "embedding", "tool", "retriever", "reranker")
PAID = ("llm", "embedding")
_TOKEN = re.compile(rb"limit-[0-9a-f]{16}")
_MOST_ANSWERS = 1_000


class LimitExceeded(SpanboxError):
    """A call was about to start that `limit` does not allow."""

    def __init__(self, message: str, limit: Limit) -> None:
        super().__init__(message)
        self.limit = limit


class Limit:
    """One limit: what it allows, and what has been used. Made by spanbox.limit()."""

    def __init__(self, calls: int | None, cost_usd: float | None, depth: int | None, kinds: Collection[Kind]) -> None:
        self.max_calls, self.max_cost_usd, self.max_depth = calls, cost_usd, depth
        self.kinds = tuple(kinds)
        self.calls = 0
        self.cost_usd = 0.0
        self.unpriced_calls = 0  # told tokens, and have no price that is known
        self._token = f"limit-{secrets.token_hex(8)}"
        self._tags: Tags | None = None
        self._around = 0  # spans

    def count(self, kind: Kind = "llm", *, cost_usd: float | None = None) -> None:
        """Counts a call that is no span of spanbox, and what it cost; raises LimitExceeded before it should start."""
        with _counting:
            self._check(kind, self._around)
            self.calls += kind in self.kinds
            self.cost_usd += cost_usd or 0.0

    def _check(self, kind: str, depth: int) -> None:
        """Whether a span may start; raises LimitExceeded."""
        if self.max_depth is not None and depth - self._around >= self.max_depth:
            self._refuse(f"{self.max_depth:,} spans inside one another")
        if kind not in self.kinds:
            return
        if self.max_calls is not None and self.calls >= self.max_calls:
            self._refuse(f"{self.max_calls:,} calls")
        if self.max_cost_usd is not None and self.cost_usd >= self.max_cost_usd:
            self._refuse(f"${self.max_cost_usd:,.4g} (${self.cost_usd:,.4g} are spent)")

    def _refuse(self, what: str) -> None:
        raise LimitExceeded(f"spanbox.limit: {what} is all that is allowed here", self)

    def _tell(self, columns: dict[str, Any]) -> bool:
        """What a span of a model call sets: its cost, or its tokens; whether it does."""
        usd = columns.get("cost_usd")
        tells = usd is not None or not {"input_tokens", "output_tokens"}.isdisjoint(columns)
        if not tells or self.max_cost_usd is None:
            return tells
        if usd is None:
            usd = _price(columns)
            self.unpriced_calls += usd is None
        if isinstance(usd, int | float) and usd > 0:
            self.cost_usd += usd
        return True

    def __enter__(self) -> Limit:
        with _lock:
            if self._tags is not None:
                raise RuntimeError("this limit is open already; make another one with spanbox.limit()")
            self._tags = Tags({TAG: self._token})
            self._around = _core.span_depth()
            _open[self._token.encode()] = self
            _answers.clear()
            if len(_open) == 1:
                _core.set_limit_hook(_Hook())
        self._tags.__enter__()
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        with _lock:
            tags, self._tags = self._tags, None
            _open.pop(self._token.encode(), None)
            _answers.clear()
            if not _open:
                _core.set_limit_hook(None)
        if tags is not None:
            tags.__exit__(None, None, None)
        broken = error.subgroup(LimitBreak) if isinstance(error, BaseExceptionGroup) else error
        while isinstance(broken, BaseExceptionGroup):
            broken = broken.exceptions[0]
        if isinstance(broken, LimitBreak) and isinstance(broken.__cause__, LimitExceeded):
            raise broken.__cause__ from None

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """As a decorator: each call of `fn` has a limit of its own."""
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError("limit() decorates no generator function: its body runs wherever it is iterated")

        def fresh() -> Limit:
            return Limit(self.max_calls, self.max_cost_usd, self.max_depth, self.kinds)

        if inspect.iscoroutinefunction(fn):

            @functools.wraps(fn)
            async def limited(*args: P.args, **kwargs: P.kwargs) -> Any:
                with fresh():
                    return await fn(*args, **kwargs)

            return cast("Callable[P, R]", limited)

        @functools.wraps(fn)
        def limited_here(*args: P.args, **kwargs: P.kwargs) -> R:
            with fresh():
                return fn(*args, **kwargs)

        return limited_here

    def __repr__(self) -> str:
        most = {"calls": self.max_calls, "cost_usd": self.max_cost_usd, "depth": self.max_depth}
        allowed = ", ".join(f"{name}={value}" for name, value in most.items() if value is not None)
        return f"<Limit {allowed}: {self.calls:,} calls, ${self.cost_usd:.4g}>"


_lock = threading.Lock()  # of what is open
_counting = threading.Lock()  # of what has been used
_open: dict[bytes, Limit] = {}
_answers: dict[bytes, tuple[Limit, ...]] = {}  # of encoded tags


def any_limit() -> bool:
    return bool(_open)


class LimitBreak(BaseException):
    """LimitExceeded inside the code of an instrumentor or a framework, which may catch every Exception and go on. It
    leaves the block of the limit as LimitExceeded, its cause."""


def _limits(tags: bytes | None) -> tuple[Limit, ...]:
    if tags is None:
        return ()
    limits = _answers.get(tags)
    if limits is None:
        with _lock:
            limits = tuple(_open[token] for token in dict.fromkeys(_TOKEN.findall(tags)) if token in _open)
            if len(_answers) >= _MOST_ANSWERS:
                _answers.clear()
            _answers[tags] = limits
    return limits


class _Hook:
    """What _core asks and tells (bindings/limits.h). tags: the encoded tags around; depth: of spans around; calls: the
    ids of the model calls around."""

    def __init__(self) -> None:
        self._traced: dict[int, dict[str, Any]] = {}  # attributes of a tracer's open spans
        self._told: dict[int, None] = {}  # calls in which another one has told its cost
        self._inside: dict[int, None] = {}  # calls in which a tracer has started one

    def starts(self, kind: str, tags: bytes | None, depth: int) -> None:
        limits = _limits(tags)
        with _counting:
            for limit in limits:  # what one of them refuses, none counts
                limit._check(kind, depth)
            for limit in limits:
                limit.calls += kind in limit.kinds

    def starts_traced(
        self, name: str, attributes: dict[str, Any] | None, tags: bytes | None, depth: int, calls: list[int]
    ) -> str:
        kind = kind_of(name, attributes or {})
        try:
            self.starts("span" if self._is_same(kind, calls) else kind, tags, depth)
        except LimitExceeded as error:
            raise LimitBreak(str(error)) from error
        return kind

    def _is_same(self, kind: str, calls: list[int]) -> bool:
        """A framework's run and the first call of a client in it are one call."""
        if kind not in PAID or not calls:
            return False
        with _counting:
            known = calls[0] in self._inside
            _note(self._inside, calls[:1])
        return not known

    def sets(self, span: int, kind: str, tags: bytes | None, calls: list[int], columns: dict[str, Any]) -> None:
        if kind not in PAID:
            return
        limits = _limits(tags)
        with _counting:
            if span in self._told:
                return
            told = [limit._tell(columns) for limit in limits]  # each of them
            if any(told):
                _note(self._told, calls)

    def sets_traced(
        self, span: int, kind: str, tags: bytes | None, calls: list[int], attributes: dict[str, Any] | None
    ) -> None:
        if attributes is not None:
            with _counting:
                self._traced.setdefault(span, {}).update(attributes)
            return
        with _counting:
            known = self._traced.pop(span, None)
        if known and _limits(tags):
            columns = _core.normalise(known)
            self.sets(span, columns["kind"] if kind == "span" else kind, tags, calls, columns)


def _note(known: dict[int, None], spans: list[int]) -> None:
    while len(known) > _MOST_ANSWERS:
        known.pop(next(iter(known)))
    known.update(dict.fromkeys(spans))


_OPERATIONS = {
    "chat": "llm", "text_completion": "llm", "generate_content": "llm", "embeddings": "embedding",
    "execute_tool": "tool", "retrieval": "retriever",
}  # fmt: skip


def kind_of(name: str, attributes: dict[str, Any]) -> str:
    """Of a tracer's span: by its attributes, or by its name as the conventions have it."""
    kind = str(_core.normalise(attributes)["kind"])
    return kind if kind != "span" else _OPERATIONS.get(str(name).partition(" ")[0], "span")


def enter(span: _core.Span) -> None:
    """Starts a span inside a framework's callback."""
    try:
        span.__enter__()
    except LimitExceeded as error:
        raise LimitBreak(str(error)) from error


def _price(attributes: dict[str, Any]) -> float | None:
    from spanbox import cost

    try:
        known = {name: value for name, value in attributes.items() if name in cost.COLUMNS}
        found = cost.of(provider=attributes.get("provider"), model=attributes.get("model"), usage=known)
    except cost.MissingExtra:
        return None
    return None if found.usd is None else float(found.usd)


def limit(
    *,
    calls: int | None = None,
    cost_usd: float | None = None,
    depth: int | None = None,
    kinds: Collection[Kind] = CALLS,
) -> Limit:
    """At most so many calls (of `kinds`), US dollars, or spans inside one another, for all that runs inside the block,
    or in each call of the function it decorates. What would pass that does not start: LimitExceeded is raised there.

        with spanbox.limit(calls=50, cost_usd=1.00, depth=8) as used:
            run_agent(question)
        print(used.calls, used.cost_usd)

    Costs are those that spans of model calls set, as cost_usd, or computed from the provider, model and tokens that
    they set together (extra `cost`); the call that passes cost_usd ends, the next one does not start.
    """
    if calls is None and cost_usd is None and depth is None:
        raise ValueError("limit() needs calls=, cost_usd= or depth=")
    for name, value in (("calls", calls), ("cost_usd", cost_usd), ("depth", depth)):
        if value is not None and not value >= 0:
            raise ValueError(f"{name}={value!r} is no limit")
    return Limit(calls, cost_usd, depth, kinds)
