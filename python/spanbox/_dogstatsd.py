"""DogStatsD: what is new in a store, as counts and distributions, to the Datadog agent by UDP.

A datagram may get lost, and nobody tells. So what is new counts as sent before it is sent: it is lost when the process
dies in between, and never sent twice.

Thread rule: plain functions and values. Units: as the metrics' names say; times are seconds.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from spanbox._exposition import upper_bound
from spanbox._metrics import LABELS, Delta, take

if TYPE_CHECKING:
    from spanbox._box import Box

__all__ = ["push"]

_DATAGRAM_BYTES = 1432  # fits an Ethernet frame; what Datadog recommends
_NAMES = {"duration_ns": "duration_seconds", "ttft_ns": "ttft_seconds", "tpot_ns": "tpot_seconds"}


def push(box: Box, address: str, *, labels: Sequence[str] = ()) -> int:
    """Sends what has been stored since the last time to the agent at HOST:PORT; returns how many lines that were."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{address!r} is no address: give HOST:PORT, such as 127.0.0.1:8125")
    all_labels = (*LABELS, *labels)
    delta = Delta()
    steps: list[Delta] = []

    def new_state(state: bytes, new: Delta) -> bytes:
        steps.append(new)
        return b""

    take(box._fresh_store(), f"dogstatsd {address} {','.join(all_labels)}", all_labels, new_state)
    for step in steps:
        delta.add(step, max_series=1 << 30)
    return _send(list(_lines(delta, all_labels)), host.strip("[]"), int(port))


def _lines(delta: Delta, labels: Sequence[str]) -> Iterator[str]:
    for key, series in delta.series.items():
        own = [f"{name}:{_tag(value)}" for name, value in zip(labels, key, strict=True) if value]
        for status, count in series.statuses.items():
            yield _line("spans", count, "c", [*own, f"status:{status}"])
        for error_type, count in series.errors.items():
            yield _line("errors", count, "c", [*own, f"error_type:{_tag(error_type)}"])
        for type_, count in series.tokens.items():
            yield _line("tokens", count, "c", [*own, f"type:{type_}"])
        if series.priced:
            yield _line("cost_usd", series.cost_usd, "c", own)
        for name, distribution in series.times.items():
            for bucket, count in distribution.buckets.items():
                value = 0.0 if bucket is None else (upper_bound(bucket - 1) + upper_bound(bucket)) / 2
                yield _line(_NAMES[name], value, f"d|@{1 / count:.9g}" if count > 1 else "d", own)
    for (name, source), scores in delta.scores.items():
        yield _line("scores", scores.count, "c", [f"name:{_tag(name)}", f"source:{_tag(source)}"])


def _line(name: str, value: float, type_: str, tags: list[str]) -> str:
    return f"spanbox.{name}:{value:.9g}|{type_}" + (f"|#{','.join(tags)}" if tags else "")


def _tag(value: str) -> str:
    """Without what would end the tag, the line or the datagram."""
    return "".join("_" if c in ",|#\n\r" or not c.isprintable() else c for c in value) or "none"


def _send(lines: list[str], host: str, port: int) -> int:
    kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(kind, socket.SOCK_DGRAM) as out:
        datagram = b""
        for line in [*lines, ""]:
            encoded = line.encode("utf-8", "replace")
            if datagram and (not line or len(datagram) + len(encoded) + 1 > _DATAGRAM_BYTES):
                out.sendto(datagram, address)
                datagram = b""
            datagram += (b"\n" if datagram else b"") + encoded
    return len(lines)
