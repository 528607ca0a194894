"""What the model calls of a store cost, by any columns: costs as recorded, computed or repriced, and computed now where
there is none.

Every token and every cent counts once, as in docs/traces.md: of model calls (kind llm and embedding) inside one another
the innermost that tells. A cost is computed for calls with tokens where neither they nor a model call below or around
them has one. A call that a cache of the program's own answered (served_from_cache) costs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spanbox import cost as prices_of
from spanbox._cost_caching import losses, savings
from spanbox._cost_rows import TIME, CostReport, CostRow, Source
from spanbox._price_rows import SHORT, usd_of
from spanbox._price_table import provider_id
from spanbox._time import length_ns

if TYPE_CHECKING:
    from spanbox._spans import Result, Scores, Spans

EVALUATOR = "spanbox"  # of the scores that reprice and reparse store, named like the columns they correct

CALL = "kind in [llm, embedding]"
TOLD = "(input_tokens != none or output_tokens != none)"
REPARSED = "(score.input_tokens != none or score.output_tokens != none)"
SERVED = "served_from_cache == true"
COMPUTED = 'cost_source == "computed"'  # and not told by the call
_CACHED = "(cache_read_tokens > 0 or cache_write_tokens > 0)"
_CACHE_TOLD = "(cache_read_tokens != none or cache_write_tokens != none)"
_TIERS = ("service_tier", "openai.response.service_tier", "gen_ai.openai.response.service_tier")  # the first that tells
_READ = ("provider", "model", "model_request", "start_ns", *_TIERS, *SHORT)
Key = tuple[Any, ...]
Ids = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Rules:
    """Filters that say which calls count for what."""

    calls: str
    recorded: str
    computed: str  # those whose cost was computed when they were stored
    repriced: str  # those whose cost a correction tells; empty: none
    tokens: str
    reparsed: str  # of them those whose tokens a correction tells; empty: none
    unpriced: str
    untold: str
    served: str  # empty: there are none


def rules(*, repriced: bool = False, reparsed: bool = False, served: bool = False) -> _Rules:
    paid = "(cost != none or score.cost_usd != none)" if repriced else "cost != none"
    told = f"({TOLD} or {REPARSED})" if reparsed else TOLD
    not_served = f" and not {SERVED}" if served else ""
    costs = f"{CALL} and {paid}{not_served} and not any(descendants, {CALL} and {paid})"
    newest = " and score.cost_usd == none" if repriced else ""
    tokens = f"{CALL} and {told} and not any(descendants, {CALL} and {told})"
    return _Rules(
        calls=f"{CALL} and not any(descendants, {CALL})",
        recorded=f"{costs}{newest} and not {COMPUTED}",
        computed=f"{costs}{newest} and {COMPUTED}",
        repriced=f"{costs} and score.cost_usd != none" if repriced else "",
        tokens=tokens,
        reparsed=f"{tokens} and {REPARSED}" if reparsed else "",
        unpriced=(
            f"{CALL} and {told} and not {paid}{not_served} and not any(descendants, {CALL} and ({told} or {paid}))"
            f" and not any(ancestors, {CALL} and {paid})"
        ),
        untold=(
            f"{CALL} and status == ok and not {told} and not {paid}{not_served} and not any(descendants, {CALL})"
            f" and not any(ancestors, {CALL} and ({told} or {paid}))"
        ),
        served=f"{CALL} and {SERVED} and not any(descendants, {CALL})" if served else "",
    )


@dataclass(slots=True)
class _Sums:
    """Figures of one group; money as in _price_rows where it was computed."""

    calls: int = 0
    recorded_calls: int = 0
    recorded_usd: float = 0.0
    repriced_calls: int = 0
    computed_calls: int = 0
    computed: int = 0
    stored_usd: float = 0.0  # computed when the calls were stored
    unpriced_calls: int = 0
    untold_calls: int = 0
    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    output_tokens: int | None = None
    saved: int | None = None
    lost: int | None = None
    served_calls: int = 0
    served: int | None = None


class Question:
    """One report in the making: what is asked, and the figures found so far."""

    def __init__(
        self,
        spans: Callable[[str], Spans],
        filter: str,
        by: Sequence[str],
        *,
        every: str | None = None,
        prices: prices_of.Prices = None,
        reparsed: bool = False,
    ) -> None:
        if isinstance(by, str):
            raise TypeError(f"by={by!r}: give a list of columns, such as by=[{by!r}]")
        if wrong := {"calls", "cost_usd", "start_ns", TIME, *SHORT} & set(by):
            raise ValueError(f"by={list(by)}: {min(wrong)} is a figure, not a group")
        self.by = tuple(by)
        self.every = every
        self.every_ns = 0 if every is None else length_ns(every)
        self.keys = (TIME, *self.by) if every else self.by
        self.groups: dict[Key, _Sums] = {}
        self.pricing = prices_of.pricing_of(prices)
        self.versions: set[str] = set()
        self.unpriced: Counter[str] = Counter()  # models
        self.reparsed = reparsed  # read tokens as corrected
        self._spans = spans
        self._filter = filter

    def which(self, rule: str) -> Spans:
        return self._spans(f"({self._filter}) and {rule}" if self._filter.strip() else rule)

    def sums(self, key: Key) -> _Sums:
        sums = self.groups.get(key)
        if sums is None:
            sums = self.groups[key] = _Sums()
        return sums

    def figures(self, rule: str, **expressions: str) -> Result:
        """One row a group; names of expressions are no columns of spans."""
        named = {f"spanbox_{name}": expression for name, expression in expressions.items()}
        return self.which(rule).by(*self.by, every=self.every).agg(**named)

    def rows(self, result: Result) -> Iterator[tuple[_Sums, dict[str, Any]]]:
        for row in result:
            yield self.sums(tuple(row[key] for key in self.keys)), row

    def columns(self, rule: str, *more: str) -> tuple[list[Key], dict[str, list[Any]]]:
        """The group of each call, and what prices depend on."""
        newest = [f"score.{name}" for name in ("model", *SHORT)] if self.reparsed else []
        names = list(dict.fromkeys((*self.by, *_READ, *more, *newest)))
        table = self.which(rule).columns(*names)._table()
        found = {name: table.column(given) for name, given in zip(names, table.column_names, strict=True)}
        if self.reparsed and not all(each is None for name in newest for each in found[name]):
            _take_newest(found)
        read = found.get("score.model", [None] * table.rows)
        at = found["start_ns"]
        times = [[start_ns // self.every_ns * self.every_ns for start_ns in at]] if self.every_ns else []
        parts = [*times, *(found[key] for key in self.by)]
        groups: list[Key] = list(zip(*parts, strict=True)) if parts else [()] * table.rows
        ids = {name: provider_id(name) for name in set(found["provider"])}
        about = {
            "provider": [ids[name] for name in found["provider"]],
            "model": [a or b or c for a, b, c in zip(found["model"], found["model_request"], read, strict=True)],
            "at": at,
            "tier": [prices_of.tier_of(a or b or c) for a, b, c in zip(*(found[name] for name in _TIERS), strict=True)],
        }
        return groups, {**{name: found[name] for name in (*SHORT, *more)}, **about}


def report(
    spans: Callable[[str], Spans],
    scores: Callable[[str], Scores],
    filter: str,
    by: Sequence[str],
    *,
    every: str | None = None,
    prices: prices_of.Prices = None,
    as_of_ns: int | None = None,
    period: tuple[int | None, int | None] = (None, None),
    caching: bool = True,
) -> CostReport:
    """`spans` gives the spans of the asked time that match a filter, `scores` those scores that were given before
    as_of_ns. Without `caching` what it saved and lost is not computed: that takes reading the calls one by one."""
    known = _known(scores, as_of_ns)
    reparsed = _corrections(scores, 'name in ["input_tokens", "output_tokens"]').count() > 0
    question = Question(spans, filter, by, every=every, prices=prices, reparsed=reparsed)
    served = question.which(f"{CALL} and {SERVED}").count() > 0
    which = rules(repriced=known is not None, reparsed=reparsed, served=served)
    calls = question.figures(which.calls, n="count()")
    for sums, row in question.rows(calls):
        sums.calls = row["spanbox_n"]
    for sums, row in question.rows(question.figures(which.untold, n="count()")):
        sums.untold_calls = row["spanbox_n"]
    for sums, row in question.rows(question.figures(which.recorded, n="count()", usd="sum(cost)")):
        sums.recorded_calls, sums.recorded_usd = row["spanbox_n"], row["spanbox_usd"]
    anew = prices is not None or bool(prices_of.overrides())
    if not anew:
        _read_computed(question, which.computed)
    _read_tokens(question, which)
    notes = list(calls.notes)
    try:
        if known is not None:
            _read_repriced(question, which.repriced, known)
        if anew:
            _compute(question, *question.columns(which.computed))
        _compute(question, *question.columns(which.unpriced))
        if which.served:
            _read_served(question, which.served)
        if caching:
            _read_caching(question, which.tokens)
    except prices_of.MissingExtra as error:
        notes.append(f"nothing is computed: {error}")
    rows = [_row(dict(zip(question.keys, key, strict=True)), sums) for key, sums in question.groups.items()]
    rows.sort(key=lambda row: (-(row.cost_usd or 0.0), -row.calls, str(list(row.group.values()))))
    if every:
        rows.sort(key=lambda row: row.group[TIME])
    total = _row({}, _total(question.groups.values()))
    return CostReport(question.keys, rows, total, sorted(question.versions), notes, period, question.unpriced)


def _known(scores: Callable[[str], Scores], as_of_ns: int | None) -> Mapping[Ids, float] | None:
    """The corrected costs at a moment; empty: what the spans' latest scores say; None: there are none."""
    found = _corrections(scores, 'name == "cost_usd"')
    count = found.count()
    if not count:
        return None
    if as_of_ns is None:
        return {}
    table = found.columns("trace_id", "span_id", "value").order_by("start_ns")._table()
    columns = (table.column(name) for name in ("trace_id", "span_id", "value"))
    return {(trace, span): value for trace, span, value in zip(*columns, strict=True)}


