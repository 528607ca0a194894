"""What leaves a store: erased spans, expired ones, backups; and what is packed."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox import observe
from spanbox._time import size_bytes


@observe
def ask(user: str, question: str) -> str:
    return f"answer for {user}: {question}"


def folder_of(box: spanbox.Box) -> Path:
    return Path(box.info()["path"])


def bytes_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.fixture
def box(recorded: Any) -> spanbox.Box:
    for number in range(60):
        user = f"user-{number % 3}"
        with spanbox.tags(user_id=user, session_id=f"canary-{user}-{number * 7919}"):
            ask(user, f"question {number}")
    assert spanbox.flush()
    return spanbox.open(recorded.path)


def test_securely_erased_spans_are_nowhere_in_the_folder_not_even_in_the_ring(box: spanbox.Box) -> None:
    assert b"canary-user-1-" in bytes_below(folder_of(box))
    assert box.erase('user_id == "user-1"', secure=True) == (20, 0)
    left = bytes_below(folder_of(box))
    assert b"canary-user-1-" not in left
    assert b"answer for user-1" not in left
    assert box.spans('user_id == "user-1"').count() == 0
    assert box.spans().count() == 40
    ask("user-9", "recording goes on")
    assert box.spans().count() == 41
    assert box.verify()["problems"] == []


def test_secure_erasing_waits_for_running_spans_to_end(box: spanbox.Box) -> None:
    with spanbox.span("under way"), pytest.raises(spanbox.StoreError, match="are running"):
        box.erase('user_id == "user-1"', secure=True)
    assert box.spans().count() == 61


def test_erase_needs_a_filter(box: spanbox.Box) -> None:
    with pytest.raises(spanbox.FilterError, match="remove the folder"):
        box.erase("")
    with pytest.raises(spanbox.FilterError):
        box.erase("user_id = 3")
    assert box.spans().count() == 60


def test_retention_is_kept_in_the_store_and_seen_to_at_once(box: spanbox.Box) -> None:
    assert box.retention() == (None, None, 0)
    assert box.retention(max_age="30d", max_bytes="10GB") == (30 * 86_400 * 10**9, 10**10, 0)
    again = spanbox.open(folder_of(box))
    assert again.retention() == (30 * 86_400 * 10**9, 10**10, 0)
    assert again.retention(max_bytes=1).dropped_spans == 60
    assert box.spans().count() == 0
    assert box.retention(max_age="none", max_bytes="none") == (None, None, 0)


def test_backup_is_a_store_of_its_own(box: spanbox.Box, tmp_path: Path) -> None:
    box.compact()
    box.backup(tmp_path / "copy")
    copy = spanbox.open(tmp_path / "copy")
    assert copy.spans().to_arrow().equals(box.spans().to_arrow())
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o700
    ask("user-9", "not in the copy")
    assert (box.spans().count(), copy.spans().count()) == (61, 60)
    with pytest.raises(ValueError, match="it exists"):
        box.backup(tmp_path / "copy")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (5, 5),
        ("12", 12),
        ("500MB", 500_000_000),
        ("1.5 gb", 1_500_000_000),
        ("2GiB", 2 << 30),
        ("10K", 10_000),
        ("none", 0),
    ],
)
def test_sizes_are_read_as_written(size: Any, expected: int) -> None:
    assert size_bytes(size) == expected


@pytest.mark.parametrize("size", ["", "GB", "-1", -1, "1 parsec", 1.5])
def test_what_is_no_size_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match="is no size"):
        size_bytes(size)
