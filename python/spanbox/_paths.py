"""Where the store is: the one rule that recording and asking share. Standard library only, cheap to import."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = ".spanbox"
VARIABLE = "SPANBOX_DIR"


def find_store(path: str | os.PathLike[str] | None = None) -> Path | None:
    """`path` if given, else $SPANBOX_DIR, else the nearest .spanbox folder upward from the working directory.

    Absolute. None when nothing was named and no folder was found; a named path need not exist.
    """
    named = path if path is not None else os.environ.get(VARIABLE) or None
    if named is not None:
        return Path(os.path.abspath(Path(named).expanduser()))  # noqa: PTH100  (keeps symbolic links: the store judges them)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FOLDER).is_dir():
            return folder / FOLDER
    return None


def resolve_store(path: str | os.PathLike[str] | None = None) -> Path:
    """Where to record: like find_store, else a new .spanbox in the working directory."""
    return find_store(path) or Path.cwd() / FOLDER
