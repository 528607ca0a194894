"""The user's functions do the same with the recorder on, off, broken in every way there is, and in a forked child."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

# What a program can observe of a function: its result, its exception with traceback, cause and context, the order of
# what it does, its chunks, and what inspect says. Printed for the plain functions and for the decorated ones.
PROGRAM = """
import asyncio, contextvars, functools, gc, inspect, json, os, sys, traceback
import spanbox

order = []
request = contextvars.ContextVar("request", default="none")


def plain(a, /, b=2, *rest, c=3, **more):
    "Adds up."
    order.append("plain")
    request.set("by plain")
    return a + b + c + sum(rest)


def failing(x):
    try:
        raise KeyError("cause")
    except KeyError as cause:
        raise ValueError(f"bad {x}") from cause


def chunks(n):
    try:
        for i in range(n):
            order.append(i)
            got = yield i
            if got is not None:
                order.append(got)
        return "done"
    finally:
        order.append("closed")


async def wait(x):
    await asyncio.sleep(0)
    order.append("woke")
    return x


async def achunks(n):
    try:
        for i in range(n):
            await asyncio.sleep(0)
            yield i
    finally:
        order.append("aclosed")


class Thing:
    def method(self, x):
        return (type(self).__name__, x)

    @classmethod
    def make(cls, x):
        return (cls.__name__, x)

    @staticmethod
    def static(x):
        return x


def outcome(call):
    try:
        return ["returned", repr(call())]
    except BaseException as error:
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        ours = ("outcome", "<lambda>", "_coroutine", "_generator", "_async_generator")
        users = [name for name in frames if name not in ours]
        return ["raised", repr(error), repr(error.__cause__), repr(error.__context__), users]


def drive_generator(make):
    stream = make(3)
    seen = [next(stream), stream.send("sent"), list(stream)]
    early = make(3)
    next(early)
    early.close()
    return seen


async def drive_async(wait, achunks):
    return [await wait(7), [c async for c in achunks(2)], await asyncio.gather(*(wait(i) for i in range(5)))]


def look(mark):
    order.clear()
    p, f, g, w, a = (mark(function) for function in (plain, failing, chunks, wait, achunks))
    result = {
        "plain": [outcome(lambda: p(1)), outcome(lambda: p(1, 2, 3, c=4))],
        "refuses": [outcome(lambda: p()), outcome(lambda: p(b=1))],
        "unhashable": outcome(lambda: p([1], [2], c=[3])),
        "failing": outcome(lambda: f("x")),
        "generator": outcome(lambda: drive_generator(g)),
        "generator refuses": outcome(lambda: g()),
        "async": outcome(lambda: asyncio.run(drive_async(w, a))),
        "async fails": outcome(lambda: asyncio.run(w())),
        "exit": outcome(lambda: mark(sys.exit)(3)),
        "partial": outcome(lambda: mark(functools.partial(plain, 1))(c=9)),
        "builtin": outcome(lambda: mark(max)(3, 8)),
        "method": outcome(lambda: [Thing().method(1), Thing.make(2), Thing.static(3)]),
        "order": list(order),
        "contextvar": request.get(),
        "inspect": [
            [str(inspect.signature(x)), x.__name__, x.__qualname__, x.__module__, x.__doc__,
             inspect.iscoroutinefunction(x), inspect.isgeneratorfunction(x), inspect.isasyncgenfunction(x),
             inspect.isroutine(x), callable(x), inspect.getsource(x)]
            for x in (p, f, g, w, a)
        ],
    }
    return result


def observed_methods():
    for name in ("method", "make", "static"):
        setattr(Thing, name, spanbox.observe(vars(Thing)[name]))


def main():
    expected = look(lambda function: function)
    observed_methods()
    break_it()
    for turn in range(3):
        got = look(spanbox.observe)
        if got != expected:
            for key in expected:
                if got[key] != expected[key]:
                    print(json.dumps({"what": key, "expected": expected[key], "got": got[key]}))
            os._exit(1)
    if inside is not None:
        inside()
    print("same")


inside = None
"""

WAYS = {
    "on": """
        def break_it():
            spanbox.configure(sys.argv[1])
    """,
    "off": """
        def break_it():
            spanbox.configure(sys.argv[1])
            spanbox.off()
    """,
    "the store's folder removed while it records": """
        import shutil
        def break_it():
            spanbox.configure(sys.argv[1])
            with spanbox.span("before"):
                pass
            spanbox.flush()
            shutil.rmtree(sys.argv[1])
    """,
    "no file may be larger than 4 KiB": """
        import resource
        def break_it():
            spanbox.configure(sys.argv[1])
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    """,
    "no memory may be mapped for the ring": """
        import resource
        def break_it():
            spanbox.configure(sys.argv[1])
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (6 << 20), resource.RLIM_INFINITY))
    """,
    "the store cannot be opened": """
        def break_it():
            with open(sys.argv[1], "w") as file:
                file.write("in the way")
            os.environ["SPANBOX_DIR"] = sys.argv[1]
    """,
    "no descriptors left": """
        import resource
        def break_it():
            spanbox.configure(sys.argv[1])
            asyncio.set_event_loop(None)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            used = len(os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, hard))
    """,
    "in a forked child, inside an open span": """
        def break_it():
            spanbox.configure(sys.argv[1])
            spanbox.span("open in the parent").__enter__()
            child = os.fork()
            if child != 0:
                _, status = os.waitpid(child, 0)
                os._exit(os.waitstatus_to_exitcode(status))
    """,
    "closed and configured again between the calls": """
        def break_it():
            spanbox.configure(sys.argv[1])
        @spanbox.observe
        def outer():
            spanbox.configure(sys.argv[1] + "-other")
            return 5
        def inside():
            assert outer() == 5
    """,
}


@pytest.mark.parametrize("way", WAYS)
def test_functions_do_the_same(way: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM + textwrap.dedent(WAYS[way]) + "\nmain()\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    differences = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert differences == []
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "same"
    assert done.stderr == ""