def _corrections(scores: Callable[[str], Scores], which: str) -> Scores:
    return scores(f'evaluator == "{EVALUATOR}" and {which}')


def _take_newest(columns: dict[str, list[Any]]) -> None:
    """Of calls whose tokens were read anew what was read then."""
    newest = [columns[f"score.{name}"] for name in SHORT]
    anew = [any(each is not None for each in row) for row in zip(*newest, strict=True)]
    for name, values in zip(SHORT, newest, strict=True):
        pairs = zip(anew, values, columns[name], strict=True)
        columns[name] = [_whole(value) if read else before for read, value, before in pairs]


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _read_computed(question: Question, rule: str) -> None:
    """The costs of calls as they were computed when they were stored."""
    for sums, row in question.rows(question.figures(rule, n="count()", usd="sum(cost)")):
        sums.computed_calls += row["spanbox_n"]
        sums.stored_usd += row["spanbox_usd"]
    question.versions |= {row["price_version"] for row in question.which(rule).by("price_version").agg(n="count()")}
    question.versions.discard(None)


def _read_tokens(question: Question, which: _Rules) -> None:
    rule = f"{which.tokens} and not {REPARSED}" if which.reparsed else which.tokens
    for prefix, each in (("", rule), ("score.", which.reparsed)):
        if not each:
            continue
        names = ("input_tokens", "cache_read_tokens", "output_tokens")
        figures = {name: f"sum({prefix}{name})" for name in names}
        found = question.figures(each, **figures, told=f"count({prefix}cache_read_tokens)")
        for sums, row in question.rows(found):
            for name in names:
                if name != "cache_read_tokens" or row["spanbox_told"]:
                    setattr(sums, name, _plus(getattr(sums, name), _whole(row[f"spanbox_{name}"])))


