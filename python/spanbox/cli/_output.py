"""What the command line prints: text for people, JSON for programs.

Every string from a trace is cleaned before it gets here and printed as Text: neither escapes nor rich markup in it
work. On a terminal lines are cut to its width and marked with colour; in a pipe they are whole and plain.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console
from rich.text import Text

from spanbox._render import fold, text_table, text_width

_PIPE_WIDTH = 100_000  # nothing is cut


class Output:
    """Standard output and standard error of one command."""

    def __init__(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a character
        self._out = Console(highlight=False, markup=False, emoji=False)
        self._err = Console(stderr=True, highlight=False, markup=False, emoji=False)

    @property
    def is_terminal(self) -> bool:
        return self._out.is_terminal

    @property
    def width(self) -> int:
        return self._out.width if self.is_terminal else _PIPE_WIDTH

    @property
    def console(self) -> Console:
        return self._out

    @property
    def progress_console(self) -> Console:
        return self._err

    def working(self, what: str) -> AbstractContextManager[object]:
        """Says so while the block runs, where somebody watches."""
        return self._err.status(what) if self._err.is_terminal else nullcontext()

    def line(self, text: str = "", style: str = "") -> None:
        self._out.print(Text(text, style), soft_wrap=True)

    def prose(self, text: str, style: str = "") -> None:
        """A sentence, folded at the width of the terminal."""
        for line in fold(text, self.width):
            self.line(line, style)

    def title(self, text: str) -> None:
        self.line(text, "bold")

    def error(self, message: str) -> None:
        self._err.print(Text.assemble(("spanbox: ", "bold red"), message), soft_wrap=True)

    def tree(self, lines: list[str]) -> None:
        """A trace's lines: summary, header, spans."""
        for number, line in enumerate(lines):
            self.line(line, "bold" if number == 0 else "dim" if number == 1 else "red" if "✗ " in line else "")

    def table(
        self, header: list[str], rows: Iterable[list[str]], *, right: set[int], cut: set[int] | None = None
    ) -> None:
        lines = text_table(header, list(rows), right=right, width=self.width, cut=cut)
        for number, line in enumerate(lines):
            self.line(line, "dim" if number == 0 else "red" if "✗" in line else "")

    def match(self, place: str, before: str, match: str, after: str) -> None:
        """A line with the matching part set off; cut so that the match stays in sight."""
        room = self.width - text_width(place) - text_width(match)
        kept = max(0, room // 3)
        if text_width(before) > kept:
            before = "…" + before[len(before) - kept + 1 :] if kept > 1 else ""
        line = Text.assemble((place, "dim"), before, (match, "bold yellow"), after)
        line.truncate(self.width, overflow="ellipsis")
        self._out.print(line, soft_wrap=True)

    def json_line(self, value: Any) -> None:
        """One value a line, at once: for a reader that waits for it."""
        sys.stdout.write(json.dumps(_finite(value), default=str) + "\n")
        sys.stdout.flush()

    def json(self, value: Any) -> None:
        """ASCII only: what is hidden in the data stays visible as an escape."""
        sys.stdout.write(json.dumps(_finite(value), indent=2, default=str) + "\n")


def _finite(value: Any) -> Any:
    """The value with NaN and the infinities as texts: JSON has no numbers for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, (list, tuple)) else value
