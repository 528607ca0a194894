"""Personal data in Presidio's own synthetic set: precision and recall of every entity that is found by pattern."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spanbox

# Of the set's kinds, those that have a pattern.
KINDS = {
    "CREDIT_CARD": "credit_card",
    "EMAIL_ADDRESS": "email_address",
    "PHONE_NUMBER": "phone_number",
    "IBAN_CODE": "iban_code",
    "DOMAIN_NAME": "url",
}
# Presidio's analyzer on the same set over all of its kinds, as its authors published it.
PRESIDIO = {"precision": 0.685, "recall": 0.603}

pytestmark = pytest.mark.realdata


@pytest.fixture(autouse=True)
def every_pattern() -> Iterator[None]:
    spanbox.configure(redact={"secrets": "keep", "pii": "replace", "url": "replace"})
    yield
    spanbox.configure(redact="secrets")


def rows(data: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(data / "pii" / "presidio_synth_v2_dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def test_pattern_entities_of_presidios_set_are_found(data: Path) -> None:
    right, wrong, missed = Counter[str](), Counter[str](), Counter[str]()
    for row in rows(data):
        wanted = [
            (KINDS[span["entity_type"]], span["start_position"], span["end_position"])
            for span in row["spans"]
            if span["entity_type"] in KINDS
        ]
        found = spanbox.redact(row["full_text"]).found
        for kind, start, end in wanted:
            hit = any(one.entity == kind and one.start <= start and end <= one.end for one in found)
            (right if hit else missed)[kind] += 1
        for one in found:
            if not any(kind == one.entity and start < one.end and one.start < end for kind, start, end in wanted):
                wrong[one.entity] += 1
    print(f"\n{'entity':<16} {'n':>4} {'precision':>10} {'recall':>8}")
    for kind in sorted(KINDS.values()):
        n = right[kind] + missed[kind]
        precision = right[kind] / max(1, right[kind] + wrong[kind])
        print(f"{kind:<16} {n:>4} {precision:>10.3f} {right[kind] / n:>8.3f}")
        assert precision >= 0.95, kind
        assert right[kind] / n >= (0.9 if kind == "phone_number" else 0.98), kind
    print(f"Presidio, all of its kinds: precision {PRESIDIO['precision']}, recall {PRESIDIO['recall']}")
    assert sum(wrong.values()) <= 3, wrong


def test_what_is_found_is_not_in_what_is_stored(data: Path) -> None:
    for row in rows(data):
        text = row["full_text"]
        stored, found = spanbox.redact(text)
        for one in found:
            assert f"[redacted:{one.entity}]" in stored
            if one.entity in ("credit_card", "email_address", "iban_code"):
                assert text[one.start : one.end] not in stored
