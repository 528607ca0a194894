"""Asking: which store is opened, which spans are meant, and what the answers look like."""

from __future__ import annotations

import builtins
import collections
import itertools
import json
import math
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy
import pytest
import spanbox
from spanbox import Box, FilterError, NotFoundError
from spanbox._paths import resolve_store
from spanbox._render import (
    clean,
    duration_column,
    fit,
    fold,
    format_bytes,
    format_cost,
    format_duration,
    format_share,
    pad,
    text_width,
)
from spanbox._time import iso_ns, length_ns, moment_ns

START_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000


def row(number: int, **values: Any) -> dict[str, Any]:
    return {
        "trace_id": f"{number + 1:032x}",
        "span_id": f"{number + 1:016x}",
        "name": f"span {number}",
        "start_ns": START_NS + number * SECOND_NS,
        **values,
    }


def fill(box: Box, rows: list[dict[str, Any]]) -> None:
    box._store.append(rows)


@pytest.fixture
def hundred(box: Box) -> Box:
    """100 model calls, ttft 1 to 100 ms, of two models by turns, every tenth failed."""
    fill(
        box,
        [
            row(
                n,
                kind="llm",
                model=("big", "small")[n % 2],
                ttft_ns=(n + 1) * 1_000_000,
                duration_ns=SECOND_NS,
                cost_usd=0.01,
                status="error" if n % 10 == 0 else "ok",
                tenant="acme" if n < 50 else "globex",
            )
            for n in range(100)
        ],
    )
    return box


def test_threads_of_a_box_give_the_answers_of_one(hundred: Box) -> None:
    shared = spanbox.open(hundred.path, threads=3)
    for box in (hundred, shared):
        assert box.spans("kind == llm").count() == 100
        assert box.spans().quantile("ttft", 0.5, exact=True) == pytest.approx(50.5e6)
        rows = list(box.spans().by("model").agg(n="count()", top="top(tenant, 1)"))
        assert [(row["model"], row["n"]) for row in rows] == [("big", 50), ("small", 50)]
    with pytest.raises(ValueError, match="threads is 0"):
        spanbox.open(hundred.path, threads=0)


# --- which store ------------------------------------------------------------------------------------------------------


def test_nearest_folder_upward_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPANBOX_DIR", raising=False)
    spanbox.open(tmp_path / ".spanbox", create=True)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert spanbox.open().path == tmp_path / ".spanbox"
    assert resolve_store() == str(tmp_path / ".spanbox")


def test_variable_beats_the_nearest_folder_and_a_path_beats_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (".spanbox", "named", "given"):
        spanbox.open(tmp_path / name, create=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPANBOX_DIR", str(tmp_path / "named"))
    assert spanbox.open().path == tmp_path / "named"
    assert spanbox.open(tmp_path / "given").path == tmp_path / "given"


def test_no_store_anywhere_says_where_it_looked_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPANBOX_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError, match=r"no \.spanbox folder in .*above it.*SPANBOX_DIR.*create=True"):
        spanbox.open()
    assert resolve_store() == str(tmp_path / ".spanbox")
    assert list(tmp_path.iterdir()) == []  # asking made nothing


def test_path_without_a_store_is_not_found_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing-here"):
        spanbox.open(tmp_path / "nothing-here")
    assert list(tmp_path.iterdir()) == []


def test_path_that_is_a_file_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(spanbox.StoreError, match="it is a file"):
        spanbox.open(tmp_path / "file", create=True)


# --- which spans ------------------------------------------------------------------------------------------------------


def test_filter_narrows_and_count_counts(hundred: Box) -> None:
    assert hundred.spans().count() == 100
    assert hundred.spans('model == "big"').count() == 50
    assert hundred.spans("status == error and ttft > 50ms").count() == 5
    assert hundred.spans('tenant in ["globex"] and not (model == "big")').count() == 25


def test_wrong_filter_says_where(hundred: Box) -> None:
    with pytest.raises(FilterError, match=r"\^") as caught:
        hundred.spans('model = "big"')
    assert 'model = "big"' in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "moment",
    [
        START_NS + 90 * SECOND_NS,
        datetime.fromtimestamp(START_NS / 1e9 + 90, UTC),
        datetime.fromtimestamp(START_NS / 1e9 + 90),
        datetime.fromtimestamp(START_NS / 1e9 + 90, UTC).isoformat(),
        datetime.fromtimestamp(START_NS / 1e9 + 90, UTC).astimezone().isoformat(),
    ],
    ids=["ns", "aware", "naive is local", "iso utc", "iso local"],
)
def test_since_includes_its_moment_and_until_excludes_it(hundred: Box, moment: Any) -> None:
    assert hundred.spans(since=moment).count() == 10
    assert hundred.spans(until=moment).count() == 90


