"""Sampling from Python: which traces are stored, and that every figure is of all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import spanbox
from spanbox import Box, Sampling, observe

Configure = Callable[[str, Sampling], Path]


@pytest.fixture
def configure(tmp_path: Path) -> Iterator[Configure]:
    """Records into a store of that name from now on; the recorder of other tests comes back afterwards."""

    def use(name: str, sampling: Sampling) -> Path:
        spanbox.configure(tmp_path / name, sampling=sampling, full_ring="block")
        return tmp_path / name

    yield use
    spanbox.configure(tmp_path / "after", sampling=Sampling(), full_ring="wait")


def settle() -> None:
    """What ended in the pass of the first flush may be decided in the second one's."""
    for _ in range(2):
        assert spanbox.flush(60)


def work(traces: int) -> None:
    for i in range(traces):
        with spanbox.tags(tenant=f"t{i % 3}"), spanbox.span("chat" if i % 2 else "search", kind="workflow"):
            for _ in range(3):
                with spanbox.span("call", kind="llm", model="m", cost_usd=0.001 * (i % 7), output_tokens=i % 5):
                    pass
            if i % 10 == 0:
                try:
                    with spanbox.span("tool", kind="tool"):
                        raise TimeoutError("slow")
                except TimeoutError:
                    pass


def box_of(path: Path) -> Box:
    """The store when nothing waits for a verdict any more."""
    settle()
    spanbox.configure(path.parent / "elsewhere")
    return spanbox.open(path)


def stored_traces(box: Box) -> set[str]:
    return {row["trace_id"] for row in box.spans().columns("trace_id")}


def test_errors_are_kept_whole_and_every_figure_is_of_all_traces(configure: Configure) -> None:
    work_on = configure("all", Sampling())
    work(200)
    everything = box_of(work_on)
    work_on = configure("some", Sampling(0, keep="status == error"))
    work(200)
    some = box_of(work_on)

    assert len(stored_traces(some)) == 20
    assert len(list(some.spans().columns("name"))) == 20 * 5, "the whole trace of each error"
    assert some.spans().count() == everything.spans().count() == 820
    assert some.spans("status == error").count() == 20
    assert some.spans().sampled_out == 0, "all that was dropped is in count()"

    figures = {"n": "count()", "cost": "sum(cost)", "failed": "rate(status == error)", "tokens": "sum(output_tokens)"}
    for by in (["name"], ["tenant", "kind"], []):
        got, expected = some.spans().by(*by).agg(**figures), everything.spans().by(*by).agg(**figures)
        assert [got.column(key) for key in by] == [expected.column(key) for key in by]
        for figure in figures:
            assert got.column(figure) == pytest.approx(expected.column(figure), rel=1e-9)
    assert some.spans().by("name").agg(n="count()").notes == ["720 sampled-out spans are in these figures"]
    assert some.info()["sampled_out_spans"] == 720
    assert some.verify()["problems"] == []


def test_what_figures_leave_out_is_said(configure: Configure) -> None:
    path = configure("some", Sampling(0, keep="status == error"))
    work(100)
    box = box_of(path)
    slow = box.spans("duration > 1h")
    assert (slow.count(), slow.sampled_out) == (0, 360)
    result = box.spans().by("user_id").agg(n="count()")
    assert (result.column("n"), result.sampled_out) == ([50], 360)
    assert "360 sampled-out spans are not in these figures" in repr(result)
    assert str(result).endswith("360 sampled-out spans are not in these figures")
    assert "360 sampled-out spans are not in these figures" in result._repr_html_()
    exact = box.spans().quantile("duration", [0.5], exact=True)
    assert (exact.count, exact.sampled_out) == (50, 360)
    assert "360 sampled-out spans are not in these figures" in repr(exact)
    assert box.spans().quantile("duration", [0.5]).count == 410
    assert "360 sampled-out spans are in these figures" in box.spans()._repr_html_()


def test_without_sampling_nothing_is_said(configure: Configure) -> None:
    path = configure("all", Sampling())
    work(3)
    result = box_of(path).spans().by("name").agg(n="count()")
    assert (result.sampled_out, result.notes) == (0, [])
    assert "sampled" not in repr(result) + str(result)


