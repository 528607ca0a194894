"""Options that many commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Store = Annotated[
    Path | None, typer.Option("--store", help="The store's folder [default: $SPANBOX_DIR, else the nearest .spanbox]")
]
Since = Annotated[str | None, typer.Option("--since", help="How long back (15m, 24h, 7d) or from when (2026-11-21)")]
Filter = Annotated[str, typer.Option("--filter", help='Only spans that match, such as: model == "gpt-5" and ttft > 2s')]
Json = Annotated[bool, typer.Option("--json", help="Print JSON")]
