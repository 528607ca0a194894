"""What must hold of the repository and of what is built from it."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import spanbox

ROOT = Path(__file__).parents[2]


def tracked_text_files() -> dict[str, str]:
    """Name to text of every file in git; of every file but the made ones where git is not there (a source archive)."""
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        names = [name for name in listing.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        made = {"build", "dist"}
        paths = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()]
        names = [str(p) for p in paths if p.parts[0] not in made and not any(x.startswith(".") for x in p.parts[:-1])]
    texts = {}
    for name in names:
        path = ROOT / name
        if path.is_file() and b"\0" not in (data := path.read_bytes()):
            texts[name] = data.decode("utf-8")
    return texts


def lines_matching(pattern: str) -> list[str]:
    regex = re.compile(pattern)
    return [
        f"{name}: {line.strip()}"
        for name, text in tracked_text_files().items()
        if name != "tests/python/test_repository.py"
        for line in text.splitlines()
        if regex.search(line)
    ]


def test_no_file_names_a_place_on_one_machine() -> None:
    folders = r"(?:home/\w+|root|work|tmp/\w+|Users/\w+|mnt|opt/\w+)"
    assert lines_matching(rf"""(?:^|[\s"'`=(:<]){"/"}{folders}(?:/|\b)""") == []


def test_no_file_names_a_package_registry() -> None:
    hosts = ("pypi.org", "pythonhosted.org", "deb.debian.org", "npmjs.org", "npmjs.com", "artifactory", "pkg.dev")
    assert lines_matching("|".join(map(re.escape, hosts)) + r"|--(?:extra-)?index-url|--trusted-host") == []


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_version_is_the_same_everywhere() -> None:
    cmake = re.search(r"project\(spanbox VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert cmake is not None
    assert cmake[1] == project()["version"]
    assert cmake[1] == importlib.metadata.version("spanbox"), "the installed package is another one: make demo"
    assert cmake[1] == spanbox.__version__


def test_wheel_requires_no_package_without_extras() -> None:
    requirements = importlib.metadata.requires("spanbox") or []
    assert [line for line in requirements if "extra ==" not in line] == []
    assert requirements, "the extras are gone"


def test_tests_run_against_an_installed_package() -> None:
    assert not Path(spanbox.__file__).is_relative_to(ROOT / "python")


def test_extension_module_exports_its_entry_point_only() -> None:
    from spanbox import _core

    assert _core.__file__ is not None
    try:
        answer = subprocess.run(
            ["nm", "-D", "--defined-only", _core.__file__], capture_output=True, text=True, check=True
        )
    except FileNotFoundError:
        pytest.fail("nm is missing: it comes with the compiler (binutils)")
    assert [line.split()[-1] for line in answer.stdout.splitlines()] == ["PyInit__core"]


def test_every_make_target_a_document_names_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    texts = {name: text for name, text in tracked_text_files().items() if name.endswith(".md")}
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= texts.keys()
    named = {
        (name, target)
        for name, text in texts.items()
        for code in re.findall(r"```.*?^```", text, re.MULTILINE | re.DOTALL) + re.findall(r"`([^`\n]+)`", text)
        for command in re.findall(r"\bmake ([a-z-]+(?: [a-z-]+)*)", code)
        for target in command.split()
        if not target.startswith("-")
    }
    assert {"demo", "test"} <= {target for name, target in named if name == "README.md"}
    assert {(name, target) for name, target in named if target not in targets} == set()


def test_every_header_guards_against_double_inclusion() -> None:
    headers = [p for folder in ("cpp", "bindings") for p in (ROOT / folder).rglob("*.h")]
    assert headers
    assert [str(p.relative_to(ROOT)) for p in headers if "#pragma once" not in p.read_text(encoding="utf-8")] == []
