"""What capturing costs the caller, by shape of the value: nanoseconds of the calling thread's CPU time a span.

Each line is the median over the rounds of (span with the value - the same span without it). recording.py measures whole
spans.

python benchmarks/capture.py [NAME...]   shapes whose name has one of the NAMEs in it
"""

from __future__ import annotations

import sys
import tempfile

import spanbox
from spanbox._bench import Traced, Way, added

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


@spanbox.observe(capture_input=False)
def give(value: object) -> object:
    return value


@spanbox.observe(capture_input=False, capture_output=False)
def give_uncaptured(value: object) -> object:
    return value


def cost_ns(value: object) -> float:
    def call(fn: Traced, calls: int) -> None:
        for _ in range(calls):
            fn(value)

    calls = 4_000 if len(str(value)) < 10_000 else 20
    return added(give_uncaptured, {"captured": Way(give, calls, settle=spanbox.flush)}, call)["captured"]["cpu_ns"]


def main() -> None:
    chosen = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="spanbox-bench-", ignore_cleanup_errors=True) as folder:
        spanbox.configure(folder)
        for name, value in VALUES.items():
            if not chosen or any(word in name for word in chosen):
                print(f"{name:24} {cost_ns(value):12,.0f} ns")
        spanbox.flush()


if __name__ == "__main__":
    main()
