"""Who may ask what: decided from the head of a request alone, before anything of it is read.

Thread rule: of one event loop; all but `sessions` is immutable. Invariants:
1. A Host that is not listed, to the letter and with the port, gets no further, whatever the path and the method: a page
   that has made its name resolve to this machine sends its own name.
2. Nor does a request that a page of another origin has sent.
3. Nor, for all but ingest on loopback and files that hold no data, one without the token or the cookie it was exchanged
   for.
4. The cookie alone changes nothing: what is no GET or HEAD also needs the session's write token in a header, which a
   page of another origin can neither read nor send.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["Access", "Headers", "Refusal", "Sessions"]

Headers = Sequence[tuple[bytes, bytes]]  # names in lower case

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
WRITE_TOKEN = b"x-spanbox-token"
_SESSIONS = 64  # browsers at once; the one that came first goes
_SAFE = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    message: str


class Sessions:
    """Browsers that have shown the token, until the server ends."""

    def __init__(self, port: int) -> None:
        self.cookie = f"spanbox_{port}"  # cookies do not know ports: two servers of one machine would share it
        self._write_tokens: dict[str, str] = {}

    def start(self) -> tuple[str, str]:
        """The Set-Cookie of a new session, and its write token."""
        while len(self._write_tokens) >= _SESSIONS:
            del self._write_tokens[next(iter(self._write_tokens))]
        value = secrets.token_urlsafe(32)
        self._write_tokens[value] = secrets.token_urlsafe(32)
        return f"{self.cookie}={value}; Path=/; HttpOnly; SameSite=Strict", self._write_tokens[value]

    def write_token(self, headers: Headers) -> str | None:
        """Of the session that a request belongs to; None: of none."""
        given = [part.strip() for line in _all(headers, b"cookie") for part in line.split(b";")]
        start = f"{self.cookie}=".encode()
        values = [part.removeprefix(start) for part in given if part.startswith(start)]
        if len(values) != 1:
            return None
        found = None
        for value, token in self._write_tokens.items():
            if hmac.compare_digest(values[0], value.encode()):
                found = token
        return found


@dataclass(frozen=True)
class Access:
    """The rules of one server."""

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    hosts: tuple[str, ...] = LOOPBACK
    open_paths: frozenset[str] = frozenset()  # need no token
    sessions: Sessions | None = field(default=None, repr=False)

    def refusal(self, path: str, headers: Headers, *, method: str = "GET", public: bool = False) -> Refusal | None:
        """Why not; None: it may. `public`: what is asked for holds no data."""
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
        if public or path in self.open_paths or self.has_token(headers):
            return None
        write_token = None if self.sessions is None else self.sessions.write_token(headers)
        if write_token is None:
            return Refusal(401, "the token is missing or wrong")
        if method not in _SAFE and not hmac.compare_digest(_only(headers, WRITE_TOKEN) or b"", write_token.encode()):
            return Refusal(403, "the write token is missing or wrong")
        return None

    def has_token(self, headers: Headers) -> bool:
        given = _only(headers, b"authorization") or b""
        scheme, _, token = given.partition(b" ")
        return hmac.compare_digest(token.strip(), self.token.encode()) and scheme.lower() == b"bearer"


def _all(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def _only(headers: Headers, name: bytes) -> bytes | None:
    values = _all(headers, name)
    return values[0] if len(values) == 1 else None
