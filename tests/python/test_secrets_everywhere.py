"""S-secrets: sixty kinds of keys, more than twenty ways into a store, and not one byte of a key on the disk."""

from __future__ import annotations

import base64
import json
import random
import string
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox import _audit, _core

ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + "234567"
WORD = ALNUM + "-_"
BECH32 = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"

# Prefix, characters and length of what follows, as the makers of the keys write them.
KINDS: list[tuple[str, str, int]] = [
    ("sk-", ALNUM, 48), ("sk-proj-", WORD, 100), ("sk-svcacct-", WORD, 60), ("sk-admin-", WORD, 60),
    ("sk-ant-api03-", WORD, 93), ("sk-or-v1-", HEX, 64), ("sk-lf-", HEX, 32), ("hf_", ALNUM, 34),
    ("gsk_", ALNUM, 52), ("xai-", ALNUM, 80), ("r8_", ALNUM, 37), ("pplx-", ALNUM, 48), ("nvapi-", WORD, 64),
    ("tgp_v1_", WORD, 43), ("pcsk_", WORD, 70), ("tvly-", ALNUM, 32), ("AKIA", UPPER, 16), ("ASIA", UPPER, 16),
    ("AIza", WORD, 35), ("GOCSPX-", WORD, 28), ("ya29.", WORD, 100), ("dop_v1_", HEX, 64), ("LTAI", ALNUM, 20),
    ("dapi", HEX, 32), ("ghp_", ALNUM, 36), ("gho_", ALNUM, 36), ("ghu_", ALNUM, 36), ("ghs_", ALNUM, 36),
    ("ghr_", ALNUM, 36), ("github_pat_", ALNUM, 82), ("glpat-", WORD, 20), ("npm_", ALNUM, 36),
    ("pypi-AgEI", WORD, 150), ("rubygems_", HEX, 48), ("dckr_pat_", WORD, 27), ("CCIPAT_", ALNUM, 60),
    ("sk_live_", ALNUM, 24), ("rk_live_", ALNUM, 24), ("sk_test_", ALNUM, 24), ("whsec_", ALNUM, 32),
    ("sq0atp-", WORD, 22), ("shpat_", HEX, 32), ("xoxb-123456789012-1234567890123-", ALNUM, 24),
    ("xoxp-123456789012-123456789012-", HEX, 32), ("xapp-1-A0", ALNUM, 60), ("SK", HEX, 32), ("key-", HEX, 32),
    ("xkeysib-", HEX, 64), ("ntn_", ALNUM, 46), ("lin_api_", ALNUM, 40), ("figd_", WORD, 40), ("ATATT3", WORD, 180),
    ("glsa_", ALNUM, 40), ("NRAK-", UPPER, 27), ("hvs.", WORD, 90), ("dp.pt.", ALNUM, 43), ("sntrys_", ALNUM, 100),
    ("PMAK-", HEX, 58), ("eyJhbGciOiJIUzI1NiJ9.eyJ", ALNUM, 60), ("AGE-SECRET-KEY-1", BECH32, 58),
]  # fmt: skip


# What every key has in it, by the characters it is made of: so few values are looked for in many bytes.
MARKS = {
    ALNUM: "7aXq9ZkV3Rw5",
    WORD: "7aXq9ZkV3Rw5",
    HEX: "7a0d95ec31fb",
    UPPER: "Q7XZKV2MRW5T",
    BECH32: "Q7XZKV2MRW5T",
}


