"""`%load_ext spanbox`: cells that begin with %%observe are recorded, and their traces shown below them.

The cell's code becomes the body of a `with`, so that `await`, the value of the last line and line numbers of errors are
what they were. Thread rule: IPython's own.
"""

from __future__ import annotations

import ast
from types import TracebackType
from typing import Any

from spanbox import _core
from spanbox._observe import span

_MAGIC = "%%observe"
_MARK = "__spanbox_observe__"
_VALUE = "__spanbox_value__"
_FLUSH_S = 10.0


def load_ipython_extension(shell: Any) -> None:
    """What %load_ext calls."""
    unload_ipython_extension(shell)
    observe = Observe()
    shell.input_transformers_cleanup.insert(0, observe.mark)
    shell.ast_transformers.append(observe)
    shell.user_ns[_MARK] = observe.cell


def unload_ipython_extension(shell: Any) -> None:
    """What %unload_ext calls."""
    for transformers in (shell.input_transformers_cleanup, shell.ast_transformers):
        transformers[:] = [each for each in transformers if not isinstance(getattr(each, "__self__", each), Observe)]
    shell.user_ns.pop(_MARK, None)


class Observe(ast.NodeTransformer):
    """Puts the statements of a cell that begins with %%observe inside of a span."""

    def __init__(self) -> None:
        self._source = ""  # of the cell that was marked last: the one that runs

    def mark(self, lines: list[str]) -> list[str]:
        """The line of the magic becomes a statement that visit_Module finds."""
        at = next((i for i, line in enumerate(lines) if line.strip()), None)
        if at is None or lines[at].split()[0] != _MAGIC:
            return lines
        name = lines[at].strip().removeprefix(_MAGIC).strip() or "cell"
        self._source = "".join(lines[at + 1 :])
        return [*lines[:at], f"{_MARK}({name!r})\n", *lines[at + 1 :]]

    def cell(self, name: str) -> observed_cell:
        return observed_cell(name, self._source)

    def visit_Module(self, node: ast.Module) -> ast.Module:
        first = node.body[0] if node.body else None
        if not isinstance(first, ast.Expr) or not _is_mark(first.value):
            return node
        body = node.body[1:]
        shown: list[ast.stmt] = []
        if body and isinstance(last := body[-1], ast.Expr):  # the cell shows its value: still the last expression
            place = ast.Name(_VALUE, ast.Store())
            body[-1] = ast.copy_location(ast.Assign([place], last.value), last)
            shown = [ast.copy_location(ast.Expr(ast.Name(_VALUE, ast.Load())), last)]
        block = ast.With([ast.withitem(first.value)], body or [ast.Pass()])
        node.body = [ast.copy_location(block, first), *shown]
        return ast.fix_missing_locations(node)


def _is_mark(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == _MARK


class observed_cell:
    """The span of one cell. Shows its trace when the cell is done, also when it failed."""

    def __init__(self, name: str, source: str) -> None:
        self._span = span(name)
        self._source = source

    def __enter__(self) -> None:
        self._span.__enter__()
        self._span.input = self._source

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._span.__exit__(kind, value, traceback)
        _show(self._span.trace_id)


def _show(trace_id: str) -> None:
    from IPython.display import display

    from spanbox._box import open as open_box

    try:
        _core.flush(_FLUSH_S)
        display(open_box(_core.recording_path()).trace(trace_id))
    except (_core.SpanboxError, ValueError) as error:  # recording is off, or the trace was sampled out
        print(f"spanbox: this cell has no trace: {error}")
