"""What is kept of arguments and results: limits, redaction, encoders. _core does the work."""

from __future__ import annotations

from spanbox import _core, _hidden

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    from spanbox._redact import Key, Redact

    T = TypeVar("T")

_MAX_BYTES = 4 << 30
_MAX_DEPTH = 60


# What configure() has set, by the names of its arguments.
_settings: dict[str, Any] = {
    "capture_bytes": 256 * 1024,
    "capture_nodes": 10_000,
    "capture_depth": 16,
    "redact": "secrets",
    "redact_key": None,
    "redact_keys": (),
    "hide_inputs": None,  # as the environment says
    "hide_outputs": None,
}
_hidden.set_hidden(None, None)


def check_bytes(capture_bytes: int) -> int:
    if not 0 <= capture_bytes <= _MAX_BYTES:
        raise ValueError(f"capture_bytes must be between 0 and 4 GiB, not {capture_bytes}")
    return capture_bytes


def set_capture(
    *,
    capture_bytes: int | None = None,
    capture_nodes: int | None = None,
    capture_depth: int | None = None,
    redact: Redact | None = None,
    redact_key: Key | None = None,
    redact_keys: Iterable[str] | None = None,
    hide_inputs: bool | None = None,
    hide_outputs: bool | None = None,
) -> bool:
    """The part of configure() that says what is kept of a value. None keeps what is. False: nothing was given."""
    global _settings
    if isinstance(redact_keys, str):
        raise TypeError(f"redact_keys is a list of names, such as [{redact_keys!r}]")
    given = {
        "capture_bytes": capture_bytes,
        "capture_nodes": capture_nodes,
        "capture_depth": capture_depth,
        "redact": redact,
        "redact_key": redact_key,
        "hide_inputs": hide_inputs,
        "hide_outputs": hide_outputs,
        "redact_keys": None if redact_keys is None else tuple(redact_keys),
    }
    changes = {name: value for name, value in given.items() if value is not None}
    new = _settings | changes
    check_bytes(new["capture_bytes"])
    if not 1 <= new["capture_nodes"] <= 1_000_000_000:
        raise ValueError(f"capture_nodes must be between 1 and 1,000,000,000, not {new['capture_nodes']}")
    if not 1 <= new["capture_depth"] <= _MAX_DEPTH:
        raise ValueError(f"capture_depth must be between 1 and {_MAX_DEPTH}, not {new['capture_depth']}")
    if redact is not None or redact_key is not None:
        from spanbox._redact import set_redaction

        set_redaction(new["redact"], new["redact_key"])
    _hidden.set_hidden(new["hide_inputs"], new["hide_outputs"])
    _core.set_capture(new["capture_bytes"], new["capture_nodes"], new["capture_depth"], new["redact_keys"])
    _settings = new
    return bool(changes)


def register_encoder(kind: type[T], encode: Callable[[T], object] | None) -> None:
    """Say how values of a class are kept: `encode(value)` returns plain data, which is walked within the same limits.

        spanbox.register_encoder(Order, lambda order: {"id": order.id, "lines": len(order.lines)})

    It runs on every capture of such a value, in the traced call. Subclasses are meant too, unless they have an encoder
    of their own. What it raises is noted in the span's attribute capture_error. None takes the encoder out again.
    """
    if not isinstance(kind, type):
        raise TypeError(f"register_encoder() takes a class, not {kind!r}")
    if kind in (object, type(None), bool, int, float, str):
        raise ValueError(f"{kind.__name__} is kept as it is: register a class of your own")
    if encode is not None and not callable(encode):
        raise TypeError(f"an encoder is a function of one value, not {encode!r}")
    _core.register_encoder(kind, encode)
