"""reprice and reparse: what stored calls cost by other prices, and what their replies say by this version's parsers.

Spans are never edited: what has changed is stored as scores named like the columns (cost_usd, input_tokens, ...) of
the evaluator `spanbox`, with the version of the prices or of the parsers. So score.cost_usd is the newest cost,
cost_usd the one recorded, and box.cost(as_of=) tells what was known at a moment.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from spanbox import cost as prices_of
from spanbox._core import __version__
from spanbox._cost_report import CALL, EVALUATOR, REPARSED, SERVED, TOLD, Question
from spanbox._price_rows import SHORT, usd_of
from spanbox._render import clean, format_cost, plural
from spanbox.replies import Reply, parse

if TYPE_CHECKING:
    from spanbox._spans import Spans

USAGE = "usage"  # the attribute that keeps a provider's own usage object
_STORED = "score.cost_usd"
_SPANS_A_STEP = 4_096
_HINTS = ("usage", "token", "Token", "eval_count")
_SAME = 1e-9  # relative: two sums of one price
_BLOB = "$blob"

Scores = Iterator[dict[str, Any]]


@dataclass(slots=True)
class Correction:
    """What reprice or reparse did. `changed` calls have other figures now; before and after are what those cost."""

    looked_at: int = 0
    changed: int = 0
    unpriced: int = 0  # have no price that is known: they stay as they are
    before_usd: float = 0.0  # of those that had a cost
    after_usd: float = 0.0
    versions: set[str] = field(default_factory=set)

    def as_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__}
        return {**values, "versions": sorted(self.versions)}

    def __str__(self) -> str:
        text = f"{self.changed:,} of {plural(self.looked_at, 'call')} changed"
        if self.changed:
            text += f": {format_cost(self.before_usd)} before, {format_cost(self.after_usd)} now"
        if self.versions:
            text += f", by {', '.join(map(clean, sorted(self.versions)))}"
        return text + (f"; {self.unpriced:,} have no known price" if self.unpriced else "")


def reprice(
    spans: Callable[[str], Spans], store: Callable[[Scores], int] | None, filter: str, prices: prices_of.Prices
) -> Correction:
    """`store` takes the scores; None: only tell what would change."""
    done = Correction()
    question = Question(spans, filter, (), prices=prices, reparsed=True)
    rule = f"{CALL} and ({TOLD} or {REPARSED}) and not {SERVED}"
    _, columns = question.columns(rule, "trace_id", "span_id", "cost_usd", _STORED, USAGE)
    at_ns = time.time_ns()

    def changes() -> Scores:
        for at, money in enumerate(question.pricing.costs(columns)):
            done.looked_at += 1
            before = _either(columns[_STORED][at], columns["cost_usd"][at])
            about = [columns[name][at] for name in ("provider", "model", "at", "tier")]
            row = question.pricing.row(*about)
            version = row.rate.version if row else ""
            usd = None if money is None else float(usd_of(money))
            if isinstance(usage := _json(columns[USAGE][at]), dict):  # tells more than the columns
                provider, model, start_ns, tier = about
                cost = prices_of.of(
                    provider=provider, model=model, usage=usage, at=start_ns, tier=tier or None, prices=prices
                )
                usd, version = (None if cost.usd is None else float(cost.usd)), cost.price_version
            if usd is None:
                done.unpriced += 1
                continue
            if _is_same(before, usd):
                continue
            done.changed += 1
            done.before_usd += before or 0.0
            done.after_usd += usd
            done.versions.add(version)
            yield {
                **_score("cost_usd", usd, columns["trace_id"][at], columns["span_id"][at], version, at_ns),
                **({} if before is None else {"metadata": {"before_usd": before}}),
            }

    _drain(changes(), store)
    return done


def reparse(
    spans: Callable[[str, int | None, int | None], Spans],
    blob: Callable[[str], bytes],
    store: Callable[[Scores], int] | None,
    filter: str,
    period: tuple[int | None, int | None],
    prices: prices_of.Prices,
) -> Correction:
    """`spans` also takes from when to when; `blob` gives the content of a large value."""
    done = Correction()
    rule = f"{CALL} and (output != none or {USAGE} != none)"
    which = f"({filter}) and {rule}" if filter.strip() else rule
    at_ns = time.time_ns()
    version = f"replies {__version__}"

    def changes() -> Scores:
        for row in _stepwise(lambda since, until: spans(which, since, until), period):
            done.looked_at += 1
            reply = _reply_of(row, blob)
            if reply is not None and reply.tokens:
                yield from _corrected(row, reply, version, at_ns, prices, done)

    _drain(changes(), store)
    return done


def _corrected(
    row: Mapping[str, Any], reply: Reply, version: str, at_ns: int, prices: prices_of.Prices, done: Correction
) -> Scores:
    known = {name: _either(row[f"score.{name}"], row[name]) for name in SHORT}
    told = {name: reply.tokens.get(name) for name in SHORT}
    if all(known[name] == count for name, count in told.items() if count is not None):
        return
    done.changed += 1
    ids = row["trace_id"], row["span_id"]
    for name, count in told.items():
        if count is not None:
            yield _score(name, count, *ids, version, at_ns)
    for name, label in (("model", reply.model), ("finish_reason", reply.finish_reason)):
        if label and row[name] is None:
            yield _score(name, label, *ids, version, at_ns)
    model = row["model"] or row["model_request"] or reply.model
    cost = prices_of.of(
        provider=reply.provider, model=model, usage=reply.usage, at=row["start_ns"], prices=prices,
        tier=row["service_tier"] if isinstance(row["service_tier"], str) else None,
    )  # fmt: skip
    before = _either(row[_STORED], row["cost_usd"])
    if cost.usd is None:
        done.unpriced += 1
        return
    done.before_usd += before or 0.0
    done.after_usd += float(cost.usd)
    done.versions.add(cost.price_version)
    if not _is_same(before, float(cost.usd)):
        yield _score("cost_usd", float(cost.usd), *ids, cost.price_version, at_ns)


def _reply_of(row: Mapping[str, Any], blob: Callable[[str], bytes]) -> Reply | None:
    """What a span's kept usage says, else its output."""
    provider = row["provider"] if isinstance(row["provider"], str) else None
    usage = _json(row[USAGE])
    if isinstance(usage, dict):
        # a usage object by itself is read as that of a reply without an answer
        return parse(provider, {"object": "response", "usage": usage}, model=row["model"])
    text = row["output"]
    if not isinstance(text, str):
        return None
    output = _json(text)
    if isinstance(output, dict) and isinstance(output.get(_BLOB), str):
        try:
            text = blob(output[_BLOB]).decode("utf-8", "replace")
        except LookupError:
            return None
        output = _json(text)
    if not any(hint in text for hint in _HINTS):
        return None
    reply = parse(provider, text if output is None else output, model=row["model"])
    return reply if reply.known else None


