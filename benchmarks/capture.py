"""What capturing costs the caller, by shape of the value: nanoseconds of the calling thread's CPU time a span.

Each line is the median over the rounds of (span with the value - the same span without it); `A2` is a whole span with
a 1 KB dict in, a 2 KB string out and 10 attributes.

python benchmarks/capture.py [NAME...]
"""

from __future__ import annotations

import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import spanbox

ROUNDS = 15
CALLS = 4_000

PROSE = "Our refund policy covers purchases made within thirty days; the order must be unused. "
TURN = {"role": "user", "content": PROSE * 2}
ONE_KB = {
    "model": "gpt-5-mini",
    "temperature": 0.2,
    "max_tokens": 512,
    "messages": [{"role": "system", "content": PROSE * 4}, {"role": "user", "content": PROSE * 5}],
    "tools": [{"type": "function", "name": "search_orders", "strict": True}],
    "user": "u-1842",
}
VALUES: dict[str, object] = {
    "int": 7,
    "float": 0.25,
    "str 19": "what is the answer?",
    "str 2 KB prose": (PROSE * 30)[:2048],
    "str 2 KB JSON": ('{"id": 18, "name": "desk lamp", "price": 24.5, "stock": true}, ' * 40)[:2048],
    "str 2 KB non-ASCII": ("Größe, Maß und Übergänge — né à Paris. " * 60)[:2000],
    "str 256 KB prose": (PROSE * 4000)[: 256 * 1000],
    "dict 1 KB": ONE_KB,
    "list of 1,000 ints": list(range(1000)),
    "dict of 1,000 floats": {f"feature_{i}": i / 7 for i in range(1000)},
    "200 chat turns": [TURN] * 200,
    "list of 1,000,000 ints": list(range(1_000_000)),
    "nested 10^6": [[[[i] * 100] * 100] * 100 for i in range(1)],
}


@spanbox.observe(capture_output=False)
def nothing(value: object) -> None:
    pass


@spanbox.observe(capture_input=False)
def give(value: object) -> object:
    return value


@spanbox.observe(capture_input=False, capture_output=False)
def give_uncaptured(value: object) -> object:
    return value


OUT = VALUES["str 2 KB prose"]


@spanbox.observe
def a2(request: dict[str, object]) -> object:
    return OUT


def a2_span() -> None:
    with spanbox.span("a2", kind="llm") as span:
        span.input = ONE_KB
        span.set(
            model="gpt-5-mini", provider="openai", input_tokens=1200, output_tokens=300, cost_usd=0.0042,
            temperature=0.2, user_id="u-1842", session_id="s-77", prompt_version="v7", cached=True,
        )  # fmt: skip
        span.output = OUT


def a2_bare() -> None:
    pass


def per_call(work: Callable[[], object], calls: int) -> float:
    begin = time.thread_time_ns()
    for _ in range(calls):
        work()
    return (time.thread_time_ns() - begin) / calls


def difference(work: Callable[[], object], base: Callable[[], object], calls: int) -> float:
    samples = []
    for _ in range(ROUNDS):
        bare = per_call(base, calls)
        samples.append(per_call(work, calls) - bare)
        spanbox.flush()
    return statistics.median(samples)


def main() -> None:
    spanbox.configure(tempfile.mkdtemp(prefix="spanbox-bench-"))
    gc.disable()
    chosen = sys.argv[1:]
    for name, value in VALUES.items():
        if chosen and not any(word in name for word in chosen):
            continue
        calls = CALLS if len(str(value)) < 10_000 else 20
        cost = difference(lambda v=value: give(v), lambda v=value: give_uncaptured(v), calls)  # type: ignore[misc]
        print(f"{name:24} {cost:12,.0f} ns")
    if not chosen or "A2" in chosen:
        print(f"{'A2, @observe':24} {difference(lambda: a2(ONE_KB), a2_bare, 2000):12,.0f} ns (no attributes)")
        print(f"{'A2, span()':24} {difference(a2_span, a2_bare, 2000):12,.0f} ns (10 attributes)")


if __name__ == "__main__":
    main()
