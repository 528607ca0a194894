"""Metrics as Prometheus reads them: its text format, OpenMetrics, and its protobuf format with native histograms.

Thread rule: functions and plain values. Units: those of the values given. Of a histogram, bucket i holds values v with
2^((i-1)/8) < v <= 2^(i/8), which is schema 3 of native histograms; the texts have cumulative buckets at some of these
bounds, so what they say is exact, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from spanbox._protobuf import bytes_field, double_field, int_field, text_field, varint, zigzag

__all__ = ["CONTENT_TYPES", "Exemplar", "Family", "Format", "Histogram", "choose_format", "render"]

Labels = tuple[tuple[str, str], ...]
Format = Literal["text", "openmetrics", "protobuf"]

CONTENT_TYPES: dict[Format, str] = {
    "text": "text/plain; version=0.0.4; charset=utf-8",
    "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
    "protobuf": "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
}

_SCHEMA = 3
_ZERO_THRESHOLD = 2.0**-128
_TYPES = {"counter": 0, "gauge": 1, "histogram": 4}  # io.prometheus.client.MetricType


@dataclass(frozen=True, slots=True)
class Exemplar:
    labels: Labels
    value: float
    at_s: float  # since 1970


@dataclass(frozen=True, slots=True)
class Histogram:
    count: int
    total: float
    zeros: int  # values that are not above zero
    buckets: dict[int, int]  # ascending
    bounds: Sequence[int]  # buckets whose upper bounds the texts show
    exemplar: Exemplar | None = None

    def cumulative(self) -> list[tuple[float, int]]:
        """Upper bounds with how many values are not above them, the last one infinite."""
        rows, below = [], self.zeros
        waiting = iter([*self.buckets.items(), (None, 0)])
        bucket, count = next(waiting)
        for bound in self.bounds:
            while bucket is not None and bucket <= bound:
                below += count
                bucket, count = next(waiting)
            rows.append((upper_bound(bound), below))
        return [*rows, (math.inf, self.count)]


@dataclass(slots=True)
class Family:
    """All series of one name. Counters are named without `_total`, which their samples have."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    points: list[tuple[Labels, float | Histogram]] = field(default_factory=list)

    def add(self, labels: Labels, value: float | Histogram) -> None:
        self.points.append((labels, value))

    @property
    def sample_name(self) -> str:
        return self.name + "_total" if self.type == "counter" else self.name


def upper_bound(bucket: int) -> float:
    """What is in the bucket is not above this."""
    return math.ldexp(2.0 ** ((bucket % 8) / 8), bucket // 8)


def choose_format(accept: str) -> Format:
    """The best format an Accept header takes."""
    accepted = accept.lower()
    if "io.prometheus.client.metricfamily" in accepted and "delimited" in accepted:
        return "protobuf"
    return "openmetrics" if "application/openmetrics-text" in accepted else "text"


def render(families: Iterable[Family], format: Format) -> bytes:
    families = [family for family in families if family.points]
    if format == "protobuf":
        return b"".join(_family_message(family) for family in families)
    lines: list[str] = []
    for family in families:
        lines += _family_lines(family, openmetrics=format == "openmetrics")
    if format == "openmetrics":
        lines.append("# EOF")
    return "".join(line + "\n" for line in lines).encode()


# --- text ------------------------------------------------------------------------------------------------------------


def _family_lines(family: Family, *, openmetrics: bool) -> list[str]:
    name = family.name if openmetrics else family.sample_name
    lines = [f"# HELP {name} {_escape(family.help)}", f"# TYPE {name} {family.type}"]
    for labels, value in family.points:
        if isinstance(value, Histogram):
            lines += _histogram_lines(family.name, labels, value, openmetrics=openmetrics)
        else:
            lines.append(f"{family.sample_name}{_labels(labels)} {_number(value)}")
    return lines


def _histogram_lines(name: str, labels: Labels, value: Histogram, *, openmetrics: bool) -> list[str]:
    lines, shown = [], not openmetrics or value.exemplar is None
    for bound, count in value.cumulative():
        exemplar = ""
        if not shown and value.exemplar is not None and value.exemplar.value <= bound:
            mark, shown = value.exemplar, True
            exemplar = f" # {_labels(mark.labels)} {_number(mark.value)} {mark.at_s:.3f}"
        lines.append(f"{name}_bucket{_labels((*labels, ('le', _number(bound))))} {count}{exemplar}")
    return [
        *lines,
        f"{name}_sum{_labels(labels)} {_number(value.total)}",
        f"{name}_count{_labels(labels)} {value.count}",
    ]


def _labels(labels: Labels) -> str:
    inside = ",".join(f'{name}="{_escape(value, quotes=True)}"' for name, value in labels if value)
    return f"{{{inside}}}" if inside else ""


def _escape(text: str, *, quotes: bool = False) -> str:
    escaped = _encodable(text).replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if quotes else escaped


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _number(value: float) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return repr(value)


# --- protobuf --------------------------------------------------------------------------------------------------------


def _family_message(family: Family) -> bytes:
    metrics = b"".join(bytes_field(4, _metric(family.type, labels, value)) for labels, value in family.points)
    head = text_field(1, family.sample_name) + text_field(2, family.help) + int_field(3, _TYPES[family.type])
    message = head + metrics
    return varint(len(message)) + message


def _pairs(labels: Labels) -> bytes:
    return b"".join(bytes_field(1, text_field(1, name) + text_field(2, value)) for name, value in labels if value)


def _metric(type_: str, labels: Labels, value: float | Histogram) -> bytes:
    if isinstance(value, Histogram):
        return _pairs(labels) + bytes_field(7, _histogram_message(value))
    return _pairs(labels) + bytes_field(3 if type_ == "counter" else 2, double_field(1, float(value)))


def _exemplar(exemplar: Exemplar) -> bytes:
    seconds = math.floor(exemplar.at_s)
    at = int_field(1, seconds) + int_field(2, int((exemplar.at_s - seconds) * 1e9))
    return _pairs(exemplar.labels) + double_field(2, exemplar.value) + bytes_field(3, at)


def _histogram_message(value: Histogram) -> bytes:
    """Both kinds of buckets: who knows no native ones takes the others. The last of these has the exemplar's place."""
    out = int_field(1, value.count) + double_field(2, value.total)
    shown = value.exemplar is None
    for bound, count in value.cumulative():
        bucket = int_field(1, count) + double_field(2, bound)
        if not shown and value.exemplar is not None and value.exemplar.value <= bound:
            bucket, shown = bucket + bytes_field(3, _exemplar(value.exemplar)), True
        out += bytes_field(3, bucket)
    out += varint(5 << 3) + zigzag(_SCHEMA) + double_field(6, _ZERO_THRESHOLD) + int_field(7, value.zeros)
    deltas = b""
    spans: list[list[int]] = []  # of buckets without a gap: how far behind the one before, how many
    before = next_bucket = 0
    for index, count in value.buckets.items():
        if spans and index == next_bucket:
            spans[-1][1] += 1
        else:
            spans.append([index - next_bucket, 1])
        deltas += zigzag(count - before)
        before, next_bucket = count, index + 1
    out += b"".join(bytes_field(12, varint(1 << 3) + zigzag(offset) + int_field(2, length)) for offset, length in spans)
    return out + (bytes_field(13, deltas) if deltas else b"")