def test_since_a_while_ago_counts_from_now(box: Box) -> None:
    now = time.time_ns()
    fill(box, [row(1, start_ns=now - 30 * 60 * SECOND_NS), row(2, start_ns=now - 3 * 3600 * SECOND_NS)])
    assert [box.spans(since=since).count() for since in ("15m", "1h", "1h30m", "24h")] == [0, 1, 1, 2]


@pytest.mark.parametrize("wrong", ["yesterday", "", "5", "24 hours", "2026-13-01", "-3h"])
def test_wrong_moment_names_the_argument_and_the_forms(box: Box, wrong: str) -> None:
    with pytest.raises(ValueError, match=rf"since='{wrong}' .*24h.*2026-11-21"):
        box.spans(since=wrong)


@pytest.mark.parametrize("wrong", [1.5, True, timedelta(hours=1)])
def test_moment_of_a_wrong_type_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="until="):
        moment_ns(wrong, what="until")


def test_iso_keeps_nanoseconds() -> None:
    assert iso_ns("2023-11-14T22:13:20.123456789Z") == START_NS + 123_456_789
    assert iso_ns("2023-11-14 22:13:20.1234567+00:00") == START_NS + 123_456_700
    assert iso_ns("2023-11-14T22:13:20+00:00") == START_NS


def test_length_adds_its_parts() -> None:
    assert length_ns("1h30m") == 5_400 * SECOND_NS
    assert length_ns("1.5s") == 1_500_000_000
    with pytest.raises(ValueError, match="every='soon'"):
        length_ns("soon")


def test_refining_leaves_the_question_it_came_from(hundred: Box) -> None:
    spans = hundred.spans()
    first = spans.columns("name").order_by("ttft", descending=True).limit(2)
    assert [r["name"] for r in first] == ["span 99", "span 98"]
    assert spans.count() == 100
    assert first.count() == 2


# --- answers ----------------------------------------------------------------------------------------------------------


def test_exact_quantiles_are_numpys_and_the_sketch_is_within_its_bound(hundred: Box) -> None:
    values = numpy.arange(1, 101) * 1e6
    qs = [0.0, 0.25, 0.5, 0.9, 0.99, 1.0]
    exact = hundred.spans().quantile("ttft", qs, exact=True)
    assert list(exact.values()) == pytest.approx(list(numpy.quantile(values, qs)))
    assert (exact.count, exact.relative_error) == (100, 0)
    sketch = hundred.spans().quantile("ttft_ns", qs)
    assert 0 < sketch.relative_error <= 0.01
    for q in qs:
        low, high = (numpy.quantile(values, q, method=method) for method in ("lower", "higher"))
        assert low * (1 - sketch.relative_error) <= sketch[q] <= high * (1 + sketch.relative_error)


def test_one_quantile_is_a_float(hundred: Box) -> None:
    assert hundred.spans().quantile("ttft", 0.5, exact=True) == pytest.approx(50.5e6)
    assert math.isnan(hundred.spans('model == "none"').quantile("ttft", 0.5))


@pytest.mark.parametrize("wrong", [-0.1, 1.1, 99, math.nan])
def test_quantile_outside_zero_to_one_is_refused(hundred: Box, wrong: float) -> None:
    with pytest.raises(ValueError, match="share from 0 to 1"):
        hundred.spans().quantile("ttft", wrong)


def test_groups_are_computed_and_ordered(hundred: Box) -> None:
    result = hundred.spans().by("model").agg(n="count()", failed="rate(status == error)", cost="sum(cost)")
    rows = list(result)
    assert [r["model"] for r in rows] == ["big", "small"]
    assert [r["n"] for r in rows] == [50, 50]
    assert [r["failed"] for r in rows] == pytest.approx([0.2, 0.0])
    assert [r["cost"] for r in rows] == pytest.approx([0.5, 0.5])


