"""What the tests share: an empty store, a store this process records into, and the public data sets."""

from __future__ import annotations

import os
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import spanbox
from spanbox import Box, _core

ROOT = Path(__file__).parents[2]


class Recorded:
    """The store that spans of the test go to, and short ways to look at them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def box(self) -> Box:
        return spanbox.open(self.path)

    def spans(self) -> list[_core.SpanDict]:
        """Every span: traces by their first start, each depth first."""
        spanbox.flush(10)
        box = self.box
        ids = dict.fromkeys(row["trace_id"] for row in box.spans().columns("trace_id").order_by("start_ns"))
        store = _core.Store(str(self.path), False)
        return [span for trace_id in ids for span in store.trace(trace_id)]

    def only_span(self) -> _core.SpanDict:
        [span] = self.spans()
        return span

    def tree(self) -> str:
        return "\n".join(f"{'  ' * s['depth']}{s['name']} [{s['kind']}] {s['status']}" for s in self.spans())

    def shape(self) -> str:
        """The trees as indented names; equal subtrees under one parent are one line with their number."""
        spans = self.spans()
        known = {span["span_id"] for span in spans}
        below = defaultdict(list)
        for span in spans:
            below[span["parent_id"] if span["parent_id"] in known else ""].append(span)

        def draw(parent: str) -> str:
            subtrees = Counter(
                span["name"]
                + (" (its parent is lost)" if parent == "" and span["parent_id"] else "")
                + textwrap.indent("\n" + draw(span["span_id"]), "  ").rstrip()
                for span in below[parent]
            )
            lines = []
            for subtree, count in sorted(subtrees.items()):
                name, *rest = subtree.split("\n")
                lines += [name if count == 1 else f"{name} x{count}", *rest]
            return "\n".join(lines)

        return draw("")

    def reopened(self) -> Recorded:
        """The same folder after whoever else wrote it is done."""
        return Recorded(self.path)


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    path = tmp_path / ".spanbox"
    spanbox.configure(path)
    yield Recorded(path)
    spanbox.flush(10)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """An empty store that nobody records into."""
    return spanbox.open(tmp_path / "store", create=True)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of the public data sets; tests that need it carry the mark `realdata`."""
    folder = Path(os.environ.get("SPANBOX_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no public data sets: neither $SPANBOX_DATA nor {folder.name} beside the repository")
    return folder