def _read_repriced(question: Question, rule: str, known: Mapping[Ids, float]) -> None:
    if not known:  # the latest ones
        for sums, row in question.rows(question.figures(rule, n="count()", usd="sum(score.cost_usd)")):
            sums.repriced_calls = row["spanbox_n"]
            sums.recorded_usd += row["spanbox_usd"]
        return
    groups, columns = question.columns(rule, "trace_id", "span_id", "cost_usd")
    later = []
    for at, ids in enumerate(zip(columns["trace_id"], columns["span_id"], strict=True)):
        sums, usd = question.sums(groups[at]), known.get(ids)
        if usd is not None:
            sums.repriced_calls += 1
            sums.recorded_usd += usd
        elif (recorded := columns["cost_usd"][at]) is not None:
            sums.recorded_calls += 1
            sums.recorded_usd += recorded
        else:
            later.append(at)
    _compute(question, [groups[at] for at in later], {k: [v[at] for at in later] for k, v in columns.items()})


def _compute(question: Question, groups: list[Key], columns: Mapping[str, Sequence[Any]]) -> None:
    for at, (key, money) in enumerate(zip(groups, question.pricing.costs(columns), strict=True)):
        sums = question.sums(key)
        if money is None:
            sums.unpriced_calls += 1
            question.unpriced[_model_name(columns["provider"][at], columns["model"][at])] += 1
        else:
            sums.computed_calls += 1
            sums.computed += money
    question.versions |= question.pricing.versions


