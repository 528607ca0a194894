"""What the tests of real frameworks share: importing them, the loopback server, and the tree of one trace.

They weigh too much for every `make test`: `make test-frameworks` installs them and runs these tests.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FACTS = " ".join(f"Fact number {number} is that apples grow on trees of kind {number}." for number in range(60))
QUESTION = "which apples grow on trees?"
MODEL = "gpt-5-mini"


def framework(name: str) -> Any:
    """The module; the test that needs it is skipped where it is not installed. What it warns of is its own business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return import_module(name)
        except ModuleNotFoundError:
            pytest.skip(f"{name.partition('.')[0]} is not installed: make test-frameworks", allow_module_level=True)


def loopback() -> ModuleType:
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        return import_module("loopback_llm")
    finally:
        sys.path.pop(0)
