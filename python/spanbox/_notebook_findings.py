"""Findings as notebooks and reports show them: the sentence, then a row for each with its course over time.

Thread rule: pure functions. All texts are escaped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanbox._notebook_html import number, spark, table, text
from spanbox._render import plural

if TYPE_CHECKING:
    from spanbox._finding import Finding, Findings

_NOTE = "what passes its test, corrected for {} by Holm at 1 %, and is ×1.5 or 2 points worse, or drifted far"


def findings_html(found: Findings, *, heading: str = "strong") -> str:
    head = f'<div><{heading}>{text(found.sentence)}</{heading}> <span class="sb-m">{number(found.detail)}</span></div>'
    if not found:
        return head
    header, rows, right = found.cells()
    header[0], header[1:2] = "finding", ["what", "over time"]
    rows = [[row[0], row[1], "", *row[2:]] for row in rows]
    drawn = {0: [_label_html(item) for item in found], 2: [_spark_html(item) for item in found]}
    notes = [_NOTE.format(plural(found.checked, "comparison"))]
    return head + table("", header, rows, right={at + 1 for at in right}, wrap={6, 7}, drawn=drawn, notes=notes)


def _label_html(item: Finding) -> str:
    kind, glyph = ("sb-e", "▲") if item.severity == "error" else ("sb-warn", "◆")
    return f'<span class="{kind}">{glyph} {text(item.label)}</span>'


def _spark_html(item: Finding) -> str:
    return spark(item.spark, f"{item.what} over time", mark=item.spark_mark)
