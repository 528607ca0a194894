"""What the command line prints: text for people, JSON for programs.

Every string from a trace is cleaned before it gets here: no escape in it works. On a terminal lines are cut to its
width and marked with colour (not with $NO_COLOR, nor where TERM is dumb); in a pipe they are whole and plain. Colours
are written here: rich is loaded for what moves.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from spanbox._render import clean, fit, fold, terminal_width, text_table, text_width

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH = 100_000  # nothing is cut
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
_PATIENCE_S = 0.4  # before it is said that something is being done
_TURN_S = 0.1
_TURNS = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Output:
    """Standard output and standard error of one command."""

    def __init__(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a character

    @property
    def is_terminal(self) -> bool:
        return sys.stdout.isatty()

    @property
    def width(self) -> int:
        return terminal_width() if self.is_terminal else _PIPE_WIDTH

    def console(self) -> Console:
        """Standard output, for what moves."""
        from rich.console import Console

        return Console(highlight=False, markup=False, emoji=False)

    def progress_console(self) -> Console:
        """Standard error, for what moves."""
        from rich.console import Console

        return Console(stderr=True, highlight=False, markup=False, emoji=False)

    @contextmanager
    def working(self, what: str) -> Iterator[Callable[[str], None]]:
        """Says so while the block runs, where somebody watches and has waited for a moment. Gives what says something
        else instead."""
        said = [what]

        def say(text: str) -> None:
            said[0] = text

        if not _is_coloured(sys.stderr):
            yield say
            return
        done = threading.Event()

        def turn() -> None:
            wait, number = _PATIENCE_S, 0
            while not done.wait(wait):
                sys.stderr.write(f"\r\x1b[K{_TURNS[number % len(_TURNS)]} {fit(said[0], terminal_width() - 3)}")
                sys.stderr.flush()
                wait, number = _TURN_S, number + 1
            if number:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()

        thread = threading.Thread(target=turn, daemon=True)
        thread.start()
        try:
            yield say
        finally:
            done.set()
            thread.join()

    def line(self, text: str = "", style: str = "") -> None:
        _print(sys.stdout, (text, style))

    def prose(self, text: str, style: str = "") -> None:
        """A sentence, folded at the width of the terminal."""
        for line in fold(text, self.width):
            self.line(line, style)

    def title(self, text: str) -> None:
        self.line(text, "bold")

    def error(self, message: str) -> None:
        _print(sys.stderr, ("spanbox: ", "bold red"), (message, ""))

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
        left = self.width
        parts = []
        for text, style in ((place, "dim"), (before, ""), (match, "bold yellow"), (after, "")):
            shown = fit(text, left)
            left -= text_width(shown)
            parts.append((shown, style))
        _print(sys.stdout, *parts)

    def json_line(self, value: Any) -> None:
        """One value a line, at once: for a reader that waits for it."""
        sys.stdout.write(json.dumps(_finite(value), default=str) + "\n")
        sys.stdout.flush()

    def json(self, value: Any) -> None:
        """ASCII only: what is hidden in the data stays visible as an escape."""
        sys.stdout.write(json.dumps(_finite(value), indent=2, default=str) + "\n")


def error_text(error: Exception) -> str:
    """Messages of several lines (a filter with a caret under the fault) keep them."""
    return "\n".join(clean(line) for line in (str(error) or type(error).__name__).splitlines())


def _is_coloured(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _print(stream: TextIO, *parts: tuple[str, str]) -> None:
    coloured = _is_coloured(stream)
    for text, style in parts:
        codes = ";".join(_CODES[word] for word in style.split())
        stream.write(f"\x1b[{codes}m{text}\x1b[0m" if coloured and codes and text else text)
    stream.write("\n")


def _finite(value: Any) -> Any:
    """The value with NaN and the infinities as texts: JSON has no numbers for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, (list, tuple)) else value