def test_time_buckets_start_at_multiples_of_their_length(hundred: Box) -> None:
    result = hundred.spans().by(every="1m").agg(n="count()")
    times = result.column("time")
    assert all(t % (60 * SECOND_NS) == 0 for t in times)
    assert times == sorted(times)
    assert sum(result.column("n")) == 100


def test_groups_can_be_ordered_and_cut(hundred: Box) -> None:
    result = hundred.spans().by("tenant", "model").agg(n="count()", p99="p99(ttft, exact)")
    top = result.order_by("p99", descending=True).limit(2)
    assert [(r["tenant"], r["model"]) for r in top] == [("globex", "small"), ("globex", "big")]
    assert len(result) == 4
    assert "99.5 ms" in str(top)  # it keeps its unit
    with pytest.raises(ValueError, match="no column `cost` among `tenant`, `model`, `n`, `p99`"):
        result.order_by("cost")


def test_distributions_come_as_lists_in_python_and_as_json_in_arrow(hundred: Box) -> None:
    result = (
        hundred.spans().by("tenant").agg(models="top(model, 1)", ttft="histogram(ttft)", about="approx_distinct(name)")
    )
    assert result.column("models") == [[["big", 25]], [["big", 25]]]
    assert result.column("about") == [50, 50]
    bins = result.column("ttft")[0]
    assert sum(count for _, _, count in bins) == 50
    assert (bins[0][0], bins[-1][1]) == (1e6, 50e6)
    assert all(left[1] == right[0] for left, right in itertools.pairwise(bins))
    arrow = result.to_arrow()
    assert [json.loads(text) for text in arrow["models"].to_pylist()] == result.column("models")
    assert "big 25" in str(result)
    assert "█" in str(result)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"])
