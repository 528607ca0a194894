"""Personal data in Presidio's own synthetic set: precision and recall of every entity that is found by pattern."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spanbox

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from pii import measure
from pii_rows import F2, PRECISION, RECALL

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
    found = measure(data / "pii" / "presidio_synth_v2_dev.jsonl.gz")
    print(f"\n{'entity':<16} {'n':>4} {'precision':>10} {'recall':>8} {'F2':>8}")
    for kind, each in found.items():
        print(f"{kind:<16} {each.n:>4} {each.precision:>10.3f} {each.recall:>8.3f} {each.f2:>8.3f}")
        assert each.precision >= 0.95, kind
        assert each.recall >= (0.9 if kind == "phone_number" else 0.98), kind
    print(f"Presidio, all of its kinds: precision {PRECISION}, recall {RECALL}, F2 {F2}")
    assert found["all"].f2 > F2


def test_what_is_found_is_not_in_what_is_stored(data: Path) -> None:
    for row in rows(data):
        text = row["full_text"]
        stored, found = spanbox.redact(text)
        for one in found:
            assert f"[redacted:{one.entity}]" in stored
            if one.entity in ("credit_card", "email_address", "iban_code"):
                assert text[one.start : one.end] not in stored
