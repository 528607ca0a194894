"""What is looked for in text before it is written, and what takes its place: redact(), decrypt(), configure(redact=).

_core does the work (cpp/src/record/redaction.h); here settings are read and checked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from spanbox import _core, _redact_stage

Operator = str | Callable[[str, str], str]
Pattern = Literal["secrets", "pii", "off"] | Mapping[str, Operator]
Stage = Callable[[str], str] | tuple[Any, Any]  # a function, or Presidio's engines
Redact = Pattern | Stage | tuple[Pattern, Stage]
Key = str | bytes | Callable[[], str | bytes]

KEY_VARIABLE = "SPANBOX_REDACT_KEY"

_WAYS = ("secrets", "pii", "off")
_OPERATORS = ("replace", "replace:<text>", "redact", "mask", "mask:<n>", "hash", "surrogate", "encrypt", "keep")
_NOT_USUAL = ("date_time", "url")
_MIN_KEY_BYTES = 16
_ENCRYPTED = re.compile(r"\[([a-z0-9_]+):enc:([A-Za-z0-9_=-]+)\]")


class Found(NamedTuple):
    """One thing that would be replaced, and where it stands in the text as it was given."""

    entity: str
    start: int
    end: int


class Redacted(NamedTuple):
    """What would be stored of a text."""

    text: str
    found: tuple[Found, ...]


class _Plan(NamedTuple):
    """The arguments of _core.set_redaction."""

    secrets: bool
    pii: list[str]
    operators: dict[str, tuple[str, str, int]]
    key: bytes
    call: Callable[[str, str], str] | None


def redact(text: str, *, before: str = "") -> Redacted:
    """What would be stored of a text with the settings of now, and what was found in it where.

        spanbox.configure(redact="pii")
        spanbox.redact("mail to ann@example.com")   # text="mail to [redacted:email_address]", found=(...)

    before: what stands before the text in a span, such as the name of the argument: some numbers are personal data
    only when something speaks of them.
    """
    if not isinstance(text, str):
        raise TypeError(f"redact() takes text, not {type(text).__name__}")
    stored, found = _core.redact(text, before)
    stored = _redact_stage.now(stored)
    return Redacted(stored, tuple(Found(*one) for one in found))


def decrypt(text: str, *, key: Key | None = None) -> str:
    """The text with what the operator "encrypt" put into it turned back. key: as configure(redact_key=...) had it;
    without it $SPANBOX_REDACT_KEY. ValueError when the key is another one."""
    from cryptography.fernet import InvalidToken

    cipher = _cipher(_key_bytes(key) or _missing_key("decrypt"))

    def back(match: re.Match[str]) -> str:
        try:
            return cipher.decrypt(match[2].encode()).decode()
        except InvalidToken:
            raise ValueError(f"a value of {match[1]} was encrypted with another key, or is cut") from None

    return _ENCRYPTED.sub(back, text)


def set_redaction(redact: Redact, key: Key | None) -> None:
    """Checks the settings and makes them this process's."""
    patterns, stage = _parts(redact)
    plan = _plan(patterns, key)
    function = None if stage is None else _redact_stage.function_of(stage)
    _core.set_redaction(*plan)
    _redact_stage.use(function)


def _parts(redact: Redact) -> tuple[Pattern, Stage | None]:
    """What is found by pattern, and what comes behind it."""
    if callable(redact) or (isinstance(redact, tuple) and hasattr(redact[0], "analyze")):
        return "secrets", redact
    if not isinstance(redact, tuple):
        return redact, None
    if len(redact) != 2:
        raise ValueError("redact is a pair: what is found by pattern, and a function")
    patterns, stage = redact
    return patterns, stage