def test_days_and_hours_of_a_time_zone_are_those_of_zoneinfo(box: Box, zone: str) -> None:
    tz = ZoneInfo(zone)
    days = [(2026, 3, 8), (2026, 3, 29), (2026, 4, 5), (2026, 10, 4), (2026, 10, 25), (2026, 11, 1)]  # clocks change
    starts = [
        int(datetime(*day, tzinfo=UTC).timestamp() + minutes * 60)
        for day in days
        for minutes in range(-24 * 60, 48 * 60, 10)
    ]
    fill(box, [row(n, start_ns=start * SECOND_NS, name="x") for n, start in enumerate(starts)])
    local = [datetime.fromtimestamp(start, tz) for start in starts]
    per_day = collections.Counter(moment.date() for moment in local)
    found = box.spans().by(every="1d", tz=zone).agg(n="count()")
    shown = [datetime.fromtimestamp(t / SECOND_NS, tz) for t in found.column("time")]
    assert {moment.date(): n for moment, n in zip(shown, found.column("n"), strict=True)} == per_day
    assert {(moment.hour, moment.minute) for moment in shown} == {(0, 0)}
    quarters = box.spans().by(every="15m", tz=tz).agg(n="count()")
    expected = collections.Counter((m.date(), m.hour, m.minute // 15, m.fold) for m in local)
    begins = [datetime.fromtimestamp(t / SECOND_NS, tz) for t in quarters.column("time")]
    assert {
        (m.date(), m.hour, m.minute // 15, m.fold): n for m, n in zip(begins, quarters.column("n"), strict=True)
    } == (expected)


def test_filters_ask_for_relatives(box: Box) -> None:
    trace = f"{7:032x}"
    fill(
        box,
        [
            row(1, trace_id=trace, kind="agent"),
            row(2, trace_id=trace, kind="tool", parent_id=f"{2:016x}", status="error"),
            row(3, trace_id=trace, kind="llm", parent_id=f"{2:016x}"),
        ],
    )
    assert box.spans("any(children, kind == tool and status == error)").count() == 1
    assert [r["kind"] for r in box.spans("any(siblings, status == error)").columns("kind")] == ["llm"]
    with pytest.raises(FilterError, match="need the other spans of the trace"):
        spanbox.configure(sampling=spanbox.Sampling(0.5, keep="any(children, status == error)"))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda spans: spans.by("model", every="1d", tz="Europe/Atlantis").agg(n="count()"), "no time zone"),
        (lambda spans: spans.by("model", tz="Europe/Berlin").agg(n="count()"), "give their length"),
        (lambda spans: spans.by("model").agg(n="count()").limit(-1), "must not be negative"),
        (lambda spans: spans.by("model").agg(), "at least one expression"),
        (lambda spans: spans.limit(-1), "must not be negative"),
        (lambda spans: spans.limit(3).quantile("ttft", 0.5), "leave it out"),
        (lambda spans: spans.limit(3).by("model"), "leave it out"),
        (lambda spans: spans.by("model").agg(x="median_of(ttft)"), "median_of"),
        (lambda spans: spans.columns(), "at least one name"),
        (lambda spans: spans.by("model", every="often"), "every='often'"),
    ],
)
def test_wrong_question_is_refused_with_a_reason(hundred: Box, ask: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(hundred.spans())


def test_every_data_frame_library_takes_the_spans(hundred: Box) -> None:
    duckdb = pytest.importorskip("duckdb")
    polars = pytest.importorskip("polars")
    spans = hundred.spans("status == error").columns("name", "start_ns", "ttft_ns", "cost_usd", "model")
    arrow, pandas_frame, polars_frame = spans.to_arrow(), spans.to_pandas(), spans.to_polars()
    assert arrow.num_rows == len(pandas_frame) == polars_frame.height == 10
    expected = [(n + 1) * 1_000_000 for n in range(0, 100, 10)]
    assert arrow["ttft_ns"].to_pylist() == pandas_frame["ttft_ns"].tolist() == expected
    assert polars_frame["ttft_ns"].to_list() == expected
    assert polars.DataFrame(spans).equals(polars_frame)
    assert duckdb.sql("select sum(ttft_ns) from spans").fetchall() == [(sum(expected),)]


def test_rows_without_a_value_have_none(box: Box) -> None:
    fill(box, [row(1, flavour="sweet"), row(2)])
    assert [r["flavour"] for r in box.spans().columns("flavour")] == ["sweet", None]


def test_missing_library_is_named_with_what_to_install(hundred: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "polars":
            raise ModuleNotFoundError("No module named 'polars'", name="polars")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(ImportError, match=r"to_polars\(\) needs polars: pip install polars"):
        hundred.spans().to_polars()


def test_reprs_are_one_true_line(hundred: Box) -> None:
    spans = hundred.spans('model == "big"', since=START_NS)
    assert repr(hundred).startswith(f"<Box {hundred.path} 100 spans ")
    assert repr(spans).startswith("<Spans 'model == \"big\"' since ")
    result = spans.by("model").agg(n="count()", p99="p99(ttft)")
    assert repr(result) == "<Result 1 row: model, n, p99>"
    assert str(result).splitlines()[1].split()[:2] == ["big", "50"]
    quantiles = repr(spans.quantile("ttft", [0.5, 0.99], exact=True))
    assert quantiles == "<Quantiles ttft p50=50.0 ms p99=98.0 ms of 50 values, exact>"
    for text in (repr(hundred), repr(spans), repr(result), quantiles):
        assert "\n" not in text


def test_html_is_escaped_and_bounded(box: Box) -> None:
    fill(box, [row(n, name="<script>alert(1)</script>") for n in range(60)])
    html = box.spans()._repr_html_()
    assert "<script>" not in html
    assert html.count("<tr>") == 51  # header and 50 rows
    assert "60 spans, first 50 shown" in html
    assert box.spans().by("name").agg(n="count()")._repr_html_().count("&lt;script&gt;") == 1


def test_a_signal_ends_a_long_question(box: Box) -> None:
    fill(box, [row(n, input="some text " * 400) for n in range(2_000)])
    long = box.spans(" or ".join(f'input ~ "t.{{{n}}}never"' for n in range(100)))
    begin = time.perf_counter()
    assert long.count() == 0
    whole_s = time.perf_counter() - begin

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, whole_s / 10)
        begin = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            long.count()
        assert time.perf_counter() - begin < whole_s / 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert box.spans().count() == 2_000  # the store is as good as before


# --- grep -------------------------------------------------------------------------------------------------------------


def test_grep_finds_text_in_payloads_and_attributes(box: Box) -> None:
    fill(
        box,
        [
            row(1, input={"question": "the Refund policy?"}, output="see refund page"),
            row(2, note="no refund", kind="tool"),
            row(3, output="nothing"),
        ],
    )
    found = box.grep("refund")
    assert found.matched == 2
    assert [(hit["span_name"], hit["column"]) for hit in found] == [("span 2", "note"), ("span 1", "output")]
    start, end = found[0]["match"]
    assert found[0]["snippet"][start:end] == "refund"
    assert box.grep("refund", ignore_case=True).matched == 3
    assert box.grep(r"ref.nd\b", regex=True, filter="kind == tool").matched == 1
    assert box.grep("refund", limit=1).matched == 2
    assert len(box.grep("refund", limit=1)) == 1


def test_grep_refuses_what_cannot_be_searched(box: Box) -> None:
    with pytest.raises(ValueError, match="empty"):
        box.grep("")
    with pytest.raises(ValueError, match=r"\("):
        box.grep("(", regex=True)


def test_question_sees_what_this_process_recorded_just_now(recorded: Any) -> None:
    box = recorded.box
    with spanbox.span("fresh", kind="tool"):
        pass
    assert box.spans('name == "fresh"').count() == 1


# --- how values look --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (None, "—"),
        (0, "0 ns"),
        (812, "812 ns"),
        (14_300, "14.3 µs"),
        (45_000, "45.0 µs"),
        (999_700, "1.00 ms"),
        (3_200_000, "3.20 ms"),
        (312_000_000, "312 ms"),
        (1_840_000_000, "1.84 s"),
        (59_940_000_000, "59.9 s"),
        (59_960_000_000, "1 m 00 s"),
        (125 * SECOND_NS, "2 m 05 s"),
        (12_000 * SECOND_NS, "3 h 20 m"),
        (3_599_600_000_000, "1 h 00 m"),
        (-3 * SECOND_NS, "−3.00 s"),
    ],
)
def test_duration_text(ns: float | None, text: str) -> None:
    assert format_duration(ns) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (None, "—"), (0, "$0"), (12.4, "$12.40"), (0.42, "$0.4200"), (0.0042, "$0.0042"), (0.0000123, "<$0.0001"),
        (0.99996, "$1.00"), (1_204.3, "$1,204"), (-3, "−$3.00"),
    ],
)  # fmt: skip
def test_cost_text(usd: float | None, text: str) -> None:
    assert format_cost(usd) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, "—"), (0, "0 %"), (1, "100 %"), (0.00001, "<0.01 %"), (0.0005, "0.05 %"), (0.061, "6.1 %"),
        (0.0999, "10 %"), (0.5, "50 %"), (0.996, "99.6 %"), (0.99999, "99.9 %"),
    ],
)  # fmt: skip
def test_share_text(share: float | None, text: str) -> None:
    assert format_share(share) == text


