"""A7: what looking for secrets, and for personal data too, adds to capturing a text: nanoseconds of CPU a KB.

The same span takes turns with redaction on and off. Texts are 4 KB with nothing to be redacted in them, which is what
nearly all are: prose, the log of an agent (paths, commands, hashes, diffs), JSON of a tool.

python benchmarks/redaction.py ROUNDS   prints {what, text: ns per KB} as JSON; of "pii" what it adds to "secrets"
"""

from __future__ import annotations

import functools
import json
import os
import random
import sys
import tempfile

import spanbox
from spanbox import _bench
from spanbox._bench import Way
from spanbox._capture import set_capture

SIZE_BYTES = 4096
CALLS = 2_000


def agent_log(rng: random.Random) -> str:
    def step() -> str:
        commit, line = f"{rng.getrandbits(160):040x}", rng.randrange(900)
        return (
            f"$ git show {commit[:12]} -- src/orders/refund_policy_{line}.py\n"
            f"commit {commit}\n@@ -{line},7 +{line},9 @@ def refund(order_id: str, amount=None) -> Refund:\n"
            f'-    limit = config.get("max_tokens", {line})\n+    limit = settings.max_tokens or {line}\n'
            f"FAILED tests/test_refund.py::test_limit[{line}] - AssertionError: {line} != {line + 1}\n"
            f"https://example.com/orders/{rng.getrandbits(64):x}?page={line}&sort=desc\n"
        )

    return "".join(step() for _ in range(SIZE_BYTES // 200))[:SIZE_BYTES]


def tool_json(rng: random.Random) -> str:
    rows = [
        {
            "order_id": f"W{rng.randrange(10**7)}",
            "user_id": f"u_{rng.randrange(10**6)}",
            "items": [{"name": "desk lamp", "item_id": str(rng.randrange(10**10)), "price": rng.randrange(9999) / 100}],
            "status": "delivered",
            "next_page_token": None,
        }
        for _ in range(SIZE_BYTES // 100)
    ]
    return json.dumps(rows)[:SIZE_BYTES]


def main() -> None:
    rounds = int(sys.argv[1])
    rng = random.Random(7)
    texts = {
        "prose": _bench.Chats(input_bytes=1000, output_bytes=1000, pool_bytes=100_000).text(SIZE_BYTES),
        "agent log": agent_log(rng),
        "JSON": tool_json(rng),
    }
    spanbox.configure(tempfile.mkdtemp(prefix="spanbox-bench-", dir=os.environ.get("SPANBOX_BENCH_DIR")))
    found = {}
    for name, text in texts.items():
        give = spanbox.observe(capture_input=False)(lambda text=text: text)
        ways = {
            redact: Way(give, CALLS, functools.partial(set_capture, redact=redact), spanbox.flush)
            for redact in ("secrets", "pii", "off")
        }
        costs = _bench.added(lambda text=text: text, ways, call, rounds=rounds)
        for what, without in (("secrets", "off"), ("pii", "secrets")):
            found[f"{what}, {name}"] = (costs[what]["cpu_ns"] - costs[without]["cpu_ns"]) / (len(text) / 1024)
    print(json.dumps(found))


def call(fn: _bench.Traced, calls: int) -> None:
    for _ in range(calls):
        fn()


if __name__ == "__main__":
    main()
