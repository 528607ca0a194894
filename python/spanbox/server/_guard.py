"""Who may ask what: decided from the head of a request alone, before anything of it is read.

Thread rule: immutable. Invariants:
1. A Host that is not listed, to the letter and with the port, gets no further, whatever the path and the method: a page
   that has made its name resolve to this machine sends its own name.
2. Nor does a request that a page of another origin has sent.
3. Nor, for all but ingest on loopback, one without the token.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["Access", "Headers", "Refusal"]

Headers = Sequence[tuple[bytes, bytes]]  # names in lower case

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    message: str


@dataclass(frozen=True)
class Access:
    """The rules of one server."""

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    hosts: tuple[str, ...] = LOOPBACK
    open_paths: frozenset[str] = frozenset()  # need no token

    def refusal(self, path: str, headers: Headers) -> Refusal | None:
        """Why not; None: it may."""
        host = _only(headers, b"host")
        allowed = {f"{name}:{self.port}".encode() for name in self.hosts}
        if host is None or host.lower() not in allowed:
            return Refusal(403, "this Host is not served here")
        origins = _all(headers, b"origin")
        if origins and origins != [b"http://" + host]:
            return Refusal(403, "requests of other origins are refused")
        sites = _all(headers, b"sec-fetch-site")
        if sites and sites not in ([b"same-origin"], [b"none"]):
            return Refusal(403, "requests of other sites are refused")
        if path not in self.open_paths and not self._has_token(headers):
            return Refusal(401, "the token is missing or wrong")
        return None

    def _has_token(self, headers: Headers) -> bool:
        given = _only(headers, b"authorization") or b""
        scheme, _, token = given.partition(b" ")
        return hmac.compare_digest(token.strip(), self.token.encode()) and scheme.lower() == b"bearer"


def _all(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def _only(headers: Headers, name: bytes) -> bytes | None:
    values = _all(headers, name)
    return values[0] if len(values) == 1 else None
