"""Where the store is: the one rule that recording and asking share. Cheap to import: without pathlib."""

from __future__ import annotations

import os

FOLDER = ".spanbox"
VARIABLE = "SPANBOX_DIR"


def find_store(path: str | os.PathLike[str] | None = None) -> str | None:
    """`path` if given, else $SPANBOX_DIR, else the nearest .spanbox folder upward from the working directory.

    Absolute. None when nothing was named and no folder was found; a named path need not exist.
    """
    named = path if path is not None else os.environ.get(VARIABLE) or None
    if named is not None:
        return os.path.abspath(os.path.expanduser(named))  # keeps symbolic links: the store judges them
    folder = os.getcwd()
    while not os.path.isdir(os.path.join(folder, FOLDER)):
        if folder == (folder := os.path.dirname(folder)):
            return None
    return os.path.join(folder, FOLDER)


def resolve_store(path: str | os.PathLike[str] | None = None) -> str:
    """Where to record: like find_store, else a new .spanbox in the working directory."""
    return find_store(path) or os.path.join(os.getcwd(), FOLDER)
