"""The command line: `spanbox demo | ls | show | tail | grep | sql | stats | ...`. Needs the extra `cli`."""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point. Ends the process: 0 done, 1 it failed, 2 it was asked wrongly."""
    try:
        from spanbox.cli._app import run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        print("spanbox: the command line needs two more packages: pip install 'spanbox[cli]'", file=sys.stderr)
        sys.exit(2)
    sys.exit(run())
