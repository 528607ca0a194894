"""Charts of results, by altair (extra `notebook`).

Lines over time and histograms stand in a row for each group, on one scale: at most six groups, a missing bucket is a
gap. Colour tells models apart and nothing else. Names from outside are data in fixed fields: none becomes part of an
expression. A chart brings a light ground of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spanbox._notebook_html import MODEL_HUES, TOKENS
from spanbox._render import clean, duration_unit
from spanbox._spans import library

if TYPE_CHECKING:
    from spanbox._spans import ChartKind, Result
    from spanbox._tables import Unit

_GROUPS = 6
_BARS = 30
_POINTS = 5_000
_LIGHT = 1
_WIDTH = 560
_MINUTE_NS = 60_000_000_000
_LONG_NS = 172_800_000_000_000  # from two days on the axis tells days
_FORMATS: dict[str, str] = {"cost": "$,.4~f", "share": ".2~%", "duration": ",.3~r", "plain": ",.3~r"}
Row = dict[str, Any]


def plot(result: Result, y: str | Sequence[str], *, kind: ChartKind | None = None) -> Any:
    """See Result.plot()."""
    alt = library("altair", "plot()", extra="notebook")
    if not len(result):
        raise ValueError("there are no rows to plot: nothing matches")
    figures = _figures(result, [y] if isinstance(y, str) else list(y))
    chosen = kind or _kind_of(result, figures)
    if chosen == "line" and not result.every_ns:
        raise ValueError('a line needs time: group with .by(..., every="5m"), or plot kind="bar"')
    if chosen == "histogram" and not _is_histogram(result, figures[0]):
        raise ValueError(f'{figures[0]!r} is no histogram: ask for one with .agg(h="histogram(ttft)")')
    draw = {"line": _lines, "bar": _bars, "histogram": _histogram}[chosen]
    chart, notes = draw(alt, result, figures)
    return _finished(alt, chart, result, figures, notes)


def _figures(result: Result, asked: list[str]) -> list[str]:
    there = [name for name in result.columns if name not in result.key_columns and _is_figure(result, name)]
    for name in asked:
        if name not in there:
            raise ValueError(f"{name!r} is no figure of this result: it has {', '.join(there) or 'none'}")
    if not there:
        raise ValueError("there are no figures to plot: ask for some with .agg(...)")
    unit = result.unit((asked or there)[0])
    return (
        asked or [name for name in there if result.unit(name) == unit and not _is_histogram(result, name)] or there[:1]
    )


def _is_figure(result: Result, name: str) -> bool:
    values = [value for value in result.column(name) if value is not None]
    return any(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values) or _is_histogram(result, name)


def _is_histogram(result: Result, name: str) -> bool:
    value = next((value for value in result.column(name) if value), None)
    return isinstance(value, list) and len(value[0]) == len(("low", "high", "count"))


def _kind_of(result: Result, figures: list[str]) -> ChartKind:
    return "line" if result.every_ns else "histogram" if _is_histogram(result, figures[0]) else "bar"


def _group_of(result: Result, row: Row) -> str:
    names = [key for key in result.key_columns if key != "time"]
    return ", ".join("(none)" if row[key] is None else clean(str(row[key])) for key in names) or "all"


def _groups(result: Result, figures: list[str], most: int) -> tuple[list[str], list[str]]:
    """The groups with the most values, the others counted in a note."""
    counts: dict[str, int] = {}
    for row in result:
        group = _group_of(result, row)
        counts[group] = counts.get(group, 0) + sum(_values_in(row[name]) for name in figures)
    order = sorted((group for group in counts if counts[group]), key=lambda group: -counts[group])
    left = len(order) - most
    return order[:most], [f"{left} more groups are not shown"] if left > 0 else []


def _values_in(value: Any) -> int:
    return sum(count for _, _, count in value) if isinstance(value, list) else int(value is not None)


def _scale(result: Result, figures: list[str]) -> tuple[Unit, str, float]:
    """What the axis measures, the name of its unit and what values are divided by."""
    unit = result.unit(figures[0])
    if unit != "duration":
        return unit, "", 1.0
    values = [abs(v) for name in figures for v in result.column(name) if isinstance(v, (int, float)) and v == v]
    name, size = duration_unit(max(values, default=0.0))
    return unit, name, size


def _colour(alt: Any, result: Result, groups: list[str]) -> Any:
    if [key for key in result.key_columns if key != "time"] != ["model"]:
        return alt.value(TOKENS["k2"][_LIGHT])
    hues = [TOKENS[each][_LIGHT] for each in MODEL_HUES[: len(groups)]]
    hues += [TOKENS["k2"][_LIGHT]] * (len(groups) - len(hues))
    return alt.Color("group:N", scale=alt.Scale(domain=groups, range=hues), legend=None)


def _rows_of(alt: Any, groups: list[str]) -> Any:
    header = alt.Header(labelAngle=0, labelAlign="left", labelFontSize=12, labelPadding=16, labelOrient="left")
    return alt.Row("group:N", sort=groups, title=None, header=header)


def _bounded(rows: list[Row]) -> list[Row]:
    if len(rows) > _POINTS:
        raise ValueError(f"{len(rows):,} points are too many to see: take longer buckets or fewer groups (.limit())")
    return rows


def _lines(alt: Any, result: Result, figures: list[str]) -> tuple[Any, list[str]]:
    groups, notes = _groups(result, figures, _GROUPS)
    unit, axis, size = _scale(result, figures)
    rows = _bounded(_points(result, figures, groups, size))
    last = {(row["group"], row["figure"]): row for row in rows if row["value"] is not None}
    shown = "%H:%M:%S" if result.every_ns < _MINUTE_NS else "%H:%M"
    if result.every_ns * len(set(result.column("time"))) > _LONG_NS:
        shown = "%m-%d"
    x = alt.X("time:T", title="UTC", scale=alt.Scale(type="utc"), axis=alt.Axis(format=shown))
    y = alt.Y("value:Q", title=None, axis=_axis(alt, unit, axis))
    colour = _colour(alt, result, groups)
    width = alt.StrokeWidth("figure:N", scale=alt.Scale(domain=figures, range=_widths(len(figures))), legend=None)
    line = alt.Chart().mark_line(point=alt.OverlayMarkDef(size=12)).encode(x=x, y=y, color=colour, strokeWidth=width)
    ends = [{**row, "end": 1} for row in _apart(list(last.values()))]
    label = (
        alt.Chart()
        .transform_filter("datum.end == 1")
        .mark_text(align="left", dx=6, fontSize=11)
        .encode(x=x, y=y, text="figure:N", color=colour)
    )
    height = max(60, 220 // len(groups))
    layers = alt.layer(line.transform_filter("datum.end != 1"), label, data=alt.Data(values=rows + ends))
    layers = layers.properties(width=_WIDTH, height=height)
    return (layers if groups == ["all"] else layers.facet(row=_rows_of(alt, groups))), notes


def _axis(alt: Any, unit: Unit, name: str) -> Any:
    """Numbers with their unit: `name` is one of ours."""
    if unit != "duration":
        return alt.Axis(format=_FORMATS[unit])
    return alt.Axis(labelExpr=f"format(datum.value, '{_FORMATS[unit]}') + '\u2009{name}'", labelOverlap=True)


def _apart(ends: list[Row]) -> list[Row]:
    """Those whose labels would not lie on each other, the highest first."""
    most = max((abs(row["value"]) for row in ends), default=0.0)
    kept: list[Row] = []
    for row in sorted(ends, key=lambda row: -row["value"]):
        if all(each["group"] != row["group"] or each["value"] - row["value"] > most / 8 for each in kept):
            kept.append(row)
    return kept


def _widths(count: int) -> list[float]:
    return [1 + at / max(1, count - 1) for at in range(count)] if count > 1 else [1.5]


def _points(result: Result, figures: list[str], groups: list[str], size: float) -> list[Row]:
    """A row a point, and one without a value where a bucket is missing."""
    points: list[Row] = []
    before: dict[str, int] = {}
    step_ms = result.every_ns // 1_000_000
    for row in sorted(result, key=lambda row: row["time"]):
        group = _group_of(result, row)
        if group not in groups:
            continue
        at_ms = row["time"] // 1_000_000
        if group in before and at_ms - before[group] > 1.5 * step_ms:
            gap_ms = before[group] + step_ms
            points += [{"time": gap_ms, "group": group, "figure": name, "value": None} for name in figures]
        before[group] = at_ms
        for name in figures:
            points.append({"time": at_ms, "group": group, "figure": name, "value": _scaled(row[name], size)})
    return points


def _scaled(value: Any, size: float) -> float | None:
    return None if value is None or value != value else value / size


def _bars(alt: Any, result: Result, figures: list[str]) -> tuple[Any, list[str]]:
    groups, notes = _groups(result, figures, _BARS)
    unit, axis, size = _scale(result, figures)
    rows = [
        {"group": group, "figure": name, "value": _scaled(row[name], size)}
        for row in result
        if (group := _group_of(result, row)) in groups
        for name in figures
    ]
    bars = alt.Chart(alt.Data(values=rows)).mark_bar(size=14)
    chart = bars.encode(
        x=alt.X("value:Q", title=None, axis=_axis(alt, unit, axis), stack=None),
        y=alt.Y("group:N", title=None, sort=alt.EncodingSortField("value", op="max", order="descending")),
        color=_colour(alt, result, groups),
        **({"row": alt.Row("figure:N", sort=figures, title=None)} if len(figures) > 1 else {}),
    )
    return chart.properties(width=_WIDTH), notes


def _histogram(alt: Any, result: Result, figures: list[str]) -> tuple[Any, list[str]]:
    """Columns of equal ratio on a logarithmic axis."""
    groups, notes = _groups(result, figures, _GROUPS)
    name = figures[0]
    found = [(group, row[name]) for row in result if (group := _group_of(result, row)) in groups and row[name]]
    unit = result.unit(name)
    highest = max((high for _, buckets in found for _, high, _ in buckets), default=0.0)
    axis, size = duration_unit(highest) if unit == "duration" else ("", 1.0)
    rows = _bounded(
        [
            {"group": group, "low": low / size, "high": high / size, "count": count}
            for group, buckets in found
            for low, high, count in buckets
            if low > 0
        ]
    )
    zeros = sum(count for _, buckets in found for low, _, count in buckets if low <= 0)
    if zeros:
        notes.append(f"{zeros:,} values of zero or less are not shown")
    chart = alt.Chart().mark_bar(binSpacing=0).encode(
        x=alt.X("low:Q", title=None, scale=alt.Scale(type="log"), axis=_axis(alt, unit, axis)),
        x2="high:Q",
        y=alt.Y("count:Q", title=None, scale=alt.Scale(zero=True)),
        y2=alt.datum(0),
        color=_colour(alt, result, groups),
    )  # fmt: skip
    chart = alt.layer(chart, data=alt.Data(values=rows)).properties(width=_WIDTH, height=max(60, 220 // len(groups)))
    return (chart if groups == ["all"] else chart.facet(row=_rows_of(alt, groups))), notes


def _finished(alt: Any, chart: Any, result: Result, figures: list[str], notes: list[str]) -> Any:
    keys = [clean(key) for key in result.key_columns if key != "time"]
    by = f" by {', '.join(keys)}" if keys else ""
    said = [each for each in (result.basis, *notes) if each]
    text, line = TOKENS["t1"][_LIGHT], TOKENS["line"][_LIGHT]
    quiet = TOKENS["t3"][_LIGHT]
    title = alt.TitleParams(
        text=f"{', '.join(map(clean, figures))}{by}", subtitle=said, anchor="start", color=text, subtitleColor=quiet,
        fontSize=13, subtitleFontSize=11, offset=12,
    )  # fmt: skip
    return (
        chart.properties(title=title, background=TOKENS["bg"][_LIGHT], padding=16)
        .configure_view(stroke=None)
        .configure_axis(gridColor=line, domainColor=line, tickColor=line, labelColor=quiet, titleColor=quiet)
    )
