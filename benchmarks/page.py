"""CPU ms of what the page asks of a store that bench_ingest has filled: first screen, sentence, change of one panel.

python benchmarks/page.py STORE   prints one JSON line. Every answer is computed anew (nothing kept), on one thread,
encoded as it is sent; the least of some rounds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import spanbox
from spanbox.server.api import _money, _overview, _quality, _status, _traces, _worse
from spanbox.server.api._asked import Answers, ask
from spanbox.server.api._columnar import encode
from spanbox.server.api._frame import Colors

ROUNDS = 5
PANELS: dict[str, Callable[..., object]] = {
    "latency": _overview.latency,
    "cost": _money.cost,
    "quality": _quality.quality,
    "failures": _overview.failures,
    "slow": _overview.slow,
    "traces": _traces.traces,
    "heat": _traces.heat,
}


def main() -> None:
    box = spanbox.open(Path(sys.argv[1]), create=False)
    info = box.info()
    end_ns, first_ns = info["last_start_ns"] + 1, info["first_start_ns"]
    ranges = {"6 h": end_ns - 6 * 3_600_000_000_000, "all of it": first_ns}
    found: dict[str, object] = {"spans": info["spans"]}
    for name, since_ns in ranges.items():
        params = {"from": [str(since_ns)], "to": [str(end_ns)], "vs": ["7d"]}
        found[name] = {
            "sentence": least(lambda params=params: answer(box, params, _worse.findings)),  # type: ignore[misc]
            "first screen": least(lambda params=params: screen(box, params)),  # type: ignore[misc]
            **{
                panel: least(lambda params=params, make=make: answer(box, params, make))  # type: ignore[misc]
                for panel, make in PANELS.items()
            },
        }
    print(json.dumps(found))


def answer(box: spanbox.Box, params: dict[str, list[str]], make: Callable[..., object]) -> None:
    encode(make(ask(Answers(box), params), Colors(box)))


def screen(box: spanbox.Box, params: dict[str, list[str]]) -> None:
    """What the overview asks, one after the other, with what they share kept."""
    answers, colors = Answers(box), Colors(box)
    encode(_status.status(ask(answers, params), colors, read_only=False, write_token=""))
    for make in (_worse.findings, *list(PANELS.values())[:5]):
        encode(make(ask(answers, params), colors))


def least(run: Callable[[], None]) -> float:
    times = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        run()
        times.append((time.process_time() - begin) * 1e3)
    return min(times)


if __name__ == "__main__":
    main()
