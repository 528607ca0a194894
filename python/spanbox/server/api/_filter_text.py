"""A filter as text: its words and their places, the clauses that are joined by `and`, and the texts it searches for.

The core parses filters; this only finds where things stand in one, for completion, facets and snippets, and also in one
that is half written. Pure functions; places are those of Python strings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "name", "operator", "number", "mark", "wrong"]
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    | (?P<name>[A-Za-z_][A-Za-z0-9_.]*|`[^`]*`)
    | (?P<number>\$?-?(?:\d[\w.:+-]*|\.\d[\w.]*))
    | (?P<operator>==|!=|<=|>=|<|>|~)
    | (?P<mark>[()\[\],])
    | (?P<wrong>"[^"]*|'[^']*|`[^`]*|\S)
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\([\"'\\nrt])")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Word:
    kind: Kind
    text: str  # as it stands there
    begin: int

    @property
    def end(self) -> int:
        return self.begin + len(self.text)

    @property
    def value(self) -> str:
        """Of a text its content, of a name without its backticks."""
        if self.kind == "text":
            return _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), self.text[1:-1])
        return self.text.strip("`") if self.kind == "name" else self.text


@dataclass(frozen=True, slots=True)
class Search:
    """A text, or a regular expression, that a column is searched for."""

    column: str
    pattern: str
    is_regex: bool


def words(filter: str) -> list[Word]:
    found = []
    for match in _TOKEN.finditer(filter):
        kind = match.lastgroup
        if kind is not None:
            found.append(Word(kind, match[kind], match.start(kind)))  # type: ignore[arg-type]
    return found


def clauses(filter: str) -> list[str]:
    """The parts that `and` joins at the top; the whole, when there is an `or` beside them."""
    depth, begin, parts = 0, 0, []
    for word in words(filter):
        if word.kind == "mark":
            depth += (word.text in "([") - (word.text in ")]")
        elif depth == 0 and word.kind == "name" and word.text == "or":
            return [filter.strip()]
        elif depth == 0 and word.kind == "name" and word.text == "and":
            parts.append(filter[begin : word.begin].strip())
            begin = word.end
    parts.append(filter[begin:].strip())
    return [part for part in parts if part]


def column_of(clause: str) -> str | None:
    """The column that a simple clause is about: `x == 1`, `x != 1`, `x in [...]`; None for any other."""
    found = words(clause)
    if len(found) < 3 or found[0].kind != "name" or found[0].text in ("not", "any", "all", "count"):
        return None
    simple = found[1].text in ("==", "!=", "<", "<=", ">", ">=") and len(found) == 3
    listed = found[1].text == "in" or (found[1].text == "not" and found[2].text == "in")
    return found[0].value if simple or listed else None


def without(filter: str, column: str) -> str:
    """The filter without its own clauses about a column."""
    return " and ".join(each for each in clauses(filter) if column_of(each) != column)


def searches(filter: str) -> list[Search]:
    """What of texts the filter searches for; nothing that stands behind a `not`."""
    found, all_words = [], words(filter)
    for i, word in enumerate(all_words):
        rest = all_words[i + 1 : i + 3]
        if word.kind == "text" and len(rest) == 2 and rest[0].text == "in" and rest[1].kind == "name" and word.value:
            found.append(Search(rest[1].value, word.value, False))
        elif (
            word.kind == "name" and len(rest) == 2 and rest[0].text == "~" and rest[1].kind == "text" and rest[1].value
        ):
            found.append(Search(word.value, rest[1].value, True))
    return found