def keys_of(way: int) -> list[str]:
    """A key of each kind, of this way alone."""
    made = []
    for number, (prefix, characters, size) in enumerate(KINDS):
        mark = MARKS[characters]
        rest = random.Random(1000 * way + number).choices(characters.strip("-_"), k=size - len(mark))
        made.append(prefix + "".join(rest[: len(rest) // 2]) + mark + "".join(rest[len(rest) // 2 :]))
    return made


@pytest.fixture
def small_ring(recorded: Any) -> Iterator[Any]:
    """A ring that is soon looked through, and loses nothing."""
    spanbox.configure(recorded.path, full_ring="block", max_ring_bytes=4 << 20)
    yield recorded
    spanbox.configure(recorded.path, full_ring="wait", max_ring_bytes=64 << 20, redact="secrets")


def as_argument(key: str) -> None:
    spanbox.observe(lambda text: None)(key)


def as_keyword(key: str) -> None:
    spanbox.observe(lambda **options: None)(option=f"use {key}, please")


def as_extra_argument(key: str) -> None:
    spanbox.observe(lambda *rest: None)(1, [key])


def as_result(key: str) -> None:
    spanbox.observe(lambda: {"choices": [{"message": {"content": f"it is {key}"}}]})()


def as_header(key: str) -> None:
    spanbox.observe(lambda headers: None)({"X-Trace": key, "Authorization": f"Bearer {key}"})


def as_address(key: str) -> None:
    spanbox.observe(lambda url: None)(f"https://api.example.com/v1?key={key}&alt=json")


def as_nested_json(key: str) -> None:
    spanbox.observe(lambda body: None)(json.dumps({"a": json.dumps({"b": [key]})}))


def as_dict_key(key: str) -> None:
    spanbox.observe(lambda table: None)({key: 1})


def as_exception(key: str) -> None:
    @spanbox.observe
    def fail() -> None:
        raise ValueError(f"Incorrect API key provided: {key}. You can find")

    with pytest.raises(ValueError):  # noqa: PT011
        fail()


def as_exception_data(key: str) -> None:
    with pytest.raises(RuntimeError), spanbox.span("fails"):
        raise RuntimeError({"request": {"headers": [key]}})


def as_attribute(key: str) -> None:
    with spanbox.span("s", note=f"note {key}") as span:
        span.set(table={"rows": [key]})


def as_attribute_name(key: str) -> None:
    with spanbox.span("s") as span:
        span.set(**{key: 1})


def as_name(key: str) -> None:
    with spanbox.span(f"call with {key}"):
        pass


def as_tag(key: str) -> None:
    with spanbox.tags(session_id=key, about=f"of {key}"), spanbox.span("s"):
        pass


def as_event(key: str) -> None:
    with spanbox.span("s") as span:
        span.set(events=[{"name": "sent", "attributes": {"text": f"sent {key}"}}])


def as_bytes(key: str) -> None:
    spanbox.observe(lambda content: None)(f"POST /?k={key} HTTP/1.1".encode())


def as_blob(key: str) -> None:
    with spanbox.span("s") as span:
        span.input = "x" * 66_000 + f" {key}"
        span.output = f"{key} ".encode() + b"y" * 2000


def as_stream(key: str) -> None:
    @spanbox.observe
    def parts() -> Iterator[str]:
        yield "the key is "
        yield key

    list(parts())


def as_score(key: str) -> None:
    with spanbox.span("s") as span:
        span.score(f"says {key}", label=f"l {key}", explanation=f"because of {key}")


def as_ingest(key: str) -> None:
    box = spanbox.open(_core.recording_path())
    start = 1_800_000_000_000_000_000 + random.Random(key).randrange(1000)
    row = {"name": f"n {key}", "start_ns": start, "duration_ns": 1, "input": {"a": [key]}, "output": f"o {key}", key: 1}
    box.ingest(_Arrow([row]))
    box.add_scores([{"name": f"n {key}", "trace_id": "1" * 32, "explanation": key, "metadata": {"why": [key]}}])


def as_otlp(key: str) -> None:
    text = {"key": "llm.input_messages", "value": {"stringValue": f'[{{"content": "it is {key}"}}]'}}
    span = {
        "traceId": f"{random.Random(key).getrandbits(127) + 1:032x}",
        "spanId": f"{random.Random(key).getrandbits(63) + 1:016x}",
        "name": f"n {key}",
        "startTimeUnixNano": "1800000000000000000",
        "endTimeUnixNano": "1800000000000000001",
        "attributes": [text, {"key": f"of.{key}", "value": {"stringValue": key}}],
        "events": [{"name": "sent", "attributes": [text]}],
    }
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    store = _core.Store(_core.recording_path(), False)
    assert store.receive_otlp(json.dumps(body).encode(), True)[0] == 1


WAYS: list[Callable[[str], None]] = [
    as_argument, as_keyword, as_extra_argument, as_result, as_header, as_address, as_nested_json, as_dict_key,
    as_exception, as_exception_data, as_attribute, as_attribute_name, as_name, as_tag, as_event, as_bytes, as_blob,
    as_stream, as_score, as_ingest, as_otlp,
]  # fmt: skip


class _Arrow:
    """Rows as the polars frame that hands them over."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        import polars

        self._frame = polars.DataFrame(
            [
                {name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()}
                for row in rows
            ]
        )

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


def test_no_way_leads_a_key_to_the_disk(small_ring: Any) -> None:
    assert len(KINDS) >= 60
    assert len(WAYS) >= 20
    marks = sorted(set(MARKS.values()))
    for number, way in enumerate(WAYS):
        for key in keys_of(number):
            way(key)
        for path in small_ring.path.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            assert not any(mark.encode() in content for mark in marks), (way.__name__, path.name)
    assert spanbox.flush(60)
    found = _audit.audit(small_ring.box, marks)
    assert found.hits == ()
    assert found.spans >= len(KINDS) * (len(WAYS) - 1)
    assert found.scores == 2 * len(KINDS)
    assert found.blobs >= len(KINDS)


def test_the_same_keys_are_found_when_nothing_is_redacted(small_ring: Any) -> None:
    """The test above can fail: what it looks for is there when redaction is off."""
    spanbox.configure(redact="off")
    keys = [random.Random(way).choice(keys_of(way)) for way in range(len(WAYS))]
    for way, key in zip(WAYS, keys, strict=True):
        way(key)
    assert spanbox.flush(60)
    seen = {hit.canary - 1 for hit in _audit.audit(small_ring.box, [key[-24:] for key in keys]).hits}
    assert [way.__name__ for number, way in enumerate(WAYS) if number not in seen] == []


def test_killed_process_leaves_no_key_in_its_ring(tmp_path: Path) -> None:
    key = keys_of(99)[24]
    script = f"""
        import os, signal, spanbox
        spanbox.configure({str(tmp_path / "box")!r})
        @spanbox.observe
        def call(text, headers):
            with spanbox.span("in " + text) as span:
                span.output = text
                os.kill(os.getpid(), signal.SIGKILL)
        call("it is {key}", {{"k": "{base64.b64encode(b"x").decode()} {key}"}})
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, timeout=120)
    assert ended.returncode == -9, ended.stderr
    hunt = _audit._Hunt([MARKS[ALNUM]])
    assert [hit for path in (tmp_path / "box").rglob("*") if path.is_file() for hit in hunt.in_file(path, "ring")] == []
    recovered = _audit.audit(spanbox.open(tmp_path / "box"), [MARKS[ALNUM]])
    assert recovered.spans == 2
    assert recovered.hits == ()
