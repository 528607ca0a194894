"""What notebooks show: values that draw themselves, %%observe, and the notebooks of the repository, executed."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox import Box
from spanbox._notebook_html import TOKENS, block, spark, table
from spanbox._notebook_trace import cost_parts, time_parts

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MS = 1_000_000
START_NS = 1_700_000_000_000_000_000
TRACE_ID = "7f3a" + "0" * 28


def span(number: int, parent: int | None = None, **values: Any) -> dict[str, Any]:
    row = {"trace_id": TRACE_ID, "span_id": f"{number:016x}", "start_ns": START_NS, "name": f"s{number}", **values}
    return row if parent is None else {**row, "parent_id": f"{parent:016x}"}


@pytest.fixture
def agent(box: Box) -> Box:
    box._store.append(
        [
            span(1, name="answer", kind="agent", duration_ns=1_000 * MS),
            span(2, 1, name="lookup", kind="tool", duration_ns=100 * MS, status="error", error_type="TimeoutError"),
            span(
                3, 1, name="chat", kind="llm", model="gpt-x", start_ns=START_NS + 200 * MS, duration_ns=700 * MS,
                ttft_ns=400 * MS, cost_usd=0.02, input_tokens=812, output_tokens=141,
            ),
            span(
                4, 3, name="inner", kind="llm", model="gpt-y", start_ns=START_NS + 200 * MS, duration_ns=MS,
                cost_usd=0.005,
            ),
        ]
    )  # fmt: skip
    return box


def rows_of(html: str) -> list[str]:
    return [re.sub(r"<[^>]+>", " ", row) for row in re.findall(r"<tr>.*?</tr>", html, re.DOTALL)]


# --- values that draw themselves -------------------------------------------------------------------------------------


def test_trace_is_a_tree_beside_a_waterfall(agent: Box) -> None:
    html = agent.trace(TRACE_ID)._repr_html_()
    rows = rows_of(html)
    assert [" ".join(row.split()) for row in rows[1:]] == [
        "AGT answer 1.00 s", "├─ TOL lookup ▲ 0.100 s", "└─ LLM chat 0.700 s $0.0200",
        "└─ LLM inner 0.001 s $0.0050",
    ]  # fmt: skip
    # The call waits from 200 to 600 thousandths, then streams to 900; the agent is a thin line around it.
    assert '<rect x="200.00" y="3" width="400.00" height="10" class="sb-f-m1 sb-pale"/>' in html
    assert '<rect x="600.00" y="3" width="300.00" height="10" class="sb-f-m1"/>' in html
    assert '<rect x="0.00" y="7" width="1000.00" height="2"' in html
    assert '<rect x="0.00" y="3" width="100.00" height="10" class="sb-f-errfill"/>' in html
    assert "Failed inside</strong> lookup" in html
    assert "<script" not in html
    assert "style=" not in html


def test_where_time_and_money_went_adds_up(agent: Box) -> None:
    trace = agent.trace(TRACE_ID)
    times = {label: value / MS for label, _, value in time_parts(trace)}
    assert times == {"waiting for gpt-x": 399, "gpt-x streaming": 300, "own code": 200, "lookup": 100, "gpt-y": 1}
    assert sum(times.values()) == trace.root.duration_ns / MS
    costs = {label: round(value, 6) for label, _, value in cost_parts(trace)}
    assert trace.cost_usd == pytest.approx(sum(costs.values()))
    page = agent.trace(TRACE_ID, limit=2)._repr_html_()
    assert "Where" not in page, "a part of a trace cannot tell"


def test_running_and_interrupted_spans_are_marked(box: Box) -> None:
    box._store.append([span(1, status="interrupted", kind="agent"), span(2, 1, status="running", kind="llm")])
    html = box.trace(TRACE_ID)._repr_html_()
    assert "⊠ interrupted" in html
    assert "◌ running" in html


def test_a_running_trace_lasts_until_now(box: Box) -> None:
    """It had an axis of one nanosecond: nothing in it has an end."""
    box._store.append([span(1, status="running", kind="agent", start_ns=time.time_ns() - 7_200_000 * MS)])
    html = box.trace(TRACE_ID)._repr_html_()
    axis = re.findall(r'class="sb-ax">(.*?)</th>', html)[0]
    assert "2\u2009h 00\u2009m" in axis
    assert "2\u2009h 00\u2009m so far" in html


def test_bars_keep_their_width_where_a_notebook_shrinks_pictures() -> None:
    """nbconvert gives pictures max-width: 100 %, and a column is as wide as what it holds."""
    assert ".spanbox.spanbox svg{vertical-align:middle;overflow:visible;max-width:none}" in block("")


def test_tables_have_bars_sparks_and_a_basis(box: Box) -> None:
    box._store.append(
        [
            span(n, trace_id=f"{n:032x}", kind="llm", model="gpt-x", start_ns=START_NS + n * 60_000 * MS,
                 duration_ns=n * MS)
            for n in range(1, 11)
        ]
    )  # fmt: skip
    by_time = box.spans("kind == llm", since=START_NS).by("model", every="1m").agg(p50="p50(duration)", n="count()")
    html = by_time._repr_html_()
    assert html.count('class="sb-bar"') == 20, "a bar beside each figure"
    assert html.count('class="sb-line"') == 2, "a line for each figure of the one group"
    assert "kind == llm; since" in html
    assert "buckets of 1\u2009m" in html.replace(" m", "\u2009m")
    assert "quantiles by sketch, within 1 %" in html
    exact = box.spans().by("model").agg(p50="p50(duration, exact)")._repr_html_()
    assert "exact quantiles" in exact


def test_line_breaks_where_nothing_was_recorded(box: Box) -> None:
    minutes = (0, 1, 2, 5, 6)
    box._store.append(
        [span(1, trace_id=f"{n + 1:032x}", start_ns=START_NS + n * 60_000 * MS, duration_ns=MS) for n in minutes]
    )
    html = box.spans().by(every="1m").agg(n="count()")._repr_html_()
    [path] = re.findall(r'<path d="([^"]+)"', html)
    assert path.count("M") == 2


def test_spark_breaks_where_a_value_is_missing() -> None:
    assert spark([1.0, 2.0, None, 3.0, 1.0], "x").count("M") == 2
    assert spark([1.0], "x") == ""


def test_session_is_the_conversation_it_was(box: Box) -> None:
    box._store.append(
        [
            span(
                1, trace_id="1" * 32, session_id="s1", user_id="ann", input="hello", output="<b>hi</b>", duration_ns=MS
            ),
            span(1, trace_id="2" * 32, session_id="s1", input="and now?", status="error", start_ns=START_NS + MS),
        ]
    )
    html = box.session("s1")._repr_html_()
    assert "&lt;b&gt;hi&lt;/b&gt;" in html
    assert "and now?" in html
    assert "▲ error" in html
    assert "ann" in html
    assert "s1" in box.sessions()._repr_html_()


def test_outputs_follow_the_theme_and_bring_their_ground() -> None:
    html = block(table("", ["a"], [["1"]], right={0}))
    for query in ("prefers-color-scheme:dark", '[data-jp-theme-light="false"]', ".vscode-dark"):
        assert query in html
    assert "background:var(--sb-bg)" in html
    assert "http" not in html
    assert "url(" not in html


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["dark", "light"])
def test_every_text_can_be_read(theme: int) -> None:
    for ground in ("bg", "raised"):
        for text in ("t1", "t2", "t3", "err", "warn", "acc"):
            one, other = sorted((luminance(TOKENS[text][theme]), luminance(TOKENS[ground][theme])))
            assert (other + 0.05) / (one + 0.05) >= 4.5, (text, ground)


# --- %%observe -------------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(recorded: Any) -> Iterator[Any]:
    interactive = pytest.importorskip("IPython.core.interactiveshell")
    shell = interactive.InteractiveShell.instance()
    shown: list[Any] = []
    shell.display_pub.publish = lambda data, **_: shown.append(data)
    shell.shown = shown
    shell.run_line_magic("load_ext", "spanbox")
    yield shell
    shell.run_line_magic("unload_ext", "spanbox")
    interactive.InteractiveShell.clear_instance()


def test_observed_cell_is_a_trace_shown_below_it(shell: Any, recorded: Any) -> None:
    done = shell.run_cell(
        "%%observe my cell\nimport spanbox\nwith spanbox.span('inner', kind='tool'):\n    x = 41\nx + 1"
    )
    assert (done.error_in_exec, done.result, shell.user_ns["x"]) == (None, 42, 41)
    assert recorded.tree() == "my cell [span] ok\n  inner [tool] ok"
    assert "x = 41" in recorded.spans()[0]["attributes"]["input"]
    [output] = shell.shown
    assert "inner" in output["text/html"]
    assert output["text/plain"].startswith("<Trace")


def test_observed_cell_may_await(shell: Any, recorded: Any) -> None:
    code = "%%observe\nimport asyncio, spanbox\nawait asyncio.sleep(0)\nwith spanbox.span('inner'):\n    pass\n7"
    assert shell.run_cell(code).result == 7
    assert recorded.tree() == "cell [span] ok\n  inner [span] ok"


def test_error_in_an_observed_cell_is_recorded_and_goes_on(shell: Any, recorded: Any) -> None:
    done = shell.run_cell("%%observe\nx = 1\nraise KeyError('missing')")
    assert isinstance(done.error_in_exec, KeyError)
    assert done.error_in_exec.__traceback__.tb_next.tb_lineno == 3, "lines are those of the cell"
    assert recorded.only_span()["attributes"]["error_type"] == "KeyError"
    assert len(shell.shown) == 1


def test_cells_without_the_magic_are_left_alone(shell: Any, recorded: Any) -> None:
    assert shell.run_cell("1 + 1").result == 2
    assert shell.run_cell("").result is None
    assert isinstance(shell.run_cell("%%observe\nx = = 1").error_before_exec, SyntaxError)
    assert shell.run_cell("%%observe\n").error_in_exec is None
    assert recorded.tree() == "cell [span] ok"
    with_string = "%%observe\ntext = '''a\n  b'''\ntext"
    assert shell.run_cell(with_string).result == "a\n  b", "the text of a cell is not indented"


def test_observed_cell_without_recording_still_runs(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    spanbox.off()
    try:
        assert shell.run_cell("%%observe\n6 * 7").result == 42
    finally:
        spanbox.on()
    assert "has no trace" in capsys.readouterr().out


# --- the notebooks ---------------------------------------------------------------------------------------------------


def executed(notebook: Path, folder: Path, **environment: str) -> list[dict[str, Any]]:
    """The cells of a notebook after it has run in an empty folder."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    node = nbformat.read(notebook, as_version=4)
    inherited = {k: v for k, v in os.environ.items() if k not in ("SPANBOX_DIR", "OPENAI_BASE_URL", "SPANBOX_DATA")}
    client = nbclient.NotebookClient(node, timeout=300, resources={"metadata": {"path": str(folder)}})
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - inherited.keys():
            patch.delenv(name)
        for name, value in {**environment, "IPYTHONDIR": str(folder / "ipython"), "PYTHONUTF8": "1"}.items():
            patch.setenv(name, value)
        client.execute()
    cells: list[dict[str, Any]] = json.loads(nbformat.writes(node))["cells"]
    return cells


