"""One trace: the tree, its totals, and hostile text in it."""

from __future__ import annotations

from typing import Any

import pytest
import spanbox
from spanbox import Box, NotFoundError
from spanbox._render import text_width

TRACE_ID = "7f3a" + "0" * 27 + "1"
MS = 1_000_000


def span(number: int, parent: int | None = None, **values: Any) -> dict[str, Any]:
    row = {"trace_id": TRACE_ID, "span_id": f"{number:016x}", "name": f"s{number}", "start_ns": number * MS, **values}
    if parent is not None:
        row["parent_id"] = f"{parent:016x}"
    return row


def trace_of(box: Box, *rows: dict[str, Any]) -> spanbox.Trace:
    box._store.append(rows)
    return box.trace(TRACE_ID)


@pytest.fixture
def support(box: Box) -> spanbox.Trace:
    return trace_of(
        box,
        span(1, name="answer", kind="agent", duration_ns=1_840 * MS, input_tokens=900, output_tokens=150,
            cost_usd=0.0042),
        span(2, 1, name="retrieve", kind="retriever", duration_ns=45 * MS),
        span(
            3, 1, name="chat gpt-x", kind="llm", duration_ns=1_310 * MS, ttft_ns=312 * MS, input_tokens=812,
            output_tokens=141, cost_usd=0.0034,
        ),
        span(
            4, 3, name="lookup_order", kind="tool", duration_ns=102 * MS, status="error", error_type="TimeoutError",
            error_message="order system did not answer", input={"order": "A1"},
        ),
        span(5, 1, name="chat gpt-x", kind="llm", duration_ns=300 * MS, input_tokens=88, output_tokens=9,
            cost_usd=0.0008),
        span(6, 1, name="check", kind="guardrail", duration_ns=1_200_000),
    )  # fmt: skip


def test_tree_shows_every_span_on_its_line(support: spanbox.Trace) -> None:
    assert "\n".join(support.lines(width=80)) == (
        f"trace {TRACE_ID}  6 spans  1.84 s  $0.0042  1 error\n"
        "span                kind          took     self    ttft   in→out     cost\n"
        "answer              agent       1.84 s  0.529 s          900→150  $0.0042\n"
        "├─ retrieve         retriever  0.045 s\n"
        "├─ chat gpt-x       llm         1.31 s   1.21 s  312 ms  812→141  $0.0034\n"
        "│  └─ lookup_order  tool       0.102 s  ✗ TimeoutError: order system did not an…\n"
        "├─ chat gpt-x       llm        0.300 s                      88→9  $0.0008\n"
        "└─ check            guardrail  0.001 s"
    )


def test_repr_and_print_say_the_same(support: spanbox.Trace) -> None:
    assert repr(support) == "<Trace 7f3a0000… 6 spans 1.84 s $0.0042 1 error>"
    assert str(support).splitlines()[2].split()[:2] == ["answer", "agent"]
    assert repr(support.root) == "<TraceSpan answer agent 1.84 s ok>"


def test_totals_count_model_calls_once(support: spanbox.Trace) -> None:
    """The agent repeats the tokens and the cost of its calls."""
    assert (support.input_tokens, support.output_tokens) == (900, 150)
    assert support.cost_usd == pytest.approx(0.0042)
    assert support.duration_s == pytest.approx(1.84)


def test_model_call_around_another_counts_once(box: Box) -> None:
    trace = trace_of(
        box,
        span(1, kind="llm", cost_usd=1.0, input_tokens=10),
        span(2, 1, kind="chain"),
        span(3, 2, kind="llm", cost_usd=1.0, input_tokens=10),
        span(4, 2, kind="embedding", cost_usd=0.5, input_tokens=4),
    )
    assert trace.cost_usd == pytest.approx(1.5)
    assert trace.input_tokens == 14


def test_spans_know_their_times_and_what_is_below_them(support: spanbox.Trace) -> None:
    root, _, chat, tool, *_ = support
    assert (root.self_ns, chat.self_ns, tool.self_ns) == (529 * MS, 1_208 * MS, 102 * MS)
    assert (root.child_count, chat.child_count) == (4, 1)
    assert root.totals == support.totals
    assert (chat.totals.spans, chat.totals.errors, chat.totals.model_calls, chat.totals.cost_usd) == (2, 1, 1, 0.0034)
    assert tool.totals.cost_usd is None