def test_durations_of_one_column_have_one_unit() -> None:
    values = [1_840_000_000, 530_000_000, 1_000_000, 100_000, 0, None]
    assert duration_column(values) == ["1.84 s", "0.530 s", "0.001 s", "<0.001 s", "0 s", "—"]
    assert duration_column([280_000_000, 14_000]) == ["280 ms", "0.014 ms"]
    assert duration_column([125 * SECOND_NS, SECOND_NS]) == ["2 m 05 s", "1.00 s"], "from a minute on each its own"
    assert duration_column([]) == []


@pytest.mark.parametrize("width", [7, 20, 33])
def test_folded_text_fits_and_loses_nothing(width: int) -> None:
    for text in ("", "word " * 20, "x" * 50, "日本語 テキスト " * 8, "short"):
        lines = fold(text, width)
        assert max(map(text_width, lines)) <= width
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_bytes_text() -> None:
    assert [format_bytes(n) for n in (12, 3_565_158, 5 << 40)] == ["12 B", "3.4 MiB", "5.0 TiB"]


def test_control_and_direction_characters_are_shown() -> None:
    hostile = "a\x1b[31mred\x07\n\u202eevil\u200b\x9b\u2028\U000e0041\ud800"
    shown = clean(hostile)
    assert shown == "a\\x1b[31mred\\x07\\n\\u202eevil\\u200b\\x9b\\u2028\\U000e0041\\ud800"
    assert all(character.isprintable() for character in shown)
    assert clean("déjà vu 日本 👩‍👩‍👧") == "déjà vu 日本 👩‍👩‍👧"


def test_wide_characters_take_two_cells() -> None:
    assert text_width("日本") == 4
    assert fit("日本語", 5) == "日本…"
    assert pad("日本", 6) == "日本  "
    assert fit("abc", 3) == "abc"
