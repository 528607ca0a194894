"""Bytes that no exporter sends: refused with a reason, or stored as far as they mean something; never a crash."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spanbox import Box, _core


def varint(number: int) -> bytes:
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def in_span(payload: bytes) -> bytes:
    ids = field(1, b"\x01" * 16) + field(2, b"\x02" * 8)
    return field(1, field(2, field(2, ids + payload)))


def attribute(key: bytes, value: bytes) -> bytes:
    return field(9, field(1, key) + field(2, value))


def nested(depth: int, number: int) -> bytes:
    value = b""
    for _ in range(depth):
        value = field(number, field(1, value if number == 5 else field(2, value)))
    return value


def json_span(**members: Any) -> bytes:
    span = {"traceId": "01" * 16, "spanId": "02" * 8, **members}
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


def json_value(value: Any) -> bytes:
    return json_span(attributes=[{"key": "k", "value": value}])


def json_nested(depth: int, key: str) -> bytes:
    text = '{"arrayValue":{"values":[' if key == "arrayValue" else '{"kvlistValue":{"values":[{"key":"x","value":'
    end = "]}}" if key == "arrayValue" else "}]}}"
    return json_value("@").replace(b'"@"', (text * depth + "{}" + end * depth).encode())


REFUSED_PROTOBUF = {
    "length of 2 GB": field(1, b"")[:1] + varint(2**31) + b"x",
    "length past 64 bits": b"\x0a" + b"\xff" * 9 + b"\x7f",
    "overlong varint": b"\x08" + b"\x80" * 20 + b"\x01",
    "negative length": b"\x0a" + varint(2**64 - 1),
    "field number 0": b"\x02\x01x",
    "group": b"\x0b\x0c",
    "unknown wire type": b"\x0e\x01",
    "truncated": in_span(attribute(b"k", field(1, b"text")))[:-2],
    "truncated fixed64": in_span(b"\x39\x01\x02"),
    "key that is not UTF-8": in_span(attribute(b"\xff", field(1, b"x"))),
    "text that is not UTF-8": in_span(attribute(b"k", field(1, b"\xed\xa0\x80"))),
    "name that is not UTF-8": in_span(field(5, b"\xc0\xaf")),
    "lists nested 33 deep": in_span(attribute(b"k", nested(33, 5))),
    "lists nested 20,000 deep": in_span(attribute(b"k", nested(20_000, 5))),
    "mappings nested 10,000 deep": in_span(attribute(b"k", nested(10_000, 6))),
    "damage behind a good span": in_span(b"") + b"\xff",
    "JSON": b'{"resourceSpans": []}',
}
REFUSED_JSON = {
    "nothing": b"",
    "no JSON": b"\x00\x01",
    "cut": b'{"resourceSpans": [',
    "two documents": b"{}{}",
    "list": b"[]",
    "brackets 100,000 deep": b"[" * 100_000,
    "unknown key 100,000 deep": b'{"x":' * 100_000,
    "lone surrogate": rb'{"resourceSpans": [{"schemaUrl": "\ud800"}]}',
    "not UTF-8": b'{"resourceSpans": [{"schemaUrl": "\xff"}]}',
    "bare NaN": json_value({"doubleValue": 0}).replace(b'"doubleValue": 0', b'"doubleValue": NaN'),
    "number past all": json_value({"intValue": 0}).replace(b'"intValue": 0', b'"intValue": 99999999999999999999'),
    "spans that are no list": b'{"resourceSpans": [{"scopeSpans": [{"spans": {}}]}]}',
    "span that is no object": b'{"resourceSpans": [{"scopeSpans": [{"spans": [1]}]}]}',
    "name that is a number": json_span(name=5),
    "negative time": json_span(startTimeUnixNano=-1),
    "time that is a text": json_span(startTimeUnixNano="soon"),
    "kind that is a name": json_span(kind="SPAN_KIND_CLIENT"),
    "int with a letter": json_value({"intValue": "12x"}),
    "bool that is text": json_value({"boolValue": "true"}),
    "bytes that are not base64": json_value({"bytesValue": "a"}),
    "lists nested 33 deep": json_nested(33, "arrayValue"),
    "mappings nested 200 deep": json_nested(200, "kvlistValue"),
}


@pytest.mark.parametrize("body", REFUSED_PROTOBUF.values(), ids=REFUSED_PROTOBUF)
def test_malformed_protobuf_is_refused_and_nothing_stored(box: Box, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"at byte \d+"):
        box._store.receive_otlp(body, False)
    assert box.spans().count() == 0


@pytest.mark.parametrize("body", REFUSED_JSON.values(), ids=REFUSED_JSON)
def test_malformed_json_is_refused_and_nothing_stored(box: Box, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        box._store.receive_otlp(body, True)
    assert box.spans().count() == 0


@pytest.mark.parametrize(
    "body",
    [
        in_span(attribute(b"k", nested(32, 5))),
        in_span(attribute(b"__proto__", field(1, b"x")) + attribute(b"constructor", field(1, b"y"))),
        in_span(attribute(b"k", field(1, b"a")) * 3),  # the same key again
        in_span(varint(5 << 3) + b"\x01" + field(6, b"x")),  # fields of other types than they have
        in_span(b"\x39" + b"\xff" * 8 + b"\x41" + b"\x01" + bytes(7)),  # begins in the year 2554, ends before
        in_span(field(200, b"from the future") + varint(201 << 3) + b"\x01"),
    ],
    ids=["32 deep", "names", "key thrice", "types", "times", "unknown fields"],
)
def test_strange_protobuf_is_stored(box: Box, body: bytes) -> None:
    assert box._store.receive_otlp(body, False)[0] == 1
    assert box.spans().count() == 1
    again = _core.encode_otlp(box._store.trace("01" * 16), False, True)
    assert box._store.receive_otlp(again, False)[1] == 1


def test_of_a_json_key_that_stands_twice_the_last_counts(box: Box) -> None:
    """As the JSON readers of most languages have it: what was checked before us is what we store."""
    first, last = (json_span(name=name)[1:-1] for name in ("first", "last"))
    assert box._store.receive_otlp(b"{" + first + b"," + last + b"}", True)[:3] == (1, 0, 0)
    twice = json_span(name="x").replace(b'"name": "x"', b'"name": "y", "spanId": "0303030303030303", "name": "z"')
    assert box._store.receive_otlp(twice, True)[:3] == (1, 0, 0)
    assert {row["name"]: row["span_id"] for row in box.spans()}.keys() == {"last", "z"}
    assert "0303030303030303" in {row["span_id"] for row in box.spans()}


@pytest.mark.parametrize("is_json", [False, True], ids=["protobuf", "json"])
def test_many_names_are_few_columns(box: Box, is_json: bool) -> None:
    """10,000 spans of different attributes would else be as many columns."""
    names = [f"name{number}" for number in range(10_000)]
    if is_json:
        spans = [
            {"traceId": "01" * 16, "spanId": f"{n + 1:016x}", "attributes": [{"key": name, "value": {"intValue": n}}]}
            for n, name in enumerate(names)
        ]
        body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    else:
        parts = [
            field(1, b"\x01" * 16) + field(2, (n + 1).to_bytes(8, "big")) + attribute(name.encode(), b"\x18\x01")
            for n, name in enumerate(names)
        ]
        body = field(1, field(2, b"".join(field(2, part) for part in parts)))
    assert box._store.receive_otlp(body, is_json)[0] == len(names)
    columns = {name for name, *_ in _core.SpanStream(box._store, "", None, None, [], None, True).columns}
    assert 900 < len(columns) < 1_100


def test_very_many_attributes_of_a_span_are_dropped_and_counted(box: Box) -> None:
    body = in_span(attribute(b"k", b"\x18\x01") * 70_000)
    assert box._store.receive_otlp(body, False)[0] == 1
    [row] = box._store.trace("01" * 16)
    assert row["attributes"]["otel.dropped_attributes_count"] == 70_000 - 65_536


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bodies_never_crash(box: Box, data: st.DataObject) -> None:
    event = field(11, field(2, b"exception") + field(3, field(1, b"exception.type") + field(2, field(1, b"E"))))
    good = in_span(attribute(b"llm.input_messages.0.message.role", field(1, b"user")) + event + field(13, b""))
    is_json = data.draw(st.booleans())
    body = bytearray(json_value({"arrayValue": {"values": [{"intValue": 1}]}}) if is_json else good)
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
        if not body:
            return
    with contextlib.suppress(ValueError):
        box._store.receive_otlp(bytes(body), is_json)
