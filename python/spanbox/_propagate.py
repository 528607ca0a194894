"""Carries the current span into threads and worker processes of the standard library.

Patches Thread.start, submit of thread and process pool executors, and multiprocessing's Process.start and Pool, each
when its module is first imported. Only spanbox's own ContextVar is carried. Outside of any span, and after
configure(propagate=False), the patched methods do what they did before.

A pool's workers outlive the span they happened to be started in, so they start outside of any; its tasks carry theirs.
"""

from __future__ import annotations

import sys

from spanbox import _core
from spanbox._imports import when_imported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

POOLS = ("concurrent.futures.thread", "concurrent.futures.process", "multiprocessing.pool", "multiprocessing.queues")


def _belongs_to_a_pool(worker: Any) -> bool:
    """`worker`: a Thread or a Process."""
    target = getattr(worker, "_target", None)
    return getattr(worker if target is None else target, "__module__", None) in POOLS


def _replace(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    import functools

    original = owner.__dict__.get(name)
    if original is not None:
        setattr(owner, name, functools.wraps(original)(make(original)))


def _patch_threading(module: ModuleType) -> None:
    key = "_spanbox_context"
    has_context = sys.version_info >= (3, 14)  # Thread(context=...) came, and run() is run in it

    def make_start(start: Callable[..., Any]) -> Callable[..., Any]:
        def carrying_start(self: Any) -> None:
            context = _core.context_to_carry()
            chosen = has_context and self._context is not None
            if context is None or chosen or _belongs_to_a_pool(self):
                start(self)
                return
            self.__dict__[key] = context
            try:
                start(self)
            except BaseException:
                self.__dict__.pop(key, None)
                raise

        return carrying_start

    def make_bootstrap(bootstrap: Callable[..., Any]) -> Callable[..., Any]:
        def carrying_bootstrap(self: Any) -> None:
            context = self.__dict__.pop(key, None)
            if context is not None:
                if has_context:
                    self._context.run(_core.set_context, context)
                else:
                    _core.set_context(context)
                del context
            bootstrap(self)

        return carrying_bootstrap

    _replace(module.Thread, "start", make_start)
    _replace(module.Thread, "_bootstrap_inner", make_bootstrap)


def _patch_executor(module: ModuleType) -> None:
    def make_submit(submit: Callable[..., Any]) -> Callable[..., Any]:
        def carrying_submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            # Another interpreter shares no objects with this one, and cannot import this extension.
            elsewhere = any(base.__name__ == "InterpreterPoolExecutor" for base in type(self).__mro__)
            return submit(self, fn if elsewhere else _core.carried_if_inside(fn), *args, **kwargs)

        return carrying_submit

    for name in ("ThreadPoolExecutor", "ProcessPoolExecutor"):
        if name in vars(module):
            _replace(vars(module)[name], "submit", make_submit)


def _patch_pool(module: ModuleType) -> None:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def carrying(self: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
            return original(self, _core.carried_if_inside(func), *args, **kwargs)

        return carrying

    for name in ("apply_async", "_map_async", "imap", "imap_unordered"):
        _replace(module.Pool, name, make)


def _patch_process(module: ModuleType) -> None:
    from types import MethodType

    def make_start(start: Callable[..., Any]) -> Callable[..., Any]:
        def carrying_start(self: Any) -> None:
            run = self.run
            # `run` is pickled with the process, by name; what is no plain method might not be.
            by_name = isinstance(run, MethodType) and run.__self__ is self and run.__name__ == "run"
            if not by_name or "run" in self.__dict__ or not _core.has_something_to_carry():
                start(self)
                return
            self.__dict__["run"] = _core.outside(run) if _belongs_to_a_pool(self) else _core.carried(run)
            try:
                start(self)
            finally:
                self.__dict__.pop("run", None)

        return carrying_start

    _replace(module.BaseProcess, "start", make_start)


def install() -> None:
    """Patch what is imported, now or later. Called once, when spanbox is imported."""
    when_imported("threading", _patch_threading)
    when_imported("concurrent.futures.thread", _patch_executor)
    when_imported("concurrent.futures.process", _patch_executor)
    when_imported("multiprocessing.process", _patch_process)
    when_imported("multiprocessing.pool", _patch_pool)
