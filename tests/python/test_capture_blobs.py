"""Values that are too large for a span are kept beside it, once each, and come back whole."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
import spanbox

PNG = b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(30_000)
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + random.Random(2).randbytes(30_000)


@pytest.fixture(autouse=True)
def default_settings() -> Iterator[None]:
    yield
    spanbox.configure(capture_bytes=256 * 1024, redact="secrets")


def kept(recorded: Any, value: object) -> Any:
    with spanbox.span("value") as span:
        span.output = value
    return recorded.spans()[-1]["attributes"].get("output")


def test_large_text_is_a_blob_with_a_preview(recorded: Any) -> None:
    text = "Größe und Maß. " * 10_000
    stored = kept(recorded, {"document": text})["document"]
    assert stored == {
        "$blob": stored["$blob"],
        "bytes": len(text.encode()),
        "type": "text/plain",
        "preview": text[:200],
    }
    assert recorded.box.blob(stored["$blob"]) == text.encode()


def test_text_that_fits_stays_searchable(recorded: Any) -> None:
    text = "needle " * 5_000
    assert kept(recorded, text) == text


def test_same_payload_is_stored_once(recorded: Any) -> None:
    text = "".join(random.Random(3).choices("abcdefgh \n", k=200_000))
    first = kept(recorded, text)
    size = recorded.box.info()["file_bytes"]
    for _ in range(20):
        assert kept(recorded, [text]) == [first]
    assert recorded.box.info()["file_bytes"] - size < 200_000


def test_bytes_of_every_kind_are_blobs(recorded: Any) -> None:
    values = [PNG, bytearray(PNG), memoryview(PNG), memoryview(PNG)[8:]]
    stored = kept(recorded, values)
    assert [value["type"] for value in stored] == ["image/png"] * 3 + ["application/octet-stream"]
    assert [recorded.box.blob(value["$blob"]) for value in stored] == [PNG, PNG, PNG, PNG[8:]]
    assert len({value["$blob"] for value in stored}) == 2
    assert kept(recorded, [memoryview(PNG)[::2], released()]) == ["<memoryview>", "<memoryview>"]


def released() -> memoryview:
    view = memoryview(b"x")
    view.release()
    return view


def test_media_in_messages_is_decoded(recorded: Any) -> None:
    image, audio = base64.b64encode(PNG).decode(), base64.b64encode(WAV).decode()
    messages = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + image}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": image}},
        {"type": "input_audio", "input_audio": {"data": audio, "format": "wav"}},
    ]
    url, source, sound = kept(recorded, messages)
    assert url["image_url"]["url"]["form"] == "data-url"
    assert source["source"]["data"]["form"] == "base64"
    assert url["image_url"]["url"]["$blob"] == source["source"]["data"]["$blob"]
    assert recorded.box.blob(source["source"]["data"]["$blob"]) == PNG
    assert sound["input_audio"]["data"]["type"] == "audio/wav"
    assert recorded.box.blob(sound["input_audio"]["data"]["$blob"]) == WAV


def test_what_only_looks_like_base64_stays_text(recorded: Any) -> None:
    digits = "0123456789abcdef" * 200
    broken = "data:image/png;base64," + base64.b64encode(PNG).decode()[:-3] + "=!="
    letters = "data:text/plain,hello " + "x" * 2000
    assert kept(recorded, [digits, broken, letters]) == [digits, broken, letters]


def test_media_past_the_limit_says_what_it_was(recorded: Any) -> None:
    spanbox.configure(capture_bytes=2000)
    stored = kept(recorded, ["data:image/png;base64," + base64.b64encode(PNG).decode(), PNG, bytes(50_000)])
    assert [value["type"] for value in stored] == ["image/png", "image/png", "application/octet-stream"]
    assert stored[1]["$cut"] == len(PNG)
    assert "head" not in stored[1]
    assert stored[2]["head"] == {"$bytes": base64.b64encode(bytes(64)).decode()}
    assert all(len(value["xxh3"]) == 16 for value in stored)
    assert recorded.spans()[-1]["attributes"]["truncated"] is True


def test_hundred_mebibytes_come_back_whole(recorded: Any) -> None:
    spanbox.configure(recorded.path, capture_bytes=200 << 20)

    @spanbox.observe(capture_output=False)
    def summarise(document: str) -> None: ...

    document = "".join(random.Random(4).choices("abcdefgh \n", k=1 << 20)) * 100
    summarise(document)
    assert spanbox.flush(300)
    stored = recorded.only_span()["attributes"]["input"]["document"]
    assert stored["bytes"] == 100 << 20
    assert recorded.box.blob(stored["$blob"]).decode() == document


def test_large_structures_become_their_json(recorded: Any) -> None:
    spanbox.configure(capture_bytes=50 << 20, capture_nodes=1_000_000)
    history = [{"role": "user", "content": f"message {i} " * 50} for i in range(10_000)]
    stored = kept(recorded, history)
    assert stored["type"] == "application/json"
    assert json.loads(recorded.box.blob(stored["$blob"])) == history
    spanbox.configure(capture_nodes=10_000)


def test_secrets_in_blobs_are_replaced(recorded: Any) -> None:
    key = b"ghp_" + b"a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    filler = "some text " * 20_000
    wrapped = "data:text/plain;base64," + base64.b64encode(b"text " * 500 + key).decode()
    values = [filler + key.decode() + filler[:100], b"raw " * 1000 + key, wrapped]
    for stored in kept(recorded, values):
        content = recorded.box.blob(stored["$blob"])
        assert key not in content
        assert b"[redacted:github_token]" in content


def test_unknown_blobs_are_refused(recorded: Any) -> None:
    with pytest.raises(spanbox.NotFoundError):
        recorded.box.blob("0" * 31 + "1")
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        recorded.box.blob("x")
