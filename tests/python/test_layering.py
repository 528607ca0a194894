"""Who includes whom in C++ and who imports whom in Python is as docs/architecture.md says; and how big files get."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What a layer may include besides itself and the public headers; CMakeLists.txt links the same graph.
ALLOWED_LAYERS = {
    "base": set(),
    "record": {"base"},
    "store": {"base", "stats"},
    "stats": {"base"},
    "wire": {"base"},
    "query": {"base", "store", "stats", "wire"},
    "eval": {"base", "stats"},
}

OUTSIDE_LIBRARIES = {"absl", "re2"}  # written with quotes too

# Of the Python package: not loaded by `import spanbox`.
FOR_EXTRAS = {"cli", "integrations", "otel"}

MAX_FILE_LINES = 500
MAX_TEST_FILE_LINES = 600
MAX_FUNCTION_LINES = 60

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.MULTILINE)


def cpp_files(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in {".h", ".cc"})


def includes(path: Path) -> list[tuple[str, str]]:
    """(delimiter, what) of every include of the file."""
    return INCLUDE.findall(path.read_text(encoding="utf-8"))


def test_layers_of_the_core_are_the_known_ones() -> None:
    folders = {path.name for path in (ROOT / "cpp" / "src").iterdir() if path.is_dir()}
    assert folders - ALLOWED_LAYERS.keys() == set()


@pytest.mark.parametrize("layer", [name for name in ALLOWED_LAYERS if (ROOT / "cpp" / "src" / name).is_dir()])
def test_layer_includes_only_layers_below_it(layer: str) -> None:
    allowed = ALLOWED_LAYERS[layer] | {layer, "spanbox"} | OUTSIDE_LIBRARIES
    wrong = [
        f"{path.relative_to(ROOT)} includes {what}"
        for path in cpp_files(f"cpp/src/{layer}")
        for delimiter, what in includes(path)
        if delimiter == '"' and what.split("/")[0] not in allowed
    ]
    assert wrong == []


def test_build_links_the_same_graph_as_the_includes() -> None:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    linked = {
        name: set((depends or "").split())
        for name, depends in re.findall(r"^spanbox_layer\((\w+)(?:\s+DEPENDS ((?:[a-z]+ ?)+))?", text, re.MULTILINE)
    }
    assert linked.keys() >= {"base", "record", "store", "stats", "wire", "query"}
    for layer, depends in linked.items():
        assert depends <= ALLOWED_LAYERS[layer], layer


def test_public_headers_include_public_headers_and_the_standard_library_only() -> None:
    wrong = [
        f"{path.name} includes {what}"
        for path in cpp_files("cpp/include")
        for delimiter, what in includes(path)
        if not (what.startswith("spanbox/") if delimiter == '"' else re.fullmatch(r"[a-z_0-9]+", what))
    ]
    assert wrong == []


def test_python_headers_are_included_in_the_bindings_only() -> None:
    folders = ["cpp", "tests/cpp", "benchmarks"]
    wrong = [
        f"{path.relative_to(ROOT)} includes {what}"
        for folder in folders
        for path in cpp_files(folder)
        for _, what in includes(path)
        if what == "Python.h" or what.startswith("pybind11/")
    ]
    assert wrong == []
    assert any(what.startswith("pybind11/") for path in cpp_files("bindings") for _, what in includes(path))


def imports_at_load(tree: ast.AST) -> list[str]:
    """Modules a module imports when it is loaded: not inside functions, not under `if TYPE_CHECKING`."""
    found: list[str] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append("spanbox" if node.level else node.module or "")
        else:
            found += imports_at_load(node)
    return found


def test_package_imports_the_standard_library_and_itself_when_loaded() -> None:
    """Extras are imported where they are used; what is for one of them is loaded by those who name it."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sorted((ROOT / "python" / "spanbox").rglob("*.py"))
        if path.relative_to(ROOT / "python" / "spanbox").parts[0] not in FOR_EXTRAS
        for module in imports_at_load(ast.parse(path.read_text(encoding="utf-8")))
        if module.split(".")[0] not in sys.stdlib_module_names | {"spanbox"}
    ]
    assert wrong == []


def test_import_of_spanbox_loads_no_third_party_module() -> None:
    script = "import sys; before = set(sys.modules); import spanbox; print(*(set(sys.modules) - before), sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "spanbox._core" in loaded
    foreign = {name.split(".")[0] for name in loaded} - sys.stdlib_module_names - {"spanbox"}
    # pybind11 keeps its own registry under a name of this kind; it is no module of anyone's.
    assert {name for name in foreign if not name.startswith("pybind11_")} == set()


def python_functions_too_long(path: Path) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES
    ]


def cpp_functions_too_long(path: Path) -> list[str]:
    """Functions are what starts at the left margin, ends its line with `{`, and closes at the left margin with `}`."""
    found = []
    start, opening = 0, ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("}"):
            if opening and number - start >= MAX_FUNCTION_LINES:
                found.append(f"{path.relative_to(ROOT)}: {opening} has {number - start + 1} lines")
            opening = ""
        elif re.match(r"[A-Za-z]", line):
            is_function = "(" in line and not re.match(r"(namespace|class|struct|enum|union|extern|TEST\w*)\b", line)
            ends_here = line.endswith((";", "}"))
            start, opening = number, line.split("(")[0].split()[-1] if is_function and not ends_here else ""
    return found


def test_sizes_are_reported() -> None:
    """Sizes are for review to judge, so they warn; the test is that the report can be made."""
    report = []
    tests = [*cpp_files("tests"), *(ROOT / "tests").rglob("*.py")]
    sources = [*cpp_files("cpp"), *cpp_files("bindings"), *(ROOT / "python").rglob("*.py")]
    assert sources
    for path in sources + tests:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        limit = MAX_TEST_FILE_LINES if path in tests else MAX_FILE_LINES
        if lines > limit:
            report.append(f"{path.relative_to(ROOT)} has {lines} lines")
        report += python_functions_too_long(path) if path.suffix == ".py" else cpp_functions_too_long(path)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        for line in report:
            warnings.warn(f"size: {line}", stacklevel=1)