def _plan(redact: Pattern, key: Key | None) -> _Plan:
    if isinstance(redact, str):
        if redact not in _WAYS:
            raise ValueError(f"redact must be one of {', '.join(_WAYS)}, or say what of each entity, not {redact!r}")
        return _Plan(redact != "off", usual_pii() if redact == "pii" else [], {}, b"", None)
    if not isinstance(redact, Mapping):
        raise TypeError(f"redact is a name or a mapping of entities to operators, not {redact!r}")
    given = _by_entity(redact)
    calls: dict[str, Callable[[str, str], str]] = {}
    operators = {}
    secret = _key_bytes(key)
    for entity, operator in given.items():
        operators[entity] = _operator(entity, operator, secret, calls)
    known = set(_core.pii_entities())
    return _Plan(
        redact.get("secrets") != "keep",
        [entity for entity in given if entity in known],
        operators,
        secret or secrets.token_bytes(32),
        (lambda entity, text: calls[entity](entity, text)) if calls else None,
    )


def usual_pii() -> list[str]:
    """What "pii" stands for: every kind but dates and web addresses, which are in nearly every text."""
    return [entity for entity in _core.pii_entities() if entity not in _NOT_USUAL]


def _by_entity(redact: Mapping[str, Operator]) -> dict[str, Operator]:
    """Groups first, so that what is said of one entity is what holds."""
    groups = {"secrets": _core.secret_entities(), "pii": usual_pii()}
    every = {*_core.pii_entities(), *groups["secrets"]}
    given: dict[str, Operator] = {}
    for name, operator in redact.items():
        given.update(dict.fromkeys(groups.get(name.lower(), ()), operator))
    for name, operator in redact.items():
        if name.lower() in groups:
            continue
        if name.lower() not in every:
            raise ValueError(
                f"redact: {name!r} is no entity that is found by pattern; there are secrets, pii, "
                f"{', '.join(_core.pii_entities())}, and each kind of secret by its name"
            )
        given[name.lower()] = operator
    return given


def _operator(
    entity: str, operator: Operator, key: bytes | None, calls: dict[str, Callable[[str, str], str]]
) -> tuple[str, str, int]:
    """Operator, text and characters shown, as _core has them."""
    if callable(operator):
        calls[entity] = operator
        return "call", "", 0
    name, _, argument = operator.partition(":")
    if operator == "encrypt":
        cipher = _cipher(key or _missing_key("encrypt"))
        calls[entity] = lambda entity, text: f"[{entity}:enc:{cipher.encrypt(text.encode()).decode()}]"
        return "call", "", 0
    if operator == "hash":
        if not key:
            _missing_key("hash")
        return "hash", "", 0
    if operator == "redact":
        return "text", "", 0
    if name == "replace" and argument:
        return "text", argument, 0
    if name == "mask" and (not argument or argument.isdecimal()):
        return "mask", "", int(argument or 4)
    if operator in ("replace", "surrogate", "keep"):
        return operator, "", 0
    raise ValueError(
        f"redact: the operator of {entity} is one of {', '.join(_OPERATORS)} or callable, not {operator!r}"
    )


def _missing_key(operator: str) -> bytes:
    raise ValueError(f"{operator} needs a key: configure(redact_key=...) or ${KEY_VARIABLE}")


def _key_bytes(key: Key | None) -> bytes | None:
    given = key() if callable(key) else key
    given = given or os.environ.get(KEY_VARIABLE)
    if not given:
        return None
    secret = given.encode() if isinstance(given, str) else bytes(given)
    if len(secret) < _MIN_KEY_BYTES:
        raise ValueError(f"a key for redaction has at least {_MIN_KEY_BYTES} bytes, not {len(secret)}")
    return secret


class _Cipher(NamedTuple):
    encrypt: Callable[[bytes], bytes]
    decrypt: Callable[[bytes], bytes]


def _cipher(key: bytes) -> _Cipher:
    """Fernet, with a key of its own: the one given also names hashes."""
    try:
        from cryptography.fernet import Fernet
    except ModuleNotFoundError:
        raise ModuleNotFoundError("encrypt needs one more package: pip install 'spanbox[encrypt]'") from None
    derived = hmac.new(key, b"spanbox encrypt", hashlib.sha256).digest()
    fernet = Fernet(base64.urlsafe_b64encode(derived))
    return _Cipher(fernet.encrypt, fernet.decrypt)