def _stepwise(
    spans: Callable[[int | None, int | None], Spans], period: tuple[int | None, int | None]
) -> Iterator[dict[str, Any]]:
    """The rows with their texts, some thousand at a time."""
    starts = sorted(spans(*period).columns("start_ns")._table().column("start"))
    bounds = sorted({*starts[::_SPANS_A_STEP], *([starts[-1] + 1] if starts else [])})
    names = ("trace_id", "span_id", "provider", "model", "model_request", "start_ns", "finish_reason", "service_tier",
             "output", USAGE, "cost_usd", _STORED, *SHORT, *(f"score.{name}" for name in SHORT))  # fmt: skip
    for since, until in pairwise(bounds):
        table = spans(since, until).columns(*names)._table()
        columns = [table.column(given) for given in table.column_names]
        for values in zip(*columns, strict=True):
            yield dict(zip(names, values, strict=True))


def _score(name: str, value: Any, trace_id: str, span_id: str, version: str, at_ns: int) -> dict[str, Any]:
    about = {"trace_id": trace_id, "span_id": span_id, "evaluator": EVALUATOR, "version": version, "at_ns": at_ns}
    return {"name": name, "value": value, **about}


def _drain(changes: Scores, store: Callable[[Scores], int] | None) -> None:
    if store is not None:
        store(changes)
        return
    for _ in changes:
        pass


def _is_same(before: Any, usd: float) -> bool:
    return isinstance(before, int | float) and abs(before - usd) <= _SAME * max(abs(before), abs(usd))


def _either(newest: Any, recorded: Any) -> Any:
    return recorded if newest is None else newest


def _json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None
