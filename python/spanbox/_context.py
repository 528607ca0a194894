"""Where in which trace code runs: handles, attach, wrap, the environment of a child process, and the off switch."""

from __future__ import annotations

import os

from spanbox import _core
from spanbox._core import Attach, Handle, Span, current_handle
from spanbox._paths import VARIABLE as STORE_VARIABLE
from spanbox._paths import resolve_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any, ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")

PARENT_VARIABLE = "TRACEPARENT"  # the name OpenTelemetry gives it, too
TAGS_VARIABLE = "SPANBOX_TAGS"
PROPAGATE_VARIABLE = "SPANBOX_PROPAGATE"
DISABLED_VARIABLE = "SPANBOX_DISABLED"


def attach(parent: Handle | Span | str | None) -> Attach:
    """Spans started inside the block are children of `parent`, with its tags as well as those around the block.

        with spanbox.attach(request.headers.get("traceparent")):
            answer(question)

    parent: a Handle, a Span of this process, or the value of a W3C traceparent header (ValueError when it is none).
    None or an empty string change nothing. The block may be left in another task or thread than it was entered in.
    """
    return Attach(parent or None)


def wrap(fn: Callable[P, R], /) -> Callable[P, R]:
    """`fn`, to be run where wrap was called: under the same span, with the same tags, from any thread, any number of
    times. `fn` may be a coroutine function. What wrap makes of a plain function can be pickled if `fn` can.

    Threads and executors of the standard library need no wrap (see docs/context.md); callbacks of other libraries do.
    """
    import functools
    import inspect  # longer to import than all of spanbox, and few programs wrap
    from typing import cast

    if not callable(fn):
        raise TypeError(f"wrap() takes a function, not {type(fn).__name__}")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError("wrap() takes no generator function: its body runs wherever it is iterated; wrap that code")
    if not inspect.iscoroutinefunction(fn) and not inspect.iscoroutinefunction(type(fn).__call__):
        return functools.update_wrapper(cast("Callable[P, R]", _core.carried(fn)), fn)
    step = cast("Callable[P, Awaitable[Any]]", fn)
    here = _core.current_context()

    @functools.wraps(fn)
    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
        with Attach(here, True):
            return await step(*args, **kwargs)

    return cast("Callable[P, R]", wrapped)


def environ() -> dict[str, str]:
    """A copy of os.environ for a child process, whose spans then continue this trace in the same store.

        subprocess.run([sys.executable, "worker.py"], env=spanbox.environ())

    It sets TRACEPARENT, which other tracing libraries read as well, SPANBOX_TAGS and SPANBOX_DIR.
    """
    from binascii import b2a_base64

    variables = dict(os.environ)
    handle = current_handle()
    if handle is not None:
        _, (traceparent, tags) = handle.__reduce__()
        for name, value in ((PARENT_VARIABLE, traceparent), (TAGS_VARIABLE, b2a_base64(tags, newline=False).decode())):
            if value:
                variables[name] = value
            else:
                variables.pop(name, None)
    variables[STORE_VARIABLE] = _core.recording_path() or resolve_store()
    return variables


def off() -> None:
    """Stop recording in this process: functions behave as if undecorated, and no file or thread is made any more.
    Spans that are open still end. SPANBOX_DISABLED=1 in the environment does the same from the start."""
    _core.set_recording_off(True)


def on() -> None:
    """Record again, after off() or SPANBOX_DISABLED=1."""
    _core.set_recording_off(False)


def _is_set(variable: str, default: bool) -> bool:
    value = os.environ.get(variable, "").strip().lower()
    return value not in ("0", "false", "no", "off") if value else default


def _start_from_environment() -> None:
    """What the process was started with; called once, when spanbox is imported."""
    if _is_set(DISABLED_VARIABLE, False):
        off()
    if not _is_set(PROPAGATE_VARIABLE, True):
        _core.set_propagate(False)
        return
    traceparent, tags = os.environ.get(PARENT_VARIABLE, ""), os.environ.get(TAGS_VARIABLE, "")
    if traceparent or tags:
        from binascii import a2b_base64

        try:
            _core.set_process_context(Handle(traceparent, a2b_base64(tags, strict_mode=True)))
        except ValueError:  # what somebody else has left there is not the program's fault
            return


_start_from_environment()
