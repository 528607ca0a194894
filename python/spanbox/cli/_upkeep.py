"""The commands that keep a store: import, erase, backup, redact, audit, doctor, bench."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, get_args

import typer

import spanbox
from spanbox._box import open as open_box
from spanbox._render import clean, format_bytes, plural
from spanbox.cli._options import Json, Since, Store
from spanbox.cli._output import Output, error_text
from spanbox.importers import FormatName

_FORMATS = get_args(FormatName)


def register(app: typer.Typer) -> None:
    for command in (erase, backup, redact, audit, doctor, bench):
        app.command()(command)
    app.command("import")(import_)


def erase(
    filter: Annotated[str, typer.Argument(help='Which spans: such as user_id == "u-4711"')],
    store: Store = None,
    since: Since = None,
    secure: Annotated[
        bool, typer.Option("--secure", help="Also overwrite what they leave in the store's file")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
) -> None:
    """Take spans out of the store for good, and blobs that only they name."""
    out, box = Output(), open_box(store)
    found = box.spans(filter, since=since).count()
    if found and not yes:
        typer.confirm(f"Erase {plural(found, 'span')} from {clean(str(box.path))}?", abort=True)
    with out.working("erasing"):
        erased = box.erase(filter, since=since, secure=secure)
    out.line(f"{plural(erased.spans, 'span')} and {plural(erased.blobs, 'blob')} erased")


def backup(
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet")],
    store: Store = None,
) -> None:
    """Write a copy of the store, while others go on."""
    out, box = Output(), open_box(store)
    with out.working("copying"):
        box.backup(folder)
    out.line(f"written to {clean(str(folder))}")


def redact(
    text: Annotated[str, typer.Argument(help="The text; - reads standard input")] = "-",
    pii: Annotated[bool, typer.Option("--pii/--secrets", help="Personal data too, or secrets alone")] = True,
    json: Json = False,
) -> None:
    """Show what would be stored of a text, and what was found in it where."""
    out = Output()
    spanbox.configure(redact="pii" if pii else "secrets")
    stored, found = spanbox.redact(sys.stdin.read() if text == "-" else text)
    if json:
        out.json({"text": stored, "found": [one._asdict() for one in found]})
        return
    for line in stored.splitlines():
        out.line(clean(line))
    for one in found:
        out.line(f"{one.entity} at {one.start} to {one.end}", "yellow")


def audit(
    canary: Annotated[Path, typer.Option("--canary", help="A file of values that must not be there, one a line")],
    store: Store = None,
    json: Json = False,
) -> None:
    """Look for values in every byte of the store, and in every text packed in it. Exits with 1 when one is there."""
    from spanbox import _audit

    out = Output()
    with out.working("looking at every byte"):
        found = _audit.audit(open_box(store), _audit.read_canaries(canary))
    if json:
        out.json({**found._asdict(), "hits": [hit._asdict() for hit in found.hits]})
    else:
        for hit in found.hits:
            out.line(f"value {hit.canary}, {hit.form}: {clean(hit.place)}", "red")
        out.line(
            f"{plural(found.canaries, 'value')}, {plural(len(found.hits), 'place')} found; looked at "
            f"{plural(found.files, 'file')} ({format_bytes(found.bytes)}), {plural(found.spans, 'span')}, "
            f"{plural(found.scores, 'score')}, {plural(found.blobs, 'blob')}"
        )
    if found.hits:
        raise typer.Exit(1)


def doctor(store: Store = None, json: Json = False) -> None:
    """Check the store: sizes, checksums, recorders, and what to do. Exits with 1 when something is wrong."""
    from spanbox.cli import _doctor

    out = Output()
    with out.working("checking every checksum"):
        report = _doctor.examine(store)
    if json:
        out.json(report.as_dict())
    else:
        _doctor.print_report(out, report)
    if report.problems:
        raise typer.Exit(1)


def bench(
    path: Annotated[
        Path | None,
        typer.Option(
            "--path",
            help="Measure on the disk of this folder [default: where the store would be]",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure what recording, storing and asking cost on this machine; takes about ten seconds."""
    from spanbox.cli import _bench

    _bench.run(Output(), path, json=json)


def import_(
    files: Annotated[list[Path], typer.Argument(help="Files to import: Parquet, or gzip or plain text")],
    store: Store = None,
    format: Annotated[str, typer.Option("--format", help=f"One of: {', '.join(_FORMATS)}")] = "auto",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out what is wrong and import the rest")] = False,
) -> None:
    """Import recordings made by others. Importing a file again adds nothing."""
    from rich.progress import Progress

    out = Output()
    if format not in _FORMATS:
        raise typer.BadParameter(f"{format!r} is not one of {', '.join(_FORMATS)}", param_hint="--format")
    box = open_box(store, create=True)
    failed = False
    notes: dict[str, None] = {}
    console = out.progress_console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        every = progress.add_task("importing", total=len(files))
        for number, path in enumerate(files):

            def tell(done: int, total: int, number: int = number) -> None:
                progress.update(every, completed=number + done / max(1, total))

            try:
                report = box.import_file(path, format=format, skip_bad=skip_bad, progress=tell)  # type: ignore[arg-type]
            except (ValueError, ImportError) as error:
                out.error(error_text(error).replace("Skip bad elements to import", "--skip-bad imports"))
                failed = True
                continue
            left_out = f", {plural(report.skipped, 'bad element')} left out" if report.skipped else ""
            out.line(
                f"{clean(path.name)}: {report.format}, {plural(report.spans, 'span')}, {report.added:,} new{left_out}"
            )
            for problem in report.problems:
                out.line(f"  {clean(problem)}", "red")
            if report.note:
                notes[f"{report.format}: {report.note}"] = None
            progress.update(every, completed=number + 1)
    for note in notes:
        out.line(clean(note), "dim")
    if failed:
        raise typer.Exit(1)
