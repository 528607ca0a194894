"""The questions about money that a Box answers.

Thread rule: as Box. Every answer is imported when it is asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from spanbox import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from spanbox._cost_bill import Reconciliation
    from spanbox._cost_budgets import Budgets, Per
    from spanbox._cost_corrections import Correction
    from spanbox._cost_projection import Projection
    from spanbox._cost_rows import CostReport
    from spanbox._cost_runaway import Runaways
    from spanbox._spans import Query, Spans
    from spanbox._time import Moment
    from spanbox.cost import Prices


def period_ns(since: Moment | None, until: Moment | None) -> tuple[int | None, int | None]:
    if since is None and until is None:
        return None, None  # without loading what reads moments
    from spanbox._time import moment_ns

    return moment_ns(since, what="since"), moment_ns(until, what="until")


class Costs(ABC):
    """What a Box has besides: cost, project_cost, budgets, set_budget, reprice, reparse, reconcile, runaways."""

    _store: _core.Store

    @abstractmethod
    def spans(self, filter: str = "", *, since: Moment | None = None, until: Moment | None = None) -> Spans: ...

    @abstractmethod
    def add_scores(self, scores: Iterable[Mapping[str, Any]]) -> int: ...

    @abstractmethod
    def _fresh_store(self) -> _core.Store: ...

    @abstractmethod
    def _query(
        self,
        filter: str,
        since: Moment | None,
        until: Moment | None,
        columns: Sequence[str] = (),
        *,
        scores: bool = False,
    ) -> Query: ...

    def cost(
        self,
        filter: str = "",
        *,
        by: Sequence[str] = ("model",),
        every: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        prices: Prices = None,
        as_of: Moment | None = None,
    ) -> CostReport:
        """What model calls cost, by columns or attributes, and by time (every="1d", of UTC): as recorded or repriced,
        and computed from tokens where no cost was (extra `cost`); with the cost of a thousand calls, cache-hit rate,
        what caching saved and broken prefixes lost. as_of: by what was known then, without later repricing; as_of=0 is
        as recorded (docs/cost.md)."""
        return self._cost(filter, by, every, period_ns(since, until), prices, as_of, caching=True)

    def _cost(
        self,
        filter: str,
        by: Sequence[str],
        every: str | None,
        period: tuple[int | None, int | None],
        prices: Prices,
        as_of: Moment | None,
        *,
        caching: bool,
    ) -> CostReport:
        from spanbox._cost_report import report
        from spanbox._spans import Scores, Spans
        from spanbox._time import moment_ns

        as_of_ns = moment_ns(as_of, what="as_of")
        _core.check_filter(filter)
        store = self._fresh_store()
        return report(
            lambda rule: Spans(lambda: store, self._query(rule, *period)),
            lambda rule: Scores(lambda: store, self._query(rule, None, as_of_ns, scores=True)),
            filter,
            by,
            every=every,
            prices=prices,
            as_of_ns=as_of_ns,
            period=period,
            caching=caching,
        )

    def project_cost(
        self,
        filter: str = "",
        *,
        by: Sequence[str] = (),
        at: Moment | None = None,
        level: float = 0.9,
        prices: Prices = None,
    ) -> Projection:
        """What this month will have cost at its end, with an interval, by the days of the last eight weeks: of all, and
        by columns. at: instead of now."""
        import time

        from spanbox._cost_projection import project
        from spanbox._time import moment_ns

        at_ns = moment_ns(at, what="at")
        return project(
            lambda since, until: self._cost(filter, by, "1d", period_ns(since, until), prices, None, caching=False),
            by,
            time.time_ns() if at_ns is None else at_ns,
            level,
        )

    def set_budget(
        self, name: str, usd: float | None, *, per: Per = "month", filter: str = "", by: Sequence[str] = ()
    ) -> None:
        """Keeps in the store what model calls that match may cost in a day, week or month (of UTC), all together or
        each group of `by`: set_budget("tenants", 500, by=["tenant"]). usd=None takes it back. findings() tells of those
        that are spent to 80 % and more."""
        from spanbox import _cost_budgets as budgets
        from spanbox._documents import delete, put

        budgets.check_name(name)
        if usd is None:
            delete(self._store, budgets.KIND, name, None)
        else:
            put(self._store, budgets.KIND, name, budgets.checked(usd, per, filter, by))

    def budgets(self, *, at: Moment | None = None) -> Budgets:
        """How far each group of each budget is spent, the furthest first, with when it will be used up. at: instead of
        now."""
        import time

        from spanbox._cost_budgets import budgets
        from spanbox._time import moment_ns

        at_ns = moment_ns(at, what="at")
        return budgets(self._fresh_store(), time.time_ns() if at_ns is None else at_ns)

    def reprice(
        self,
        filter: str = "",
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        prices: Prices = None,
        dry_run: bool = False,
    ) -> Correction:
        """Computes what stored model calls cost anew, by the prices of their day, and keeps what has changed as scores:
        spans stay as they are, `cost` is what was recorded, score.cost_usd the newest, and cost(as_of=) what was known
        at a moment. Called again it changes nothing."""
        from spanbox._cost_corrections import reprice
        from spanbox._spans import Spans

        period = period_ns(since, until)
        store = self._fresh_store()
        return reprice(
            lambda rule: Spans(lambda: store, self._query(rule, *period)),
            None if dry_run else self.add_scores,
            filter,
            prices,
        )

    def reparse(
        self,
        filter: str = "",
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        prices: Prices = None,
        dry_run: bool = False,
    ) -> Correction:
        """Reads the replies kept in stored model calls (their `usage`, or their output) with this version's parsers,
        and keeps other token counts, and the cost of them, as reprice() does."""
        from spanbox._cost_corrections import reparse
        from spanbox._spans import Spans

        period = period_ns(since, until)
        store = self._fresh_store()
        return reparse(
            lambda rule, begin, end: Spans(lambda: store, self._query(rule, begin, end)),
            store.blob,
            None if dry_run else self.add_scores,
            filter,
            period,
            prices,
        )

    def reconcile(
        self,
        bill: str | os.PathLike[str],
        filter: str = "",
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        id: str | None = None,
        cost: str | None = None,
        prices: Prices = None,
    ) -> Reconciliation:
        """A provider's bill (CSV) beside what was recorded: what is missing, surplus, billed twice, or differs.
        By the id of the request where the bill has one (`id` and `cost` name columns), else by day and model."""
        from spanbox import _cost_bill as bills

        told = bills.read_bill(bill, id=id, cost=cost)
        every, by = (None, bills.ID_ATTRIBUTES) if told.by_id else ("1d", ("model",))
        report = self.cost(filter, by=by, every=every, since=since, until=until, prices=prices)
        return bills.compare(told, bills.recorded_by_id(report) if told.by_id else bills.recorded_by_day(report))

    def runaways(
        self,
        filter: str = "",
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int = 20,
        prices: Prices = None,
    ) -> Runaways:
        """Traces whose calls or cost depart from those of their kind, which is the name of the root; the worst first.
        `filter` is about roots."""
        from spanbox import _cost_runaway as runaway

        roots = self.spans(
            f"({filter}) and {runaway.ROOT}" if filter.strip() else runaway.ROOT, since=since, until=until
        )
        names = {row["trace_id"]: str(row["name"]) for row in roots.columns("trace_id", "name")}
        calls = self.spans(runaway.CALLS, since=since).by("trace_id").agg(n="count()")
        costs = self.cost(by=["trace_id"], since=since, prices=prices)
        return runaway.find(
            names,
            {row["trace_id"]: row["n"] for row in calls},
            {row.group["trace_id"]: row.cost_usd for row in costs},
            limit,
        )
