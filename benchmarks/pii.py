"""Personal data on Presidio's synthetic set: precision, recall and F2 of the entities that have a pattern.

A finding is right when it covers a span of its kind, wrong when it touches none; F2 weighs recall twice.

python benchmarks/pii.py DATA   prints {entity: [n, precision, recall, f2]} as JSON, "all" being those entities together
"""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import spanbox
from spanbox._capture import set_capture

KINDS = {  # of the set, those that have a pattern
    "CREDIT_CARD": "credit_card",
    "EMAIL_ADDRESS": "email_address",
    "PHONE_NUMBER": "phone_number",
    "IBAN_CODE": "iban_code",
    "DOMAIN_NAME": "url",
}


class Figures(NamedTuple):
    n: int
    precision: float
    recall: float
    f2: float


def figures(right: int, wrong: int, missed: int) -> Figures:
    precision, recall = right / max(1, right + wrong), right / max(1, right + missed)
    return Figures(right + missed, precision, recall, 5 * precision * recall / max(1e-9, 4 * precision + recall))


Found = tuple[str, int, int]  # entity, start, end


def spanboxs(text: str) -> list[Found]:
    return [(one.entity, one.start, one.end) for one in spanbox.redact(text).found]


def measure(path: Path, find: Callable[[str], list[Found]] = spanboxs) -> dict[str, Figures]:
    right, wrong, missed = Counter[str](), Counter[str](), Counter[str]()
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        wanted = [
            (KINDS[span["entity_type"]], span["start_position"], span["end_position"])
            for span in row["spans"]
            if span["entity_type"] in KINDS
        ]
        found = [each for each in find(row["full_text"]) if each[0] in KINDS.values()]
        for kind, start, end in wanted:
            hit = any(entity == kind and a <= start and end <= b for entity, a, b in found)
            (right if hit else missed)[kind] += 1
        for entity, a, b in found:
            if not any(kind == entity and start < b and a < end for kind, start, end in wanted):
                wrong[entity] += 1
    each = {kind: figures(right[kind], wrong[kind], missed[kind]) for kind in sorted(KINDS.values())}
    return {**each, "all": figures(right.total(), wrong.total(), missed.total())}


def main() -> None:
    set_capture(redact={"secrets": "keep", "pii": "replace", "url": "replace"})
    print(json.dumps(measure(Path(sys.argv[1]) / "pii" / "presidio_synth_v2_dev.jsonl.gz")))


if __name__ == "__main__":
    main()
