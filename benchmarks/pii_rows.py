"""The rows of the table that say how well personal data is found."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from table import HERE, Row, measured, verdict

# Presidio's analyzer on the same set over all of its kinds, as its authors published it.
PRECISION, RECALL, F2 = 0.685, 0.603, 0.618


def pii() -> Iterator[Row]:
    data = Path(os.environ.get("SPANBOX_DATA") or HERE.parents[1] / "shared" / "data")
    if not (data / "pii").is_dir():
        yield Row("D PII", "the data set is not here ($SPANBOX_DATA)", "–", "–", "–", "not measured")
        return
    found = measured([sys.executable, str(HERE / "pii.py"), str(data)])
    for entity, (n, precision, recall, f2) in found.items():
        yield Row(
            f"D PII, {'these entities' if entity == 'all' else entity} ({n})",
            f"precision {precision:.3f}, recall {recall:.3f}, F2 {f2:.3f}",
            f"Presidio, all of its kinds: {PRECISION}, {RECALL}, {F2}",
            "–",
            "no worse",
            verdict(precision >= PRECISION and recall >= RECALL and f2 >= F2),
        )
