"""What @observe makes of functions and classes: the objects of _core, which look like what they stand for.

Loaded with the first decorated function.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from spanbox import _core

if TYPE_CHECKING:
    from spanbox._core import Kind

# What a function returns, as _core.observed counts.
_VALUE, _COROUTINE, _GENERATOR, _ASYNC_GENERATOR = range(4)
_CO_GENERATOR, _CO_COROUTINE, _CO_ITERABLE_COROUTINE, _CO_ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200


def observed(target: Any, name: str | None, settings: tuple[Kind, bool, bool, int]) -> Any:
    if isinstance(target, type):
        return _observed_class(target, name or target.__qualname__, settings)
    if isinstance(target, (staticmethod, classmethod)):
        return type(target)(observed(target.__func__, name, settings))
    if not callable(target):
        raise TypeError(f"observe() decorates a function or a class, not {type(target).__name__}")
    returns = _returns(target)
    traced = _core.observed(target, name or _span_name(target), *settings, _parameter_names(target), returns)
    return functools.update_wrapper(traced, target)


def _observed_class(cls: type, name: str, settings: tuple[Kind, bool, bool, int]) -> type:
    for attribute, value in list(vars(cls).items()):
        public = not attribute.startswith("_") or attribute == "__call__"
        if public and isinstance(value, (_FUNCTION, staticmethod, classmethod)):
            setattr(cls, attribute, observed(value, f"{name}.{attribute}", settings))
    return cls


def _plain_function(fn: Any) -> Any:
    """The function with a code object behind partials, bound methods and instances with __call__."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if not hasattr(fn, "__code__"):
        fn = getattr(fn, "__func__", None) or type(fn).__call__
    return fn


def _returns(fn: Any) -> int:
    flags = getattr(getattr(_plain_function(fn), "__code__", None), "co_flags", 0)
    if flags & (_CO_COROUTINE | _CO_ITERABLE_COROUTINE):
        return _COROUTINE
    if flags & _CO_ASYNC_GENERATOR:
        return _ASYNC_GENERATOR
    return _GENERATOR if flags & _CO_GENERATOR else _VALUE


def _span_name(fn: Any) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    qualified: str = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    return qualified.rsplit("<locals>.", 1)[-1]


def _parameter_names(fn: Any) -> tuple[str, ...]:
    code = getattr(fn, "__code__", None)
    if code is not None:
        names: tuple[str, ...] = code.co_varnames[: code.co_argcount]
        bound = getattr(fn, "__self__", None) is not None
        return names[1:] if bound else names
    import inspect

    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # a builtin that does not tell
        return ()
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))


# A Driven records the span of a coroutine or generator; these give it the type that the decorated function's has, so
# that whoever looks (inspect, asyncio, web frameworks) finds what it would have found.


async def _coroutine(driven: Any) -> Any:
    try:
        result = await driven.begin()
    except BaseException:
        driven.raised()
        raise
    driven.returned(result)
    return result


def _generator(driven: Any) -> Any:
    return (yield from driven)


async def _async_generator(driven: Any) -> Any:
    try:
        chunk = await driven.asend(None)
        while True:
            try:
                sent = yield chunk
            except GeneratorExit:
                await driven.aclose()
                raise
            except BaseException as error:
                chunk = await driven.athrow(error)
            else:
                chunk = await driven.asend(sent)
    except StopAsyncIteration:
        return


_core.set_shells(_coroutine, _generator, _async_generator)
_FUNCTION = type(_returns)
