"""What the tests share: an empty store, a store this process records into, and the public data sets."""

from __future__ import annotations

import importlib.util
import os
import sys
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import spanbox
from spanbox import Box, _core
from spanbox.server import Page, Server

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


def sibling(name: str) -> ModuleType:
    """A module beside this one that is no test."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def hostile() -> ModuleType:
    """Texts that try to run, and a store full of them."""
    return sibling("hostile_texts")


class Week:
    """The store of ui_store.py, and what was planted in it."""

    def __init__(self, path: Path) -> None:
        module = sibling("ui_store")
        self.path = path
        self.made = module.fill(path)
        self.hostile: tuple[str, ...] = module.HOSTILE
        self.box = spanbox.open(path)


@pytest.fixture(scope="session")
def week(tmp_path_factory: pytest.TempPathFactory) -> Week:
    """A week of a support agent's traffic that a deploy made worse. To be read only."""
    return Week(tmp_path_factory.mktemp("week") / ".spanbox")


@pytest.fixture(scope="module")
def client(week: Week) -> Iterator[Any]:
    """Asks a server of the week's store as the page does (ui_client.py)."""
    with Server(spanbox.open(week.path), port=0, page=Page()) as server:
        yield sibling("ui_client").Client(server)


@pytest.fixture(scope="module")
def asked(week: Week) -> dict[str, str]:
    """The week's last six hours, as the page asks for them."""
    return {"from": str(week.made.end_ns - 6 * 3_600_000_000_000), "to": str(week.made.end_ns)}
