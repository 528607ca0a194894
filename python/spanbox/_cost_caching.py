"""What caching by the provider saved, and what broken prefixes lost. Pure functions over columns of calls.

A prefix is broken when a call of a conversation does not read from the cache what the call before it had there: the
same session (or trace), provider and model, no shorter an input, within five minutes. What is lost is what those tokens
cost more than reading them from the cache would have.
Units: money is that of _price_rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spanbox._price_rows import Pricing

_LIFETIME_NS = 300 * 1_000_000_000  # of a cache entry that nobody asked to live longer

Columns = Mapping[str, Sequence[Any]]


def savings(columns: Columns, pricing: Pricing) -> list[int | None]:
    """What each call would have cost without caching, less what it cost; below 0: writing cost more."""
    cached = [(r or 0) + (w or 0) for r, w in _pairs(columns, "cache_read_tokens", "cache_write_tokens")]
    whole = [  # all in, also where the cached ones are provably beside
        tokens + more if tokens is not None and more > tokens else tokens
        for tokens, more in zip(columns["input_tokens"], cached, strict=True)
    ]
    nothing = [0] * len(cached)
    now = {**columns, "input_tokens": whole}
    without = pricing.costs({**now, "cache_read_tokens": nothing, "cache_write_tokens": nothing})
    return [_less(one, other) for one, other in zip(without, pricing.costs(now), strict=True)]


def losses(columns: Columns, pricing: Pricing) -> list[tuple[int, int]]:
    """The calls with a broken prefix, by their place, and what each lost by it.

    `columns` also has session_id and trace_id.
    """
    missed = dict(_missed(columns))
    now = {name: [values[at] for at in missed] for name, values in columns.items()}
    tokens = list(missed.values())
    kept = {
        **now,
        "cache_read_tokens": [(read or 0) + n for read, n in zip(now["cache_read_tokens"], tokens, strict=True)],
        # what was written again would not have been
        "cache_write_tokens": [max(0, (w or 0) - n) for w, n in zip(now["cache_write_tokens"], tokens, strict=True)],
    }
    costs = zip(missed, pricing.costs(now), pricing.costs(kept), strict=True)
    return [(at, less) for at, paid, would in costs if (less := _less(paid, would)) is not None and less > 0]


def _missed(columns: Columns) -> Iterator[tuple[int, int]]:
    """Calls with a broken prefix, and how many tokens of it."""
    at_ns, places = columns["at"], columns["session_id"]
    traces, providers, models = (columns[name] for name in ("trace_id", "provider", "model"))
    total, read, written = (columns[name] for name in ("input_tokens", "cache_read_tokens", "cache_write_tokens"))
    before: dict[tuple[Any, ...], tuple[int, int, int]] = {}  # tokens in the cache, when, of an input how long
    for at in sorted(range(len(at_ns)), key=at_ns.__getitem__):
        length, now, new = total[at], read[at] or 0, written[at] or 0
        if not type(length) is type(now) is type(new) is int:
            continue
        conversation = (places[at] or traces[at], providers[at], models[at])
        there, seen_ns, least = before.get(conversation, (0, 0, 0))
        if length < least:
            continue
        if there > now and at_ns[at] - seen_ns <= _LIFETIME_NS:
            yield at, there - now
        before[conversation] = (now + new, at_ns[at], length)


def _pairs(columns: Columns, one: str, other: str) -> Iterator[tuple[Any, Any]]:
    return zip(columns[one], columns[other], strict=True)


def _less(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one - other
