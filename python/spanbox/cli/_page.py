"""`spanbox ui`: the page of a store. `spanbox check`: whether something got worse, for people and for pipelines."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer

from spanbox._box import open as open_box
from spanbox._render import clean
from spanbox.cli._options import Filter, Json, Store
from spanbox.cli._output import Output


def add_commands(app: typer.Typer) -> None:
    for command in (ui, check):
        app.command()(command)


def ui(
    store: Store = None,
    port: Annotated[int, typer.Option(help="0: any that is free", min=0, max=65_535)] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the URL")] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Look and search; no scores, no changes")] = False,
) -> None:
    """Look at the store in a browser: served on this machine only (extra `ui`). Ctrl-C ends it."""
    from spanbox.server import Page, Server

    out, box, page = Output(), open_box(store), Page()
    server = Server(box, port=port, page=page, read_only=read_only)
    out.title(f"{clean(str(box.path))}{', read-only' if read_only else ''}")
    out.line(f"  {server.page_url}")
    if not page.is_built:
        out.line(
            "  the page is not built: `make ui` in a checkout builds it (Node.js is needed); the API is served",
            "yellow",
        )
    elif not no_browser:
        webbrowser.open(server.page_url)
    server.run()


def check(
    store: Store = None,
    since: Annotated[str, typer.Option("--since", help="What now is: the last hour unless told")] = "1h",
    vs: Annotated[str, typer.Option("--vs", help="How much of the time before it is compared")] = "7d",
    filter: Filter = "",
    json: Json = False,
) -> None:
    """Say what is worse than before, with the call that proves it. The exit code is 1 when something is."""
    out = Output()
    found = open_box(store).findings(filter, since=since, vs=vs)
    if json:
        out.json(found.as_dict())
    else:
        out.title(found.sentence)
        if found.detail:
            out.line(found.detail, "dim")
        if found:
            header, rows, right = found.cells()
            out.table(header, rows, right=right, cut={1, 5})
    if found:
        raise typer.Exit(1)
