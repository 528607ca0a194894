"""Two traces side by side: what is whose, what came and went, and where they part."""

from __future__ import annotations

import random
from typing import Any

import pytest
from spanbox._trace_diff import align, changes, first_divergence


def rows(text: str, **attributes: dict[str, Any]) -> list[Any]:
    """A tree as indented names, `name:kind`; depth first, starts and ends in that order."""
    found = []
    for number, line in enumerate(text.strip("\n").split("\n")):
        name, _, kind = line.strip().partition(":")
        found.append(
            {
                "span_id": f"{number + 1:016x}",
                "name": name,
                "kind": kind or "tool",
                "status": "ok",
                "depth": (len(line) - len(line.lstrip())) // 2,
                "start_ns": number,
                "duration_ns": 1,
                "attributes": dict(attributes.get(name, {})),
            }
        )
    return found


def drawn(now: list[Any], before: list[Any]) -> str:
    lines = []
    for pair in align(now, before):
        name = (now[pair.now] if pair.now is not None else before[pair.before or 0])["name"]
        sign = "-" if pair.now is None else "+" if pair.before is None else " "
        lines.append(f"{sign}{'  ' * pair.depth}{name}")
    return "\n".join(lines)


def test_spans_of_the_same_kind_and_name_are_each_others_in_their_order() -> None:
    before = rows("answer\n  retrieve\n    embed\n    search\n  generate")
    now = rows("answer\n  guard\n  retrieve\n    embed\n    rerank\n    search\n  generate")
    assert drawn(now, before) == (" answer\n+  guard\n   retrieve\n     embed\n+    rerank\n     search\n   generate")
    assert drawn(before, now) == (" answer\n-  guard\n   retrieve\n     embed\n-    rerank\n     search\n   generate")


def test_what_has_gone_goes_with_all_below_it_and_stands_before_what_came() -> None:
    before = rows("answer\n  search\n    embed\n  generate")
    now = rows("answer\n  lookup\n    fetch\n  generate")
    assert drawn(now, before) == " answer\n-  search\n-    embed\n+  lookup\n+    fetch\n   generate"


def test_single_roots_are_each_others_whatever_their_names() -> None:
    assert drawn(rows("new\n  a"), rows("old\n  a")) == " new\n   a"


def test_kinds_tell_spans_of_one_name_apart() -> None:
    assert drawn(rows("r\n  x:tool"), rows("r\n  x:llm")) == " r\n-  x\n+  x"


@pytest.mark.parametrize("seed", range(20))
def test_every_span_stands_once_and_in_its_order(seed: int) -> None:
    random_ = random.Random(seed)

    def tree() -> list[Any]:
        depth, lines = 0, ["root"]
        for _ in range(random_.randrange(60)):
            depth = random_.randrange(1, min(depth + 2, 6))
            lines.append("  " * depth + random_.choice("abc"))
        return rows("\n".join(lines))

    now, before = tree(), tree()
    pairs = align(now, before)
    assert [pair.now for pair in pairs if pair.now is not None] == list(range(len(now)))
    assert [pair.before for pair in pairs if pair.before is not None] == list(range(len(before)))
    for pair in pairs:
        assert pair.now is None or now[pair.now]["depth"] == pair.depth
        assert pair.before is None or before[pair.before]["depth"] == pair.depth
    assert [pair.now for pair in align(now, now)] == [pair.before for pair in align(now, now)]


def test_thousands_of_children_of_one_name_are_aligned_in_one_pass() -> None:
    """Quadratic alignment of 20,000 children would not end while anybody waits."""
    before = rows("root\n" + "\n".join("  step" if i % 3 else "  other" for i in range(20_000)))
    now = rows("root\n  first\n" + "\n".join("  step" if i % 2 else "  other" for i in range(20_000)))
    pairs = align(now, before)
    assert sum(pair.now is not None for pair in pairs) == len(now)
    assert sum(pair.before is not None for pair in pairs) == len(before)


def test_a_tree_deeper_than_the_stack_is_aligned() -> None:
    deep = rows("\n".join("  " * i + "level" for i in range(5_000)))
    assert all(pair.now == pair.before for pair in align(deep, deep))


def test_short_facts_that_differ_are_changes_and_texts_are_not() -> None:
    [before] = rows("call:llm", call={"model": "a", "top_k": 8, "input": "x", "input_tokens": 3, "note": "n" * 300})
    [now] = rows("call:llm", call={"model": "b", "top_k": 8, "input": "y", "input_tokens": 9, "note": "m" * 300})
    now["status"] = "error"
    assert [(each.name, each.before, each.now) for each in changes(now, before)] == [
        ("status", "ok", "error"),
        ("model", "a", "b"),
    ]


def test_the_first_output_that_differs_is_that_of_the_span_that_ended_first() -> None:
    said = "a" * 500
    before = rows(
        "root\n  plan\n  answer", root={"output": "1"}, plan={"output": said, "input": "q"}, answer={"output": "2"}
    )
    now = rows(
        "root\n  plan\n  answer",
        root={"output": "9"},
        plan={"output": said[:300] + "b", "input": "q"},
        answer={"output": "8"},
    )
    now[0]["duration_ns"] = 100
    found = first_divergence(now, before, align(now, before))
    assert found is not None
    assert (found.now["name"], found.at, found.is_input_same, found.compared) == ("plan", 300, True, 3)
    assert found.now_text.endswith("ab")
    assert found.before_text.startswith("…")
    assert first_divergence(now, now, align(now, now)) is None