def _model_name(provider: object, model: object) -> str:
    return " of ".join(str(each) for each in (model or "no model", provider) if each)


def _read_served(question: Question, rule: str) -> None:
    groups, columns = question.columns(rule)
    for key, money in zip(groups, question.pricing.costs(columns), strict=True):
        sums = question.sums(key)
        sums.served_calls += 1
        sums.served = _plus(sums.served, money)


def _read_caching(question: Question, tokens: str) -> None:
    cached = f"({_CACHED} or {REPARSED})" if question.reparsed else _CACHED
    groups, columns = question.columns(f"{tokens} and {cached}")
    if not groups:
        return
    for key, money in zip(groups, savings(columns, question.pricing), strict=True):
        if money is not None:
            sums = question.sums(key)
            sums.saved = (sums.saved or 0) + money
            sums.lost = 0
    told = f"({_CACHE_TOLD} or {REPARSED})" if question.reparsed else _CACHE_TOLD
    groups, columns = question.columns(f"{tokens} and {told}", "session_id", "trace_id")
    for place, money in losses(columns, question.pricing):
        sums = question.sums(groups[place])
        sums.lost = (sums.lost or 0) + money


def _plus(one: Any, other: Any) -> Any:
    return other if one is None else one if other is None else one + other


def _total(groups: Iterable[_Sums]) -> _Sums:
    total = _Sums()
    for sums in groups:
        for name in _Sums.__slots__:
            setattr(total, name, _plus(getattr(total, name), getattr(sums, name)))
    return total


def _source(sums: _Sums) -> Source | None:
    counts: tuple[tuple[Source, int], ...] = (
        ("recorded", sums.recorded_calls), ("repriced", sums.repriced_calls), ("computed", sums.computed_calls),
    )  # fmt: skip
    found = [source for source, count in counts if count]
    return found[0] if len(found) == 1 else "both" if found else None


def _usd(money: int | None) -> float | None:
    return None if money is None else float(usd_of(money))


def _row(group: dict[str, Any], sums: _Sums) -> CostRow:
    source = _source(sums)
    usd = (
        sums.recorded_usd + sums.stored_usd + float(usd_of(sums.computed))
        if source
        else 0.0
        if sums.served_calls
        else None
    )
    hits = sums.cache_read_tokens
    return CostRow(
        group=group,
        calls=sums.calls,
        cost_usd=usd,
        cost_source=source,
        usd_per_1k_calls=None if usd is None or not sums.calls else 1_000 * usd / sums.calls,
        unpriced_calls=sums.unpriced_calls,
        untold_calls=sums.untold_calls,
        input_tokens=sums.input_tokens,
        cache_read_tokens=sums.cache_read_tokens,
        output_tokens=sums.output_tokens,
        out_in_ratio=sums.output_tokens / sums.input_tokens if sums.input_tokens and sums.output_tokens else None,
        cache_hit_rate=hits / sums.input_tokens if sums.input_tokens and hits is not None else None,
        saved_usd=_usd(sums.saved),
        lost_usd=_usd(sums.lost),
        served_calls=sums.served_calls,
        served_usd=_usd(sums.served),
    )
