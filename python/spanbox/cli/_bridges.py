"""Commands that connect a store with other systems: serve, send, metrics."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from spanbox._box import open as open_box
from spanbox._render import clean, plural
from spanbox._time import length_ns
from spanbox.cli._options import Filter, Json, Store
from spanbox.cli._output import Output

Every = Annotated[str | None, typer.Option("--every", help="Again and again at this interval, such as 15s")]


def add_commands(app: typer.Typer) -> None:
    for command in (serve, send, metrics):
        app.command()(command)


def serve(
    store: Store = None,
    otlp: Annotated[bool, typer.Option("--otlp", help="Take spans at /v1/traces, as OTLP over HTTP")] = False,
    port: Annotated[int, typer.Option(help="0: any that is free", min=0, max=65_535)] = 4318,
    host: Annotated[str, typer.Option(help="Address to listen at")] = "127.0.0.1",
    understand: Annotated[
        bool,
        typer.Option("--i-understand", help="Listen beyond this machine: put TLS in front, everything needs the token"),
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Also answer to this Host, without its port; repeatable")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="The token for all but ingest on loopback; made when it is not there"),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="/metrics also by tenant, feature, environment or name; repeatable"),
    ] = None,
    sinks: Annotated[
        Path | None, typer.Option("--sinks", help="Also send what is stored to the sinks of this TOML file")
    ] = None,
) -> None:
    """Serve the store on this machine: OTLP in, /metrics out (extra `ui`). Ctrl-C ends it."""
    from spanbox.export import Forwarder, load_sinks
    from spanbox.server import Server, read_token
    from spanbox.server._run import is_loopback

    if not is_loopback(host) and not understand:
        raise typer.BadParameter(
            f"{clean(host)} is reachable from other machines, and what is served is not encrypted: put a reverse proxy "
            "with TLS in front, and say --i-understand",
            param_hint="--host",
        )
    out, box = Output(), open_box(store, create=otlp)
    server = Server(
        box,
        otlp=otlp,
        metrics_labels=label or (),
        host=host,
        port=port,
        token=read_token(token_file) if token_file is not None else None,
        allowed_hosts=allow_host or (),
    )
    out.title(f"serving {clean(str(box.path))}")
    if otlp:
        out.line(f"  OTLP     {server.url}/v1/traces{'' if is_loopback(host) else '  (with the token)'}")
    out.line(f"  metrics  {server.url}/metrics  (with the token)")
    out.line(f"  token    {clean(str(token_file)) if token_file is not None else server.token}")
    with Forwarder(box, load_sinks(sinks) if sinks is not None else []):
        server.run()


def send(
    to: Annotated[str | None, typer.Option("--to", help="Where to: the URL of an OTLP receiver over HTTP")] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", help='NAME=VALUE; "$NAME" as the value is an environment variable')
    ] = None,
    openinference: Annotated[bool, typer.Option("--openinference", help="Also with OpenInference's names")] = False,
    as_json: Annotated[bool, typer.Option("--as-json", help="Send JSON instead of protobuf")] = False,
    filter: Filter = "",
    config: Annotated[Path | None, typer.Option("--config", help="Sinks of a TOML file, instead of --to")] = None,
    every: Every = None,
    forget: Annotated[
        str | None, typer.Option("--forget", help="Forget how far the sink of this name is, and send nothing")
    ] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Send spans to other systems by OTLP: each once, and with --every also those that come."""
    from spanbox.export import Forwarder, OtlpSink, load_sinks
    from spanbox.export._otlp_http import from_environment

    out, box = Output(), open_box(store)
    if forget is not None:
        for feed in (f"sink {forget}", f"hold {forget}"):
            box._store.drop_feed(feed)
        return
    if (to is None) == (config is None):
        raise typer.BadParameter("give either --to URL or --config FILE")
    if config is not None:
        sinks = load_sinks(config)
    else:
        pairs = [each.partition("=") for each in header or ()]
        headers = {name: from_environment(value) for name, _, value in pairs}
        sinks = [
            OtlpSink(
                url=str(to),
                headers=headers,
                encoding="json" if as_json else "protobuf",
                openinference=openinference,
                filter=filter,
            )
        ]
    forwarder = Forwarder(box, sinks, every_s=length_ns(every) / 1e9 if every is not None else 0.0)
    if every is not None:
        with forwarder:
            while True:
                time.sleep(3600)
    reports = forwarder.send()
    if json:
        out.json([asdict(report) for report in reports])
    else:
        for report in reports:
            failed = f": {report.last_error}" if report.last_error else ""
            refused = f", {report.refused:,} refused" if report.refused else ""
            out.line(clean(f"{report.sink}: {report.sent:,} sent{refused}, {report.waiting:,} waiting{failed}"))
    if any(report.last_error for report in reports):
        raise typer.Exit(1)


def metrics(
    store: Store = None,
    textfile: Annotated[
        Path | None, typer.Option("--textfile", help="Write to this file, for node_exporter's textfile collector")
    ] = None,
    dogstatsd: Annotated[
        str | None, typer.Option("--dogstatsd", help="Send what is new to a Datadog agent at HOST:PORT")
    ] = None,
    every: Every = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Also by tenant, feature, environment or name; repeatable")
    ] = None,
    max_series: Annotated[int, typer.Option(help="More label sets count as (other)", min=1)] = 1000,
    reset: Annotated[bool, typer.Option("--reset", help="Count anew, from what is stored now")] = False,
) -> None:
    """Print metrics for Prometheus, or hand them to node_exporter or a Datadog agent."""
    from spanbox._dogstatsd import push
    from spanbox._exposition import render

    out, box = Output(), open_box(store)
    found = box.metrics(labels=label or (), max_series=max_series)
    if reset:
        found.reset()
    interval_s = length_ns(every) / 1e9 if every is not None else None
    while True:
        if dogstatsd is not None:
            lines = push(box, dogstatsd, labels=label or ())
            out.line(f"{plural(lines, 'metric')} sent to {clean(dogstatsd)}", "dim")
        if textfile is not None:
            write_whole(textfile, render(found.collect(), "text"))
        elif dogstatsd is None:
            sys.stdout.write(render(found.collect(), "text").decode())
            sys.stdout.flush()
        if interval_s is None:
            return
        time.sleep(interval_s)


def write_whole(path: Path, content: bytes) -> None:
    """The file is there with all of this content, or as it was. Whoever collects it is another user: 0644."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
