"""What the documentation shows is run, and what it names exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import spanbox

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks/README.md",
]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_samples_run(page: Path, tmp_path: Path) -> None:
    for sample in blocks(page, "python"):
        environment = {**os.environ, "SPANBOX_DIR": str(tmp_path / "store")}
        done = subprocess.run(
            [sys.executable, "-c", sample], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{page.name}:\n{sample}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_header_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for header in (ROOT / "cpp/include/spanbox").glob("*.h"):
        assert f"({header.relative_to(ROOT)})" in readme


def test_every_column_is_described() -> None:
    for name, _alias, kind, description in spanbox.columns():
        assert name
        assert kind in {"trace id", "span id", "int", "float", "bool", "string", "text"}
        assert description