def test_keep_marks_the_trace(configure: Configure) -> None:
    path = configure("marked", Sampling(0))

    @observe
    def inner(wanted: bool) -> None:
        if wanted:
            spanbox.keep()

    @observe
    def outer(wanted: bool) -> None:
        inner(wanted)

    for i in range(10):
        outer(i == 4)
    spanbox.keep()  # outside of any span: nothing
    box = box_of(path)
    assert [row["name"].split(".")[-1] for row in box.spans().columns("name", "keep")] == ["outer", "inner"]
    assert box.spans().count() == 20


def test_names_first_of_kind_and_filters_on_anything(configure: Configure) -> None:
    path = configure(
        "rules",
        Sampling(0, names={"vital": 1.0}, keep='"refund" in input or `top.k` > 3', first_of_kind=True),
    )

    @observe
    def answer(question: str) -> None: ...

    for _ in range(5):
        with spanbox.span("vital"):
            pass
        with spanbox.span("dull"):
            pass
        answer("where is my refund")
        answer("hello")
        with spanbox.span("dull") as span:
            span.set(**{"top.k": 4})
    counts = {row["name"].split(".")[-1]: row["n"] for row in _stored(box_of(path))}
    # The first "dull" was dull and the first of its kind; of "answer" the first one is wanted anyway.
    assert counts == {"vital": 5, "dull": 6, "answer": 5}


def _stored(box: Box) -> list[dict[str, object]]:
    names = [row["name"] for row in box.spans().columns("name")]
    return [{"name": name, "n": names.count(name)} for name in dict.fromkeys(names)]


def test_processes_choose_the_same_traces(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import sys, spanbox
        spanbox.configure(sys.argv[1], sampling=spanbox.Sampling(0.25))
        for i in range(1, 1001):
            trace = f"{i * 0x9E3779B97F4A7C15F39CC0605CEDC834 % 2**128:032x}"
            with spanbox.attach(f"00-{trace}-00000000000000aa-01"), spanbox.span("part"):
                pass
        assert spanbox.flush(60) and spanbox.flush(60)
        """)
    stores = [tmp_path / "one", tmp_path / "two"]
    for store in stores:
        subprocess.run([sys.executable, "-c", program, str(store)], check=True)
    one, two = (spanbox.open(store) for store in stores)
    assert stored_traces(one) == stored_traces(two)
    assert 150 < len(stored_traces(one)) < 350, "7 standard deviations around a quarter"
    assert one.spans().count() == 1000


def test_killed_process_leaves_undecided_traces_whole(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import os, signal, sys, spanbox
        spanbox.configure(sys.argv[1], sampling=spanbox.Sampling(0, keep="status == error"))
        for i in range(100):
            with spanbox.span("decided or not"):
                pass
        with spanbox.span("root"):
            for i in range(20):
                with spanbox.span("part"):
                    pass
                if i == 10:
                    spanbox.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        """)
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "store")], check=False)
    assert done.returncode == -signal.SIGKILL
    box = spanbox.open(tmp_path / "store")
    assert box.spans('name == "part"').count() == 20
    assert len(list(box.spans('name == "part"').columns("span_id"))) == 20, "stored, not only counted"
    assert [row["status"] for row in box.spans('name == "root"').columns("status")] == ["interrupted"]
    assert box.spans('name == "decided or not"').count() == 100


def test_settings_are_checked_where_they_are_made() -> None:
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="rate is a share from 0 to 1"):
            Sampling(wrong)
    with pytest.raises(ValueError, match="names\\['health'\\]"):
        Sampling(names={"health": 2})
    with pytest.raises(spanbox.FilterError, match="is no operator"):
        Sampling(0.5, keep="status =")
    with pytest.raises(ValueError, match="max_waiting_bytes"):
        Sampling(max_waiting_bytes=1)
    with pytest.raises(ValueError, match="max_trace_s"):
        Sampling(max_trace_s=0)
    assert repr(Sampling(0.1, keep="cost > $1", first_of_kind=True)) == (
        "Sampling(0.1, keep='cost > $1', first_of_kind=True)"
    )


def test_stats_say_what_was_sampled_out(configure: Configure) -> None:
    pytest.importorskip("typer", reason="the command line needs the extra cli")
    path = configure("dropped", Sampling(0))
    work(10)
    box_of(path)
    done = subprocess.run(
        [sys.executable, "-m", "spanbox", "stats", "--store", str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "41 spans" in done.stdout, "also when no span at all is stored"
    assert "41 sampled-out spans are in these figures" in done.stdout
