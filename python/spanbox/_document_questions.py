"""The questions about documents and marks that a Box answers.

Thread rule: as Box. Every answer is imported when it is asked for.
"""

from __future__ import annotations

from spanbox import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spanbox._documents import Document, Mark
    from spanbox._time import Moment


class Documents:
    """What a Box has besides: documents of any kind, and marks.

    A kind and a name have 1 to 64 of the characters A-Z a-z 0-9 . _ : -, a value at most 1 MiB of JSON. All versions
    stay.
    """

    _store: _core.Store

    def put_document(self, kind: str, name: str, value: Any, *, expected_version: int | None = None) -> int:
        """Stores a new version, durable on return; its number, 1 for the first.

        expected_version: store it only if this is the newest version (0: if there is none), else raise StoreError. So
        of two who change what they have read one is told to read it again.
        """
        from spanbox._documents import put

        return put(self._store, kind, name, value, expected_version)

    def delete_document(self, kind: str, name: str, *, expected_version: int | None = None) -> int:
        """Stores a version that says there is none any more; earlier ones stay. NotFoundError: there is none."""
        from spanbox._documents import delete

        return delete(self._store, kind, name, expected_version)

    def document(self, kind: str, name: str, *, version: int | None = None) -> Document:
        """The newest version, or the one asked for. NotFoundError: there is none, or it is a deletion."""
        from spanbox._documents import of_tuple

        if version is not None and version < 1:
            raise ValueError(f"version={version}: versions are counted from 1")
        return of_tuple(kind, self._store.document(kind, name, version or 0))

    def documents(self, kind: str) -> list[Document]:
        """The newest version of each that is not deleted, by name."""
        from spanbox._documents import of_tuple

        return [of_tuple(kind, each) for each in self._store.documents(kind)]

    def document_history(self, kind: str, name: str) -> list[Document]:
        """All versions, oldest first, deletions among them."""
        from spanbox._documents import of_tuple

        return [of_tuple(kind, each) for each in self._store.document_history(kind, name)]

    def mark(self, name: str, *, text: str = "", at: Moment | None = None) -> Mark:
        """Notes that something happened, now or `at` another moment: `box.mark("deploy v7.3")`. Marking the same again
        adds nothing."""
        from spanbox._documents import put_mark

        return put_mark(self._store, name, text, at)

    def marks(self, *, since: Moment | None = None, until: Moment | None = None) -> list[Mark]:
        """The marks of that time, oldest first."""
        from spanbox._documents import marks_between

        return marks_between(self._store, since, until)