def test_critical_path_adds_up_to_the_root(support: spanbox.Trace) -> None:
    path = support.critical_path()
    assert [(step.name, step.duration_ns // MS) for step in path] == [
        ("answer", 2), ("chat gpt-x", 1), ("lookup_order", 102), ("chat gpt-x", 1_207), ("answer", 528),
    ]  # fmt: skip
    assert path.duration_ns == support.root.duration_ns
    assert [span.critical_ns // MS for span in support] == [530, 0, 1_208, 102, 0, 0]
    assert str(path).splitlines()[1] == "    0 s  0.002 s   0.1 %  agent  answer"
    assert repr(path) == "<CriticalPath 7f3a0000… 5 steps 1.84 s>"


def test_pages_are_the_lines_of_the_tree(box: Box, support: spanbox.Trace) -> None:
    ids = [span.span_id for span in support]
    for limit in (1, 2, 4):
        pages = [box.trace(TRACE_ID, offset=offset, limit=limit) for offset in range(0, 6, limit)]
        assert [span.span_id for page in pages for span in page] == ids
        assert [span.as_dict() for page in pages for span in page] == [span.as_dict() for span in support]
        assert {page.line_count for page in pages} == {6}
        assert {repr(page) for page in pages} == {repr(support)}
    assert len(box.trace(TRACE_ID, offset=6)) == 0
    page = box.trace(TRACE_ID, offset=3, limit=2)
    assert page.roots == []
    assert [line[:4].rstrip() for line in page.lines()[2:]] == ["   └", "└─ c", "… 1"]
    with pytest.raises(LookupError, match="earlier page"):
        _ = page.root
    with pytest.raises(ValueError, match="negative"):
        box.trace(TRACE_ID, offset=-1)


def test_collapsed_spans_hide_what_is_below_them(box: Box, support: spanbox.Trace) -> None:
    trace = box.trace(TRACE_ID, collapsed=[support[2].span_id])
    assert [span.name for span in trace] == ["answer", "retrieve", "chat gpt-x", "chat gpt-x", "check"]
    assert trace.line_count == 5
    assert trace[2].child_count == 1
    assert trace.totals == support.totals
    assert len(box.trace(TRACE_ID, collapsed=[support.root.span_id])) == 1


def test_page_without_payloads_reads_all_else(box: Box, support: spanbox.Trace) -> None:
    page = box.trace(TRACE_ID, payloads=False)
    assert all(span.input is None for span in page)
    assert page[3].error == support[3].error
    assert page.lines(width=80) == support.lines(width=80)


def test_root_is_the_span_without_a_parent(box: Box) -> None:
    """A clock that is behind may put a span whose parent is missing before it."""
    trace = trace_of(box, span(1, 99), span(2, name="root", kind="agent"), span(3, 2))
    assert trace.root.name == trace.name == "root"


def test_error_that_travels_up_counts_where_it_began(box: Box) -> None:
    trace = trace_of(box, span(1, status="error"), span(2, 1, status="error"), span(3, 2, status="error"), span(4, 1))
    assert [s.name for s in trace.errors] == ["s3"]
    assert trace.status == "error"


def test_spans_know_their_family_and_values(support: spanbox.Trace) -> None:
    root = support.root
    assert [child.name for child in root.children] == ["retrieve", "chat gpt-x", "chat gpt-x", "check"]
    tool = support[3]
    assert tool.parent is support[2]
    assert tool.input == {"order": "A1"}
    assert tool.attributes["error_type"] == "TimeoutError"
    assert tool.error == "TimeoutError: order system did not answer"
    assert (support[2].ttft_s, support[2].cost_usd, support[2].output) == (0.312, 0.0034, None)
    assert [s.span_id for s in support] == [s.span_id for s in support.spans]


def test_span_without_its_parent_is_a_marked_root(box: Box) -> None:
    trace = trace_of(box, span(1, kind="agent"), span(2, 99))
    assert [line.split("  ")[0] for line in trace.lines()[2:]] == ["s1", "┄ s2"]
    assert trace.root.name == "s1"


def test_running_and_interrupted_spans_say_so(box: Box) -> None:
    trace = trace_of(box, span(1, status="interrupted"), span(2, 1, status="running"))
    assert "✗ interrupted" in trace.lines()[2]
    assert "… running" in trace.lines()[3]
    assert repr(trace).endswith("interrupted>")


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_asked(box: Box, width: int) -> None:
    rows = [span(1, name="日本語" * 40, kind="llm", duration_ns=MS, input_tokens=10**9, output_tokens=1, cost_usd=1e-6)]
    rows += [span(n, n - 1, name="x" * n, status="error", error_message="boom " * 100) for n in range(2, 60)]
    lines = trace_of(box, *rows).lines(width=width)
    assert max(map(text_width, lines)) <= width
    assert len(lines) == 61


def test_hostile_text_is_shown_not_executed(box: Box) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\u202etxt\r\n[bold red]<b>x</b>"
    trace = trace_of(box, span(1, name=hostile, status="error", error_message=hostile))
    printed = "\n".join(trace.lines(width=400))
    assert "\\x1b]0;owned\\x07\\x1b[2J\\u202etxt\\r\\n[bold red]" in printed
    assert all(character.isprintable() for line in printed.splitlines() for character in line)
    html = trace._repr_html_()
    assert "<b>" not in html
    assert "&lt;b&gt;" in html


def test_long_traces_are_cut_with_a_count(box: Box) -> None:
    box._store.append([span(1)])
    for start in range(2, 3_000, 1_000):
        box._store.append([span(n, 1) for n in range(start, min(start + 1_000, 3_000))])
    trace = box.trace(TRACE_ID)
    assert len(trace) == 2_999
    assert trace.lines()[-1] == "… 2,499 more spans"
    assert trace._repr_html_().count("<tr>") == 51


def test_beginning_of_an_id_is_enough_when_it_is_the_only_one(box: Box) -> None:
    other = {"trace_id": "7f3b" + "0" * 28, "span_id": "a" * 16, "name": "other", "start_ns": 1}
    box._store.append([span(1), other])
    assert box.trace("7f3a").id == TRACE_ID
    assert box.trace("7F3A0000…").id == TRACE_ID
    box._store.append([{**span(2), "trace_id": "7f3a" + "1" * 28}])
    with pytest.raises(ValueError, match=r"several traces, such as 7f3a1{8}…, 7f3a0{8}…"):
        box.trace("7f3a")


@pytest.mark.parametrize("wrong", ["", "7f3", "xyzw", "7f3a" * 9, "../../etc", "7f3a;drop"])
def test_malformed_id_is_refused(box: Box, wrong: str) -> None:
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        box.trace(wrong)


def test_unknown_id_is_not_found(box: Box) -> None:
    box._store.append([span(1)])
    for unknown in ("abcd", "f" * 32):
        with pytest.raises(NotFoundError):
            box.trace(unknown)
