"""Documents and marks: JSON with versions in the store, read back here and by a reader that knows the format page."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import lmdb
import pytest
import spanbox
import xxhash


@pytest.fixture
def box(tmp_path: Path) -> spanbox.Box:
    return spanbox.open(tmp_path / "s", create=True)


def test_versions_of_a_document_stay(box: spanbox.Box) -> None:
    assert box.put_document("prompt", "greeting", {"text": "Grüße", "n": [1, None, 2.5]}) == 1
    assert box.put_document("prompt", "greeting", {"text": "Hi"}) == 2
    assert box.document("prompt", "greeting").value == {"text": "Hi"}
    assert box.document("prompt", "greeting", version=1).value == {"text": "Grüße", "n": [1, None, 2.5]}
    assert [each.name for each in box.documents("prompt")] == ["greeting"]
    assert box.delete_document("prompt", "greeting") == 3
    assert box.documents("prompt") == []
    assert [each.value for each in box.document_history("prompt", "greeting")][1:] == [{"text": "Hi"}, None]
    assert box.verify()["documents"] == 3
    assert box.verify()["problems"] == []


def test_who_has_read_an_older_version_is_told_to_read_again(box: spanbox.Box) -> None:
    read = box.put_document("rule", "slow", 1)
    box.put_document("rule", "slow", 2)
    with pytest.raises(spanbox.StoreError, match="at version 2, not at 1: it was changed meanwhile"):
        box.put_document("rule", "slow", 3, expected_version=read)
    with pytest.raises(spanbox.StoreError, match="at version 2"):
        box.put_document("rule", "slow", 3, expected_version=0)
    assert box.put_document("rule", "slow", 3, expected_version=2) == 3


def test_what_is_missing_or_wrong_is_said(box: spanbox.Box) -> None:
    with pytest.raises(spanbox.NotFoundError, match="prompt document nothing was never put"):
        box.document("prompt", "nothing")
    box.put_document("prompt", "n", 1)
    with pytest.raises(spanbox.NotFoundError, match="has no version 2"):
        box.document("prompt", "n", version=2)
    with pytest.raises(ValueError, match="counted from 1"):
        box.document("prompt", "n", version=0)
    with pytest.raises(ValueError, match=r"1 to 64 characters of A-Z a-z 0-9 \. _ : -"):
        box.put_document("prompt", "two words", 1)
    for wrong in (float("nan"), {1, 2}, object()):
        with pytest.raises(ValueError, match="a document is a JSON value"):
            box.put_document("prompt", "n", wrong)
    with pytest.raises(ValueError, match="at most 1048576 bytes"):
        box.put_document("prompt", "n", "x" * (1 << 20))
    assert box.document("prompt", "n").value == 1


def test_marks_are_found_by_their_time(box: spanbox.Box) -> None:
    deploy = box.mark("deploy v7.3", text="by hand", at="2026-01-02T00:00:00Z")
    box.mark("deploy v7.2", at="2026-01-01T00:00:00Z")
    box.mark("deploy v7.3", text="by the pipeline", at="2026-01-02T00:00:00Z")
    assert [mark.name for mark in box.marks()] == ["deploy v7.2", "deploy v7.3"]
    assert box.marks(since="2026-01-02T00:00:00Z") == [
        spanbox.Mark(deploy.at_ns, "deploy v7.3", "by the pipeline"),
    ]
    assert [mark.name for mark in box.marks(until="2026-01-02T00:00:00Z")] == ["deploy v7.2"]
    now = box.mark("now")
    assert box.marks(since="1m") == [now]
    with pytest.raises(ValueError, match="needs a name"):
        box.mark("")


def test_a_mark_goes_into_the_store_that_is_recorded_into(recorded: Any) -> None:
    made = spanbox.mark("deploy v8")
    assert spanbox.open(recorded.path).marks() == [made]


def test_a_reader_without_spanbox_finds_the_documents(box: spanbox.Box, tmp_path: Path) -> None:
    """As docs/segment_format.md describes table `documents`."""
    put = {("prompt", "a", 1): {"text": "Grüße"}, ("prompt", "a", 2): None, ("rule", "b:1", 1): [1, 2]}
    for (kind, name, _), value in put.items():
        if value is None:
            box.delete_document(kind, name)
        else:
            box.put_document(kind, name, value)
    found = {}
    with lmdb.open(str(tmp_path / "s"), max_dbs=1, readonly=True, lock=False) as env:
        table = env.open_db(b"documents", create=False)
        with env.begin() as txn:
            for key, value in txn.cursor(table):
                assert xxhash.xxh3_64_intdigest(value[:-8]) == struct.unpack("<Q", value[-8:])[0]
                record, at_ns, flags = struct.unpack("<IqI", value[:16])
                assert record == 1
                assert at_ns > 1_600_000_000 * 10**9
                kind, name, _ = key[:-8].split(b"\0")
                version = struct.unpack(">Q", key[-8:])[0]
                text = value[16:-8].decode()
                assert (flags == 1) == (text == "")
                found[kind.decode(), name.decode(), version] = json.loads(text) if text else None
    assert found == put
