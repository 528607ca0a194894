"""What a provider's reply says, whatever its form.

Immutable: any thread may read a Reply. It owns nothing but what the caller gave: `usage` is the provider's own object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_RATE_LIMITED = ("rate_limit", "ratelimit", "resource_exhausted", "throttl", "too_many_requests", "toomanyrequests")
_TOO_MANY_REQUESTS = 429


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call the model asked for, or had its provider make (`by_provider`: a search, code, an MCP server)."""

    name: str
    arguments: Any  # parsed where it is JSON, else the text as it came
    id: str | None = None
    by_provider: bool = False


@dataclass(frozen=True, slots=True)
class ReplyError:
    """Why there is no answer, in the provider's words."""

    message: str
    type: str | None = None
    code: str | None = None
    status: int | None = None

    @property
    def is_rate_limit(self) -> bool:
        told = f"{self.type} {self.code}".lower()
        return self.status == _TOO_MANY_REQUESTS or any(each in told for each in _RATE_LIMITED)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What the headers say of one quota, such as "requests" or "input-tokens". None: not told."""

    of: str
    limit: int | None = None
    remaining: int | None = None
    reset_s: float | None = None  # from the time of the reply


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply. `format` is empty where the form is not known; `reason` says what could not be read, and why.

    usage: the provider's usage object, untouched; of a stream the last of it. tokens: the same by the token columns of
    a span, where a count includes what is a part of it.
    """

    format: str = ""
    provider: str | None = None
    model: str | None = None
    id: str | None = None
    finish_reason: str | None = None  # the provider's own word
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None  # why it did not answer: its words, or the word for it
    error: ReplyError | None = None
    usage: Mapping[str, Any] | None = None
    tokens: Mapping[str, int] = field(default_factory=dict)
    service_tier: str | None = None
    rate_limits: tuple[RateLimit, ...] = ()
    retry_after_s: float | None = None
    streamed: bool = False
    reason: str = ""

    @property
    def known(self) -> bool:
        return bool(self.format)

    def columns(self) -> dict[str, Any]:
        """Columns of a span, for span.set(**reply.columns()): only what the reply tells. `usage` is kept untouched, so
        that reparse() can read it again."""
        told: dict[str, Any] = {"provider": self.provider, "model": self.model, "finish_reason": self.finish_reason}
        told |= {**self.tokens, "service_tier": self.service_tier, "usage": self.usage}
        return {name: value for name, value in told.items() if value is not None}

    def __repr__(self) -> str:
        if not self.known:
            return f"<Reply not known: {self.reason}>"
        said = [self.format, *([self.model] if self.model else [])]
        if self.error:
            said.append(f"error {self.error.code or self.error.type or self.error.status or ''}".rstrip())
        if self.finish_reason:
            said.append(self.finish_reason)
        said += [
            f"{name}={count:,}" for name, count in self.tokens.items() if name in ("input_tokens", "output_tokens")
        ]
        return f"<Reply {' '.join(said)}{': ' if self.reason else ''}{self.reason}>"
