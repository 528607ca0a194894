"""`spanbox cost`, `reconcile` and their like: what calls cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from spanbox._box import open as open_box
from spanbox._render import clean
from spanbox.cli._options import By, Json, Since, Store, Until, complete_column
from spanbox.cli._output import Output

Calls = Annotated[str, typer.Argument(help='Only calls that match, such as: tenant == "acme"')]
Prices = Annotated[
    list[Path] | None, typer.Option("--prices", help="A file of own prices, of LiteLLM or of Langfuse; repeatable")
]


class _Table(Protocol):
    """What an answer is printed by."""

    def cells(self) -> tuple[list[str], list[list[str]], set[int]]: ...
    @property
    def remarks(self) -> list[str]: ...


def register(app: typer.Typer) -> None:
    app.command()(cost)
    app.command()(budget)
    app.command()(reprice)
    app.command()(reparse)
    app.command()(reconcile)
    app.command()(runaways)


def _load(prices: list[Path] | None) -> None:
    if prices:
        from spanbox.cost import load  # takes a while, and no other command needs it

        for path in prices:
            load(path)


def _print(out: Output, answer: _Table, names: int) -> None:
    from spanbox._cost_rows import TIME

    header, rows, right = answer.cells()
    if rows:
        out.table(header, rows, right=right, cut={at for at in range(names) if header[at] != TIME} or None)
    for remark in answer.remarks:
        out.prose(remark, "dim")


def cost(
    filter: Calls = "",
    store: Store = None,
    by: By = None,
    every: Annotated[str | None, typer.Option("--every", help="By time too: 1d, 1h, 1w (of UTC)")] = None,
    since: Since = None,
    until: Until = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="By what was known then, without later repricing; 0: as recorded")
    ] = None,
    project: Annotated[bool, typer.Option("--project", help="What this month will have cost at its end")] = False,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Write the report to this file, .csv or .html, for others to read")
    ] = None,
    title: Annotated[str, typer.Option("--title", help="Of the page that --out writes")] = "Model costs",
    prices: Prices = None,
    json: Json = False,
) -> None:
    """Show what model calls cost: as recorded, and computed from tokens (extra `cost`) where no cost was."""
    out, box = Output(), open_box(store)
    _load(prices)
    if project:
        if any((every, since, until, as_of, out_file)):
            what = "it is of this month, by the last 56 days: of other options only --by goes with it"
            raise typer.BadParameter(what, param_hint="--project")
        with out.working("reading"):
            projection = box.project_cost(filter, by=by or [])
        out.json(projection.as_dict()) if json else _print(out, projection, len(projection.by))
        return
    moment: Any = 0 if as_of == "0" else as_of
    with out.working("reading"):
        report = box.cost(filter, by=by or ["model"], every=every, since=since, until=until, as_of=moment)
    if out_file is not None:
        if out_file.suffix not in (".csv", ".html"):
            raise typer.BadParameter(f"{out_file.name!r} ends neither with .csv nor with .html", param_hint="--out")
        report.to_csv(out_file) if out_file.suffix == ".csv" else report.to_html(out_file, title=title)
        out.line(f"{report!r} written to {clean(str(out_file))}")
    elif json:
        out.json(report.as_dict())
    elif report:
        _print(out, report, len(report.by))
    else:
        out.line(f"no model calls{' that match' if filter or since else ''} in {clean(str(box.path))}")


def budget(
    name: Annotated[str | None, typer.Argument(help="A budget to set with --usd; without one all are shown")] = None,
    store: Store = None,
    usd: Annotated[float | None, typer.Option("--usd", help="What may be spent, in US dollars")] = None,
    per: Annotated[str, typer.Option("--per", help="day, week or month, of UTC")] = "month",
    by: Annotated[
        list[str] | None,
        typer.Option("--by", help="For each value of this column; repeatable", autocompletion=complete_column),
    ] = None,
    filter: Annotated[str, typer.Option("--filter", help='Only calls that match, such as: feature == "chat"')] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Take the budget back")] = False,
    prices: Prices = None,
    json: Json = False,
) -> None:
    """Show how far budgets are spent, or set one. The exit code is 1 when one is over."""
    out, box = Output(), open_box(store)
    if name is not None:
        if (usd is None) != remove:
            raise typer.BadParameter("give --usd, or --remove", param_hint="NAME")
        box.set_budget(name, usd, per=per, filter=filter, by=by or [])  # type: ignore[arg-type]
        out.line(f"budget {clean(name)} {'is gone' if remove else 'is set'}")
        return
    if usd is not None or remove or by or filter:
        raise typer.BadParameter("give the budget a name", param_hint="NAME")
    _load(prices)
    with out.working("reading"):
        found = box.budgets()
    out.json(found.as_dict()) if json else _print(out, found, 1)
    if any(row.level == "over" for row in found):
        raise typer.Exit(1)


DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would change")]


def reprice(
    filter: Calls = "",
    store: Store = None,
    since: Since = None,
    until: Until = None,
    prices: Prices = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Compute costs of stored calls anew. What was recorded stays, and can be asked (`spanbox cost --as-of 0`)."""
    out, box = Output(), open_box(store)
    _load(prices)
    with out.working("reading"):
        done = box.reprice(filter, since=since, until=until, dry_run=dry_run)
    out.json(done.as_dict()) if json else out.prose(str(done))


def reparse(
    filter: Calls = "",
    store: Store = None,
    since: Since = None,
    until: Until = None,
    prices: Prices = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Read the replies of stored calls anew, with the parsers of this version. Spans stay as they are."""
    out, box = Output(), open_box(store)
    _load(prices)
    with out.working("reading"):
        done = box.reparse(filter, since=since, until=until, dry_run=dry_run)
    out.json(done.as_dict()) if json else out.prose(str(done))


def reconcile(
    bill: Annotated[Path, typer.Argument(help="The provider's bill, a CSV file")],
    filter: Annotated[str, typer.Option("--filter", help='Only calls that match, such as: provider == "openai"')] = "",
    store: Store = None,
    since: Since = None,
    until: Until = None,
    id: Annotated[str | None, typer.Option("--id", help="The bill's column of request ids")] = None,
    amount: Annotated[str | None, typer.Option("--cost", help="The bill's column of US dollars")] = None,
    prices: Prices = None,
    json: Json = False,
) -> None:
    """Compare a provider's bill with what was recorded: what is missing, surplus, or has another amount."""
    out, box = Output(), open_box(store)
    _load(prices)
    with out.working("reading"):
        found = box.reconcile(bill, filter, since=since, until=until, id=id, cost=amount)
    out.json(found.as_dict()) if json else _print(out, found, 1)
    if found.differences:
        raise typer.Exit(1)


def runaways(
    filter: Annotated[str, typer.Argument(help='Only roots that match, such as: name == "answer"')] = "",
    store: Store = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many", min=1)] = 20,
    prices: Prices = None,
    json: Json = False,
) -> None:
    """Show traces whose number of calls or cost departs from those of their kind."""
    out, box = Output(), open_box(store)
    _load(prices)
    with out.working("reading"):
        found = box.runaways(filter, since=since, until=until, limit=limit)
    if json:
        out.json({"traces": found.traces, "unjudged": found.unjudged, "rows": [row.as_dict() for row in found]})
    else:
        _print(out, found, 2)