def outputs_of(cells: list[dict[str, Any]], kind: str) -> list[str]:
    found = [output["data"] for cell in cells for output in cell.get("outputs", ()) if "data" in output]
    return ["".join(data[kind]) for data in found if kind in data]


def printed(cells: list[dict[str, Any]]) -> str:
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_without_outputs(notebook: Path) -> None:
    """Times differ at each run: what was seen is told in words, what is shown is made when it runs."""
    content = json.loads(notebook.read_text("utf-8"))
    assert content["cells"][0]["source"][0].startswith("# ")
    assert content["cells"][0]["source"][0].rstrip().endswith("?"), "a notebook answers one question"
    for cell in content["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
    code = ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]
    assert max(len(line) for source in code for line in source.splitlines()) <= 120


def test_first_trace_is_shown_below_its_cell(tmp_path: Path) -> None:
    cells = executed(ROOT / "notebooks" / "01_first_trace.ipynb", tmp_path)
    trace, spans = outputs_of(cells, "text/html")
    assert "refund question" in trace
    assert "Failed inside</strong> order_status" in trace
    assert "waiting for gpt-5-mini" in trace
    assert "order_status" in spans
    assert "set SPANBOX_DATA" in printed(cells)


def test_slow_and_costly_calls_are_found_and_drawn(tmp_path: Path) -> None:
    pytest.importorskip("altair")
    pytest.importorskip("typer")
    cells = executed(ROOT / "notebooks" / "02_slow_and_costly.ipynb", tmp_path)
    charts = outputs_of(cells, "image/svg+xml")
    assert len(charts) == 3
    assert all("gpt-5-mini" in chart for chart in charts)
    tables = outputs_of(cells, "text/html")
    assert len(tables) == 4
    assert "Where" in tables[-1]


@pytest.mark.realdata
def test_notebooks_answer_for_what_others_recorded(data: Path, tmp_path: Path) -> None:
    first = executed(ROOT / "notebooks" / "01_first_trace.ipynb", tmp_path, SPANBOX_DATA=str(data))
    assert "TOL" in outputs_of(first, "text/html")[-1]
    second = executed(ROOT / "notebooks" / "02_slow_and_costly.ipynb", tmp_path, SPANBOX_DATA=str(data))
    assert len(outputs_of(second, "image/svg+xml")) == 4
    assert "p99" in outputs_of(second, "text/html")[-1]


def test_import_of_spanbox_does_not_load_what_draws() -> None:
    import subprocess

    code = (
        "import sys, spanbox; box = spanbox.open; print([m for m in sys.modules if m.startswith('spanbox._notebook')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
