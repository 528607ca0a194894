"""Prints requirements of pyproject.toml, one a line, for pip install -r: requirements.py NAME...

A NAME is `build` (what builds the package, and what is too old or missing of CMake and Ninja), an extra, or a
dependency group; pip before 25.1 knows no groups.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path


def build_tools(cmake_minimum: tuple[int, ...]) -> list[str]:
    """CMake and Ninja as PyPI packages, unless the system has them and they are new enough."""
    tools = []
    cmake = shutil.which("cmake")
    answer = subprocess.run([cmake, "--version"], capture_output=True, text=True, check=False).stdout if cmake else ""
    version = re.search(r"(\d+)\.(\d+)", answer)
    if version is None or tuple(map(int, version.groups())) < cmake_minimum:
        tools.append("cmake>=" + ".".join(map(str, cmake_minimum)))
    if shutil.which("ninja") is None:
        tools.append("ninja")
    return tools


def main(names: list[str]) -> None:
    root = Path(__file__).parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())
    cmake_minimum = project["tool"]["scikit-build"]["cmake"]["version"].removeprefix(">=")
    tables = project["dependency-groups"] | project["project"]["optional-dependencies"]
    tables["build"] = project["build-system"]["requires"] + build_tools(tuple(map(int, cmake_minimum.split("."))))
    for name in names:
        print(*tables[name], sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
